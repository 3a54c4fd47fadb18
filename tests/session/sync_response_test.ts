import assert from "node:assert/strict";
import type { Json } from "../../lib/json.ts";
import { SyncApplier, type SyncEffect } from "../../lib/session/sync_response.ts";
import { openMemoryStore, type Store } from "../../lib/store/mod.ts";

const SELF = "@toggle:x";
const ROOM = "!r:x";
const MEGOLM = "m.megolm.v1.aes-sha2";

/** Sync responses applied to a store in memory, one after the other. */
class Syncing implements AsyncDisposable {
  readonly store: Store;
  nowMs = 0;
  readonly #applier: SyncApplier;
  #responses = 0;

  constructor() {
    this.store = openMemoryStore(() => this.nowMs);
    this.#applier = new SyncApplier(this.store, SELF, new Set(["@ann:x", "@bob:x"]), () => this.nowMs);
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
    return this.store.journal.unsettled(0).map(({ inbox }) => inbox.eventId);
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

Deno.test("SyncApplier takes in no message of a user who is not allowed, writes nothing, and tells of each", async () => {
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

Deno.test("SyncApplier refuses nothing that was said before the store existed, nor what is no message", async () => {
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

Deno.test("SyncApplier leaves the last usable encryption in force", async (t) => {
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

Deno.test("SyncApplier reads who invites us wherever the invitation has it", async (t) => {
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

Deno.test("SyncApplier tells of rooms when an allowed user comes or goes, and renews a session when anybody goes", async (t) => {
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

Deno.test("SyncApplier knows our own name in each room", async () => {
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

Deno.test("SyncApplier applies a room of 10,000 members in under a second, in one transaction", async () => {
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
  assert.ok(firstMs < 1_000 && againMs < 1_000);
});

Deno.test("SyncApplier leaves no more than a hundred gaps in a room, and notes that its history is cut off", async () => {
  await using syncing = new Syncing();
  syncing.joined();
  for (let index = 0; index < 102; index += 1) {
    assert.equal(
      syncing.timeline([message("@ann:x", `$${index}`)], { limited: true, prev_batch: `p${index}` }).gaps,
      true,
    );
  }
  assert.equal(syncing.store.rooms.gapCount(ROOM), 100);
  assert.deepEqual(syncing.store.journal.cutHistories().map(({ roomId }) => roomId), [ROOM]);
  assert.deepEqual(syncing.arrived(), [], "all wait behind the gaps");
  for (const { id } of syncing.store.rooms.gaps()) syncing.store.rooms.fillGap(id, []);
  assert.deepEqual(syncing.arrived(), Array.from({ length: 102 }, (_, index) => `$${index}`));
});
