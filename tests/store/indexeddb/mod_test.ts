import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { IDBKeyRange } from "fake-indexeddb";
import fc from "fast-check";
import { indexedDBSchema, openDurableIndexedDB } from "../../../lib/store/indexeddb/mod.ts";
import { complete, type Connection, dump, open, result, type Store, type Transaction, typed, write } from "./driver.ts";

/** A SQLite database that several lives share, and a way to have its next write fail. */
function disk() {
  const sql = new DatabaseSync(":memory:");
  for (const step of indexedDBSchema) sql.exec(step);
  const fault = { next: false };
  const transaction = (writes: () => void) => {
    sql.exec("BEGIN");
    try {
      writes();
      if (fault.next) throw new Error("disk I/O error");
      sql.exec("COMMIT");
    } catch (error) {
      sql.exec("ROLLBACK");
      throw error;
    }
  };
  return { fault, life: () => openDurableIndexedDB(sql, transaction), [Symbol.dispose]: () => sql.close() };
}

function twoStores(connection: Connection): void {
  connection.createObjectStore("plain");
  const people = connection.createObjectStore("people", { keyPath: "id", autoIncrement: true });
  people.createIndex("name", "name");
  people.createIndex("tags", "tags", { multiEntry: true });
}

Deno.test("openDurableIndexedDB() persists each kind of change across a restart", async (t) => {
  const changes: [name: string, (connection: Connection) => Promise<unknown>, plainKeys: unknown[]][] = [
    ["put", (c) => write(c, "plain", (s) => s.put({ a: [1, "x"] }, ["k", 1])), ["a", "b", "c", ["k", 1]]],
    ["overwritten", (c) => write(c, "plain", (s) => s.put("new", "a")), ["a", "b", "c"]],
    ["delete of a key", (c) => write(c, "plain", (s) => s.delete("b")), ["a", "c"]],
    ["delete of a range", (c) => write(c, "plain", (s) => s.delete(IDBKeyRange.bound("a", "b"))), ["c"]],
    ["clear", (c) => write(c, "plain", (s) => s.clear()), []],
    ["clear between puts", (c) => write(c, "plain", (s) => (s.put(1, "x"), s.clear(), s.put(2, "y"))), ["y"]],
    ["put and delete in one", (c) => write(c, "plain", (s) => (s.put(1, "x"), s.delete("x"))), ["a", "b", "c"]],
    ["delete and put in one", (c) => write(c, "plain", (s) => (s.delete("a"), s.put(2, "a"))), ["a", "b", "c"]],
    ["update by cursor", (c) => write(c, "plain", (s) => eachRecord(s, (cursor) => cursor.update("u"))), [
      "a",
      "b",
      "c",
    ]],
    ["delete by cursor", (c) => write(c, "plain", (s) => eachRecord(s, (cursor) => cursor.delete())), []],
    ["generated key", (c) => write(c, "people", (s) => s.add({ name: "Ann", tags: ["x", "y"] })), ["a", "b", "c"]],
  ];
  for (const [name, change, plainKeys] of changes) {
    await t.step(name, async () => {
      using shared = disk();
      const first = await shared.life();
      const connection = await open(first, "d", 1, twoStores);
      await write(connection, "plain", (store) => ["a", "b", "c"].forEach((key) => store.put(key, key)));
      await change(connection);
      connection.close();
      const second = await shared.life();
      assert.deepEqual(await dump(second), await dump(first));
      const again = await open(second, "d");
      assert.deepEqual(await result(again.transaction("plain").objectStore("plain").getAllKeys()), plainKeys);
    });
  }
});

function eachRecord(store: Store, visit: (cursor: { update(value: unknown): unknown; delete(): unknown }) => void) {
  const request = store.openCursor();
  request.addEventListener("success", () => {
    if (!request.result) return;
    visit(request.result);
    request.result.continue();
  });
}

Deno.test("openDurableIndexedDB() finds all of many records", async (t) => {
  for (const count of [499, 500, 501, 1_000, 1_001]) {
    await t.step(`${count} records`, async () => {
      using shared = disk();
      const connection = await open(await shared.life(), "d", 1, twoStores);
      const keys = Array.from({ length: count }, (_, place) => place);
      await write(connection, "plain", (store) => keys.map((key) => store.put({ key }, key)));
      await write(connection, "people", (store) => store.put({ id: 7, name: "Ann", tags: [] }));
      const again = await open(await shared.life(), "d");
      const plain = again.transaction("plain").objectStore("plain");
      assert.deepEqual(await result(plain.getAllKeys()), keys);
      assert.deepEqual(await result(plain.getAll()), keys.map((key) => ({ key })));
      const people = again.transaction("people").objectStore("people");
      assert.deepEqual(await result(people.getAllKeys()), [7]);
    });
  }
});

