import assert from "node:assert/strict";
import { inspect } from "node:util";
import { configure, reset } from "@logtape/logtape";
import { ConfigError, StoreError, TransientError } from "../../lib/errors.ts";
import { alice, Killed, settled, World } from "./fakes.ts";

const on = "clawdbot is on (1 replica), starting…";
const off = "clawdbot is off";

const calls = [
  "unsettled",
  "read",
  "pin",
  "claim",
  "queueAnswer",
  "scaler.read",
  "saveCommand",
  "scale",
  "settle",
  "save",
  "transaction",
];
const points = [...calls, "unsentAnswers", "send", "markSent"].flatMap((call) => [`before ${call}`, `after ${call}`]);

Deno.test("Operator killed at any port call has one effect and one answer per command after a restart", async (t) => {
  // A watch spares the read before the change.
  const rows = [true, false].flatMap((mayWatch) =>
    points.filter((point) => !mayWatch || !point.includes("scaler.read")).map((point) => ({ mayWatch, point }))
  );
  for (const { mayWatch, point } of rows) {
    await t.step(`killed ${point}, ${mayWatch ? "watch" : "no watch"}`, async () => {
      const world = new World({ echo: "message" });
      world.mayWatch = mayWatch;
      world.receive("start");
      {
        await using running = world.start(point);
        // It is ready after that time at the latest.
        await world.clock.advance(1_000);
        assert.ok(await running.ended instanceof Killed);
      }
      {
        await using _running = world.start();
        await settled();
      }
      assert.deepEqual(world.effects, [1]);
      assert.deepEqual(world.texts, [`🦞 start\n${on}`]);
      assert.equal(world.outcome(1), "done");
      assert.deepEqual(world.store.journal.roomsWithUnsentAnswers(), []);
    });
  }
});

Deno.test("Operator killed at every point in turn still gets through a conversation", async () => {
  const world = new World({ echo: "message" });
  for (const body of ["start", "hello", "stop", "help", "on"]) world.receive(body);
  let killed = 0;
  for (const point of points) {
    await using running = world.start(point);
    await settled();
    running.stop();
    if (await running.ended instanceof Killed) killed += 1;
  }
  assert.ok(killed > 5, `killed ${killed} times`);
  {
    await using _running = world.start();
    await settled();
  }
  assert.deepEqual(world.effects, [1, 0, 1]);
  const answers = [...world.sent.values()].filter(({ kind }) => kind === "answer");
  assert.deepEqual(answers.map(({ about }) => about).toSorted(), [
    "$event1",
    "$event2",
    "$event3",
    "$event4",
    "$event5",
  ]);
  const echoed = [`🦞 start\n${on}`, `🦞 stop\n${off}`, `🦞 on\n${on}`];
  assert.deepEqual(world.texts.filter((words) => words.endsWith(on) || words.endsWith(off)), echoed);
});

Deno.test("Operator.run() accepts no replay, even after a restart", async () => {
  const world = new World();
  const { eventId } = world.receive("start");
  for (let run = 0; run < 2; run += 1) {
    await using running = world.start();
    await settled();
    world.setScale(0);
    await running.receive("start", { payload: world.payloads.get(eventId) ?? assert.fail() });
  }
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.refusals, ["repeat", "repeat"]);
});

Deno.test("Operator.run() finishes a change that has been begun, answers it, and begins nothing more", async () => {
  const world = new World();
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call, _detail, signal) => {
    if (call !== "scale") return;
    signal?.addEventListener("abort", () => assert.fail("the change was cut short"));
    return hanging;
  };
  await using running = world.start();
  await running.receive("start");
  await running.receive("stop");
  running.stop();
  await running.receive("help");
  goOn();
  assert.equal(await running.ended, undefined);
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.texts, [on]);
  assert.deepEqual([1, 2, 3].map((seq) => world.outcome(seq)), ["done", undefined, undefined]);
  assert.equal(world.clock.sleeping, 0);
});

Deno.test("Operator.run() begins no change after a stop", async () => {
  const world = new World();
  let reads = 0;
  await using running = world.start();
  world.afterRead = () => {
    reads += 1;
    // The second time is right before acting.
    if (reads === 2) running.stop();
  };
  await running.receive("start");
  assert.equal(await running.ended, undefined);
  assert.equal(reads, 2);
  assert.deepEqual(world.effects, []);
  assert.equal(world.entry(1)?.progress.state, "new");
});

