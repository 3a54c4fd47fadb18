import assert from "node:assert/strict";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import type { InboxEvent, Payload, RoomFacts, SenderFacts } from "../../lib/session/mod.ts";
import type { OperatorConfig } from "../../lib/operator/mod.ts";
import { alice, clear, decrypted, identity, mallory, room, type RoomChanges, self, settled, World } from "./fakes.ts";
import { logOf } from "./log.ts";

const larger = { joined: [alice, mallory, self] };
const direct = {};
const mention = { "m.mentions": { user_ids: [self] } };
const key = { sessionId: "session", messageIndex: 99 };
const unknown = "Unknown command: hello. Send `help` for a list of commands.";
const replyText = "I ignored that because it was a reply. Send `start` as a new message.";
const noKey =
  "I can't read your message: your app hasn't sent me the key for it. Send the message again; if that fails, start a new chat with me.";
const unencryptedText =
  "I ignored that: this room isn't encrypted. Turn encryption on, or write to me in an encrypted room.";

interface Case {
  readonly name: string;
  readonly body?: string;
  readonly how?: Partial<InboxEvent> & { payload?: Payload };
  readonly room?: RoomChanges;
  readonly config?: Partial<OperatorConfig>;
  readonly outcome: string | undefined;
  readonly said?: string[];
  readonly refused?: string[];
}

const text = (body: string, content: Record<string, unknown> = {}) => ({
  payload: decrypted(body, key, { content }),
});
const broken = (senderFacts: Parameters<typeof decrypted>[2]) => ({ payload: decrypted("start", key, senderFacts) });
const reply = { "m.relates_to": { "m.in_reply_to": { event_id: "$other" } } };

