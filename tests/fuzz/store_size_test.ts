import assert from "node:assert/strict";
import { event, StoreFolder } from "../store/folder.ts";
import { overgrown, type StoreSize, storeSize } from "./store_size.ts";

async function size(folder: StoreFolder): Promise<StoreSize> {
  await (await folder.reopen()).close();
  return storeSize(folder.path, "@ann:x");
}

Deno.test("events of an allowed user are measured apart, and permitted", async () => {
  await using folder = new StoreFolder();
  const before = await size(folder);
  const { rooms, journal } = await folder.reopen();
  journal.transaction(() => {
    for (let index = 1; index <= 3_000; index += 1) {
      const eventId = `$${index}${"x".repeat(40)}`;
      rooms.addEvent({ ...event(eventId), sender: "@ann:x" }, { state: "new" });
      journal.claim(index, { sessionId: "s".repeat(43), messageIndex: index });
      for (const sequence of [0, 1]) {
        journal.queueAnswer({ kind: "answer", sequence, roomId: "!r", eventId });
        journal.markSent(journal.unsentAnswers("!r", 1)[0]?.transactionId ?? "", `$s${sequence}${eventId}`);
      }
      journal.settle(index, "done", []);
    }
  });
  const after = await size(folder);
  assert.equal(after.events, 3_000);
  assert.ok(after.journal > 2 ** 21, `${after.journal} bytes`);
  assert.deepEqual(overgrown(before, after, 0), []);
});

Deno.test("more than an allowed user's events may cost is told, and an event of anyone else", async () => {
  await using folder = new StoreFolder();
  const before = await size(folder);
  const { rooms, journal: events } = await folder.reopen();
  events.transaction(() => {
    rooms.addEvent({ ...event("$1"), sender: "@ann:x", json: { body: "x".repeat(100_000) } }, { state: "new" });
    rooms.addEvent({ ...event("$2"), sender: "@stranger:y" }, { state: "settled" });
    for (let index = 0; index < 40_000; index += 1) rooms.setEncrypted(`!${index}${"x".repeat(40)}`);
  });
  const [databases, journal, foreign, ...others] = overgrown(before, await size(folder), 1);
  assert.match(databases ?? "", /^databases without the journal: /);
  assert.match(journal ?? "", /^journal of 2 events: /);
  assert.match(foreign ?? "", /^journal: 1 events of users who aren't allowed$/);
  assert.deepEqual(others, []);
});
