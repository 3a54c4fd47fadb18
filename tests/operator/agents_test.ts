/** Targets in which agents run: what is said to them, what wakes them, and when they go to sleep. */

import assert from "node:assert/strict";
import { TransientError } from "../../lib/errors.ts";
import type { InboxEvent, Payload } from "../../lib/session/mod.ts";
import {
  alice,
  clawdbot,
  clear,
  decrypted,
  Killed,
  mallory,
  ollama,
  room,
  type RoomChanges,
  self,
  settled,
  World,
} from "./fakes.ts";
import { logOf } from "./log.ts";
import type { OperatorConfig } from "../../lib/operator/mod.ts";

const clawd = "@clawd:example.org", molty = "@molty:example.org", bob = "@bob:example.org";
const minute = 60_000, hour = 60 * minute;
const waking = "clawdbot was asleep: starting…";

const agents = [{ alias: clawdbot.alias, userId: clawd }];
const readyAgain = "✎ clawdbot is ready (took 0 s); sleeps after 30 min without a message";
const sleepy: Partial<OperatorConfig> = { agents, idleStopMs: 30 * minute };
/** Alice, her agent, and the operator. */
const three: RoomChanges = { joined: [alice, clawd, self] };
const larger: RoomChanges = { joined: [alice, bob, clawd, self] };
const key = { sessionId: "session", messageIndex: 99 };

function saying(content: Record<string, unknown>, outerRelation?: unknown): { readonly payload: Payload } {
  const body = typeof content["body"] === "string" ? content["body"] : "hello";
  return { payload: decrypted(body, key, { content, outerRelation }) };
}
const mentions = (...users: string[]) => ({ "m.mentions": { user_ids: users } });
const replyTo = (event_id: string) => ({ "m.relates_to": { "m.in_reply_to": { event_id } } });

interface Case {
  readonly name: string;
  readonly body?: string;
  readonly how?: Partial<InboxEvent> & { payload?: Payload };
  readonly room?: RoomChanges;
  readonly config?: Partial<OperatorConfig>;
  /** How it is settled. */
  readonly outcome: string;
  readonly said?: readonly string[];
  /** The target is turned on. */
  readonly wakes?: boolean;
}