const cases: Case[] = [
  { name: "a command", outcome: "done", said: ["clawdbot is on (1 replica), starting…"] },
  {
    name: "a command in a larger room",
    room: larger,
    outcome: "done",
    said: [
      "clawdbot is on (1 replica), starting…",
    ],
  },
  { name: "a stranger's command", how: { sender: mallory }, outcome: "stranger", refused: ["stranger"] },
  {
    name: "a user whose id differs in case",
    how: { sender: "@Alice:example.org" },
    outcome: "stranger",
    refused: [
      "stranger",
    ],
  },
  { name: "our own message", how: { sender: self }, outcome: "own" },
  { name: "a reaction", how: { json: { type: "m.reaction", content: { a: 1 } } }, outcome: "no-message" },
  { name: "a redacted message", how: { json: { type: "m.room.encrypted", content: {} } }, outcome: "no-message" },
  { name: "an event of no shape", how: { json: {} }, outcome: "no-message" },
  { name: "a room that we have left", room: { membership: "leave" }, outcome: "not-joined", refused: ["not-joined"] },
  {
    name: "clear text in an encrypted room",
    how: { payload: clear("start") },
    outcome: "clear-in-encrypted-room",
    said: [
      "I ignored that: it wasn't encrypted, but this room is. Send it from an app that supports encryption.",
    ],
    refused: ["clear-in-encrypted-room"],
  },
  {
    name: "clear text in an unencrypted room",
    how: { payload: clear("start") },
    room: { encrypted: false },
    outcome: "unencrypted-room",
    said: [unencryptedText],
    refused: ["unencrypted-room"],
  },
  {
    name: "clear chatter in a larger unencrypted room",
    how: { payload: clear("hello") },
    room: { encrypted: false, ...larger },
    outcome: "unencrypted-room",
    refused: ["unencrypted-room"],
  },
  {
    name: "clear text where that is permitted",
    how: { payload: clear("start") },
    room: { encrypted: false },
    config: { requireEncryption: false },
    outcome: "done",
    said: ["clawdbot is on (1 replica), starting…"],
  },
  {
    name: "a forged sender that the crypto refuses to decrypt",
    how: { payload: { kind: "undecryptable", why: { kind: "forged" }, sessionId: "s" } },
    outcome: "mismatched-sender",
    refused: ["mismatched-sender"],
  },
  {
    name: "a step of a verification",
    how: {
      json: { type: "m.key.verification.start", content: { a: 1 } },
      payload: { kind: "clear", type: "m.key.verification.start", content: { msgtype: "m.text", body: "start" } },
    },
    outcome: "no-text",
  },
  {
    name: "a room that was upgraded",
    how: { json: { type: "m.room.tombstone", state_key: "", content: { replacement_room: "!new" } } },
    outcome: "no-message",
  },
  {
    name: "an unknown device",
    how: broken({ senderFacts: { device: undefined } }),
    outcome: "unknown-device",
    said: [
      "I ignored that: I can't tell which of your devices sent it. Send it again; if that fails, log out and back in on the device that you sent it from.",
    ],
    refused: ["unknown-device"],
  },
  {
    name: "an edit",
    how: text("* start", { "m.new_content": { body: "start" } }),
    outcome: "edit",
    refused: ["edit"],
  },
  { name: "an edit of chatter", how: text("* hello", { "m.new_content": { body: "hello" } }), outcome: "edit" },
  {
    name: "a reply",
    how: text("start", reply),
    outcome: "reply",
    said: [replyText],
    refused: ["reply"],
  },
  {
    name: "a reply in a larger room",
    how: text("start", reply),
    room: larger,
    outcome: "reply",
    said: [replyText],
    refused: ["reply"],
  },
  {
    name: "a reply that quotes what it replies to",
    how: text("> <@alice:example.org> how is it?\n\nstart", reply),
    outcome: "reply",
    said: [replyText],
    refused: ["reply"],
  },
  {
    name: "a reply to our own words, by their quotation",
    how: text("> <@claw:example.org> clawdbot is off\n\nstart", reply),
    outcome: "done",
    said: ["clawdbot is on (1 replica), starting…"],
  },
  {
    name: "an edit whose new content stands outside of the ciphertext",
    how: {
      ...text("start"),
      json: { type: "m.room.encrypted", content: { "m.new_content": { body: "start" } } },
    },
    outcome: "edit",
    refused: ["edit"],
  },
  {
    name: "a command among invisible characters",
    how: text("\u200Estart\uFE0F\u200B"),
    outcome: "done",
    said: ["clawdbot is on (1 replica), starting…"],
  },
  {
    name: "a command in a room where nothing can be sent",
    room: { sendProblem: "unusable-encryption" },
    outcome: "unusable-encryption",
    refused: ["unusable-encryption"],
  },
  {
    name: "a command while nobody would get our keys",
    room: { sendProblem: "own-device-unsigned" },
    outcome: "own-device-unsigned",
    refused: ["own-device-unsigned"],
  },
  { name: "a reply that is chatter", how: text("hello", reply), outcome: "reply" },
  { name: "an image", how: text("start", { msgtype: "m.image" }), outcome: "no-text" },
  { name: "chatter in a direct room", body: "hello", room: direct, outcome: "no-command", said: [unknown] },
  { name: "chatter in a larger room", body: "hello", room: larger, outcome: "no-command" },
  {
    name: "chatter that mentions us in a larger room",
    how: text("hello", mention),
    room: larger,
    outcome: "no-command",
    said: [unknown],
  },
  { name: "chatter with our name first", body: "claw: hello", room: larger, outcome: "no-command", said: [unknown] },
  { name: "old chatter", body: "hello", how: { ageMs: 300_001 }, outcome: "no-command" },
  {
    name: "an old command",
    body: "On",
    how: { ageMs: 42 * 60_000 },
    config: { echo: "message" },
    outcome: "too-old",
    said: ["I was away when you sent `On`, 42 min ago. Send it again if you still want it."],
  },
  {
    name: "a command just young enough",
    how: { ageMs: 300_000 },
    outcome: "done",
    said: [
      "clawdbot is on (1 replica), starting…",
    ],
  },
  {
    name: "an echoed command",
    body: "STATUS",
    config: { echo: "message" },
    outcome: "done",
    said: ["🦞 STATUS\nclawdbot is off"],
  },
  {
    name: "a command with a reaction",
    body: "status",
    config: { echo: "reaction" },
    outcome: "done",
    said: ["🦞", "clawdbot is off"],
  },
  {
    name: "a command in a room left out",
    config: { allowedRooms: new Set(["!other:example.org"]) },
    outcome: "room-not-allowed",
    said: ["I don't take commands in this room: it isn't in `ALLOWED_ROOMS`."],
    refused: ["room-not-allowed"],
  },
  {
    name: "a command in one of the rooms given",
    config: { allowedRooms: new Set([room]) },
    outcome: "done",
    said: ["clawdbot is on (1 replica), starting…"],
  },
  {
    name: "an undecryptable message in a room left out",
    how: { payload: { kind: "undecryptable", why: { kind: "no-key" }, sessionId: "late" } },
    config: { allowedRooms: new Set(["!other:example.org"]) },
    outcome: undefined,
    refused: ["(undecryptable)"],
  },
  {
    name: "a ciphertext that no key would help",
    how: { payload: { kind: "undecryptable", why: { kind: "broken", reason: "x" }, sessionId: undefined } },
    outcome: "unreadable",
    said: [noKey],
    refused: ["unreadable"],
  },
];

