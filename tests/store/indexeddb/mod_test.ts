import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import {
  encodeKey,
  encodeValue,
  IDBFactory,
  indexTables,
  type Key,
  recordTables,
} from "../../../lib/store/indexeddb/mod.ts";
import { FailureLatch } from "../../../lib/store/failure_latch.ts";
import { Database } from "../../../lib/store/sqlite.ts";
import {
  complete,
  type Connection,
  Disk,
  dump,
  type Factory,
  open,
  result,
  type Store,
  type Transaction,
  write,
} from "./driver.ts";

function twoStores(connection: Connection): void {
  connection.createObjectStore("plain");
  connection.createObjectStore("people").createIndex("name", "name");
}

async function peopled(factory: Factory): Promise<Connection> {
  const connection = await open(factory, "d", 1, twoStores);
  await write(connection, "plain", (store) => store.put("value", "key"));
  await write(connection, "people", (store) => [store.put({ name: "Bob" }, 1), store.put({ name: "Ann" }, 2)]);
  return connection;
}

Deno.test("IDBFactory persists schema changes across a restart", async (t) => {
  const upgrades: [name: string, (connection: Connection, upgrade: Transaction) => unknown, stores: string[]][] = [
    ["new store with records", (c) => c.createObjectStore("more").put(1, "k"), ["more", "people", "plain"]],
    ["deleted store", (c) => c.deleteObjectStore("plain"), ["people"]],
    ["swapped for one of the same name", (c) => (c.deleteObjectStore("plain"), c.createObjectStore("plain")), [
      "people",
      "plain",
    ]],
    ["made and deleted", (c) => (c.createObjectStore("x").put(1, 1), c.deleteObjectStore("x")), ["people", "plain"]],
    ["new index over records", (_, upgrade) => upgrade.objectStore("people").createIndex("both", ["name", "name"]), [
      "people",
      "plain",
    ]],
    ["new index over changed records", (_, upgrade) => {
      const people = upgrade.objectStore("people");
      people.createIndex("more", "more");
      people.put({ more: 1 }, 3);
      people.delete(1);
    }, ["people", "plain"]],
  ];
  for (const [name, upgrade, stores] of upgrades) {
    await t.step(name, async () => {
      using disk = new Disk();
      const first = disk.life();
      (await peopled(first)).close();
      const upgraded = await open(first, "d", 2, upgrade);
      assert.deepEqual([...upgraded.objectStoreNames], stores);
      upgraded.close();
      const left = await dump(first);
      const orphans = "SELECT count(*) AS n FROM records WHERE store NOT IN (SELECT id FROM stores)";
      assert.equal(disk.sql.get(orphans)?.["n"], 0);
      const second = disk.life();
      assert.deepEqual(await dump(second), left);
      (await open(second, "d", 3)).close();
      assert.deepEqual(await dump(disk.life()), await dump(second));
    });
  }
});

Deno.test("an upgrade that is aborted, throws or can't be written leaves the earlier version", async (t) => {
  const change = (connection: Connection, upgrade: Transaction) => {
    connection.deleteObjectStore("plain");
    connection.createObjectStore("more").put(1, 1);
    upgrade.objectStore("people").createIndex("both", ["name", "name"]);
  };
  const upgrades: [name: string, (connection: Connection, upgrade: Transaction, disk: Disk) => void][] = [
    ["aborted", (_, upgrade) => upgrade.abort()],
    ["throws", () => {
      throw new Error("thrown by a handler");
    }],
    ["disk full", (_, __, disk) => disk.isFull = true],
    ["closed", (connection) => connection.close()],
  ];
  for (const [name, end] of upgrades) {
    await t.step(name, async () => {
      using disk = new Disk();
      using thrown = uncaught();
      const first = disk.life();
      (await peopled(first)).close();
      const left = await dump(first);
      const seen: unknown[] = [];
      const upgrading = open(first, "d", 2, (connection, upgrade) => {
        upgrade.addEventListener("abort", () => seen.push(connection.version, ...connection.objectStoreNames));
        change(connection, upgrade);
        end(connection, upgrade, disk);
      });
      await assert.rejects(upgrading, { name: "AbortError" });
      disk.isFull = false;
      assert.deepEqual(thrown.messages, name === "throws" ? ["thrown by a handler"] : []);
      if (name === "closed") return assert.equal((await open(first, "d")).version, 2);
      assert.deepEqual(seen, [1, "people", "plain"]);
      assert.deepEqual(await dump(first), left);
      assert.deepEqual(await dump(disk.life()), left);
    });
  }
});

/** Collects errors that nobody has caught, instead of failing the test. */
function uncaught(): { readonly messages: string[] } & Disposable {
  const messages: string[] = [];
  const listener = (event: ErrorEvent) => {
    event.preventDefault();
    messages.push(event.error.message);
  };
  addEventListener("error", listener);
  return { messages, [Symbol.dispose]: () => removeEventListener("error", listener) };
}