Deno.test("openDurableIndexedDB() continues generated keys even after their records are gone", async () => {
  using shared = disk();
  const connection = await open(await shared.life(), "d", 1, twoStores);
  await write(connection, "people", (store) => [store.add({}), store.add({}), store.clear()]);
  const again = await open(await shared.life(), "d");
  await write(again, "people", (store) => store.add({}));
  assert.deepEqual(await result(again.transaction("people").objectStore("people").getAllKeys()), [3]);
});

Deno.test("openDurableIndexedDB() persists schema changes across a restart", async (t) => {
  const upgrades: [name: string, (connection: Connection, transaction: Transaction) => void, stores: string[]][] = [
    ["new store with records", (c) => c.createObjectStore("more").put(1, "k"), ["more", "people", "plain"]],
    ["deleted store", (c) => c.deleteObjectStore("plain"), ["people"]],
    ["renamed store", (_, x) => x.objectStore("plain").name = "renamed", ["people", "renamed"]],
    ["swapped for one of the same name", (c) => (c.deleteObjectStore("plain"), c.createObjectStore("plain")), [
      "people",
      "plain",
    ]],
    ["made and deleted", (c) => (c.createObjectStore("x").put(1, 1), c.deleteObjectStore("x")), ["people", "plain"]],
    ["new index", (_, x) => x.objectStore("people").createIndex("both", ["id", "name"]), ["people", "plain"]],
    ["deleted index", (_, x) => x.objectStore("people").deleteIndex("name"), ["people", "plain"]],
  ];
  for (const [name, upgrade, stores] of upgrades) {
    await t.step(name, async () => {
      using shared = disk();
      const first = await shared.life();
      const connection = await open(first, "d", 1, twoStores);
      await write(connection, "plain", (store) => store.put("value", "key"));
      await write(connection, "people", (store) => store.put({ id: 7, name: "Ann", tags: ["x", "y"] }));
      connection.close();
      const upgraded = await open(first, "d", 2, upgrade);
      assert.deepEqual([...upgraded.objectStoreNames], stores);
      upgraded.close();
      assert.deepEqual(await dump(await shared.life()), await dump(first));
    });
  }
});

Deno.test("openDurableIndexedDB() forgets a deleted database, and keeps the others", async () => {
  using shared = disk();
  const first = await shared.life();
  for (const name of ["d", "e"]) {
    const connection = await open(first, name, 1, twoStores);
    await write(connection, "plain", (store) => store.put(name, "key"));
    connection.close();
  }
  await result(typed(first).deleteDatabase("d"));
  const second = await shared.life();
  assert.deepEqual(await typed(second).databases(), [{ name: "e", version: 1 }]);
  assert.deepEqual(await dump(second), await dump(first));
  await open(second, "d", 1, twoStores);
  assert.deepEqual((await typed(await shared.life()).databases()).map(({ name }) => name).sort(), ["d", "e"]);
});

Deno.test("a transaction that was aborted leaves nothing", async () => {
  using shared = disk();
  const first = await shared.life();
  const connection = await open(first, "d", 1, twoStores);
  const transaction = connection.transaction(["plain", "people"], "readwrite");
  const end = assert.rejects(complete(transaction), { name: "AbortError" });
  await result(transaction.objectStore("plain").put(1, "k"));
  transaction.abort();
  await end;
  await write(connection, "people", (store) => store.add({ name: "Bob" }));
  connection.close();
  const second = await shared.life();
  assert.deepEqual(await dump(second), await dump(first));
});

Deno.test("a transaction that cannot be written is aborted, and memory is as the disk", async (t) => {
  const rows: [name: string, error: string, spoil: (fault: { next: boolean }, store: Store) => void][] = [
    ["for an I/O error", "UnknownError", (fault) => fault.next = true],
    ["for a value of an unknown kind", "DataCloneError", (_, store) => store.put(new Map(), "map")],
  ];
  for (const [name, error, spoil] of rows) {
    await t.step(name, async () => {
      using shared = disk();
      const first = await shared.life();
      const connection = await open(first, "d", 1, twoStores);
      await write(connection, "plain", (store) => store.put("before", "k"));
      const end = write(connection, "plain", (store) => {
        store.put("after", "k");
        store.put("more", "l");
        spoil(shared.fault, store);
      });
      await assert.rejects(end, { name: error });
      shared.fault.next = false;
      await write(connection, "plain", (store) => store.put("later", "m"));
      const store = connection.transaction("plain").objectStore("plain");
      assert.deepEqual(await result(store.getAll()), ["before", "later"]);
      connection.close();
      assert.deepEqual(await dump(await shared.life()), await dump(first));
    });
  }
});

