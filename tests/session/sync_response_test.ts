import assert from "node:assert/strict";
import { type Json, list, object, parseObject } from "../../lib/json.ts";
import { SyncApplier, type SyncEffect, syncFilter } from "../../lib/session/sync_response.ts";
import { openMemoryStore, type Store } from "../../lib/store/mod.ts";

const SELF = "@toggle:x";
const ROOM = "!r:x";
const MEGOLM = "m.megolm.v1.aes-sha2";

const allowedUsers = new Set(["@ann:x", "@bob:x"]);
const agents = new Set(["@clawd:x", "@ollama:x"]);

/** Sync responses applied to a store in memory, one after the other. */
class Syncing implements AsyncDisposable {
  readonly store: Store;
  nowMs = 0;
  readonly #applier: SyncApplier;
  #responses = 0;

  constructor() {
    this.store = openMemoryStore(() => this.nowMs);
    this.#applier = new SyncApplier(this.store, SELF, { allowedUsers, agents }, () => this.nowMs);
  }

  /** Applies a response; returns what it has changed. */
  apply(rooms: Json, rest: Json = {}): SyncEffect {
    this.#responses += 1;
    return this.#applier.apply({ next_batch: `s${this.#responses}`, rooms, ...rest }, false);
  }

  /** A room that we have joined before, with Ann in it, and no gap. */
  joined(...state: Json[]): void {
    this.apply({});
    this.apply({ join: { [ROOM]: { state: { events: [member("@ann:x"), ...state] }, timeline: { events: [] } } } });
    for (const { id } of this.store.rooms.gaps()) this.store.rooms.fillGap(id, []);
  }

  timeline(events: readonly Json[], more: Json = {}): SyncEffect {
    return this.apply({ join: { [ROOM]: { timeline: { events, ...more } } } });
  }

  /** Ids of events that may be handled now. */
  arrived(): string[] {
    return this.store.journal.unsettled(0).map(({ event }) => event.eventId);
  }

  writes(): number {
    return this.store.rooms.changes();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.store.close();
  }
}

function member(user: string, membership = "join", content: Json = {}): Json {
  return { type: "m.room.member", state_key: user, sender: user, content: { membership, ...content } };
}

function message(sender: string, eventId: string): Json {
  return { type: "m.room.encrypted", sender, event_id: eventId, content: { ciphertext: "…" } };
}

function encryption(content: Json): Json {
  return { type: "m.room.encryption", state_key: "", sender: "@ann:x", content };
}

Deno.test("syncFilter() names each type of event in full, because Dendrite on SQLite knows no wildcards", () => {
  for (const rooms of [[ROOM], "reduced"] as const) {
    const { room } = JSON.parse(syncFilter(SELF, rooms));
    const types = [room.state, room.timeline, room.ephemeral].flatMap((part) => part.types ?? []);
    assert.ok(types.includes("m.key.verification.cancel"));
    assert.deepEqual(types.filter((type) => type.includes("*")), []);
  }
});

Deno.test("SyncApplier stores no message of a user who isn't allowed, writes nothing, and reports each", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  const strangers = Array.from({ length: 3_000 }, (_, index) => message("@mallory:x", `$${index}`));
  const before = syncing.writes();
  const { refused, events } = syncing.timeline(strangers);
  assert.equal(syncing.writes() - before, 0, "rows written");
  assert.deepEqual([refused.length, events, syncing.arrived()], [3_000, false, []]);
  assert.deepEqual(refused[0], { roomId: ROOM, eventId: "$0", sender: "@mallory:x" });
  assert.equal(syncing.store.rooms.syncToken(), "s3", "we go on from there nevertheless");

  assert.equal(syncing.timeline([...strangers.slice(0, 2), message("@ann:x", "$ann")]).events, true);
  assert.deepEqual(syncing.arrived(), ["$ann"]);
});