Deno.test("a first version that cannot be written does not come to be", async () => {
  using disk = new Disk();
  disk.isFull = true;
  await assert.rejects(open(disk.life(), "d", 1, twoStores), { name: "AbortError" });
  assert.deepEqual([await dump(disk.life()), disk.failures.length], [{}, 1]);
});

Deno.test("open() refuses a version that is older than the database", async () => {
  using disk = new Disk();
  const factory = disk.life();
  (await open(factory, "d", 2, twoStores)).close();
  await assert.rejects(open(factory, "d", 1), { name: "VersionError" });
  assert.equal((await open(factory, "d")).version, 2);
});

Deno.test("an upgrade and a deletion wait until other connections are closed", async (t) => {
  const works: [name: string, work: (factory: Factory) => Promise<unknown>, versions: unknown[]][] = [
    ["upgrade", (factory) => open(factory, "d", 2).then((connection) => connection.close()), [1, 2]],
    ["deletion", (factory) => result(factory.deleteDatabase("d")), [1, null]],
  ];
  for (const [name, work, versions] of works) {
    await t.step(name, async () => {
      using disk = new Disk();
      const factory = disk.life();
      const connection = await peopled(factory);
      const told: unknown[] = [];
      const reading = result(connection.transaction("plain").objectStore("plain").getAll());
      connection.addEventListener("versionchange", (event) => {
        told.push(Reflect.get(event, "oldVersion"), Reflect.get(event, "newVersion"));
        setTimeout(() => {
          told.push("closed");
          connection.close();
          assert.throws(() => connection.transaction("plain"), { name: "InvalidStateError" });
        }, 10);
      });
      await work(factory).then(() => told.push("done"));
      assert.deepEqual([await reading, told], [["value"], [...versions, "closed", "done"]]);
    });
  }
});

Deno.test("IDBFactory forgets a deleted database, and keeps the others", async () => {
  using disk = new Disk();
  const first = disk.life();
  (await peopled(first)).close();
  const other = await open(first, "e", 1, twoStores);
  await write(other, "plain", (store) => store.put(1, "key"));
  other.close();
  await result(first.deleteDatabase("d"));
  const second = disk.life();
  assert.deepEqual(await second.databases(), [{ name: "e", version: 1 }]);
  assert.deepEqual(await dump(second), await dump(first));
  assert.equal(disk.sql.get("SELECT count(*) AS n FROM records")?.["n"], 1);
  (await peopled(second)).close();
  assert.deepEqual((await disk.life().databases()).map(({ name }) => name), ["e", "d"]);
});

Deno.test("an index from before indexes had a table is filled when the database is opened", async () => {
  using raw = new DatabaseSync(":memory:");
  raw.exec(recordTables);
  raw.exec(`INSERT INTO databases VALUES (1, 'd', 7); INSERT INTO stores VALUES (2, 1, 's', 'null', 0, 0);
    INSERT INTO indexes VALUES (2, 'i', '"n"', 0, 0)`);
  const put = raw.prepare("INSERT INTO records VALUES (2, ?, ?)");
  const keys: Key[] = Array.from({ length: 1_001 }, (_, number) => `${number}`.padStart(4, "0"));
  // Every other record has no key in the index.
  keys.forEach((key, place) => put.run(encodeKey(key), encodeValue(place % 2 === 0 ? { n: -place } : {})));
  raw.exec(indexTables);
  const sql = new Database(":memory:", raw, new FailureLatch());
  for (const _ of ["filled", "found filled"]) {
    const connection: Connection = await open(new IDBFactory({ sql, failed: assert.ifError }), "d");
    const store = connection.transaction("s").objectStore("s");
    const [count, found] = await Promise.all([result(store.count()), result(store.index("i").getAllKeys())]);
    assert.deepEqual([count, found], [1_001, keys.filter((_, place) => place % 2 === 0).toReversed()]);
  }
});

Deno.test("a transaction that cannot be written is aborted and reported, and what was written before is kept", async () => {
  using disk = new Disk();
  const factory = disk.life();
  const connection = await peopled(factory);
  const end = write(connection, "plain", (store) => [store.put("after", "key"), store.put("more", "l")]);
  disk.isFull = true;
  await assert.rejects(end, { name: "UnknownError", message: /disk I\/O error/ });
  disk.isFull = false;
  assert.equal(disk.failures.length, 1);
  await write(connection, "plain", (store) => store.put("later", "m"));
  const store = connection.transaction("plain").objectStore("plain");
  assert.deepEqual(await result(store.getAll()), ["value", "later"]);
  connection.close();
  assert.deepEqual(await dump(disk.life()), await dump(factory));
});

Deno.test("a record that cannot be read is reported, and fails only what reads it", async () => {
  using disk = new Disk();
  const connection = await peopled(disk.life());
  disk.sql.run("UPDATE records SET value = 'half' WHERE key = ?", encodeKey("key"));
  const reading = connection.transaction("plain");
  const ended = complete(reading);
  await assert.rejects(result(reading.objectStore("plain").get("key")), { name: "UnknownError" });
  await assert.rejects(ended, { name: "UnknownError" });
  assert.match(String(disk.failures), /^SyntaxError/);
  const people = connection.transaction("people").objectStore("people");
  assert.deepEqual(await result(people.index("name").getAllKeys()), [2, 1]);
});

