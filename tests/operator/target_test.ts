import assert from "node:assert/strict";
import { NotFoundError, PermissionError, RejectedError, TransientError } from "../../lib/errors.ts";
import type { Intent } from "../../lib/operator/target_command.ts";
import type { OperatorConfig } from "../../lib/operator/mod.ts";
import type { Scale } from "../../lib/scaler/mod.ts";
import { alice, clawdbot, decrypted, goodSender, phone, room, self, settled, World } from "./fakes.ts";

const on = "clawdbot is on (1 replica), starting…";
const off = "clawdbot is off";
const timeout = () => new TransientError("Cannot reach the API server: timeout");
const nothing = "Nothing was changed. Send `start` again if you still want it.";

Deno.test("Operator switches a target and says so", async (t) => {
  const rows: [before: number, command: string, after: number, said: string, outcome: string][] = [
    [0, "start", 1, on, "done"],
    [1, "start", 1, "clawdbot is already running (1/1 ready)", "already"],
    [3, "on", 3, "clawdbot is already running (3/3 ready)", "already"],
    [1, "stop", 0, off, "done"],
    [3, "off", 0, off, "done"],
    [0, "stop", 0, "clawdbot is already off", "already"],
    [2, "status", 2, "clawdbot is running: 2/2 ready", "done"],
  ];
  for (const [before, command, after, said, outcome] of rows) {
    await t.step(`${command} at ${before}: ${said}`, async () => {
      const world = new World();
      world.setScale(before);
      await using running = world.start();
      const { eventId } = await running.receive(command);
      assert.equal(world.scale.desired, after);
      assert.equal(world.effects.length, before === after ? 0 : 1);
      assert.deepEqual(world.texts, [said]);
      assert.equal(world.outcome(1), outcome);
      const [{ answer } = assert.fail()] = world.sent.values();
      assert.equal(answer.form, "notice");
      assert.equal(answer.reply, true);
      assert.equal(answer.eventId, eventId);
      assert.deepEqual(world.records, [{
        command: command === "on" ? "start" : command === "off" ? "stop" : command,
        target: "clawdbot",
        sender: alice,
        room,
        event: eventId,
        outcome,
        before: command === "status" ? undefined : before,
        after,
        ms: 0,
      }]);
      await world.clock.advance(60_000);
      assert.equal(world.clock.sleeping, 0);
    });
  }
});

Deno.test("Operator reports permanent refusals at once", async (t) => {
  const rows: [error: Error, said: string][] = [
    [
      new PermissionError("patch", "deployments.apps/scale"),
      "I'm not allowed to patch `deployments/scale`. My Role lacks that permission.",
    ],
    [new NotFoundError("Cannot read"), "there's no deployment clawdbot in namespace clawdbot."],
    [new RejectedError("Cannot scale", 422, "Invalid"), "the Kubernetes API rejected the request (`Invalid`)."],
    [new RejectedError("Cannot scale", 418, ""), "the Kubernetes API rejected the request (`418`)."],
  ];
  for (const [error, said] of rows) {
    for (const call of ["scaler.read", "scale"]) {
      await t.step(`${error.name} at ${call}: ${said}`, async () => {
        const world = new World();
        world.mayWatch = call === "scale";
        world.before = (name) => {
          if (name === call) throw error;
        };
        await using running = world.start();
        await running.receive("start");
        assert.deepEqual(world.texts, [`Can't start clawdbot: ${said}`]);
        assert.equal(world.outcome(1), "failed");
        assert.deepEqual(world.effects, []);
      });
    }
  }
});

