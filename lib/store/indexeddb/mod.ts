/**
 * IndexedDB in SQLite: the part of it that the Rust crypto uses. Records are read from SQLite and not kept in memory. A
 * transaction is on disk before its `complete` event fires; if it can't be written, it is aborted. The owner of the
 * SQLite database decides on locking and syncing.
 *
 * Not supported: object stores with key paths or generated keys, indexes over each entry of an array, cursors that go
 * backwards.
 *
 * @module
 */

import { IDBVersionChangeEvent } from "./events.ts";
import { IDBDatabase, IDBFactory } from "./factory.ts";
import { IDBKeyRange } from "./key_range.ts";
import { IDBCursor, IDBCursorWithValue, IDBIndex, IDBObjectStore } from "./object_store.ts";
import { IDBOpenDBRequest, IDBRequest } from "./requests.ts";
import { IDBTransaction } from "./transaction.ts";

export { decodeKey, encodeKey, type Key } from "./keys.ts";
export { indexTables, type RecordObserver, recordTables, type Sql } from "./records.ts";
export { decodeValue, encodeValue } from "./values.ts";
export { type IDBDatabase, IDBFactory, IDBKeyRange, type IDBRequest, IDBTransaction };

/** Classes that users of IndexedDB refer to by name. */
const classes = {
  IDBCursor,
  IDBCursorWithValue,
  IDBDatabase,
  IDBFactory,
  IDBIndex,
  IDBKeyRange,
  IDBObjectStore,
  IDBOpenDBRequest,
  IDBRequest,
  IDBTransaction,
  IDBVersionChangeEvent,
};

/** Installs a factory as the global `indexedDB`, with the classes. */
export function installGlobals(factory: IDBFactory): void {
  for (const [name, value] of Object.entries({ indexedDB: factory, ...classes })) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true, enumerable: false });
  }
}