Deno.test("put() refuses values and keys that cannot be stored, and the transaction goes on", async (t) => {
  const rows: [name: string, error: string, put: (store: Store) => unknown][] = [
    ["a value of an unknown kind", "DataCloneError", (store) => store.put(new Map(), "k")],
    ["a function", "DataCloneError", (store) => store.put({ call: () => 1 }, "k")],
    ["no key", "DataError", (store) => store.put("value")],
    ["a key that is none", "DataError", (store) => store.put("value", { a: 1 })],
  ];
  for (const [name, error, put] of rows) {
    await t.step(name, async () => {
      using disk = new Disk();
      const connection = await peopled(disk.life());
      await write(connection, "plain", (store) => {
        assert.throws(() => put(store), { name: error });
        store.put("other", "other");
      });
      const store = connection.transaction("plain").objectStore("plain");
      assert.deepEqual(await result(store.getAllKeys()), ["key", "other"]);
    });
  }
});

Deno.test("a transaction whose handler throws is aborted, and the error is not swallowed", async () => {
  using disk = new Disk();
  using thrown = uncaught();
  const connection = await peopled(disk.life());
  const transaction = connection.transaction("plain", "readwrite");
  const ended = complete(transaction);
  transaction.objectStore("plain").put("after", "key").addEventListener("success", () => {
    throw new Error("thrown by a handler");
  });
  await assert.rejects(ended, { name: "AbortError" });
  assert.deepEqual(thrown.messages, ["thrown by a handler"]);
  assert.equal(await result(connection.transaction("plain").objectStore("plain").get("key")), "value");
});

Deno.test("a transaction takes no requests after it has ended or was committed", async () => {
  using disk = new Disk();
  const connection = await peopled(disk.life());
  const ended = connection.transaction("plain", "readwrite");
  const store = ended.objectStore("plain");
  await complete(ended);
  assert.throws(() => store.put(1, 1), { name: "TransactionInactiveError" });
  assert.throws(() => ended.abort(), { name: "InvalidStateError" });
  const reader = connection.transaction("plain").objectStore("plain");
  assert.throws(() => reader.put(1, 1), { name: "ReadOnlyError" });
});

Deno.test("a cursor moves one record at a time", async () => {
  using disk = new Disk();
  const connection = await peopled(disk.life());
  const request = connection.transaction("people").objectStore("people").openCursor();
  const cursor = await result(request);
  cursor?.continue();
  assert.throws(() => cursor?.continue(), { name: "InvalidStateError" });
  assert.throws(() => request.result, { name: "InvalidStateError" });
  assert.equal((await result(request))?.key, 2);
});

Deno.test("the observer is told of each record, within the transaction that changes it", async () => {
  using disk = new Disk();
  const told: string[] = [];
  const observer = {
    written: (store: string, key: Key) => told.push(`${store} + ${key}`),
    deleted: (store: string, key: Key) => told.push(`${store} - ${key}`),
  };
  const connection = await open(disk.life(observer), "d", 1, twoStores);
  await write(connection, "plain", (store) => [store.put(1, "a"), store.put(2, "b"), store.put(3, "a")]);
  await write(connection, "plain", (store) => [store.delete("b"), store.clear(), store.put(4, "c")]);
  disk.isFull = true;
  await assert.rejects(write(connection, "people", (store) => store.put(1, 1)));
  assert.deepEqual(told.splice(0, 5), ["plain + a", "plain + b", "plain + c", "plain - a", "plain - b"]);
  assert.deepEqual(told, ["people + 1"]);
});

Deno.test("a transaction may be durable later if it changes nothing but relaxed stores", async (t) => {
  const both = ["plain", "people"];
  const rows: [name: string, scope: string[], write: (transaction: Transaction) => unknown, commits: string[]][] = [
    ["a relaxed store", ["plain"], (made) => made.objectStore("plain").put(1, 1), ["later"]],
    ["a relaxed store of two", both, (made) => made.objectStore("plain").put(1, 1), ["later"]],
    ["the other of the two", both, (made) => made.objectStore("people").put(1, 1), ["durable"]],
    ["both", both, (made) => both.forEach((name) => made.objectStore(name).put(1, 1)), ["durable"]],
    ["nothing", both, (made) => made.objectStore("people").get(1), []],
  ];
  for (const [name, scope, write, commits] of rows) {
    await t.step(name, async () => {
      using disk = new Disk();
      const connection = await open(disk.life(undefined, ["plain"]), "d", 1, twoStores);
      assert.deepEqual(disk.commits.splice(0), ["durable"]);
      const made = connection.transaction(scope, "readwrite");
      write(made);
      await complete(made);
      assert.deepEqual(disk.commits, commits);
    });
  }
});