Deno.test("a first version that cannot be written does not come to be", async () => {
  using shared = disk();
  shared.fault.next = true;
  await assert.rejects(open(await shared.life(), "d", 1, twoStores), { name: "AbortError" });
  assert.deepEqual(await dump(await shared.life()), {});
});

Deno.test("openDurableIndexedDB() doesn't affect other factories", async () => {
  using shared = disk();
  const durable = await shared.life();
  const { IDBFactory } = await import("fake-indexeddb");
  const connection = await open(new IDBFactory(), "d", 1, twoStores);
  await write(connection, "plain", (store) => store.put(1, 1));
  assert.deepEqual(await dump(durable), {});
  assert.deepEqual(await dump(await shared.life()), {});
});

const operation = fc.record({
  kind: fc.constantFrom("put" as const, "put" as const, "delete" as const, "range" as const, "clear" as const),
  key: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom("a", "b", "c")),
  value: fc.record({ name: fc.oneof(fc.string(), fc.integer()), tags: fc.array(fc.integer({ max: 5, min: 0 })) }),
});

Deno.test("openDurableIndexedDB() holds the same after a restart, after any changes", async () => {
  const transactions = fc.array(fc.record({ operations: fc.array(operation, { maxLength: 6 }), aborts: fc.boolean() }));
  await fc.assert(
    fc.asyncProperty(transactions, async (transactions) => {
      using shared = disk();
      const first = await shared.life();
      const connection = await open(first, "d", 1, (c) => {
        const store = c.createObjectStore("s");
        store.createIndex("name", "name");
        store.createIndex("tags", "tags", { multiEntry: true });
      });
      for (const { operations, aborts } of transactions) {
        const transaction = connection.transaction("s", "readwrite");
        const end = complete(transaction).catch(() => {});
        const store = transaction.objectStore("s");
        for (const { kind, key, value } of operations) {
          if (kind === "put") store.put(value, key);
          else if (kind === "delete") store.delete(key);
          else if (kind === "range") store.delete(IDBKeyRange.lowerBound(key));
          else store.clear();
        }
        if (aborts) {
          const last = store.get(0);
          last.addEventListener("success", () => transaction.abort());
        }
        await end;
      }
      connection.close();
      assert.deepEqual(await dump(await shared.life()), await dump(first));
    }),
    { numRuns: 40 },
  );
});

Deno.test("transactions that overlap run in the order in which they were made, if one of them writes", async () => {
  const stores = ["a", "b", "c"];
  const transaction = fc.record({
    writes: fc.boolean(),
    scope: fc.subarray(stores, { minLength: 1 }),
    aborts: fc.integer({ max: 4, min: 0 }).map((number) => number === 0),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { maxLength: 30 }), async (transactions) => {
      using shared = disk();
      const connection = await open(await shared.life(), "d", 1, (c) => {
        for (const store of stores) c.createObjectStore(store);
      });
      for (const store of stores) await write(connection, store, (into) => into.put([], "numbers"));
      const expected = new Map(stores.map((store) => [store, [] as number[]]));
      const running = transactions.map(async ({ writes, scope, aborts }, number) => {
        const before = scope.map((name) => [...expected.get(name) ?? []]);
        if (writes && !aborts) { for (const name of scope) expected.get(name)?.push(number); }
        const made = connection.transaction(scope, writes ? "readwrite" : "readonly");
        const end = complete(made).then(() => false, () => true);
        const seen = scope.map(async (name) => {
          const store = made.objectStore(name);
          const numbers = await result(store.get("numbers")) as number[];
          if (writes) store.put([...numbers, number], "numbers");
          return numbers;
        });
        assert.deepEqual(await Promise.all(seen), before);
        if (aborts) made.abort();
        assert.equal(await end, aborts);
      });
      await Promise.all(running);
      for (const name of stores) {
        const numbers = await result(connection.transaction(name).objectStore(name).get("numbers"));
        assert.deepEqual(numbers, expected.get(name));
      }
      connection.close();
    }),
    { numRuns: 40 },
  );
});
