import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { Store, StoredRoom } from "../../lib/store/mod.ts";
import { event, StoreFolder } from "./folder.ts";

const room: StoredRoom = {
  roomId: "!r",
  membership: "join",
  encrypted: true,
  encryption: { algorithm: "m.megolm.v1.aes-sha2", rotationPeriodMs: 1_000 },
  inviters: ["@ann:x"],
  ownName: "The Claw",
};
const clear: StoredRoom = { ...room, encrypted: false, encryption: undefined };

/** Event ids that may be handled, in order. */
function ready(store: Store): string[] {
  return store.journal.unsettled(0).map(({ event }) => event.eventId);
}

Deno.test("RoomState persists across a restart", async () => {
  await using folder = new StoreFolder();
  const { rooms } = await folder.reopen();
  assert.equal(rooms.syncToken(), undefined);
  rooms.setSyncToken("s1");
  rooms.setSyncToken("s2");
  rooms.save(room);
  rooms.save({ ...clear, roomId: "!i", membership: "invite", ownName: undefined });
  rooms.updateMembers("!r", [["@ann:x", true], ["@bob:x", true]]);
  rooms.updateMembers("!r", [["@bob:x", false]]);
  rooms.updateMembers("!i", [["@ann:x", true]]);
  rooms.forgetMembers("!i");
  const gap = rooms.addGap({ roomId: "!r", from: "p", to: undefined });

  const later = (await folder.reopen()).rooms;
  assert.equal(later.syncToken(), "s2");
  assert.deepEqual(later.all().map(({ roomId }) => roomId), ["!i", "!r"]);
  assert.deepEqual(later.get("!r"), room);
  assert.equal(later.get("!i")?.membership, "invite");
  assert.equal(later.get("!unknown"), undefined);
  assert.deepEqual([later.joinedMembers("!r"), later.joinedMembers("!i")], [["@ann:x"], []]);
  assert.deepEqual([later.joinedCount("!r"), later.joinedCount("!i")], [1, 0]);
  assert.deepEqual(["@ann:x", "@bob:x"].map((user) => later.isJoined("!r", user)), [true, false]);
  assert.deepEqual(later.ownNames(), ["The Claw"]);
  assert.deepEqual(later.gaps(), [{ id: gap, roomId: "!r", from: "p", to: undefined }]);
});

Deno.test("RoomState.advance() writes in order, and at once where the crypto has taken its part", async () => {
  await using folder = new StoreFolder();
  const { rooms, journal } = await folder.reopen();
  const left = (): unknown =>
    folder.onDisk("state.sqlite3", (database) => [
      database.prepare("SELECT value FROM meta WHERE name = 'sync_token'").get()?.value,
      ...database.prepare("SELECT event_id FROM events ORDER BY seq").all().map(({ event_id }) => event_id),
    ]);
  const advance = (token: string, isDurable: boolean): void =>
    rooms.advance(token, isDurable, () => void rooms.addEvent(event(`$${token}`), { state: "new" }));
  advance("s1", true);
  assert.deepEqual(left(), ["s1", "$s1"]);
  advance("s2", false);
  advance("s3", false);
  assert.equal(rooms.syncToken(), "s3");
  assert.deepEqual(left(), ["s1", "$s1"], "the homeserver sends the rest again");
  advance("s4", true);
  assert.deepEqual(left(), ["s4", "$s1", "$s2", "$s3", "$s4"]);
  advance("s5", false);
  journal.settle(1, "done", []);
  assert.deepEqual(left(), ["s5", "$s1", "$s2", "$s3", "$s4", "$s5"], "what follows from an event is not before it");
});

Deno.test("RoomState.adoptToken() is remembered until the next token", async () => {
  await using folder = new StoreFolder();
  (await folder.reopen()).rooms.adoptToken("theirs");
  const { rooms } = await folder.reopen();
  assert.deepEqual([rooms.syncToken(), rooms.tokenIsAdopted()], ["theirs", true]);
  rooms.setSyncToken("theirs");
  assert.deepEqual([rooms.syncToken(), rooms.tokenIsAdopted()], ["theirs", false]);
});

Deno.test("RoomState.save() never takes encryption back, not even from a room that was forgotten", async () => {
  await using folder = new StoreFolder();
  const { rooms } = await folder.reopen();
  rooms.save(room);
  rooms.save(clear);
  assert.deepEqual(rooms.get("!r"), room);
  rooms.setEncrypted("!r");
  assert.deepEqual(rooms.get("!r"), room, "the last usable settings stay");
  rooms.forget("!r");
  assert.equal(rooms.get("!r"), undefined);
  assert.deepEqual(rooms.all(), []);
  const later = (await folder.reopen()).rooms;
  later.save(clear);
  assert.deepEqual(later.get("!r"), room);
});

Deno.test("RoomState.forget() leaves no members, no gaps and nothing held", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  store.rooms.save(room);
  store.rooms.updateMembers("!r", [["@ann:x", true]]);
  const gap = store.rooms.addGap({ roomId: "!r", from: "p", to: "s" });
  store.rooms.addEvent(event("$1"), { state: "held", gap });
  store.rooms.forget("!r");
  assert.deepEqual([store.rooms.gaps(), store.rooms.joinedMembers("!r"), ready(store)], [[], [], []]);
  assert.equal(store.rooms.hasEvent("!r", "$1"), true);
});