/** To a target at 0. */
const asleep: readonly Case[] = [
  { name: "a message among the two and us", outcome: "done", wakes: true },
  { name: "a message in a larger room", room: larger, outcome: "not-for-us" },
  {
    name: "a message that mentions the agent",
    room: larger,
    how: saying(mentions(clawd)),
    outcome: "done",
    wakes: true,
  },
  {
    name: "a message that mentions somebody else",
    room: larger,
    how: saying(mentions(bob)),
    outcome: "not-for-us",
  },
  {
    name: "a link to the agent, as older clients make it",
    room: larger,
    how: saying({ formatted_body: `<a href="https://matrix.to/#/${clawd}">Clawd</a>: hello` }),
    outcome: "done",
    wakes: true,
  },
  {
    name: "a link to the agent in what is quoted",
    room: larger,
    how: saying({ formatted_body: `<mx-reply><a href="https://matrix.to/#/${clawd}">C</a></mx-reply>hello` }),
    outcome: "not-for-us",
  },
  { name: "its name first", body: "clawd: hello", room: larger, outcome: "done", wakes: true },
  { name: "its user id", body: `ask ${clawd}, will you?`, room: larger, outcome: "done", wakes: true },
  { name: "a longer user id", body: `ask ${clawd}.evil`, room: larger, outcome: "not-for-us" },
  { name: "its name in passing", body: "clawd is asleep", room: larger, outcome: "not-for-us" },
  {
    name: "a reply to a message of it",
    room: larger,
    how: saying(replyTo("$of clawd")),
    outcome: "done",
    wakes: true,
  },
  {
    name: "a reply to a message of it, as the quotation says",
    room: larger,
    how: saying({ body: `> <${clawd}> hi\n\nhello`, ...replyTo("$unheard-of") }),
    outcome: "done",
    wakes: true,
  },
  {
    name: "a reply to somebody else",
    room: larger,
    how: saying(replyTo("$of bob")),
    outcome: "not-for-us",
  },
  { name: "a picture", how: saying({ msgtype: "m.image", body: "cat.jpg" }), outcome: "done", wakes: true },
  { name: "a voice message", how: saying({ msgtype: "m.audio", body: "voice.ogg" }), outcome: "done", wakes: true },
  { name: "a notice", how: saying({ msgtype: "m.notice" }), outcome: "no-text" },
  {
    name: "an edit",
    how: saying({ "m.relates_to": { rel_type: "m.replace", event_id: "$x" } }),
    outcome: "not-for-us",
  },
  { name: "a word of a command", body: "stop", outcome: "not-for-us" },
  { name: "another word of a command", body: "start 2h", outcome: "not-for-us" },
  {
    name: "a word of a command, said to the agent",
    how: saying({ body: "stop", ...mentions(clawd) }),
    outcome: "done",
    wakes: true,
  },
  {
    name: "a stranger",
    how: { sender: mallory },
    room: { joined: [alice, mallory, clawd, self] },
    outcome: "stranger",
  },
  {
    name: "clear text in an encrypted room",
    how: { payload: clear("hello") },
    outcome: "clear-in-encrypted-room",
    said: ["I ignored that: it wasn't encrypted, but this room is. Send it from an app that supports encryption."],
  },
  {
    name: "clear text where commands may be in clear",
    how: { payload: clear("hello") },
    room: { ...three, encrypted: false },
    config: { requireEncryption: false },
    outcome: "not-for-us",
  },
  {
    name: "a device that isn't trusted",
    how: { payload: decrypted("hello", key, { senderFacts: { device: undefined } }) },
    outcome: "unknown-device",
    said: [
      "I ignored that: I can't tell which of your devices sent it. Send it again; if that fails, log out and back in on the device that you sent it from.",
    ],
  },
  {
    name: "a forged sender",
    how: { payload: decrypted("hello", key, { senderFacts: { mismatchedSender: true } }) },
    outcome: "mismatched-sender",
  },
  { name: "a message that is too old", how: { ageMs: 301_000 }, outcome: "not-for-us" },
  {
    name: "a room that isn't allowed",
    config: { allowedRooms: new Set(["!other:example.org"]) },
    outcome: "room-not-allowed",
  },
  {
    name: "a room without the agent",
    room: { joined: [alice, self] },
    outcome: "no-command",
    said: ["Unknown command: hello. Send `help` for a list of commands."],
  },
  { name: "a room without the agent, larger", room: { joined: [alice, bob, self] }, outcome: "no-command" },
  { name: "a mention of us", how: saying(mentions(self)), outcome: "no-command" },
  { name: "our name first", body: "Claw: hello", outcome: "no-command" },
  { name: "both are mentioned", how: saying(mentions(self, clawd)), outcome: "done", wakes: true },
  {
    name: "a command for us",
    body: "Claw: start",
    outcome: "done",
    said: ["clawdbot is on (1 replica), starting…"],
    wakes: true,
  },
  {
    name: "a command for us, by m.mentions",
    how: saying({ body: "status", ...mentions(self) }),
    outcome: "done",
    said: ["clawdbot is off; wakes when you write to @clawd (1 room watched)"],
  },
  {
    name: "a command for us that is none",
    body: "Claw: start 5x",
    outcome: "no-command",
    said: ["`5x` isn't a duration. Try `90m`, `1h30m` or `2d`."],
  },
  {
    name: "a command for us in clear",
    how: { payload: clear("Claw: start") },
    outcome: "clear-in-encrypted-room",
    said: ["I ignored that: it wasn't encrypted, but this room is. Send it from an app that supports encryption."],
  },
];

/** Messages to a target that is on: the agent answers for itself. */
const awake: readonly Case[] = [
  { name: "a message", outcome: "already" },
  { name: "a word of a command", body: "stop", outcome: "not-for-us" },
  {
    name: "a word of a command, as a reply to the agent",
    how: saying({ body: "stop", ...replyTo("$of clawd") }),
    outcome: "already",
  },
  { name: "good night", body: "thanks, good night", outcome: "already" },
  {
    name: "a device that isn't trusted",
    how: { payload: decrypted("hello", key, { senderFacts: { device: undefined } }) },
    outcome: "unknown-device",
  },
  { name: "clear text in an encrypted room", how: { payload: clear("hello") }, outcome: "clear-in-encrypted-room" },
  { name: "a command for us", body: "Claw, stop", outcome: "done", said: ["clawdbot is off"] },
];