Deno.test("SyncApplier stores an event that is nested too deeply, and those after it", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  // JSON.stringify() can't write this value, by which the program ended at every start.
  const deep = `{"toJSON":1,"text":${"[".repeat(20_000)}${"]".repeat(20_000)}}`;
  const events = `[{"type":"m.room.message","sender":"@ann:x","event_id":"$deep","content":{"body":${deep}}},
    {"type":"m.room.message","sender":"@ann:x","event_id":"$next","content":{"body":"stop"}}]`;
  const { events: received } = parseObject(`{"events":${events}}`) ?? {};
  syncing.timeline(list(received).map(object));
  assert.deepEqual(syncing.arrived(), ["$deep", "$next"]);
});

Deno.test("SyncApplier reports no refusal of events from before the store, or of events that aren't messages", async () => {
  await using syncing = new Syncing();
  const first = syncing.apply({ join: { [ROOM]: { timeline: { events: [message("@mallory:x", "$old")] } } } });
  assert.deepEqual(first.refused, []);
  const rest = [
    { ...message("@mallory:x", "$redacted"), content: {} },
    { ...message("@mallory:x", "$reaction"), type: "m.reaction" },
    member("@mallory:x"),
  ];
  assert.deepEqual(syncing.timeline(rest).refused, []);
});

Deno.test("RoomState.advance() writes the token of quiet responses once a minute", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  const rows: [what: string, afterMs: number, events: Json[], writes: boolean][] = [
    ["strangers only", 0, [message("@mallory:x", "$1")], false],
    ["nothing", 30_000, [], false],
    ["a minute after the last one was written", 30_000, [], true],
    ["nothing", 1_000, [], false],
    ["an allowed user", 0, [message("@ann:x", "$2")], true],
    ["a member", 0, [member("@eve:x")], true],
    ["a member who is there already", 0, [member("@eve:x")], false],
    ["a clock that was set back by a year", -365 * 86_400_000, [], true],
  ];
  for (const [what, afterMs, events, writes] of rows) {
    syncing.nowMs += afterMs;
    const before = syncing.writes();
    syncing.timeline(events);
    assert.equal(syncing.writes() > before, writes, what);
  }
});

Deno.test("SyncApplier keeps the last usable encryption settings", async (t) => {
  const good = { algorithm: MEGOLM, rotation_period_msgs: 7 };
  const unusable: [string, Json][] = [
    ["empty", {}],
    ["another algorithm", { algorithm: "m.olm.v1" }],
    ["a period that is no number", { algorithm: MEGOLM, rotation_period_ms: "soon" }],
    ["a count that is negative", { algorithm: MEGOLM, rotation_period_msgs: -1 }],
    ["a count that is no whole number", { algorithm: MEGOLM, rotation_period_msgs: 0.5 }],
  ];
  for (const [what, content] of unusable) {
    await t.step(what, async () => {
      await using syncing = new Syncing();
      syncing.joined(encryption(good));
      const { rotate } = syncing.timeline([encryption(content)]);
      const room = syncing.store.rooms.get(ROOM);
      assert.deepEqual([room?.encrypted, room?.encryption], [true, { algorithm: MEGOLM, rotationPeriodMessages: 7 }]);
      assert.deepEqual([...rotate], []);
    });
    await t.step(`${what}, and there never was a usable one`, async () => {
      await using syncing = new Syncing();
      syncing.joined();
      syncing.timeline([encryption(content)]);
      const room = syncing.store.rooms.get(ROOM);
      assert.deepEqual([room?.encrypted, room?.encryption], [true, undefined]);
      const { rotate } = syncing.timeline([encryption(good)]);
      assert.equal(syncing.store.rooms.get(ROOM)?.encryption?.rotationPeriodMessages, 7);
      assert.deepEqual([...rotate], [ROOM]);
    });
  }
});