Deno.test("Operator tries for 30 s, says so after 5 s, then that it failed, and does nothing later", async (t) => {
  const rows: [command: string, call: string, said: string][] = [
    ["start", "scaler.read", `Can't start clawdbot: the Kubernetes API didn't answer within 30 s. ${nothing}`],
    [
      "start",
      "scale",
      "Can't tell whether clawdbot was started: the Kubernetes API didn't answer within 30 s. " +
      "Send `status` to check.",
    ],
    ["status", "scaler.read", "Can't check clawdbot: the Kubernetes API didn't answer within 30 s."],
  ];
  for (const [command, call, said] of rows) {
    await t.step(`${command}, ${call} fails`, async () => {
      const world = new World();
      world.mayWatch = false;
      const triesMs: number[] = [];
      const beganAtMs = world.clock.nowMs;
      world.before = (name) => {
        if (name !== call) return;
        triesMs.push(world.clock.nowMs - beganAtMs);
        throw timeout();
      };
      await using running = world.start();
      await running.receive(command);
      await world.clock.advance(4_999);
      assert.deepEqual(world.story, []);
      await world.clock.advance(1);
      const waiting = `The Kubernetes API isn't answering. Still trying to ${
        command === "start" ? command : "check"
      } clawdbot…`;
      assert.deepEqual(world.story, [waiting]);
      await world.clock.advance(24_999);
      assert.deepEqual(world.story, [waiting]);
      await world.clock.advance(1);
      await settled();
      const alert = `! ${alice}: Can't ${command === "start" ? command : "check"} clawdbot`;
      assert.deepEqual(world.story, [waiting, `✎ ${said}`, alert]);
      assert.deepEqual(triesMs, [0, 1_000, 3_000, 7_000, 15_000]);
      world.before = () => {};
      world.mayWatch = true;
      await world.clock.advance(600_000);
      assert.deepEqual(world.effects, []);
      assert.equal(world.story.length, 3);
      assert.equal(world.clock.sleeping, 0);
    });
  }
});

Deno.test("Operator gives up after 30 s when a call hangs, and cannot know what came of a change", async (t) => {
  const hang = (signal: AbortSignal | undefined) =>
    new Promise<void>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  for (const [call, part] of [["scaler.read", "Nothing was changed."], ["scale", "Can't tell whether"]] as const) {
    await t.step(`${call} hangs`, async () => {
      const world = new World();
      world.mayWatch = call === "scale";
      world.before = (name, _detail, signal) => name === call ? hang(signal) : undefined;
      await using running = world.start();
      await running.receive("start");
      await world.clock.advance(30_000);
      await settled();
      assert.equal(world.outcome(1), "failed");
      assert.ok(world.story[1]?.includes(part), String(world.story[1]));
    });
  }
});