Deno.test("Operator.run() ends at once while it waits", async (t) => {
  for (const call of ["read", "scaler.read", "scale", "send"]) {
    for (const how of ["fails", "hangs"]) {
      // A change under way is finished; all else is not waited for.
      if (how === "hangs" && (call === "scale" || call === "send")) continue;
      await t.step(`${call} ${how}`, async () => {
        const world = new World();
        world.before = (name, _detail, signal) => {
          if (name !== call) return;
          if (how === "fails") throw new TransientError("Cannot reach it: timeout");
          return new Promise<void>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
        };
        await using running = world.start();
        await running.receive("start");
        running.stop();
        assert.equal(await running.ended, undefined);
        assert.equal(world.clock.sleeping, 0);

        world.before = () => {};
        await using _again = world.start();
        await settled();
        assert.deepEqual(world.texts, [on]);
        assert.deepEqual(world.effects, [1]);
      });
    }
  }
});

Deno.test("Operator gives up a hanging change when disposed of, and resumes it after a restart", async () => {
  const world = new World();
  world.before = (name, _detail, signal) => {
    if (name !== "scale") return;
    return new Promise<void>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  };
  {
    await using running = world.start();
    await running.receive("start");
    running.stop();
  }
  assert.equal(world.entry(1)?.progress.state, "begun");
  assert.equal(world.clock.sleeping, 0);
  world.before = () => {};
  await using _again = world.start();
  await settled();
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.texts, [on]);
});

Deno.test("Operator.run() throws what it cannot deal with, and does nothing any more", async () => {
  const world = new World();
  const broken = new StoreError("Cannot write: disk full", "/data");
  world.before = (call) => {
    if (call === "read") throw broken;
  };
  await using running = world.start();
  await running.receive("start");
  assert.equal(await running.ended, broken);
  await running.receive("help");
  assert.equal(world.outcome(2), undefined);
});

Deno.test("Operator.run() does nothing if it is stopped at once", async () => {
  const world = new World();
  world.receive("start");
  await using running = world.start();
  running.stop();
  await running.ended;
  assert.deepEqual(world.effects, []);
});

Deno.test("Operator killed while persisting a started target's timer stops the target after a restart", async () => {
  const world = new World();
  // What the target is remembered by is written for the command alone, then.
  world.mayWatch = false;
  {
    await using running = world.start("before save");
    await running.receive("start 2h");
    assert.ok(await running.ended instanceof Killed);
  }
  await using _again = world.start();
  await world.clock.advance(2 * 3_600_000);
  assert.deepEqual(world.effects, [1, 0]);
  assert.equal(world.outcome(1), "done");
});

Deno.test("Operator removes pinned devices that are gone, at its start and after device changes", async () => {
  const [phone, tablet] = ["PHONE", "TABLET"].map((deviceId) => ({ deviceId, ed25519: `key of ${deviceId}` }));
  const device = (listed: typeof phone) => ({ ...listed ?? assert.fail(), crossSignedByOwner: false });
  const world = new World();
  world.pins.set(alice, { kind: "devices", devices: [device(phone), device(tablet)], sinceMs: 0 });
  const trusted = () => {
    const pin = world.pins.get(alice);
    return pin?.kind === "devices" && pin.devices.map(({ deviceId }) => deviceId);
  };
  world.published.set(alice, { identity: undefined, devices: [device(tablet)] });
  await using running = world.start();
  await settled();
  assert.deepEqual(trusted(), ["TABLET"]);
  world.published.set(alice, { identity: undefined, devices: [device(phone)] });
  running.operator.devicesChanged([alice]);
  await settled();
  assert.deepEqual(trusted(), []);
});

Deno.test("Operator wants a target", () => {
  assert.throws(() => new World({ targets: [] }).start(), ConfigError);
});

Deno.test("Operator counts strangers who ask to verify it, and no allowed user", async () => {
  const world = new World();
  await using running = world.start();
  for (const user of ["@mallory:x", alice]) running.operator.verificationAsked(user);
  assert.deepEqual(world.refusals, ["stranger"]);
});

Deno.test("Operator's log never says undefined", async () => {
  const lines: string[] = [];
  await configure({
    reset: true,
    sinks: {
      all: ({ message }) =>
        void lines.push(message.map((part) => typeof part === "string" ? part : inspect(part)).join("")),
    },
    loggers: [{ category: "openclaw-toggle", lowestLevel: "debug", sinks: ["all"] }, {
      category: ["logtape", "meta"],
      lowestLevel: "fatal",
    }],
  });
  try {
    const world = new World();
    await using running = world.start();
    for (const body of ["help", "start", "status", "stop", "stop", "extend 1h", "hello"]) await running.receive(body);
    await running.receive("start", { ageMs: 3_600_000 });
    world.scales.clear();
    await running.receive("start");
    assert.ok(lines.length > 8);
    assert.deepEqual(lines.filter((line) => line.includes("undefined")), []);
    assert.ok(lines.includes(`help by ${alice}: done`), lines.join("\n"));
  } finally {
    await reset();
  }
});