Deno.test("SyncApplier reads inviters from every section of an invitation", async (t) => {
  const us = (sender: string): Json => ({ ...member(SELF, "invite"), sender });
  const many = Array.from({ length: 20 }, (_, index) => `@${index}:x`);
  const rows: [what: string, room: Json, inviters: string[]][] = [
    ["stripped", { invite_state: { events: [us("@ann:x")] } }, ["@ann:x"]],
    ["whole (MSC4319)", { state: { events: [us("@ann:x")] } }, ["@ann:x"]],
    ["both", { invite_state: { events: [us("@ann:x")] }, state: { events: [us("@ann:x")] } }, ["@ann:x"]],
    ["one of each", { invite_state: { events: [us("@ann:x")] }, state: { events: [us("@eve:x")] } }, [
      "@ann:x",
      "@eve:x",
    ]],
    ["somebody else's", { invite_state: { events: [member("@ann:x")] } }, []],
    ["none", { invite_state: { events: [] } }, []],
    ["nothing at all", {}, []],
    ["no lists", { invite_state: "x", state: { events: "y" } }, []],
    [
      "more than can be true: nobody allowed",
      { invite_state: { events: Array.from({ length: 5_000 }, () => us("@ann:x")).concat(many.map(us)) } },
      ["@ann:x", ...many.slice(0, 9), ""],
    ],
    ["a name that is none", { invite_state: { events: [us(`@${"x".repeat(100_000)}:x`)] } }, [""]],
  ];
  for (const [what, room, inviters] of rows) {
    await t.step(what, async () => {
      await using syncing = new Syncing();
      assert.equal(syncing.apply({ invite: { [ROOM]: room } }).rooms, true);
      const stored = syncing.store.rooms.get(ROOM);
      assert.deepEqual([stored?.membership, stored?.inviters], ["invite", inviters]);
    });
  }
});

Deno.test("SyncApplier reports membership changes of allowed users, and rotates the session when anybody leaves", async (t) => {
  const rows: [what: string, events: Json[], rooms: boolean, rotates: boolean][] = [
    ["an allowed user comes", [member("@bob:x")], true, false],
    ["an allowed user goes", [member("@ann:x", "leave")], true, true],
    ["an allowed user is there", [member("@ann:x")], false, false],
    ["a stranger comes", [member("@eve:x")], false, false],
    ["a stranger is invited", [member("@eve:x", "invite")], false, false],
    ["a stranger goes", [member("@carol:x", "ban")], false, true],
    ["a stranger goes and comes back", [member("@carol:x", "leave"), member("@carol:x")], false, true],
    ["a stranger comes and goes", [member("@eve:x"), member("@eve:x", "leave")], false, false],
  ];
  for (const [what, events, rooms, rotates] of rows) {
    await t.step(what, async () => {
      await using syncing = new Syncing();
      syncing.joined(member("@carol:x"));
      const effect = syncing.timeline(events);
      assert.deepEqual([effect.rooms, effect.rotate.has(ROOM)], [rooms, rotates]);
    });
  }
});

Deno.test("SyncApplier tracks our display name in each room", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  assert.equal(syncing.timeline([member(SELF, "join", { displayname: "The Claw" })]).names, true);
  assert.equal(syncing.timeline([member(SELF, "join", { displayname: "The Claw" })]).names, false);
  assert.deepEqual(syncing.store.rooms.ownNames(), ["The Claw"]);
  syncing.timeline([member(SELF, "invite", { displayname: "Not Yet" })]);
  assert.deepEqual(syncing.store.rooms.ownNames(), ["The Claw"]);
  assert.equal(syncing.timeline([member(SELF)]).names, true);
  assert.deepEqual(syncing.store.rooms.ownNames(), []);
});

Deno.test("SyncApplier stores nothing under an id of more than 255 characters, and no longer name than a homeserver permits", async () => {
  await using syncing = new Syncing();
  const long = (begin: string): string => begin + "x".repeat(255);
  syncing.joined(member(long("@carol:")), member("@bob:x", "join", { displayname: long("Bob") }));
  assert.deepEqual(syncing.store.rooms.joinedMembers(ROOM).sort(), ["@ann:x", "@bob:x", SELF]);
  assert.equal(syncing.store.rooms.nameOf(ROOM, "@bob:x")?.length, 256);
  syncing.timeline([message("@ann:x", long("$")), message(long("@ann:"), "$1"), message("@ann:x", "$2")]);
  assert.deepEqual(syncing.arrived(), ["$2"]);
  const room = { timeline: { events: [] }, invite_state: { events: [] } };
  syncing.apply({ join: { [long("!")]: room }, invite: { [long("!i")]: room } });
  assert.deepEqual(syncing.store.rooms.all().map(({ roomId }) => roomId), [ROOM]);
});