for (const [state, cases] of [["asleep", asleep], ["awake", awake]] as const) {
  Deno.test(`Operator handles messages in a room with an agent that is ${state}`, async (t) => {
    for (const { name, body = "hello", how = {}, room: changes = three, config, outcome, said, wakes } of cases) {
      await t.step(`${name}: ${outcome}`, async () => {
        const world = new World({ agents, ...config });
        world.room(room, changes);
        world.senders.set("$of clawd", clawd).set("$of bob", bob);
        world.setScale(state === "awake" ? 1 : 0);
        await using running = world.start();
        await settled();
        await running.receive(body, how);
        await world.clock.advance(10_000);
        assert.equal(world.outcome(1), outcome);
        assert.deepEqual(world.texts, said ?? (wakes === true ? [waking] : []));
        assert.equal(world.scale.desired, said?.[0] === "clawdbot is off" ? 0 : state === "awake" || wakes ? 1 : 0);
      });
    }
  });
}

Deno.test("Operator answers a reply to its own words where an agent is", async () => {
  const world = new World({ agents });
  world.room(room, three);
  await using running = world.start();
  await running.receive("Claw: status");
  const answered = world.store.journal.sentAs({ eventId: "$event1", kind: "answer", sequence: 0 }) ?? "";
  await running.receive("start", saying({ body: "start", ...replyTo(answered) }));
  assert.deepEqual(world.effects, [1]);
  const thanks = decrypted("thanks", { ...key, messageIndex: 100 }, { content: replyTo(answered) });
  await running.receive("thanks", { payload: thanks });
  assert.equal(world.outcome(3), "no-command");
  assert.deepEqual(world.texts, [
    "clawdbot is off; wakes when you write to @clawd (1 room watched)",
    "clawdbot is on (1 replica), starting…",
  ]);
});

Deno.test("Operator wakes a target with one message, which it edits until the agent is ready, and counts from the first", async () => {
  const world = new World({ agents });
  world.room(room, three);
  world.isPrompt = false;
  await using running = world.start();
  const { eventId } = await running.receive("hello", { ageMs: 2_000 });
  assert.deepEqual(world.story, [waking]);
  await running.receive("are you there?");
  await world.clock.advance(40_000);
  world.setPods({ ready: 1, available: 1 });
  await world.clock.advance(1_000);
  assert.deepEqual(world.story, [
    waking,
    "✎ clawdbot is ready (took 40 s)",
  ], "the agent's own answer rings");
  const [{ answer } = assert.fail()] = [...world.sent.values()];
  assert.deepEqual([answer.form, answer.reply, answer.eventId], ["notice", true, eventId]);
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.notes, [
    `clawdbot SwitchedOn: ${alice} wrote to its agent in ${room}: replicas 0 → 1`,
  ]);
  assert.deepEqual(world.wakes, ["clawdbot 42000"]);
  assert.deepEqual(
    world.records.map(({ command, sender, outcome, before, after }) => [command, sender, outcome, before, after]),
    [["wake", alice, "done", 0, 1]],
  );
});

Deno.test("Operator notifies the user whose message has woken a target if it doesn't become ready", async () => {
  const world = new World({ agents });
  world.room(room, three);
  world.isPrompt = false;
  const crash = { kind: "crash", reason: "CrashLoopBackOff", restarts: 3, certain: true } as const;
  world.diagnosis = { problems: [crash], missingPermission: undefined };
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(2_000);
  assert.deepEqual(world.story, [
    waking,
    "✎ clawdbot isn't ready (0/1): it keeps crashing (`CrashLoopBackOff`, 3 restarts). Still watching.",
    `! ${alice}: clawdbot isn't ready: it keeps crashing`,
  ]);
});

Deno.test("Operator notifies the sender of a start, even if a message has woken the target before", async () => {
  const world = new World({ agents });
  world.room(room, three);
  world.isPrompt = false;
  await using running = world.start();
  await running.receive("hello");
  await running.receive("Claw: start");
  await world.clock.advance(40_000);
  world.setPods({ ready: 1, available: 1 });
  await world.clock.advance(1_000);
  assert.equal(world.story.at(-1), `! ${alice}: clawdbot is ready`);
});

