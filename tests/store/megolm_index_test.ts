import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { CRYPTO_NAME, openStore } from "../../lib/store/mod.ts";

const STORE = "inbound_group_sessions3";
const keys = ["room\u001dfirst", "room\u001dsecond", "other\u001dthird"];

/** The crypto's database as the crypto opens it; Deno has no types for IndexedDB. */
// deno-lint-ignore no-explicit-any
function request(run: (factory: any) => any): Promise<any> {
  const asked = run(Reflect.get(globalThis, "indexedDB"));
  return new Promise((resolve, reject) => {
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

Deno.test("MegolmIndex indexes records from before the index existed, and they can be deleted", async () => {
  const folder = await Deno.makeTempDir();
  const reopen = async () => {
    const store = await openStore({ folder, holder: { host: "test", pid: Deno.pid } });
    await store.openCrypto();
    return store;
  };
  const records = async () => {
    const database = await request((factory) => factory.open(`${CRYPTO_NAME}::matrix-sdk-crypto`, 1));
    try {
      return await request(() => database.transaction([STORE]).objectStore(STORE).getAllKeys());
    } finally {
      database.close();
    }
  };
  {
    await using _store = await reopen();
    const database = await request((factory) => factory.open(`${CRYPTO_NAME}::matrix-sdk-crypto`, 1));
    for (const key of keys) {
      await request(() => database.transaction([STORE], "readwrite").objectStore(STORE).put({ session: key }, key));
    }
    database.close();
    // A record is written when its transaction is over, which the next one waits for.
    assert.deepEqual((await records()).sort(), [...keys].sort());
  }
  {
    using database = new DatabaseSync(join(folder, "crypto-1.sqlite3"));
    database.exec(`DROP TABLE megolm_sessions; DROP TABLE megolm_rooms; DROP TABLE index_records;
      ALTER TABLE indexes DROP COLUMN filled;
      ALTER TABLE indexes ADD COLUMN multi_entry INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE stores ADD COLUMN key_path TEXT NOT NULL DEFAULT 'null';
      ALTER TABLE stores ADD COLUMN auto_increment INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE stores ADD COLUMN generator INTEGER NOT NULL DEFAULT 0;
      PRAGMA user_version = 1`);
  }
  {
    await using store = await reopen();
    // Learned from the first key that comes for the room.
    store.megolm.setSender("@ann:x");
    const database = await request((factory) => factory.open(`${CRYPTO_NAME}::matrix-sdk-crypto`, 1));
    await request(() => database.transaction([STORE], "readwrite").objectStore(STORE).put({}, "room\u001dfourth"));
    database.close();
    assert.equal((await records()).length, 4);
    store.megolm.learnRooms(STORE, ["!room:x"]);
    assert.deepEqual(store.megolm.excessSessions(), []);
    const found = store.megolm.ofRoom("!room:x").map(({ key }) => key);
    assert.deepEqual(found.sort(), ["room\u001dfirst", "room\u001dfourth", "room\u001dsecond"]);
    await store.deleteCryptoRecords(store.megolm.ofRoom("!room:x"));
    assert.deepEqual([await records(), store.megolm.ofRoom("!room:x")], [["other\u001dthird"], []]);
  }
  {
    await using _store = await reopen();
    assert.deepEqual(await records(), ["other\u001dthird"]);
  }
  await Deno.remove(folder, { recursive: true });
});
