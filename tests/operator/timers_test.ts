import assert from "node:assert/strict";
import { CredentialError, PermissionError, RejectedError, TransientError } from "../../lib/errors.ts";
import type { Target } from "../../lib/config/mod.ts";
import { alice, clawdbot, Killed, room, settled, World } from "./fakes.ts";

const minute = 60_000, hour = 60 * minute;
const warning = `! ${alice}: clawdbot stops automatically in 10 min. Send \`extend 1h\` for another hour.`;
const stopped = `! ${alice}: clawdbot is off: its time is up`;
const ready = "✎ clawdbot is ready (took 0 s); stops automatically in 2 h";
const on = "clawdbot is on (1 replica), starting… Stops automatically in 2 h.";

Deno.test("Operator stops a target when its time is over, and warns before, also across restarts", async (t) => {
  for (const runs of [1, 5]) {
    await t.step(`${runs} lives`, async () => {
      const world = new World();
      {
        await using running = world.start();
        await running.receive("start 2h");
        assert.deepEqual(world.story, [on, ready]);
      }
      for (let run = 0; run < runs; run += 1) {
        await using _running = world.start();
        await world.clock.advance(110 * minute / runs - 1);
      }
      {
        await using _running = world.start();
        assert.equal(world.story.length, 2);
        await world.clock.advance(runs);
        assert.deepEqual(world.story.slice(2), [warning]);
        await world.clock.advance(5 * minute);
      }
      {
        await using _running = world.start();
        await world.clock.advance(5 * minute - 1);
        assert.deepEqual(world.effects, [1]);
        await world.clock.advance(1);
        assert.deepEqual(world.effects, [1, 0]);
      }
      await using _running = world.start();
      await world.clock.advance(hour);
      assert.deepEqual(world.story, [on, ready, warning, stopped]);
      const [, , { answer } = assert.fail()] = [...world.sent.values()];
      assert.deepEqual([answer.roomId, answer.mentions, answer.reply], [room, [alice], false]);
      assert.equal(world.clock.sleeping, 0);
      assert.deepEqual(world.notes, [
        `clawdbot SwitchedOn: ${alice} sent start in ${room}: replicas 0 → 1`,
        `clawdbot SwitchedOff: The time is over that ${alice} has set: replicas 1 → 0`,
      ]);
    });
  }
});

Deno.test("Operator stops at once what was due while it was down, and says so", async () => {
  const world = new World();
  {
    await using running = world.start();
    await running.receive("start 2h");
  }
  world.clock.nowMs += 5 * hour;
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.effects, [1, 0]);
  assert.deepEqual(world.story.slice(2), [
    "! @alice:example.org: clawdbot is off: its time was up 3 h ago, but I couldn't stop it on time",
  ]);
});

Deno.test("Operator sets, keeps, moves and cancels a target's time", async (t) => {
  const autoStopMs = 4 * hour;
  const rows: [name: string, steps: (string | number)[], stopsAfterMs: number | undefined, autoStopMs?: number][] = [
    ["no time", ["start"], undefined],
    ["configured", ["start"], 4 * hour, autoStopMs],
    ["its own", ["start 1h"], hour, autoStopMs],
    ["set while it runs", ["start", hour, "start 1h"], 2 * hour],
    ["a plain start leaves it alone", ["start 2h", hour, "start"], 2 * hour, autoStopMs],
    ["a start moves it", ["start 2h", hour, "start 30m"], 90 * minute],
    ["extended", ["start 1h", 30 * minute, "extend 1h"], 2 * hour],
    ["extended without one", ["start", "extend 1h"], undefined],
    ["stopped", ["start 1h", "stop"], undefined],
    ["stopped and started", ["start 1h", "stop", "start"], undefined],
    ["stopped by somebody else", ["start 1h", "=0", "=1"], undefined],
    ["stopped by somebody else, unseen", ["start 1h", "=0", "stop", "=1"], undefined],
    ["off", ["extend 1h"], undefined],
  ];
  for (const [name, steps, stopsAfterMs, autoStopMs] of rows) {
    await t.step(`${name}: ${steps.join(", ")}`, async () => {
      const world = new World({ autoStopMs });
      world.mayWatch = !name.endsWith("unseen");
      const beganAtMs = world.clock.nowMs;
      await using running = world.start();
      for (const step of steps) {
        if (typeof step === "number") await world.clock.advance(step);
        else if (step.startsWith("=")) world.setScale(Number(step.slice(1)));
        else await running.receive(step);
        await settled();
      }
      const effects = world.effects.length;
      if (stopsAfterMs === undefined) {
        await world.clock.advance(12 * hour);
        assert.equal(world.effects.length, effects);
      } else {
        await world.clock.advance(beganAtMs + stopsAfterMs - world.clock.nowMs - 1);
        assert.equal(world.effects.length, effects);
        await world.clock.advance(1);
        assert.equal(world.effects.length, effects + 1);
      }
    });
  }
});

Deno.test("Operator answers commands with durations", async () => {
  const world = new World();
  await using running = world.start();
  for (const words of ["extend 1h", "start", "extend 1h", "start 2h", "extend 30m", "status", "start 5s"]) {
    await running.receive(words);
  }
  assert.deepEqual(world.texts, [
    "clawdbot is already off",
    "clawdbot is on (1 replica), starting…",
    "clawdbot isn't set to stop automatically. Send `start 1h` to stop it in an hour.",
    "clawdbot is already running (1/1 ready). Stops automatically in 2 h.",
    "Extended: clawdbot now stops automatically in 2 h 30 min",
    "clawdbot is running: 1/1 ready, up 0 s; stops automatically in 2 h 30 min",
    "`5s` is too short; the least is 1m.",
  ]);
});

