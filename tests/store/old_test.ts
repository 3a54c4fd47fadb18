/** Opens a store that the first release has made: see `old/make.ts` for what is in it. */

import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { openStore } from "../../lib/store/mod.ts";
import { event } from "./folder.ts";

const ROOM = "!encrypted:x";
const MEGOLM = "m.megolm.v1.aes-sha2";
const nowMs = Date.UTC(2026, 0, 1);

Deno.test("openStore() takes over all that the first release had in its store", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "old-" });
  const made = Deno.readFileSync(new URL("old/state.sqlite3.gz", import.meta.url));
  Deno.writeFileSync(`${folder}/state.sqlite3`, gunzipSync(made), { mode: 0o600 });
  // A second time, because what was moved must be there at the next start as well.
  for (const run of ["first", "second"]) {
    await using store = await openStore({
      folder,
      key: new Uint8Array(32).fill(7),
      holder: { host: "h", pid: 1 },
      now: () => nowMs,
    });
    const { account, rooms, journal, targetDocument, pins } = store;
    assert.deepEqual(account.load(), {
      ...{ homeserver: "http://h", userId: "@toggle:x", deviceId: "DEVICE", accessToken: "token" },
    });
    assert.deepEqual([rooms.syncToken(), rooms.tokenIsAdopted()], ["s42", false], run);
    const all = rooms.all().map(({ roomId, membership, encrypted, encryption, inviters, ownName }) => {
      assert.equal(ownName, undefined);
      return [roomId, membership, encrypted, encryption, inviters];
    });
    assert.deepEqual(all, [
      ["!clear:x", "invite", false, undefined, ["@ann:x"]],
      ["!emptied:x", "join", true, undefined, []],
      [ROOM, "join", true, { algorithm: MEGOLM, rotationPeriodMessages: 50 }, []],
      ["!unusable:x", "join", true, undefined, []],
    ]);
    assert.deepEqual(rooms.joinedMembers(ROOM), ["@ann:x", "@toggle:x"]);
    rooms.save({
      ...{ roomId: "!left:x", membership: "join", encrypted: false, encryption: undefined },
      ...{ inviters: [], ownName: undefined },
    });
    assert.deepEqual(rooms.get("!left:x")?.encryption, { algorithm: MEGOLM }, "also of a room that was left");
    rooms.forget("!left:x");

    const [halfDone, locked, ...rest] = journal.unsettled(0);
    assert.deepEqual(rest, [], "what is held behind a gap stays there");
    const intent = { before: 0, after: 1, resourceVersion: "7", generation: 3, atMs: nowMs };
    assert.deepEqual([halfDone?.event.eventId, halfDone?.progress], [
      "$half-done",
      {
        state: "begun",
        command: { command: "start", durationMs: 3_600_000, parts: [{ target: "clawdbot", intent }] },
      },
    ]);
    assert.deepEqual(journal.awaitingKey(ROOM, "late"), [locked]);
    const [gap] = rooms.gaps();
    assert.deepEqual(gap, { id: gap?.id, roomId: ROOM, from: "p1", to: "s41" });
    assert.deepEqual(journal.unsentAnswers(ROOM, 10).map(({ answer }) => answer.eventId), ["$used9"]);
    assert.equal(rooms.hasEvent(ROOM, "$used9"), true);

    // What was used up stays so: by its row, by the floor of rows that are gone, and whoever is named as the sender.
    const claims: [messageIndex: number, sender: string, accepted: boolean][] = [
      [9, "@ann:x", false],
      [10, "@ann:x", false],
      [4, "@ann:x", false],
      [3, "@bob:x", false],
      [5, "@ann:x", true],
      [9, "@bob:x", true],
    ];
    for (const [messageIndex, sender, accepted] of claims) {
      assert.throws(() =>
        store.transaction(() => {
          rooms.addEvent({ ...event("$again", ROOM), sender }, { state: "new" });
          const seq = journal.unsettled(0).at(-1)?.event.seq ?? 0;
          assert.equal(
            journal.claim(seq, { sessionId: "session", messageIndex }),
            accepted,
            `${messageIndex} ${sender}`,
          );
          throw new Error("undone, so that it can be asked again");
        }), /undone/);
    }
    assert.deepEqual(targetDocument.load(), {
      targets: {
        clawdbot: { beforeStop: 2, timer: { dueAtMs: nowMs + 3_600_000, roomId: ROOM, user: "@ann:x" } },
      },
      stories: [],
    });
    assert.deepEqual(pins.get("@ann:x"), { kind: "identity", masterKey: "master", sinceMs: nowMs });
  }
  Deno.removeSync(folder, { recursive: true });
});