Deno.test("Operator keeps a target off after a stop by chat, and says so once for each stop", async () => {
  const world = new World({ agents });
  world.room(room, three);
  world.setScale(1);
  const kept = "clawdbot is off until somebody sends me `start`: messages don't wake it after a `stop`";
  await using running = world.start();
  await running.receive("Claw: stop");
  for (const body of ["stop", "thanks, good night", "hello?"]) await running.receive(body);
  assert.deepEqual(world.texts, ["clawdbot is off", kept]);
  await running.receive("Claw: stop");
  await running.receive("hello?");
  assert.deepEqual(world.texts.slice(2), ["clawdbot is already off", kept]);
  await running.receive("Claw: start");
  world.setScale(0);
  await settled();
  await running.receive("hello?");
  assert.deepEqual(world.effects, [0, 1, 1], "a start ends it");
  assert.equal(world.texts.at(-1), waking);
});

Deno.test("Operator wakes nothing by a message whose key comes after a stop", async () => {
  const world = new World({ agents });
  world.room(room, three);
  await using running = world.start();
  const locked: Payload = { kind: "undecryptable", why: { kind: "no-key" }, sessionId: "late" };
  await running.receive("hello", { payload: locked });
  await running.receive("Claw: start");
  await running.receive("Claw: stop");
  await running.receive("Claw: start");
  world.setScale(0);
  await settled();
  world.payloads.set("$event1", decrypted("hello", { sessionId: "late", messageIndex: 0 }));
  running.operator.keyArrived(room, "late");
  await settled();
  assert.deepEqual([world.outcome(1), world.effects], ["overtaken", [1, 0, 1]]);
});

Deno.test("Operator wakes a target by each message once, also one that is sent again", async () => {
  const world = new World({ agents });
  world.room(room, three);
  await using running = world.start();
  await running.receive("hello", saying({}));
  world.setScale(0);
  await settled();
  await running.receive("hello", saying({}));
  assert.deepEqual([world.outcome(2), world.effects], ["repeat", [1]]);
});

Deno.test("Operator says nothing about an agent that is awake while the Kubernetes API doesn't answer", async () => {
  const world = new World({ agents });
  world.room(room, three);
  world.setScale(1);
  await using running = world.start();
  await settled();
  world.before = (call) => {
    if (call === "scaler.read") throw new TransientError("Cannot read");
  };
  await running.receive("hello");
  await world.clock.advance(minute);
  assert.deepEqual([world.outcome(1), world.texts], ["failed", []]);
});

Deno.test("Operator tries to wake a target for 30 s, and reports the failure once for all messages meanwhile", async () => {
  const world = new World({ agents });
  world.mayWatch = false;
  world.room(room, three);
  await using running = world.start();
  await settled();
  world.before = (call) => {
    if (call === "scaler.read") throw new TransientError("Cannot read");
  };
  for (const body of ["hello", "hello?", "hello??"]) await running.receive(body);
  await world.clock.advance(50_000);
  assert.deepEqual([1, 2, 3].map((number) => world.outcome(number)), ["failed", "failed", "failed"]);
  assert.deepEqual(world.story, [
    "The Kubernetes API isn't answering. Still trying to start clawdbot…",
    "✎ Can't start clawdbot: the Kubernetes API didn't answer within 30 s. Nothing was changed. Send `start` again if you still want it.",
    `! ${alice}: Can't start clawdbot`,
  ]);
});

Deno.test("Operator wakes one target for two agents, and each of two targets by its own", async () => {
  const both = [...agents, { alias: clawdbot.alias, userId: molty }];
  const world = new World({ agents: both });
  world.room(room, { joined: [alice, clawd, molty, self] });
  await using running = world.start();
  await running.receive("hello, you two");
  assert.deepEqual([world.effects, world.texts], [[1], [waking]]);

  const apart = new World({
    agents: [...agents, { alias: ollama.alias, userId: molty }],
    targets: [clawdbot, ollama],
  });
  apart.room(room, { joined: [alice, clawd, molty, self] });
  await using second = apart.start();
  await second.receive("hello", saying(mentions(molty)));
  assert.deepEqual(apart.effects, ["ollama 1"]);
  await second.receive("hello, you two");
  assert.deepEqual(apart.effects, ["ollama 1", 1]);
  assert.deepEqual(apart.texts, ["ollama was asleep: starting…", waking]);
});

const told = "clawdbot goes to sleep in 5 min: no message for 25 min";
const gone = "✎ clawdbot is off: no message for 30 min. Write to @clawd to wake it.";