Deno.test("Operator settles a message", async (t) => {
  for (const { name, body, how, config, outcome, said, refused, room: facts } of cases) {
    await t.step(`${name}: ${outcome}`, async () => {
      const world = new World(config);
      world.room(room, facts);
      await using running = world.start();
      await running.receive(body ?? "start", how);
      assert.equal(world.outcome(1), outcome);
      assert.deepEqual(world.texts, said ?? []);
      assert.deepEqual(world.refusals, refused ?? []);
      assert.deepEqual(world.effects, said?.some((words) => words.includes("is on (1 replica)")) ? [1] : []);
      await world.clock.advance(60_000);
      assert.equal(world.clock.sleeping, 0);
    });
  }
});

Deno.test("Operator uses the room's state after decryption", async (t) => {
  const rows: [change: Partial<RoomFacts>, payload: Payload, outcome: string][] = [
    [{ membership: "leave" }, decrypted("help", key), "not-joined"],
    [{ encrypted: true }, clear("start"), "clear-in-encrypted-room"],
  ];
  for (const [change, payload, outcome] of rows) {
    await t.step(outcome, async () => {
      const world = new World({ requireEncryption: false });
      world.room(room, { encrypted: false });
      world.afterRead = () => world.room(room, change);
      await using running = world.start();
      await running.receive("start", { payload });
      assert.equal(world.outcome(1), outcome);
      assert.deepEqual(world.effects, []);
    });
  }
});

Deno.test("Operator never reads what a stranger sends", async () => {
  const world = new World();
  world.before = (call) => assert.notEqual(call, "read");
  await using running = world.start();
  await running.receive("start", { sender: mallory });
  assert.equal(world.outcome(1), "stranger");
});

Deno.test("Operator refuses a ciphertext under a second event id, commands and chatter alike", async (t) => {
  for (const body of ["start", "hello"]) {
    await t.step(body, async () => {
      const world = new World();
      await using running = world.start();
      await running.receive(body, text(body));
      world.setScale(0);
      await running.receive(body, text(body));
      assert.equal(world.outcome(2), "repeat");
      assert.deepEqual(world.refusals, ["repeat"]);
      assert.ok([...world.sent.values()].every(({ about }) => about === "$event1"));
      assert.equal(world.scale.desired, 0);
    });
  }
});

Deno.test("Operator does not let a refused copy use a ciphertext up", async (t) => {
  const copies: [name: string, payload: Payload][] = [
    ["forged", decrypted("start", key, { senderFacts: { mismatchedSender: true } })],
    ["not decrypted", { kind: "undecryptable", why: { kind: "forged" }, sessionId: key.sessionId }],
  ];
  for (const [name, payload] of copies) {
    await t.step(name, async () => {
      const world = new World();
      await using running = world.start();
      await running.receive("start", { payload });
      await running.receive("start", text("start"));
      assert.equal(world.outcome(2), "done");
    });
  }
});

Deno.test("Operator takes no copy of what it did not trust, once it would trust it", async (t) => {
  const tablet = { deviceId: "TABLET", ed25519: "key of TABLET", crossSignedByOwner: false };
  const device = { ...tablet, deleted: false, sameKeysAsSession: true };
  const rows: [reason: string, facts: Partial<SenderFacts>, then: (world: World) => void][] = [
    ["new-device", { identity: undefined, device, devices: [tablet] }, (world) => world.pins.clear()],
    ["unsigned-device", { device, devices: [tablet] }, (world) => {
      world.pins.set(alice, { kind: "devices", devices: [tablet], sinceMs: 0 });
    }],
    ["unknown-device", { device: undefined, devices: [] }, (world) => world.pins.clear()],
    ["other-identity", { identity: identity("another") }, (world) => world.pins.clear()],
  ];
  for (const [reason, senderFacts, then] of rows) {
    await t.step(reason, async () => {
      const world = new World();
      if (reason === "new-device") world.pins.set(alice, { kind: "devices", devices: [], sinceMs: 0 });
      else world.pins.set(alice, { kind: "identity", masterKey: "master", sinceMs: 0 });
      await using running = world.start();
      await running.receive("start", broken({ senderFacts }));
      then(world);
      await running.receive("start", broken(reason === "unknown-device" ? {} : { senderFacts }));
      assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), [reason, "repeat"]);
      assert.deepEqual(world.effects, []);
      // What is said anew is trusted.
      const now = reason === "unknown-device" ? {} : senderFacts;
      await running.receive("start", {
        payload: decrypted("start", { ...key, messageIndex: 100 }, { senderFacts: now }),
      });
      assert.equal(world.outcome(3), "done");
    });
  }
});

