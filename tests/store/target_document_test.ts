import assert from "node:assert/strict";
import type { TargetDocumentStore as Port } from "../../lib/operator/target_state.ts";
import type { Store } from "../../lib/store/mod.ts";
import { event, StoreFolder } from "./folder.ts";

const remembered = { targets: { clawdbot: { beforeStop: 3, startedBy: "@somebody-to-be-found:x" } }, stories: [] };

Deno.test("The target document persists across a restart, encrypted", async () => {
  await using folder = new StoreFolder();
  const { targetDocument } = await folder.reopen();
  assert.equal(targetDocument.load(), undefined);
  targetDocument.save({ targets: {}, stories: [] });
  targetDocument.save(remembered);
  assert.deepEqual(targetDocument.load(), remembered);
  const later = await folder.reopen();
  assert.deepEqual(later.targetDocument.load(), remembered);
  await folder.close();
  const bytes = new TextDecoder("latin1").decode(Deno.readFileSync(folder.file("state.sqlite3")));
  assert.ok(!bytes.includes("somebody-to-be-found"));
});

Deno.test("Memory is what the operator asks for", async () => {
  await using folder = new StoreFolder();
  const port: Port = (await folder.reopen()).targetDocument;
  assert.equal(port.load(), undefined);
});

Deno.test("Memory and journal change together or not at all", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  store.rooms.addEvent(event("$1"), { state: "new" });
  const settle = (each: Store, then: () => void) =>
    each.transaction(() => {
      each.targetDocument.save(remembered);
      each.transaction(() => each.journal.settle(each.journal.unsettled(0)[0]?.event.seq ?? 0, "done", []));
      then();
    });
  assert.throws(() => settle(store, () => assert.fail("killed")), /killed/);
  const later = await folder.reopen();
  assert.equal(later.targetDocument.load(), undefined);
  assert.equal(later.journal.unsettled(0).length, 1);
  settle(later, () => {});
  const last = await folder.reopen();
  assert.deepEqual(last.targetDocument.load(), remembered);
  assert.equal(last.journal.unsettled(0).length, 0);
});
