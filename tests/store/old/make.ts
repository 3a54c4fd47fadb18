/**
 * Makes a store with the program as it was at its first release (schema version 3), as `old_test.ts` expects to find it.
 * It is kept beside this file, because nothing can make another one once that program is gone:
 *
 *     git worktree add /tmp/first-release d4129f9
 *     deno run -A tests/store/old/make.ts /tmp/first-release tests/store/old
 *
 * @module
 */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

const [program = "", folder = ""] = Deno.args;
const { openStore } = await import(`file://${resolve(program)}/lib/store/mod.ts`);

const temporary = mkdtempSync("/tmp/old-store-");
const DAY_MS = 86_400_000;
let nowMs = Date.UTC(2026, 0, 1) - 8 * DAY_MS;
const store = await openStore({
  folder: temporary,
  key: new Uint8Array(32).fill(7),
  holder: { host: "old", pid: 1 },
  now: () => nowMs,
});
const MEGOLM = "m.megolm.v1.aes-sha2";
const event = (roomId: string, eventId: string, sender = "@ann:x") => ({
  ...{ roomId, eventId, sender, receivedAtMs: nowMs, ageMs: 5 },
  event: { event_id: eventId, type: "m.room.encrypted", content: { body: `text of ${eventId}` } },
});
store.transaction(() => {
  const { account, sync, journal, memory, pins } = store;
  account.save({ homeserver: "http://h", userId: "@toggle:x", deviceId: "DEVICE", accessToken: "token" });
  sync.setToken("s42");
  sync.saveRoom({
    ...{ roomId: "!encrypted:x", membership: "join", inviters: [] },
    encryption: { algorithm: MEGOLM, rotationPeriodMessages: 50 },
  });
  sync.saveRoom({ roomId: "!unusable:x", membership: "join", encryption: { algorithm: "none" }, inviters: [] });
  sync.saveRoom({ roomId: "!emptied:x", membership: "join", encryption: { algorithm: "" }, inviters: [] });
  sync.saveRoom({ roomId: "!clear:x", membership: "invite", encryption: undefined, inviters: ["@ann:x"] });
  sync.saveRoom({ roomId: "!left:x", membership: "join", encryption: { algorithm: MEGOLM }, inviters: [] });
  sync.forgetRoom("!left:x");
  for (
    const [user, membership] of [["@ann:x", "join"], ["@toggle:x", "join"], ["@bob:x", "leave"], ["@eve:x", "ban"]]
  ) {
    sync.setMember("!encrypted:x", user, membership);
  }
  // A week ago Ann used up the indices up to 4 of a session; today 9.
  for (const messageIndex of [4, 9]) {
    sync.addEvent(event("!encrypted:x", `$used${messageIndex}`), { state: "new" });
    const { seq } = journal.unsettled(0)[0].inbox;
    journal.claim(seq, { sessionId: "session", messageIndex });
    journal.settle(seq, "done", []);
    if (messageIndex !== 4) continue;
    nowMs += 8 * DAY_MS;
    journal.prune();
  }
  sync.addEvent(event("!encrypted:x", "$half-done"), { state: "new" });
  const { seq } = journal.unsettled(0)[0].inbox;
  journal.claim(seq, { sessionId: "session", messageIndex: 10 });
  const intent = { before: 0, after: 1, resourceVersion: "7", generation: 3, atMs: nowMs };
  journal.acting(seq, { command: "start", durationMs: 3_600_000, parts: [{ target: "clawdbot", intent }] });
  sync.addEvent(event("!encrypted:x", "$waits-for-a-key"), { state: "new" });
  journal.undecryptable(seq + 1, "late");
  const gap = sync.addGap({ roomId: "!encrypted:x", from: "p1", to: "s41" });
  sync.addEvent(event("!encrypted:x", "$held"), { state: "held", gap });
  journal.say({
    ...{ kind: "answer", sequence: 0, roomId: "!encrypted:x", eventId: "$used9", form: "notice", reply: true },
    text: { plain: "clawdbot is off" },
  });
  memory.save({
    targets: {
      clawdbot: { beforeStop: 2, timer: { dueAtMs: nowMs + 3_600_000, roomId: "!encrypted:x", user: "@ann:x" } },
    },
    stories: [],
  });
  pins.set("@ann:x", { kind: "identity", masterKey: "master", sinceMs: nowMs });
});
await store.close();
writeFileSync(join(folder, "state.sqlite3.gz"), gzipSync(readFileSync(join(temporary, "state.sqlite3"))));
await Deno.remove(temporary, { recursive: true });
