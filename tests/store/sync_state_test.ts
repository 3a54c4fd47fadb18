import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { Store, StoredRoom } from "../../lib/store/mod.ts";
import { event, Folder } from "./folder.ts";

const room: StoredRoom = {
  roomId: "!r",
  membership: "join",
  encryption: { algorithm: "m.megolm.v1.aes-sha2", rotationPeriodMs: 1_000 },
  inviters: ["@ann:x"],
};

/** Event ids that may be handled, in order. */
function ready(store: Store): string[] {
  return store.journal.unsettled(0).map(({ inbox }) => inbox.eventId);
}

Deno.test("SyncState has in the next life what it was given in this one", async () => {
  await using folder = new Folder();
  const { sync } = await folder.life();
  assert.equal(sync.token(), undefined);
  sync.setToken("s1");
  sync.setToken("s2");
  sync.saveRoom(room);
  sync.saveRoom({ ...room, roomId: "!i", membership: "invite", encryption: undefined });
  sync.setMember("!r", "@ann:x", "join");
  sync.setMember("!r", "@bob:x", "join");
  sync.setMember("!r", "@bob:x", "leave");
  sync.replaceMembers("!i", new Map([["@ann:x", "invite"]]));
  sync.replaceMembers("!i", new Map([["@me:x", "invite"]]));
  const gap = sync.addGap({ roomId: "!r", from: "p", to: undefined });

  const later = (await folder.life()).sync;
  assert.equal(later.token(), "s2");
  assert.deepEqual(later.rooms().map(({ roomId }) => roomId), ["!i", "!r"]);
  assert.deepEqual(later.room("!r"), room);
  assert.equal(later.room("!i")?.membership, "invite");
  assert.equal(later.room("!unknown"), undefined);
  assert.deepEqual([...later.members("!r")], [["@ann:x", "join"], ["@bob:x", "leave"]]);
  assert.deepEqual([...later.members("!i")], [["@me:x", "invite"]]);
  assert.deepEqual(later.gaps(), [{ id: gap, roomId: "!r", from: "p", to: undefined }]);
});

Deno.test("SyncState.adoptToken() is remembered until the next token", async () => {
  await using folder = new Folder();
  (await folder.life()).sync.adoptToken("theirs");
  const { sync } = await folder.life();
  assert.deepEqual([sync.token(), sync.tokenIsAdopted()], ["theirs", true]);
  sync.setToken("theirs");
  assert.deepEqual([sync.token(), sync.tokenIsAdopted()], ["theirs", false]);
});

Deno.test("SyncState.saveRoom() never takes encryption back, not even from a room that was forgotten", async () => {
  await using folder = new Folder();
  const { sync } = await folder.life();
  sync.saveRoom(room);
  sync.saveRoom({ ...room, encryption: undefined });
  assert.deepEqual(sync.room("!r")?.encryption, room.encryption);
  sync.forgetRoom("!r");
  assert.equal(sync.room("!r"), undefined);
  assert.deepEqual(sync.rooms(), []);
  const later = (await folder.life()).sync;
  later.saveRoom({ ...room, encryption: undefined });
  assert.deepEqual(later.room("!r")?.encryption, room.encryption);
});

Deno.test("SyncState.forgetRoom() leaves no members, no gaps and nothing held", async () => {
  await using folder = new Folder();
  const store = await folder.life();
  store.sync.saveRoom(room);
  store.sync.setMember("!r", "@ann:x", "join");
  const gap = store.sync.addGap({ roomId: "!r", from: "p", to: "s" });
  store.sync.addEvent(event("$1"), { state: "held", gap });
  store.sync.forgetRoom("!r");
  assert.deepEqual([store.sync.gaps(), [...store.sync.members("!r")], ready(store)], [[], [], []]);
  assert.equal(store.sync.knows("!r", "$1"), true);
});

Deno.test("SyncState.forgetRoom() leaves no trace of a room that was never encrypted", async () => {
  await using folder = new Folder();
  const { sync } = await folder.life();
  sync.saveRoom({ ...room, encryption: undefined });
  sync.saveRoom({ ...room, roomId: "!encrypted" });
  for (const roomId of ["!r", "!encrypted"]) sync.forgetRoom(roomId);
  await folder.end();
  using database = new DatabaseSync(folder.file("state.sqlite3"));
  const rows = database.prepare("SELECT room_id FROM rooms").all();
  assert.deepEqual(rows.map(({ room_id }) => room_id), ["!encrypted"]);
});