Deno.test("Operator refuses a copy while the first is being acted on, and while the first waits for its key", async (t) => {
  await t.step("being acted on", async () => {
    const world = new World();
    const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
    world.before = (call) => call === "scale" ? hanging : undefined;
    await using running = world.start();
    await running.receive("start", text("start"));
    await running.receive("start", text("start"));
    assert.equal(world.outcome(2), "repeat");
    goOn();
    await settled();
    assert.deepEqual(world.effects, [1]);
  });
  await t.step("waiting for its key", async () => {
    const world = new World();
    await using running = world.start();
    const copies = [
      await running.receive("start", { payload: locked() }),
      await running.receive("start", { payload: locked() }),
    ];
    for (const { eventId } of copies) world.payloads.set(eventId, text("start").payload);
    running.operator.keyArrived(room, "late");
    await settled();
    assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["done", "repeat"]);
    assert.deepEqual(world.effects, [1]);
    assert.deepEqual(world.refusals, ["(undecryptable)", "(undecryptable)", "repeat"]);
  });
});

Deno.test("Operator explains a refusal of clear text once an hour per room", async () => {
  const world = new World();
  world.room(room, { encrypted: false });
  world.room("!second:example.org", { encrypted: false });
  await using running = world.start();
  const send = () => running.receive("start", { payload: clear("start") });
  await send();
  await send();
  await running.receive("start", { payload: clear("start"), roomId: "!second:example.org" });
  assert.deepEqual(world.texts, [unencryptedText, unencryptedText]);
  await world.clock.advance(3_599_999);
  await send();
  assert.equal(world.texts.length, 2);
  await world.clock.advance(1);
  await send();
  assert.equal(world.texts.length, 3);
  assert.equal(world.refusals.length, 5);
});

Deno.test("Operator reports once that a room isn't allowed, even after a restart", async () => {
  const world = new World({ allowedRooms: new Set(["!other:example.org"]) });
  for (let run = 0; run < 2; run += 1) {
    await using running = world.start();
    await running.receive("start");
    await running.receive("start");
  }
  assert.equal(world.texts.length, 1);
});

const locked = (code?: string): Payload => ({
  kind: "undecryptable",
  why: code === undefined ? { kind: "no-key" } : { kind: "withheld", code },
  sessionId: "late",
});

Deno.test("Operator carries a command out when its key comes, without a hint if that is soon", async () => {
  const world = new World();
  await using running = world.start();
  const { eventId } = await running.receive("start", { payload: locked() });
  assert.equal(world.outcome(1), undefined);
  await world.clock.advance(4_999);
  world.payloads.set(eventId, decrypted("start", { sessionId: "late", messageIndex: 0 }));
  running.operator.keyArrived(room, "late");
  await world.clock.advance(60_000);
  assert.equal(world.outcome(1), "done");
  assert.deepEqual(world.texts, ["clawdbot is on (1 replica), starting…"]);
});

Deno.test("Operator does not miss a key that comes while its message is being read", async () => {
  const world = new World();
  await using running = world.start();
  world.afterRead = (eventId) => {
    world.afterRead = () => {};
    world.payloads.set(eventId, decrypted("start", { sessionId: "late", messageIndex: 0 }));
    running.operator.keyArrived(room, "late");
  };
  await running.receive("start", { payload: locked() });
  assert.equal(world.outcome(1), "done");
});

Deno.test("Operator hints at undecryptable messages once per room in ten minutes, only to allowed users", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start", { payload: locked("m.unverified") });
  await running.receive("start", { payload: locked() });
  await running.receive("start", { payload: locked(), sender: mallory });
  await world.clock.advance(5_000);
  assert.deepEqual(world.texts, [
    "I can't read your message: your app sends to verified devices only, and mine isn't verified. Verify my device or turn that setting off for this room, then send the message again.",
  ]);
  assert.deepEqual(world.refusals, ["(undecryptable)", "(undecryptable)", "stranger"]);
  await world.clock.advance(600_000);
  await running.receive("start", { payload: locked() });
  await world.clock.advance(5_000);
  assert.equal(world.texts.length, 2);
  assert.equal(world.texts[1], noKey);
});