/**
 * Ten times and more what the next two tests take on two busy cores, so that no machine is too slow for them. Work that
 * grows with the square of the members or rooms takes longer than this on any machine.
 */
const LINEAR_MS = 5_000;

Deno.test("SyncApplier applies a room of 10,000 members in linear time, in one transaction", async () => {
  await using syncing = new Syncing();
  syncing.apply({});
  const state = Array.from({ length: 10_000 }, (_, index) => ({ ...member(`@u${index}:x`), event_id: `$${index}` }));
  const begun = performance.now();
  syncing.apply({ join: { [ROOM]: { state: { events: state }, timeline: { events: [] } } } });
  const firstMs = performance.now() - begun;
  assert.equal(syncing.store.rooms.joinedCount(ROOM), 10_001);

  const again = performance.now();
  syncing.timeline([...state, member("@u17:x", "leave")]);
  const againMs = performance.now() - again;
  assert.equal(syncing.store.rooms.joinedCount(ROOM), 10_000);
  console.log(`10,000 members: ${firstMs.toFixed(0)} ms the first time, ${againMs.toFixed(0)} ms once they are known`);
  assert.ok(firstMs < LINEAR_MS && againMs < LINEAR_MS);
});

Deno.test("SyncApplier applies 3,000 rooms at once, and their gaps, in linear time", async () => {
  await using syncing = new Syncing();
  syncing.apply({});
  const rooms = Array.from({ length: 3_000 }, (_, index) => `!${index}:x`);
  const begun = performance.now();
  syncing.apply({ join: Object.fromEntries(rooms.map((roomId) => [roomId, { timeline: { limited: true } }])) });
  const appliedMs = performance.now() - begun;
  const { rooms: stored } = syncing.store;
  assert.deepEqual(stored.roomsWithGaps(), rooms);
  const found = performance.now();
  for (const roomId of stored.roomsWithGaps()) {
    const gap = stored.oldestGap(roomId);
    assert.equal(gap?.roomId, roomId);
    if (gap !== undefined) stored.fillGap(gap.id, [], true);
  }
  const filledMs = performance.now() - found;
  assert.deepEqual(stored.roomsWithGaps(), []);
  console.log(`3,000 rooms: ${appliedMs.toFixed(0)} ms to apply, ${filledMs.toFixed(0)} ms to fill their gaps`);
  assert.ok(appliedMs < LINEAR_MS && filledMs < LINEAR_MS);
});

Deno.test("SyncApplier keeps at most a hundred gaps in a room, and records that its history is cut off", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  for (let index = 0; index < 102; index += 1) {
    assert.equal(
      syncing.timeline([message("@ann:x", `$${index}`)], { limited: true, prev_batch: `p${index}` }).gaps,
      true,
    );
  }
  assert.equal(syncing.store.rooms.gapCount(ROOM), 100);
  assert.deepEqual(syncing.store.journal.cutOffHistories().map(({ roomId }) => roomId), [ROOM]);
  assert.deepEqual(syncing.arrived(), [], "all wait behind the gaps");
  for (const { id } of syncing.store.rooms.gaps()) syncing.store.rooms.fillGap(id, []);
  assert.deepEqual(syncing.arrived(), Array.from({ length: 102 }, (_, index) => `$${index}`));
});

