import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { IDBTransaction } from "fake-indexeddb";
import { indexedDBSchema, openDurableIndexedDB } from "../../../lib/store/indexeddb/mod.ts";

Deno.test("openDurableIndexedDB() refuses a fake-indexeddb that is built otherwise, and names the version", async () => {
  using sql = new DatabaseSync(":memory:");
  for (const step of indexedDBSchema) sql.exec(step);
  const { _abort } = IDBTransaction.prototype;
  delete IDBTransaction.prototype._abort;
  try {
    await assert.rejects(
      openDurableIndexedDB(sql, (writes) => writes()),
      /no Transaction\._abort\(\); version 6\.2\.8/,
    );
  } finally {
    IDBTransaction.prototype._abort = _abort;
  }
  assert.equal(typeof (await openDurableIndexedDB(sql, (writes) => writes())).open, "function");
});