Deno.test("Operator says nothing in clear about an encrypted message, where the homeserver hides that the room is", async () => {
  const world = new World({ requireEncryption: false });
  world.room(room, { encrypted: false });
  await using running = world.start();
  await running.receive("start", { payload: locked() });
  const broken = { kind: "broken", reason: "x" } as const;
  await running.receive("start", { payload: { kind: "undecryptable", why: broken, sessionId: undefined } });
  await world.clock.advance(5_000);
  assert.deepEqual(world.texts, []);
  assert.deepEqual(world.refusals, ["(undecryptable)", "unreadable"]);
});

Deno.test("Operator reads undecryptable messages again at its next start, and does not hint again", async () => {
  const world = new World();
  {
    await using running = world.start();
    await running.receive("start", { payload: locked() });
    await world.clock.advance(5_000);
  }
  {
    await using _running = world.start();
    await world.clock.advance(60_000);
    assert.deepEqual(world.refusals, ["(undecryptable)"]);
  }
  world.payloads.set("$event1", decrypted("start", { sessionId: "late", messageIndex: 0 }));
  {
    await using _running = world.start();
    await settled();
  }
  assert.deepEqual(world.texts, [noKey, "clawdbot is on (1 replica), starting…"]);
});

Deno.test("Operator reads again after a passing failure, in the order of the room, beside other rooms", async () => {
  const world = new World({ echo: "message" });
  world.room("!second:example.org");
  let failures = 3;
  world.before = (call, eventId) => {
    if (call !== "read" || eventId !== "$event1" || failures === 0) return;
    failures -= 1;
    throw new TransientError("Cannot query keys: timeout", { retryAfterMs: failures === 0 ? 9_000 : 0 });
  };
  await using running = world.start();
  await running.receive("start");
  await running.receive("status");
  await running.receive("help", { roomId: "!second:example.org" });
  assert.deepEqual([1, 2, 3].map((seq) => world.outcome(seq)), [undefined, undefined, "done"]);
  await world.clock.advance(60_000);
  assert.deepEqual(world.clock.waits.filter((ms) => ms < 30_000 && ms > 150 && ms !== 5_000), [1_000, 2_000, 9_000]);
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["done", "done"]);
  assert.deepEqual(world.texts.flatMap((words) => words.match(/^🦞 .*/g) ?? []), ["🦞 help", "🦞 start", "🦞 status"]);
});

Deno.test("Operator decides nothing while the homeserver refuses to tell a sender's devices", async () => {
  const world = new World();
  let isRefused = true;
  world.before = (call) => {
    if (call === "read" && isRefused) throw new RejectedError("Cannot query keys: 403", 403, "M_FORBIDDEN");
  };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(60_000);
  assert.equal(world.outcome(1), undefined);
  isRefused = false;
  await world.clock.advance(16_000);
  assert.equal(world.outcome(1), "done");
});

Deno.test("Operator does not let a message that fails for an unknown reason end or hold up anything else", async () => {
  const world = new World();
  world.before = (call, eventId) => {
    if (call === "read" && eventId === "$event1") throw new Error("a reason that nobody thought of");
  };
  await using running = world.start();
  await running.receive("start");
  await running.receive("start");
  await world.clock.advance(10_000);
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["unreadable", "done"]);
  assert.deepEqual(world.effects, [1]);
});

Deno.test("Operator logs where handling a message failed, never its text", async () => {
  const log = await logOf(async () => {
    const world = new World();
    world.afterRead = () => void JSON.parse("my secret");
    await using running = world.start();
    await running.receive("start");
    await world.clock.advance(10_000);
    assert.equal(world.outcome(1), "unreadable");
  });
  assert.match(log.join("\n"), /\$event1.*: SyntaxError at /);
  assert.doesNotMatch(log.join("\n"), /secret/);
});