Deno.test("RoomState.forget() leaves no trace of a room that was never encrypted", async () => {
  await using folder = new StoreFolder();
  const { rooms } = await folder.reopen();
  rooms.save(clear);
  rooms.save({ ...room, roomId: "!encrypted" });
  rooms.setEncrypted("!unknown");
  for (const roomId of ["!r", "!encrypted", "!unknown"]) rooms.forget(roomId);
  await folder.close();
  using database = new DatabaseSync(folder.file("state.sqlite3"));
  const rows = database.prepare("SELECT room_id FROM rooms").all();
  assert.deepEqual(rows.map(({ room_id }) => room_id), ["!encrypted", "!unknown"]);
});

Deno.test("RoomState.addEvent() takes an event in once", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  assert.equal(store.rooms.addEvent(event("$1"), { state: "new" }), true);
  assert.equal(store.rooms.addEvent(event("$1"), { state: "new" }), false);
  assert.equal(store.rooms.addEvent(event("$1", "!other"), { state: "new" }), true, "ids are a room's own");
  assert.equal(store.rooms.addEvent(event("$2"), { state: "settled" }), true);
  const later = await folder.reopen();
  assert.equal(later.rooms.addEvent(event("$2"), { state: "new" }), false);
  assert.deepEqual(later.journal.unsettled(0).map(({ event }) => event), [
    { seq: 1, ...event("$1") },
    { seq: 2, ...event("$1", "!other") },
  ]);
});

Deno.test("RoomState.fillGap() brings a room's events in the order of its timeline", async (t) => {
  // The timeline: $1, gap a ($2 $3), $4, gap b ($5), $6, gap c ($7), $8; and another room's events between.
  const timeline = ["$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8"];
  const rows: [order: string, readyAfterEach: string[][]][] = [
    ["abc", [timeline.slice(0, 4), timeline.slice(0, 6), timeline]],
    ["acb", [timeline.slice(0, 4), timeline.slice(0, 4), timeline]],
    ["bac", [["$1"], timeline.slice(0, 6), timeline]],
    ["bca", [["$1"], ["$1"], timeline]],
    ["cab", [["$1"], timeline.slice(0, 4), timeline]],
    ["cba", [["$1"], ["$1"], timeline]],
  ];
  for (const [order, readyAfterEach] of rows) {
    await t.step(`filled in the order ${order}`, async () => {
      await using folder = new StoreFolder();
      const { rooms } = await folder.reopen();
      rooms.addEvent(event("$1"), { state: "new" });
      const gaps = new Map<string, number>();
      for (const [name, held] of [["a", "$4"], ["b", "$6"], ["c", "$8"]] as const) {
        gaps.set(name, rooms.addGap({ roomId: "!r", from: name, to: "s" }));
        assert.equal(rooms.openGap("!r"), gaps.get(name));
        rooms.addEvent(event(held), { state: "held", gap: gaps.get(name) ?? 0 });
        rooms.addEvent(event(`$other-${name}`, "!other"), { state: "new" });
      }
      const missed = new Map([["a", ["$2", "$3"]], ["b", ["$5"]], ["c", ["$7"]]]);
      for (const [index, name] of [...order].entries()) {
        const store = await folder.reopen();
        // An event that is known comes again: /messages may overlap with what was synced.
        const events = ["$1", ...missed.get(name) ?? []].map((id) => event(id));
        store.rooms.fillGap(gaps.get(name) ?? 0, events);
        store.rooms.fillGap(gaps.get(name) ?? 0, events);
        const ids = ready(store).filter((id) => !id.startsWith("$other"));
        assert.deepEqual(ids, readyAfterEach[index]);
      }
      const store = await folder.reopen();
      assert.deepEqual([store.rooms.gaps(), store.rooms.openGap("!r")], [[], undefined]);
      assert.equal(ready(store).length, 11);
    });
  }
});

Deno.test("RoomState.fillGap() gives places after all that were read before", async () => {
  await using folder = new StoreFolder();
  const { rooms, journal } = await folder.reopen();
  const gap = rooms.addGap({ roomId: "!r", from: "p", to: "s" });
  rooms.addEvent(event("$held"), { state: "held", gap });
  rooms.addEvent(event("$other", "!other"), { state: "new" });
  const read = journal.unsettled(0).at(-1)?.event.seq ?? 0;
  rooms.fillGap(gap, [event("$missed")]);
  assert.deepEqual(journal.unsettled(read).map(({ event }) => event.eventId), ["$missed", "$held"]);
});

Deno.test("Store.transaction() undoes everything if it throws, and only a part if that is caught within", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  assert.throws(() =>
    store.transaction(() => {
      store.rooms.setSyncToken("lost");
      store.rooms.addEvent(event("$lost"), { state: "new" });
      throw new Error("on purpose");
    }), /on purpose/);
  assert.equal(store.rooms.syncToken(), undefined);
  store.transaction(() => {
    store.rooms.setSyncToken("kept");
    assert.throws(() =>
      store.transaction(() => {
        store.rooms.setSyncToken("lost");
        throw new Error("on purpose");
      })
    );
    assert.throws(() =>
      store.transaction(() => {
        store.rooms.setSyncToken("lost");
        assert.throws(() => store.transaction(() => assert.fail()));
        throw new Error("on purpose");
      })
    );
    store.rooms.addEvent(event("$kept"), { state: "new" });
  });
  assert.throws(() => store.transaction(() => Promise.resolve(store.rooms.setSyncToken("lost"))), TypeError);
  const later = await folder.reopen();
  assert.deepEqual([later.rooms.syncToken(), ready(later)], ["kept", ["$kept"]]);
});