Deno.test("Operator stops an idle target after a warning, and wakes it again; also across restarts", async (t) => {
  for (const runs of [1, 5]) {
    await t.step(`${runs} lives`, async () => {
      const world = new World(sleepy);
      world.room(room, three);
      {
        await using running = world.start();
        await running.receive("hello");
        assert.deepEqual(world.story, [waking, readyAgain]);
      }
      for (let run = 0; run < runs; run += 1) {
        await using _running = world.start();
        await world.clock.advance(25 * minute / runs - 1);
      }
      {
        await using _running = world.start();
        assert.equal(world.story.length, 2);
        await world.clock.advance(runs);
        assert.deepEqual(world.story.slice(2), [told]);
      }
      {
        await using _running = world.start();
        await world.clock.advance(5 * minute - 1);
        assert.deepEqual(world.effects, [1]);
        await world.clock.advance(1);
        assert.deepEqual([world.effects, world.story.slice(2)], [[1, 0], [told, gone]]);
      }
      await using running = world.start();
      await running.receive("good morning");
      await world.clock.advance(1_000);
      assert.deepEqual(world.effects, [1, 0, 1]);
      assert.deepEqual(world.story.slice(4), [waking, readyAgain]);
      assert.ok(world.notes.includes("clawdbot SwitchedOff: Nobody has written for IDLE_STOP: replicas 1 → 0"));
      const [warning, end] = [...world.sent.values()].slice(2);
      assert.deepEqual([warning?.answer.form, warning?.answer.reply, warning?.roomId], ["notice", false, room]);
      assert.equal(end?.replaces, `$${[...world.sent.keys()][2]}`, "the same message");
    });
  }
});

Deno.test("Operator keeps a target running while a user writes, and says so after a warning", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(24 * minute);
  await running.receive("and?");
  await world.clock.advance(25 * minute);
  assert.deepEqual(world.story.slice(2), [told]);
  await running.receive("wait");
  assert.deepEqual(world.story.slice(2), [told, "✎ clawdbot stays on"]);
  await world.clock.advance(25 * minute);
  assert.deepEqual(world.story.slice(4), [told], "a message of its own");
  await world.clock.advance(5 * minute);
  assert.deepEqual([world.effects, world.story.slice(5)], [[1, 0], [gone]]);
});

Deno.test("Operator counts no stranger's messages, nor those in rooms without the agent", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  world.room("!other:example.org", { joined: [alice, bob, self] });
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(3 * minute);
  const writes = world.store.rooms.changes();
  for (let count = 0; count < 3; count += 1) {
    await world.clock.advance(7 * minute);
    running.operator.refused({ roomId: room, eventId: "$stranger", sender: mallory });
  }
  assert.equal(world.store.rooms.changes(), writes, "and it costs nothing");
  await running.receive("lunch?", { roomId: "!other:example.org" });
  await world.clock.advance(6 * minute);
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator lets an agent's words and its typing extend the time, by IDLE_STOP at most", async (t) => {
  const rows: [what: string, everyMs: number, asleepAfterMs: number][] = [
    ["a heartbeat every ten minutes", 10 * minute, hour],
    ["one late message", 20 * minute, 50 * minute],
  ];
  for (const [what, everyMs, asleepAfterMs] of rows) {
    await t.step(what, async () => {
      const world = new World(sleepy);
      world.room(room, three);
      await using running = world.start();
      await running.receive("hello");
      for (
        let afterMs = everyMs;
        afterMs <= asleepAfterMs - (everyMs === 20 * minute ? 30 * minute : 1);
        afterMs += everyMs
      ) {
        await world.clock.advance(everyMs);
        await running.agentWrites(clawd);
      }
      const sinceMs = world.clock.nowMs - 1_000_000_000;
      await world.clock.advance(asleepAfterMs - sinceMs - 1);
      assert.deepEqual(world.effects, [1], "before");
      await world.clock.advance(1);
      assert.deepEqual(world.effects, [1, 0], "after");
    });
  }
  await t.step("typing for hours", async () => {
    const world = new World(sleepy);
    world.room(room, three);
    await using running = world.start();
    await running.receive("hello");
    await world.clock.advance(minute);
    await running.agentsType([clawd]);
    await world.clock.advance(59 * minute - 1);
    assert.deepEqual(world.effects, [1], "before");
    await world.clock.advance(1);
    assert.deepEqual(world.effects, [1, 0], "after");
  });
  await t.step("typing that ends", async () => {
    const world = new World(sleepy);
    world.room(room, three);
    await using running = world.start();
    await running.receive("hello");
    await running.agentsType([clawd]);
    await world.clock.advance(10 * minute);
    await running.agentsType([]);
    await world.clock.advance(30 * minute - 1);
    assert.deepEqual(world.effects, [1], "before");
    await world.clock.advance(1);
    assert.deepEqual(world.effects, [1, 0], "after");
  });
});