Deno.test("SyncState.addEvent() takes an event in once", async () => {
  await using folder = new Folder();
  const store = await folder.life();
  assert.equal(store.sync.addEvent(event("$1"), { state: "new" }), true);
  assert.equal(store.sync.addEvent(event("$1"), { state: "new" }), false);
  assert.equal(store.sync.addEvent(event("$1", "!other"), { state: "new" }), true, "ids are a room's own");
  assert.equal(store.sync.addEvent(event("$2"), { state: "settled" }), true);
  const later = await folder.life();
  assert.equal(later.sync.addEvent(event("$2"), { state: "new" }), false);
  assert.deepEqual(later.journal.unsettled(0).map(({ inbox }) => inbox), [
    { seq: 1, ...event("$1") },
    { seq: 2, ...event("$1", "!other") },
  ]);
});

Deno.test("SyncState.fillGap() brings a room's events in the order of its timeline", async (t) => {
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
      await using folder = new Folder();
      const { sync } = await folder.life();
      sync.addEvent(event("$1"), { state: "new" });
      const gaps = new Map<string, number>();
      for (const [name, held] of [["a", "$4"], ["b", "$6"], ["c", "$8"]] as const) {
        gaps.set(name, sync.addGap({ roomId: "!r", from: name, to: "s" }));
        assert.equal(sync.openGap("!r"), gaps.get(name));
        sync.addEvent(event(held), { state: "held", gap: gaps.get(name) ?? 0 });
        sync.addEvent(event(`$other-${name}`, "!other"), { state: "new" });
      }
      const missed = new Map([["a", ["$2", "$3"]], ["b", ["$5"]], ["c", ["$7"]]]);
      for (const [index, name] of [...order].entries()) {
        const store = await folder.life();
        // An event that is known comes again: /messages may overlap with what was synced.
        const events = ["$1", ...missed.get(name) ?? []].map((id) => event(id));
        store.sync.fillGap(gaps.get(name) ?? 0, events);
        store.sync.fillGap(gaps.get(name) ?? 0, events);
        const ids = ready(store).filter((id) => !id.startsWith("$other"));
        assert.deepEqual(ids, readyAfterEach[index]);
      }
      const store = await folder.life();
      assert.deepEqual([store.sync.gaps(), store.sync.openGap("!r")], [[], undefined]);
      assert.equal(ready(store).length, 11);
    });
  }
});

Deno.test("SyncState.fillGap() gives places after all that were read before", async () => {
  await using folder = new Folder();
  const { sync, journal } = await folder.life();
  const gap = sync.addGap({ roomId: "!r", from: "p", to: "s" });
  sync.addEvent(event("$held"), { state: "held", gap });
  sync.addEvent(event("$other", "!other"), { state: "new" });
  const read = journal.unsettled(0).at(-1)?.inbox.seq ?? 0;
  sync.fillGap(gap, [event("$missed")]);
  assert.deepEqual(journal.unsettled(read).map(({ inbox }) => inbox.eventId), ["$missed", "$held"]);
});

Deno.test("Store.transaction() undoes everything if it throws, and only a part if that is caught within", async () => {
  await using folder = new Folder();
  const store = await folder.life();
  assert.throws(() =>
    store.transaction(() => {
      store.sync.setToken("lost");
      store.sync.addEvent(event("$lost"), { state: "new" });
      throw new Error("on purpose");
    }), /on purpose/);
  assert.equal(store.sync.token(), undefined);
  store.transaction(() => {
    store.sync.setToken("kept");
    assert.throws(() =>
      store.transaction(() => {
        store.sync.setToken("lost");
        throw new Error("on purpose");
      })
    );
    assert.throws(() =>
      store.transaction(() => {
        store.sync.setToken("lost");
        assert.throws(() => store.transaction(() => assert.fail()));
        throw new Error("on purpose");
      })
    );
    store.sync.addEvent(event("$kept"), { state: "new" });
  });
  assert.throws(() => store.transaction(() => Promise.resolve(store.sync.setToken("lost"))), TypeError);
  const later = await folder.life();
  assert.deepEqual([later.sync.token(), ready(later)], ["kept", ["$kept"]]);
});
