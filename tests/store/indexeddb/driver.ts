/**
 * IndexedDB as the tests drive it: the few types that Deno does not have, promises for its events, and a dump of all
 * that a factory holds.
 *
 * @module
 */

import type { DurableFactory } from "../../../lib/store/indexeddb/mod.ts";

/** An IDBRequest. */
export interface Request<T = unknown> extends EventTarget {
  readonly result: T;
  readonly error: DOMException;
}

/** An IDBObjectStore. */
export interface Store {
  name: string;
  readonly keyPath: unknown;
  readonly autoIncrement: boolean;
  readonly indexNames: Iterable<string>;
  put(value: unknown, key?: unknown): Request;
  add(value: unknown, key?: unknown): Request;
  get(key: unknown): Request;
  delete(key: unknown): Request;
  clear(): Request;
  getAll(): Request<unknown[]>;
  getAllKeys(): Request<unknown[]>;
  openCursor(): Request<
    { value: unknown; update(value: unknown): Request; delete(): Request; continue(): void } | null
  >;
  createIndex(name: string, keyPath: unknown, options?: { unique?: boolean; multiEntry?: boolean }): void;
  deleteIndex(name: string): void;
  index(name: string): {
    readonly keyPath: unknown;
    readonly unique: boolean;
    readonly multiEntry: boolean;
    getAllKeys(): Request<unknown[]>;
    getAll(): Request<unknown[]>;
  };
}

/** An IDBTransaction. */
export interface Transaction extends EventTarget {
  readonly error: DOMException | null;
  objectStore(name: string): Store;
  abort(): void;
}

/** An IDBDatabase. */
export interface Connection {
  readonly version: number;
  readonly objectStoreNames: Iterable<string>;
  transaction(stores: string | string[], mode?: "readonly" | "readwrite"): Transaction;
  createObjectStore(name: string, options?: { keyPath?: unknown; autoIncrement?: boolean }): Store;
  deleteObjectStore(name: string): void;
  close(): void;
}

/** An IDBFactory. */
export interface Factory {
  open(name: string, version?: number): Request<Connection> & { readonly transaction: Transaction };
  deleteDatabase(name: string): Request;
  databases(): Promise<{ name: string; version: number }[]>;
}

/** The factory with the types that it has in fact. */
export function typed(factory: DurableFactory): Factory {
  return factory as unknown as Factory;
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
  factory: DurableFactory,
  name: string,
  version?: number,
  upgrade?: (connection: Connection, transaction: Transaction) => void,
): Promise<Connection> {
  const request = typed(factory).open(name, version);
  request.addEventListener("upgradeneeded", () => upgrade?.(request.result, request.transaction));
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
export async function dump(factory: DurableFactory): Promise<unknown> {
  const databases: Record<string, unknown> = {};
  for (const { name, version } of await typed(factory).databases()) {
    const connection = await open(factory, name);
    const stores: Record<string, unknown> = {};
    for (const storeName of [...connection.objectStoreNames]) {
      const store = connection.transaction(storeName).objectStore(storeName);
      const { keyPath, autoIncrement } = store;
      const [keys, values] = await Promise.all([result(store.getAllKeys()), result(store.getAll())]);
      const indexes: Record<string, unknown> = {};
      for (const indexName of [...store.indexNames]) {
        const index = connection.transaction(storeName).objectStore(storeName).index(indexName);
        const { keyPath, unique, multiEntry } = index;
        const [keys, values] = await Promise.all([result(index.getAllKeys()), result(index.getAll())]);
        indexes[indexName] = { keyPath, unique, multiEntry, keys, values };
      }
      stores[storeName] = { keyPath, autoIncrement, keys, values, indexes };
    }
    connection.close();
    databases[name] = { version, stores };
  }
  return databases;
}