Deno.test("Operator gives no warning of a short timer, which its answer has announced", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start 10m");
  await world.clock.advance(10 * minute);
  assert.deepEqual(world.effects, [1, 0]);
  assert.deepEqual(world.story.slice(2), [stopped]);
});

Deno.test("Operator neither warns about nor stops a target that is off, even without a watch", async () => {
  const world = new World();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start 2h");
  await world.clock.advance(hour);
  world.setScale(0);
  await world.clock.advance(3 * hour);
  assert.deepEqual(world.effects, [1]);
  assert.equal(world.story.length, 2);
  assert.equal(world.remembered?.targets["deployment/clawdbot/clawdbot"]?.timer, undefined);
});

const passing = [
  new TransientError("Cannot reach it"),
  new CredentialError("It refuses us"),
  new RejectedError("Got 404, and not from a Kubernetes API", 404, ""),
];
for (const failure of passing) {
  Deno.test(`Operator keeps trying to stop what cannot be reached (${failure.name})`, async () => {
    const world = new World();
    await using running = world.start();
    await running.receive("start 2h");
    await world.clock.advance(115 * minute);
    world.before = (call) => {
      if (call === "scale" || call === "scaler.read") throw failure;
    };
    await world.clock.advance(10 * minute);
    world.before = () => {};
    await running.receive("status");
    await world.clock.advance(minute);
    assert.deepEqual(world.effects, [1, 0]);
    assert.match(world.story.at(-1) ?? "", /its time was up 5 min( \d+ s)? ago/);
  });
}

Deno.test("Operator extends an overdue timer, whose stop has failed, from now on", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start 1h");
  world.before = (call) => {
    if (call === "scale" || call === "scaler.read") throw new TransientError("Cannot reach it");
  };
  await world.clock.advance(3 * hour);
  world.before = () => {};
  await running.receive("extend 1h");
  assert.equal(world.story.at(-1), "Extended: clawdbot now stops automatically in 1 h");
  await world.clock.advance(hour - 1);
  assert.deepEqual(world.effects, [1]);
  await world.clock.advance(1);
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator reports once that it isn't permitted to stop a target", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start 2h");
  world.before = (call) => {
    if (call === "scale") throw new PermissionError("patch", "deployments.apps/scale");
  };
  await world.clock.advance(4 * hour);
  assert.deepEqual(world.story.slice(2), [
    warning,
    `! ${alice}: Can't stop clawdbot: I'm not allowed to patch \`deployments/scale\`. My Role lacks that permission.`,
  ]);
});

Deno.test("Operator killed while it stops a target by itself says so once, and stops it once", async (t) => {
  for (
    const point of ["save", "scale", "transaction", "queueAnswer"].flatMap((
      call,
    ) => [`before ${call}`, `after ${call}`])
  ) {
    await t.step(`killed ${point}`, async () => {
      const world = new World();
      {
        await using running = world.start();
        await running.receive("start 10m");
        await world.clock.advance(2 * minute);
      }
      {
        await using running = world.start(point);
        await world.clock.advance(8 * minute);
        assert.ok(await running.ended instanceof Killed);
      }
      await using _running = world.start();
      await world.clock.advance(minute);
      assert.deepEqual(world.effects, [1, 0]);
      assert.deepEqual(world.story.slice(2), [stopped]);
    });
  }
});

Deno.test("Operator lets a start with a time join one without, and both come true", async () => {
  const world = new World();
  world.isPrompt = false;
  await using running = world.start();
  await running.receive("start");
  await running.receive("start 2h");
  await world.clock.advance(30_000);
  world.setPods({ ready: 1 });
  await settled();
  assert.deepEqual(world.story, [
    "clawdbot is on (1 replica), starting…",
    "clawdbot is already starting (0/1 ready). Stops automatically in 2 h.",
    "✎ clawdbot is ready (took 30 s); stops automatically in 2 h",
  ]);
  await world.clock.advance(2 * hour);
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator stops the workload that a timer was set for, even if its alias means another one now", async (t) => {
  const elsewhere = { ...clawdbot, namespace: "elsewhere" };
  const rows: [name: string, targets: Target[], stops: (string | number)[]][] = [
    ["its name is another one's", [elsewhere], []],
    ["it has another name", [{ ...clawdbot, alias: "claw" }], ["claw 0"]],
    ["names were exchanged", [elsewhere, { ...clawdbot, alias: "claw" }], ["claw 0"]],
  ];
  for (const [name, targets, stops] of rows) {
    await t.step(name, async () => {
      const world = new World();
      {
        await using running = world.start();
        await running.receive("start 2h");
      }
      // What the two names stand for is on, one as the other.
      world.scales.set("claw", world.scale);
      await using _running = world.start(undefined, targets);
      await world.clock.advance(3 * hour);
      assert.deepEqual(world.effects, [1, ...stops]);
    });
  }
});

Deno.test("Operator warns and stops in the thread in which a time was set", async () => {
  const world = new World();
  const content = { "m.relates_to": { rel_type: "m.thread", event_id: "$root" } };
  const event = { type: "m.room.encrypted", content };
  await using running = world.start();
  await running.receive("start 1h", { json: event });
  // A time that is moved stays where it was set.
  await running.receive("extend 1h");
  await world.clock.advance(2 * 3_600_000);
  const alerts = [...world.sent.values()].filter(({ answer }) => !answer.reply);
  assert.deepEqual(alerts.map(({ answer }) => answer.threadId), ["$root", "$root"]);
});