Deno.test("Operator shows 150 ms after its receipt that a command was seen, however long it waited to be read", async () => {
  const world = new World({ echo: "message" });
  world.mayWatch = false;
  world.before = (call) => {
    if (call === "scaler.read") throw new TransientError("away");
  };
  await using running = world.start();
  await running.receive("start", { receivedAtMs: world.clock.nowMs - 100 });
  await world.clock.advance(49);
  assert.deepEqual(world.story, []);
  await world.clock.advance(1);
  assert.deepEqual(world.story, ["🦞 start"]);
});

Deno.test("Operator uses a ciphertext up for its sender only", async () => {
  const bob = "@bob:example.org";
  const world = new World();
  world.room(room, { joined: [alice, bob, self] });
  await using running = world.start();
  // The crypto cannot tell whose session it is, and the homeserver says that it is Bob's.
  const payload = decrypted("start", key, { senderFacts: { deviceId: undefined, device: undefined } });
  await running.receive("start", { sender: bob, payload });
  await running.receive("start", text("start"));
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["unknown-device", "done"]);
});

Deno.test("Operator uses up what was sent while it was not in the room", async () => {
  const world = new World();
  world.room(room, { membership: "leave" });
  await using running = world.start();
  await running.receive("start", text("start"));
  world.room(room, { membership: "join" });
  await running.receive("start", text("start"));
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["not-joined", "repeat"]);
});

Deno.test("Operator takes a reply to its own words for a command, by the event that it replies to", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("status");
  const answered = world.store.journal.sentAs({ eventId: "$event1", kind: "answer", sequence: 0 });
  const toUs = { "m.relates_to": { "m.in_reply_to": { event_id: answered } } };
  await running.receive("start", { payload: decrypted("start", { ...key, messageIndex: 501 }, { content: toUs }) });
  assert.equal(world.outcome(2), "done");
  // A server adds another relation outside.
  const json = { type: "m.room.encrypted", content: { "m.relates_to": { "m.in_reply_to": { event_id: "$other" } } } };
  await running.receive("stop", {
    json,
    payload: decrypted("stop", { ...key, messageIndex: 502 }, { content: toUs }),
  });
  assert.equal(world.outcome(3), "reply");
});

Deno.test("Operator answers a command in a thread within the thread, also with hints and alerts", async () => {
  const world = new World({ echo: "message" });
  world.isPrompt = false;
  const content = { "m.relates_to": { rel_type: "m.thread", event_id: "$root", is_falling_back: true } };
  const inThread = { json: { type: "m.room.encrypted", content } };
  await using running = world.start();
  await running.receive("start", inThread);
  await running.receive("start", { ...inThread, payload: locked() });
  await world.clock.advance(20_000);
  await running.receive("stop", { ...inThread, ...broken({ senderFacts: { device: undefined } }) });
  world.diagnosis = {
    problems: [{ kind: "crash", reason: "CrashLoopBackOff", restarts: 3, certain: true }],
    missingPermission: undefined,
  };
  await world.clock.advance(20_000);
  const kinds = new Set([...world.sent.values()].map(({ kind }) => kind));
  assert.deepEqual([...kinds].toSorted(), ["alert", "answer", "edit", "hint"]);
  for (const { kind, answer } of world.sent.values()) {
    if (kind !== "edit") assert.equal(answer.threadId, "$root", `${kind}: ${answer.text.plain}`);
  }
});

Deno.test("Operator responds to a display name that it was given while running", async () => {
  const world = new World();
  world.room(room, larger);
  await using running = world.start();
  await running.receive("Lobster: status");
  world.names = [...world.names, "Lobster"];
  await running.receive("Lobster: status");
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), ["no-command", "done"]);
});

Deno.test("Operator answers a status when the commands before it in its room have been carried out", async () => {
  const world = new World();
  world.setScale(1);
  world.room("!second:example.org");
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call) => call === "scale" ? hanging : undefined;
  await using running = world.start();
  await running.receive("stop");
  // What cannot be read is not waited for.
  await running.receive("…", { payload: locked() });
  await running.receive("status");
  await running.receive("status", { roomId: "!second:example.org" });
  await running.receive("help");
  assert.deepEqual([1, 3, 4, 5].map((seq) => world.outcome(seq)), [undefined, undefined, "done", "done"]);
  goOn();
  await settled();
  assert.deepEqual([1, 3].map((seq) => world.outcome(seq)), ["done", "done"]);
  assert.equal(world.texts.at(-1), "clawdbot is off");
});

