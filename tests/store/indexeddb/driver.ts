/**
 * IndexedDB as the tests drive it: the few types that Deno does not have, promises for its events, and a dump of all
 * that a factory holds.
 *
 * @module
 */

import { IDBFactory, indexTables, type RecordObserver, recordTables } from "../../../lib/store/indexeddb/mod.ts";
import { FailureLatch } from "../../../lib/store/failure_latch.ts";
import { type Database, openMemoryDatabase } from "../../../lib/store/sqlite.ts";

/** Anything that fires events. */
interface Target {
  addEventListener(type: string, listener: (event: { preventDefault(): void }) => void): void;
}

/** An IDBRequest. */
export interface Request<T = unknown> extends Target {
  readonly result: T;
  readonly error: DOMException | null;
}

/** A cursor. */
export interface Cursor {
  readonly key: unknown;
  readonly primaryKey: unknown;
  readonly value: unknown;
  update(value: unknown): Request;
  delete(): Request;
  continue(): void;
}

/** What an object store and an index have in common. */
export interface Source {
  get(key: unknown): Request;
  getAll(query?: unknown, count?: number): Request<unknown[]>;
  getAllKeys(query?: unknown, count?: number): Request<unknown[]>;
  count(query?: unknown): Request<number>;
  openCursor(query?: unknown): Request<Cursor | null>;
}

/** An IDBIndex. */
export interface Index extends Source {
  readonly keyPath: unknown;
  readonly unique: boolean;
}

/** An IDBObjectStore. */
export interface Store extends Source {
  readonly name: string;
  readonly indexNames: Iterable<string>;
  put(value: unknown, key?: unknown): Request;
  add(value: unknown, key?: unknown): Request;
  delete(key: unknown): Request;
  clear(): Request;
  createIndex(name: string, keyPath: string | string[], options?: { unique?: boolean }): unknown;
  index(name: string): Index;
}

/** An IDBTransaction. */
export interface Transaction extends Target {
  readonly error: DOMException | null;
  objectStore(name: string): Store;
  abort(): void;
}

/** An IDBDatabase. */
export interface Connection extends Target {
  readonly version: number;
  readonly objectStoreNames: Iterable<string>;
  transaction(stores: string | string[], mode?: "readonly" | "readwrite"): Transaction;
  createObjectStore(name: string): Store;
  deleteObjectStore(name: string): void;
  close(): void;
}

/** An IDBFactory. */
export interface Factory {
  open(name: string, version?: number): Request<Connection>;
  deleteDatabase(name: string): Request;
  databases(): Promise<{ name?: string; version?: number }[]>;
}

/** An SQLite database that several lives share, and a way to have its next write fail. */
export class Disk implements Disposable {
  /** Whether the next transaction fails. */
  isFull = false;
  /** How each transaction was committed. */
  readonly commits: ("durable" | "later")[] = [];
  /** What the factories have reported. */
  readonly failures: unknown[] = [];
  readonly sql: Database = openMemoryDatabase(
    { applicationId: 0, steps: [recordTables, indexTables] },
    new FailureLatch(),
  );

  /** A factory that finds what the earlier ones have left. */
  life(observer?: RecordObserver, relaxed: readonly string[] = []): IDBFactory {
    const { sql } = this;
    const transaction = <Result>(writes: () => Result, how: "durable" | "later" = "durable"): Result =>
      sql.transaction(() => {
        const result = writes();
        if (this.isFull) throw new Error("disk I/O error");
        this.commits.push(how);
        return result;
      });
    const lazily = <Result>(writes: () => Result): Result => transaction(writes, "later");
    return new IDBFactory({
      sql: { run: sql.run.bind(sql), get: sql.get.bind(sql), all: sql.all.bind(sql), transaction, lazily },
      observer,
      relaxed: new Set(relaxed),
      failed: (error) => this.failures.push(error),
    });
  }

  [Symbol.dispose](): void {
    this.sql.close();
  }
}

/** The result of a request. */
export function result<T>(request: Request<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}

/** The end of a transaction: resolves at `complete`, rejects at `abort`. */
export function complete(transaction: Transaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.addEventListener("complete", () => resolve());
    transaction.addEventListener("abort", () => reject(transaction.error ?? new DOMException("", "AbortError")));
  });
}

/** Opens a database; `upgrade` runs in its versionchange transaction. */
export function open(
  factory: Factory,
  name: string,
  version?: number,
  upgrade?: (connection: Connection, transaction: Transaction) => void,
): Promise<Connection> {
  const request = factory.open(name, version);
  request.addEventListener("upgradeneeded", () => upgrade?.(request.result, Reflect.get(request, "transaction")));
  return result(request);
}

/** Runs `write` in one transaction over one store and waits for its end. */
export function write(connection: Connection, store: string, write: (store: Store) => void): Promise<void> {
  const transaction = connection.transaction(store, "readwrite");
  const end = complete(transaction);
  write(transaction.objectStore(store));
  return end;
}

/** Everything that a factory holds, as plain data. */
export async function dump(factory: Factory): Promise<unknown> {
  const databases: Record<string, unknown> = {};
  for (const { name = "", version } of await factory.databases()) {
    const connection = await open(factory, name);
    const stores: Record<string, unknown> = {};
    for (const storeName of [...connection.objectStoreNames]) {
      const store = connection.transaction(storeName).objectStore(storeName);
      const [keys, values] = await Promise.all([result(store.getAllKeys()), result(store.getAll())]);
      const indexes: Record<string, unknown> = {};
      for (const indexName of [...store.indexNames]) {
        const index = connection.transaction(storeName).objectStore(storeName).index(indexName);
        const { keyPath, unique } = index;
        const [keys, values] = await Promise.all([result(index.getAllKeys()), result(index.getAll())]);
        indexes[indexName] = { keyPath, unique, keys, values };
      }
      stores[storeName] = { keys, values, indexes };
    }
    connection.close();
    databases[name] = { version, stores };
  }
  return databases;
}