Deno.test("Operator persists activity at most once a minute", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(minute);
  let saves = 0;
  world.onDurable = (call) => saves += call === "save" ? 1 : 0;
  for (let count = 0; count < 120; count += 1) {
    await running.agentWrites(clawd);
    await world.clock.advance(1_000);
  }
  assert.ok(saves >= 1 && saves <= 3, `${saves} writes in two minutes`);
});

Deno.test("Operator starts the idle time of a running target when it first sees it, and stops it where only Alice is", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  world.setScale(1);
  await using _running = world.start();
  await world.clock.advance(25 * minute - 1);
  assert.deepEqual(world.texts, []);
  await world.clock.advance(1);
  assert.deepEqual(world.texts, [told], "in the room where the agent is, as nobody has commanded it");
  await world.clock.advance(5 * minute);
  assert.deepEqual(world.effects, [0]);
});

Deno.test("Operator logs one line when a target wakes, and one when it falls asleep, and counts the cause", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  const log = await logOf(async () => {
    await using running = world.start();
    await running.receive("hello");
    await running.receive("thanks");
    await world.clock.advance(30 * minute);
  });
  assert.deepEqual(log, [
    `wake clawdbot by ${alice}: done (0 → 1)`,
    "turned off clawdbot (idle): Nobody has written for IDLE_STOP: replicas 1 → 0",
  ]);
  assert.deepEqual(world.wakeUps, ["clawdbot by message"]);
});

Deno.test("Operator says how many rooms it watches, and sees no other", async () => {
  const world = new World(sleepy);
  const status = async (running: ReturnType<World["start"]>): Promise<string> => {
    await running.receive("status");
    return world.texts.at(-1) ?? "";
  };
  await using running = world.start();
  // The agent is only where the operator isn't.
  world.room("!elsewhere:example.org", { joined: [alice, clawd], membership: "leave" });
  assert.equal(await status(running), "clawdbot is off; wakes when you write to @clawd (0 rooms watched)");
  world.room("!second:example.org", three);
  world.room("!third:example.org", larger);
  world.setScale(1);
  await settled();
  assert.match(await status(running), /; sleeps after 30 min without a message \(2 rooms watched\)$/);
  await running.receive("hello", { roomId: "!elsewhere:example.org" });
  await world.clock.advance(30 * minute);
  assert.deepEqual(world.effects, [0]);
});

Deno.test("Operator sleeps also without a watch", async () => {
  const world = new World(sleepy);
  world.mayWatch = false;
  world.room(room, three);
  world.setScale(1);
  await using running = world.start();
  await world.clock.advance(30 * minute);
  assert.deepEqual(world.effects, [0]);
  world.setScale(1);
  await world.clock.advance(hour);
  await running.receive("hello");
  await world.clock.advance(30 * minute);
  assert.deepEqual([world.effects, world.texts.includes(waking)], [[0, 0], false]);
});

Deno.test("Operator warns before an overdue stop after downtime, and counts messages sent meanwhile", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  {
    await using running = world.start();
    await running.receive("hello");
  }
  world.clock.nowMs += 5 * hour;
  {
    await using _running = world.start();
    await settled();
    assert.deepEqual(world.story.slice(2), ["clawdbot goes to sleep in 5 min: no message for 5 h"]);
  }
  // It reads what was written while it was away.
  world.clock.nowMs += hour;
  await using running = world.start();
  await running.receive("and?", { ageMs: 20 * minute });
  await world.clock.advance(5 * minute - 1);
  assert.deepEqual(world.effects, [1]);
});

