import assert from "node:assert/strict";
import { openMemoryStore } from "../../lib/store/mod.ts";
import { event } from "./folder.ts";

Deno.test("openMemoryStore() is a store like any other, apart from every other one", async () => {
  await using one = openMemoryStore(() => 7);
  await using other = openMemoryStore();
  one.rooms.addEvent(event("$1"), { state: "new" });
  const [entry] = one.journal.unsettled(0);
  assert.deepEqual(entry?.event, { seq: 1, ...event("$1") });
  assert.equal(one.journal.claim(1, { sessionId: "s", messageIndex: 0 }), true);
  one.targetDocument.save({ targets: {} });
  one.pins.set("@ann:x", { masterKey: "key" });
  assert.throws(() =>
    one.transaction(() => {
      one.journal.settle(1, "done", []);
      throw new Error("killed");
    }), /killed/);
  assert.equal(one.journal.unsettled(0).length, 1);
  assert.deepEqual([other.journal.unsettled(0), other.targetDocument.load(), other.pins.get("@ann:x")], [
    [],
    undefined,
    undefined,
  ]);
  await one.close();
  assert.throws(() => one.targetDocument.load(), /it is closed/);
});