Deno.test("Operator answers a status after 30 s, and lists the commands still in progress", async () => {
  const world = new World();
  world.setScale(1);
  // Each change hangs until it is given up, after 30 s.
  world.before = (call, _detail, signal) =>
    call === "scale"
      ? new Promise<void>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)))
      : undefined;
  await using running = world.start();
  await running.receive("Stop");
  await running.receive("off");
  await running.receive("status");
  await world.clock.advance(29_999);
  assert.equal(world.outcome(3), undefined);
  await world.clock.advance(2);
  assert.deepEqual([1, 2, 3].map((number) => world.outcome(number)), ["failed", undefined, "done"]);
  assert.equal(world.texts.at(-1), "clawdbot is running: 1/1 ready\nStill in progress: `off`");
});

Deno.test("Operator answers a status that stands behind a gap after the commands before it", async () => {
  const world = new World();
  world.setScale(1);
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call) => call === "scale" ? hanging : undefined;
  await using running = world.start();
  const gap = world.store.rooms.addGap({ roomId: room, from: "here", to: "there" });
  for (const body of ["stop", ...Array.from({ length: 120 }, () => "chatter"), "status"]) {
    world.receive(body, { gap });
  }
  running.operator.eventsArrived();
  await settled();
  assert.equal(world.outcome(1), undefined);
  world.store.rooms.fillGap(gap, []);
  running.operator.eventsArrived();
  await world.clock.advance(1);
  assert.equal(world.outcome(122), undefined);
  goOn();
  await world.clock.advance(1);
  assert.equal(world.outcome(122), "done");
  assert.equal(world.texts.at(-1), "clawdbot is off");
});

Deno.test("Operator reports each missing part of a room's history once, and only while it runs", async () => {
  const world = new World();
  world.room("!strangers:example.org", { joined: [mallory, self] });
  for (let run = 0; run < 2; run += 1) {
    await using running = world.start();
    assert.equal(running.operator.historyCutOff(room, 1), true);
    assert.equal(running.operator.historyCutOff("!strangers:example.org", 2), true);
    assert.equal(running.operator.historyCutOff("!unknown:example.org", 3), true);
    await settled();
    running.stop();
    await running.ended;
    assert.equal(running.operator.historyCutOff(room, 4), false);
  }
  assert.deepEqual([...world.sent.values()].map(({ roomId }) => roomId), [room]);
});

Deno.test("Operator takes events that a gap has kept back", async () => {
  const world = new World();
  await using running = world.start();
  const gap = world.store.rooms.addGap({ roomId: room, from: "here", to: "there" });
  await running.receive("help", { gap });
  await running.receive("help");
  assert.deepEqual([1, 2].map((seq) => world.outcome(seq)), [undefined, "done"]);
  world.store.rooms.fillGap(gap, []);
  running.operator.eventsArrived();
  await settled();
  assert.equal(world.outcome(1), "done");
});

Deno.test("Operator lets a sender whose devices cannot be asked for hold up a room no longer than 30 s", async () => {
  const bob = "@bob:example.org";
  const world = new World();
  world.room(room, { joined: [alice, bob, self] });
  let isAway = true;
  world.before = (call, eventId) => {
    const entry = world.store.journal.unsettled(0).find(({ event }) => event.eventId === eventId);
    const sender = entry?.event.sender;
    if (call === "read" && sender === bob && isAway) throw new TransientError("Cannot query");
  };
  await using running = world.start();
  const payload = (messageIndex: number) => decrypted("start", { sessionId: "of bob", messageIndex });
  await running.receive("start", { sender: bob, payload: payload(1) });
  await running.receive("stop");
  await running.receive("stop", { sender: bob, payload: decrypted("stop", { sessionId: "of bob", messageIndex: 2 }) });
  await running.receive("status");
  await world.clock.advance(29_999);
  assert.deepEqual([1, 2, 3, 4].map((seq) => world.outcome(seq)), [undefined, undefined, undefined, undefined]);
  await world.clock.advance(1);
  await settled();
  assert.deepEqual([1, 2, 3, 4].map((seq) => world.outcome(seq)), [undefined, "already", undefined, "done"]);
  isAway = false;
  await world.clock.advance(20_000);
  assert.deepEqual([1, 2, 3, 4].map((seq) => world.outcome(seq)), ["done", "already", "done", "done"]);
  assert.deepEqual(world.effects, [1, 0], "each sender's messages in their order");
  // Then the sender takes turns with the others again.
  await running.receive("start", { sender: bob, payload: payload(3) });
  assert.equal(world.outcome(5), "done");
});