Deno.test("Operator lets a time that somebody asked for count for more", async () => {
  const world = new World({ ...sleepy, autoStopMs: 8 * hour });
  world.room(room, three);
  await using running = world.start();
  await running.receive("Claw: start 3h");
  await world.clock.advance(3 * hour - 1);
  assert.deepEqual(world.effects, [1]);
  await world.clock.advance(1);
  assert.deepEqual(world.effects, [1, 0]);
  await running.receive("hello");
  await world.clock.advance(30 * minute);
  assert.deepEqual(world.effects, [1, 0, 1, 0], "AUTO_STOP is no such time");
});

Deno.test("Operator doesn't keep a target awake longer because the clock was set back, nor puts it to sleep because it was set forward", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(20 * minute);
  await running.receive("and?");
  world.clock.set(-24 * hour);
  await world.clock.advance(31 * minute);
  assert.deepEqual(world.effects, [1, 0]);

  await running.receive("hello");
  await world.clock.advance(10 * minute);
  world.clock.set(24 * hour);
  await world.clock.advance(minute);
  assert.deepEqual(world.effects, [1, 0, 1]);
  assert.match(world.texts.at(-1) ?? "", /^clawdbot goes to sleep in 5 min/);
});

Deno.test("Operator keeps a target awake for a message after the clock was set back behind the warning", async () => {
  const world = new World(sleepy);
  world.room(room, three);
  await using running = world.start();
  await running.receive("hello");
  await world.clock.advance(28 * minute);
  assert.match(world.texts.at(-1) ?? "", /^clawdbot goes to sleep in 5 min/);
  world.clock.set(-hour);
  await running.receive("wait, I am still here");
  assert.match(world.story.at(-1) ?? "", /^✎ clawdbot stays on/);
  await world.clock.advance(25 * minute - 1);
  assert.deepEqual(world.effects, [1]);
  await world.clock.advance(5 * minute + 1);
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator hints at what it can't read where an agent is awake once a day, else every ten minutes", async (t) => {
  for (const [state, count] of [["awake", 1], ["asleep", 3]] as const) {
    await t.step(state, async () => {
      const world = new World({ agents });
      world.room(room, three);
      world.setScale(state === "awake" ? 1 : 0);
      await using running = world.start();
      for (let number = 0; number < 3; number += 1) {
        await running.receive("…", {
          payload: { kind: "undecryptable", why: { kind: "no-key" }, sessionId: `${number}` },
        });
        await world.clock.advance(10 * minute);
      }
      assert.equal(world.texts.filter((text) => text.startsWith("I can't read")).length, count);
    });
  }
});

Deno.test("Operator wakes, and puts to sleep, exactly once and says so, wherever it is killed", async () => {
  const play = async (killAt?: string): Promise<World> => {
    const world = new World({ ...sleepy, echo: "message" });
    world.room(room, three);
    /** Lives until then, in two lives if it is killed. */
    const until = async (afterMs: number): Promise<void> => {
      const endMs = beganAtMs + afterMs;
      for (const point of [killAt, undefined]) {
        await using running = world.start(point);
        let isDead = false;
        running.ended.then((error) => isDead = error instanceof Killed);
        for (await settled(); !isDead && world.clock.nowMs < endMs; await settled()) {
          await world.clock.advance(Math.min(minute, endMs - world.clock.nowMs));
        }
      }
    };
    const beganAtMs = world.clock.nowMs;
    world.receive("hello");
    await until(20_000);
    assert.deepEqual(world.effects, [1], `${killAt}: woken`);
    await until(26 * minute);
    assert.deepEqual(world.effects, [1], `${killAt}: told`);
    await until(35 * minute);
    assert.deepEqual(world.effects, [1, 0], `${killAt}: asleep`);
    return world;
  };
  const calls =
    "unsettled read claim saveCommand save transaction settle queueAnswer send markSent scaler.read scale record".split(
      " ",
    );
  for (const call of calls) {
    for (const when of ["before", "after"]) {
      const world = await play(`${when} ${call}`);
      const last = new Map([...world.sent.values()].map(({ plain, replaces, answer }) => [
        replaces ?? `$${answer.eventId}`,
        plain,
      ]));
      assert.equal(
        [...last.values()].filter((text) => text.includes("is off: no message")).length,
        1,
        `${when} ${call}`,
      );
      assert.equal(world.texts.filter((text) => text === waking).length, 1, `${when} ${call}`);
    }
  }
});