Deno.test("SyncApplier reports messages in rooms with an agent, and stores none of agents", async () => {
  await using syncing = new Syncing();
  syncing.joined(member("@clawd:x"));
  const told = ({ activity }: SyncEffect) => activity.messages.map(({ eventId }) => eventId);
  const before = syncing.writes();
  const effect = syncing.timeline([
    message("@clawd:x", "$agent"),
    message("@mallory:x", "$stranger"),
    { ...message("@clawd:x", "$reaction"), type: "m.reaction" },
    { ...message("@clawd:x", "$redacted"), content: {} },
  ]);
  assert.deepEqual(told(effect), ["$agent"]);
  assert.deepEqual(effect.refused.map(({ eventId }) => eventId), ["$stranger"], "an agent's message is not refused");
  assert.equal(syncing.writes() - before, 0, "rows written");

  const verification = { ...message("@ann:x", "$verification"), type: "m.key.verification.start" };
  assert.deepEqual(told(syncing.timeline([message("@ann:x", "$ann"), verification])), ["$ann"]);
  assert.deepEqual(syncing.arrived(), ["$ann", "$verification"]);

  syncing.timeline([member("@clawd:x", "leave")]);
  assert.deepEqual(told(syncing.timeline([message("@ann:x", "$alone")])), [], "no agent is there any more");
});

Deno.test("SyncApplier reports which agents are typing, and nobody else", async () => {
  await using syncing = new Syncing();
  syncing.joined(member("@clawd:x"));
  const typing = (...events: Json[]) => {
    const before = syncing.writes();
    const { activity } = syncing.apply({ join: { [ROOM]: { ephemeral: { events } } } });
    assert.equal(syncing.writes() - before, 0, "rows written");
    return Object.fromEntries(activity.typing);
  };
  const event = (user_ids: unknown): Json => ({ type: "m.typing", content: { user_ids } });
  const rows: [what: string, events: Json[], told: Record<string, string[]>][] = [
    ["an agent and a person", [event(["@ann:x", "@clawd:x"])], { [ROOM]: ["@clawd:x"] }],
    ["a person", [event(["@ann:x"])], { [ROOM]: [] }],
    ["the last of two", [event([]), event(["@ollama:x", "@clawd:x"])], { [ROOM]: ["@clawd:x", "@ollama:x"] }],
    ["no shape", [event("@clawd:x"), event([7, null])], { [ROOM]: [] }],
    ["another event", [{ type: "m.receipt", content: { user_ids: ["@clawd:x"] } }], {}],
    ["none", [], {}],
  ];
  for (const [what, events, told] of rows) assert.deepEqual(typing(...events), told, what);
});

Deno.test("syncFilter() asks who is typing only in the rooms where agents are", async () => {
  await using syncing = new Syncing();
  const ephemeral = (typingRooms: readonly string[]) => JSON.parse(syncFilter(SELF, typingRooms)).room.ephemeral;
  assert.deepEqual(ephemeral([]), { not_types: ["*"] });
  const rooms = ["!b:x", "!a:x", "!left:x", "!without:x"];
  for (const roomId of rooms) {
    syncing.apply({ join: { [roomId]: { state: { events: [roomId === "!without:x" ? {} : member("@clawd:x")] } } } });
  }
  syncing.apply({ leave: { "!left:x": {} } });
  const withAgents = syncing.store.rooms.joinedWith(agents, 50);
  assert.deepEqual(withAgents, ["!a:x", "!b:x"]);
  assert.deepEqual(ephemeral(withAgents), { types: ["m.typing"], rooms: ["!a:x", "!b:x"] });
  const long = Array.from({ length: 50 }, (_, index) => `!${index}${"🦞".repeat(60)}:x`);
  const url = encodeURIComponent(syncFilter(SELF, long));
  assert.ok(url.length < 4_000, `${url.length} of the 8,192 bytes that a URL has`);
  assert.ok(JSON.parse(syncFilter(SELF, long)).room.ephemeral.rooms.length > 0);
  assert.deepEqual(ephemeral(["!".repeat(3_000)]), { not_types: ["*"] });
  assert.deepEqual(syncing.store.rooms.joinedWith(agents, 1), ["!a:x"]);
  assert.deepEqual(syncing.store.rooms.joinedWith(new Set(), 50), []);
});