Deno.test("Operator reports the outcome of a change whose response was lost", async (t) => {
  const counts = { desired: 0, current: 0, ready: 0, available: 0 };
  const status: Scale = { ...counts, settled: true, resourceVersion: "9", generation: 1 };
  const rows: [name: string, meanwhile: (world: World) => void, said: string, effects: number[]][] = [
    ["it got through", (world) => world.setScale(1), on, []],
    ["it did not", () => {}, on, [1]],
    ["it did not, and the status changed", (world) => void (world.scale = status), on, [1]],
    [
      "somebody else set another count",
      (world) => world.setScale(5),
      "Somebody else scaled clawdbot from 0 to 5 replicas after you sent `start`. I've left it unchanged.",
      [],
    ],
    [
      "it got through, and somebody else set it back",
      (world) => [1, 0].forEach((count) => world.setScale(count)),
      "Somebody else scaled clawdbot and back again after you sent `start`. I've left it unchanged.",
      [],
    ],
  ];
  for (const [name, meanwhile, said, effects] of rows) {
    await t.step(`${name}: ${said}`, async () => {
      const world = new World();
      world.before = (call) => {
        if (call !== "scale") return;
        world.before = () => {};
        meanwhile(world);
        throw timeout();
      };
      await using running = world.start();
      await running.receive("start");
      await world.clock.advance(1_000);
      await settled();
      assert.deepEqual(world.texts, [said]);
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator decides again when the target changes between read and write", async (t) => {
  const rows: [name: string, then: number, said: string, effects: number[]][] = [
    ["status only", 1, off, [0]],
    ["another count", 4, off, [0]],
    ["switched off by somebody else", 0, "clawdbot is already off", []],
  ];
  for (const [name, then, said, effects] of rows) {
    await t.step(`${name}: ${said}`, async () => {
      const world = new World();
      world.setScale(1);
      world.before = (call) => {
        if (call !== "scale") return;
        world.before = () => {};
        world.setScale(then);
      };
      await using running = world.start();
      await running.receive("stop");
      assert.deepEqual(world.texts, [said]);
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator waits when the target changes all the time", async () => {
  const world = new World();
  let tries = 0;
  world.before = (call) => {
    if (call !== "scale") return;
    tries += 1;
    world.setScale(0);
  };
  await using running = world.start();
  await running.receive("start");
  assert.equal(tries, 5);
  await world.clock.advance(30_000);
  await settled();
  assert.equal(world.outcome(1), "failed");
  assert.ok(world.story[1]?.includes("Nothing was changed."));
});

Deno.test("Operator authorizes again right before acting", async (t) => {
  const device = { ...phone, deleted: true, sameKeysAsSession: true };
  const rows: [name: string, change: (world: World) => void, reason: string][] = [
    [
      "device deleted",
      (world) =>
        void world.payloads.set(
          "$event1",
          decrypted("start", { sessionId: "session", messageIndex: 1 }, { senderFacts: { ...goodSender, device } }),
        ),
      "deleted-device",
    ],
    ["room left", (world) => world.room(room, { membership: "leave" }), "not-joined"],
  ];
  for (const [[name, change, reason], mayWatch] of rows.flatMap((row) => [[row, true], [row, false]] as const)) {
    await t.step(`${name}, ${mayWatch ? "watch" : "no watch"}: ${reason}`, async () => {
      const world = new World();
      world.mayWatch = mayWatch;
      let reads = 0;
      world.before = (call) => {
        // It is read when it arrives, and when it is authorized again.
        if (call === "read") reads += 1;
        if (reads === (mayWatch ? 2 : 1) && call === (mayWatch ? "read" : "scaler.read")) change(world);
      };
      await using running = world.start();
      await running.receive("start");
      assert.equal(world.outcome(1), reason);
      assert.deepEqual(world.refusals, [reason]);
      assert.deepEqual(world.effects, []);
      assert.deepEqual(world.texts, [
        "I ignored that: when its turn came, I could no longer verify that you sent it. If you did, send it again.",
      ]);
    });
  }
});

Deno.test("Operator carries out one command at a time, in their order; status waits only for those of its room", async () => {
  const world = new World();
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call) => call === "scale" && world.effects.length === 0 ? hanging : undefined;
  world.room("!second:example.org");
  world.room("!third:example.org");
  await using running = world.start();
  await running.receive("start");
  await running.receive("stop", { roomId: "!second:example.org" });
  await running.receive("start");
  await running.receive("status", { roomId: "!third:example.org" });
  await running.receive("help");
  await running.receive("status");
  const outcomes = () => [1, 2, 3, 4, 5, 6].map((seq) => world.outcome(seq));
  assert.deepEqual(outcomes(), [undefined, undefined, undefined, "done", "done", undefined]);
  goOn();
  await settled();
  assert.deepEqual(world.effects, [1, 0, 1]);
  await settled();
  assert.deepEqual(outcomes(), ["done", "done", "done", "done", "done", "done"]);
});

Deno.test("Operator does not act on a command that has become too old while it waited for its turn", async () => {
  const world = new World({ maxCommandAgeMs: 20_000 });
  world.mayWatch = false;
  world.before = (call) => {
    if (call === "scaler.read" && world.clock.nowMs < 1_000_025_000) throw timeout();
  };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(40_000);
  assert.equal(world.outcome(1), "failed");

  await running.receive("stop", { ageMs: 10_000 });
  assert.equal(world.outcome(2), "already");
  world.setScale(1);
  world.before = (call) => call === "scaler.read" ? void (world.clock.nowMs += 11_000) : undefined;
  await running.receive("stop", { ageMs: 10_000 });
  assert.equal(world.outcome(3), "too-old");
  assert.deepEqual(world.effects, []);
});

Deno.test("Operator takes up what it was about to do", async (t) => {
  const intent: Intent = { before: 0, after: 1, resourceVersion: "1", generation: 1, atMs: 1_000_000_000 };
  const rows: [name: string, meanwhile: number[], ageMs: number, target: string, said: string, effects: number[]][] = [
    ["as intended", [1], 0, "clawdbot", on, []],
    ["as intended, long ago", [1], 9_000_000, "clawdbot", on, []],
    ["as before, young", [], 300_000, "clawdbot", on, [1]],
    [
      "as before, old",
      [],
      42 * 60_000,
      "clawdbot",
      "I was away when you sent `start`, 42 min ago. Send it again if you still want it.",
      [],
    ],
    [
      "neither",
      [3],
      0,
      "clawdbot",
      "Somebody else scaled clawdbot from 0 to 3 replicas after you sent `start`. I've left it unchanged.",
      [],
    ],
    [
      "set back by somebody else",
      [1, 0],
      0,
      "clawdbot",
      "Somebody else scaled clawdbot and back again after you sent `start`. I've left it unchanged.",
      [],
    ],
    [
      "another target",
      [],
      0,
      "ollama",
      "I was restarted while handling `start`, and ollama is no longer one of my targets. I've left it unchanged.",
      [],
    ],
  ];
  for (const [name, meanwhile, ageMs, target, said, effects] of rows) {
    await t.step(`${name}: ${said}`, async () => {
      const world = new World();
      for (const count of meanwhile) world.setScale(count);
      const { seq } = world.receive("start", { ageMs });
      world.store.journal.saveCommand(seq, { command: "start", parts: [{ target, intent }] });
      await using _running = world.start();
      await settled();
      assert.deepEqual(world.texts, [said]);
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator finishes what it was about to do before anything else is done to that target", async () => {
  const world = new World();
  world.receive("stop", { roomId: "!second:example.org" });
  world.room("!second:example.org");
  const { seq } = world.receive("start");
  const intent = { before: 0, after: 1, resourceVersion: "1", generation: 1, atMs: 1_000_000_000 };
  world.store.journal.saveCommand(seq, { command: "start", parts: [{ target: clawdbot.alias, intent }] });
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator resumes nothing of a sender, or in a room, that is no longer allowed", async (t) => {
  const elsewhere = new Set(["!another:example.org"]);
  const rows: [name: string, changes: Partial<OperatorConfig>, now: number, outcome: string, said: string[]][] = [
    ["sender", { allowedUsers: new Set(["@bob:example.org"]) }, 0, "stranger", []],
    ["sender, and it had got through", { allowedUsers: new Set(["@bob:example.org"]) }, 1, "stranger", []],
    ["room", { allowedRooms: elsewhere }, 0, "room-not-allowed", [
      "I don't take commands in this room: it isn't in `ALLOWED_ROOMS`.",
    ]],
    ["room, and it had got through", { allowedRooms: elsewhere }, 1, "done", [on]],
  ];
  for (const [name, changes, now, outcome, said] of rows) {
    await t.step(`${name}: ${outcome}`, async () => {
      const world = new World(changes);
      // A room that no allowed user is in would be left.
      world.room(room, { joined: [alice, "@bob:example.org", self] });
      const { seq } = world.receive("start");
      const intent = { before: 0, after: 1, resourceVersion: "1", generation: 1, atMs: 1_000_000_000 };
      world.store.journal.saveCommand(seq, { command: "start", parts: [{ target: clawdbot.alias, intent }] });
      world.setScale(now);
      await using _running = world.start();
      await settled();
      assert.equal(world.outcome(1), outcome);
      assert.deepEqual(world.texts, said);
      assert.deepEqual(world.effects, []);
      assert.deepEqual(world.refusals, outcome === "done" ? [] : [outcome]);
    });
  }
});
