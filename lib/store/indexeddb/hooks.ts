/**
 * Hooks into fake-indexeddb that make it durable: they track what a transaction touches, and run just before its
 * `complete` event. All of it relies on internals, so each is checked first, and if one is missing nothing is
 * installed.
 *
 * @module
 */

import {
  IDBFactory as MemoryFactory,
  IDBKeyRange as MemoryKeyRange,
  IDBTransaction as MemoryTransaction,
} from "fake-indexeddb";
import type { Key } from "./keys.ts";

const VERSION = "6.2.8";

/** A record in fake-indexeddb. */
export interface RawRecord {
  readonly key: Key;
  readonly value: unknown;
}

/** An index in fake-indexeddb. */
export interface RawIndex {
  readonly name: string;
  readonly keyPath: string | readonly string[];
  readonly multiEntry: boolean;
  readonly unique: boolean;
  readonly deleted: boolean;
  initialized: boolean;
  storeRecord(record: RawRecord): void;
}

/** An object store in fake-indexeddb. */
export interface RawStore {
  readonly rawDatabase: RawDatabase;
  readonly name: string;
  readonly keyPath: string | readonly string[] | null;
  readonly autoIncrement: boolean;
  readonly deleted: boolean;
  readonly keyGenerator: { num: number } | null;
  readonly records: {
    get(key: Key): RawRecord | undefined;
    put(record: RawRecord): void;
    values(range?: unknown): Iterable<RawRecord>;
  };
  readonly rawIndexes: Map<string, RawIndex>;
  storeRecord(record: { key?: Key; value: unknown }, noOverwrite: boolean, log?: RollbackLog): Key;
  deleteRecord(keyOrRange: unknown, log?: RollbackLog): void;
  clear(log?: RollbackLog): void;
}

/** A database in fake-indexeddb. */
export interface RawDatabase {
  readonly name: string;
  readonly version: number;
  readonly rawObjectStores: Map<string, RawStore>;
  /** In order of creation. */
  readonly transactions: readonly RawTransaction[];
  processTransactions(): void;
}

/** Undo log of a transaction. Its identity stands for the transaction. */
type RollbackLog = unknown[];

interface RawTransaction {
  readonly mode: "readonly" | "readwrite" | "versionchange";
  readonly db: { readonly _rawDatabase: RawDatabase };
  readonly _rollbackLog: RollbackLog;
  /** Names of the object stores in its scope. */
  readonly _scope: ReadonlySet<string>;
  readonly _started: boolean;
  readonly _state: "active" | "inactive" | "committing" | "finished";
  _start(): void;
  addEventListener(type: "complete" | "abort", listener: () => void): void;
  _abort(errorName: string): void;
}

/** What a transaction touched in one store: these keys, after clearing the whole store if `cleared`. */
export interface Touched {
  cleared: boolean;
  keys: Key[];
}

/** Makes a transaction durable, or throws. Called right before the transaction's `complete` event. */
export type Commit = (
  database: RawDatabase,
  schemaChanged: boolean,
  touched: ReadonlyMap<RawStore, Readonly<Touched>>,
) => void;

/** Constructors from which a stored database is rebuilt. */
export interface Internals {
  readonly newFactory: () => { _databases: Map<string, RawDatabase> };
  readonly newDatabase: (name: string, version: number) => RawDatabase;
  readonly newStore: (database: RawDatabase, name: string, keyPath: unknown, autoIncrement: boolean) => RawStore;
  readonly newIndex: (
    store: RawStore,
    name: string,
    keyPath: unknown,
    multiEntry: boolean,
    unique: boolean,
  ) => RawIndex;
}

const commits = new WeakMap<RawDatabase, Commit>();
const touchedBy = new WeakMap<RollbackLog, Map<RawStore, Touched>>();
let installed: Promise<Internals> | undefined;

/** Sets the function that commits a database's transactions. Without one, a database stays in memory. */
export function setCommit(database: RawDatabase, commit: Commit): void {
  commits.set(database, commit);
}

/**
 * Installs the hooks, once per process.
 *
 * @throws Error if fake-indexeddb's internals aren't as expected; the message names the expected version
 */
export function installHooks(): Promise<Internals> {
  return installed ??= install().catch((error) => {
    installed = undefined;
    throw error;
  });
}

async function install(): Promise<Internals> {
  const { store, index, transaction } = await specimen();
  const storeClass = Object.getPrototypeOf(store);
  const transactionClass = MemoryTransaction.prototype;
  for (const [name, arity] of [["storeRecord", 3], ["deleteRecord", 2], ["clear", 1]] as const) {
    assertInternal(storeClass[name]?.length === arity, `ObjectStore.${name}() of ${arity} parameters`);
  }
  for (const name of ["get", "put", "values"] as const) {
    assertInternal(typeof store.records[name] === "function", `ObjectStore.records.${name}()`);
  }
  assertInternal(typeof store.keyGenerator?.num === "number", "ObjectStore.keyGenerator.num");
  assertInternal(store.rawDatabase === transaction.db?._rawDatabase, "ObjectStore.rawDatabase");
  assertInternal(store.rawIndexes instanceof Map, "ObjectStore.rawIndexes");
  assertInternal(typeof index.storeRecord === "function" && "initialized" in index, "Index.storeRecord()");
  assertInternal(Array.isArray(transaction._rollbackLog), "Transaction._rollbackLog");
  assertInternal(transaction._scope instanceof Set, "Transaction._scope");
  assertInternal(transaction._started === false, "Transaction._started");
  assertInternal(typeof transaction._state === "string", "Transaction._state");
  assertInternal(typeof transactionClass._start === "function", "Transaction._start()");
  assertInternal(Array.isArray(store.rawDatabase.transactions), "Database.transactions");
  assertInternal(typeof store.rawDatabase.processTransactions === "function", "Database.processTransactions()");
  assertInternal(typeof transactionClass._abort === "function", "Transaction._abort()");
  assertInternal(typeof transactionClass.dispatchEvent === "function", "Transaction.dispatchEvent()");

  hookStore(storeClass);
  hookTransaction(transactionClass);
  hookScheduling(Object.getPrototypeOf(store.rawDatabase));
  return {
    newFactory: () => new MemoryFactory(),
    newDatabase: classOf(store.rawDatabase),
    newStore: classOf(store),
    newIndex: classOf(index),
  };
}

function assertInternal(condition: boolean, what: string): void {
  if (!condition) {
    throw new Error(`Cannot make IndexedDB durable: fake-indexeddb has no ${what}; version ${VERSION} is expected`);
  }
}

// deno-lint-ignore no-explicit-any -- the caller states the parameters of a class that has no name outside
function classOf<T>(specimen: T): (...parameters: any[]) => T {
  const { constructor } = specimen as { constructor: new (...parameters: unknown[]) => T };
  return (...parameters) => new constructor(...parameters);
}

/** Makes one instance of each internal class, which fake-indexeddb doesn't export. */
function specimen(): Promise<{ store: RawStore; index: RawIndex; transaction: RawTransaction }> {
  return new Promise((resolve, reject) => {
    const factory = new MemoryFactory();
    assertInternal(factory._databases instanceof Map, "Factory._databases");
    const request = factory.open("specimen", 1);
    request.onerror = () => reject(request.error);
    request.onupgradeneeded = () => {
      const objectStore = request.result.createObjectStore("store", { autoIncrement: true });
      const index = objectStore.createIndex("index", "path");
      try {
        assertInternal(typeof objectStore._rawObjectStore === "object", "IDBObjectStore._rawObjectStore");
        assertInternal(typeof index._rawIndex === "object", "IDBIndex._rawIndex");
        resolve({ store: objectStore._rawObjectStore, index: index._rawIndex, transaction: request.transaction });
      } catch (error) {
        reject(error);
      }
    };
  });
}

/** Records the keys that a transaction touches. A rollback passes no log, so it records nothing. */
function hookStore(storeClass: RawStore): void {
  const { storeRecord, deleteRecord, clear } = storeClass;
  storeClass.storeRecord = function (record, noOverwrite, log) {
    try {
      return storeRecord.call(this, record, noOverwrite, log);
    } finally {
      // By now a key generator has put its key into the record.
      if (record.key !== undefined) touched(this, log)?.keys.push(record.key);
    }
  };
  storeClass.deleteRecord = function (keyOrRange, log) {
    const note = touched(this, log);
    if (note && keyOrRange instanceof MemoryKeyRange) {
      for (const { key } of this.records.values(keyOrRange)) note.keys.push(key);
    } else note?.keys.push(keyOrRange as Key);
    deleteRecord.call(this, keyOrRange, log);
  };
  storeClass.clear = function (log) {
    const note = touched(this, log);
    if (note) Object.assign(note, { cleared: true, keys: [] });
    clear.call(this, log);
  };
}

function touched(store: RawStore, log: RollbackLog | undefined): Touched | undefined {
  if (!log || !commits.has(store.rawDatabase)) return undefined;
  let stores = touchedBy.get(log);
  if (!stores) touchedBy.set(log, stores = new Map());
  let note = stores.get(store);
  if (!note) stores.set(store, note = { cleared: false, keys: [] });
  return note;
}

/** Commits before a transaction is reported as complete. If the commit fails, the transaction is aborted. */
function hookTransaction(transactionClass: RawTransaction & { dispatchEvent(event: { type: string }): boolean }): void {
  const { dispatchEvent } = transactionClass;
  transactionClass.dispatchEvent = function (event) {
    const { db, mode, _rollbackLog } = this;
    const commit = event.type === "complete" ? commits.get(db._rawDatabase) : undefined;
    const stores = touchedBy.get(_rollbackLog);
    if (commit && (stores || mode === "versionchange")) {
      try {
        commit(db._rawDatabase, mode === "versionchange", stores ?? new Map());
      } catch (error) {
        this._abort(error instanceof TypeError ? "DataCloneError" : "UnknownError");
        return true;
      }
    }
    return dispatchEvent.call(this, event);
  };
}

/**
 * Starts all runnable transactions in one pass over the list. fake-indexeddb makes one pass for each transaction and
 * compares it with all others. With the thousands that the Rust crypto makes for a large room, that takes seconds.
 */
function hookScheduling(databaseClass: RawDatabase): void {
  const scheduled = new WeakSet<RawDatabase>();
  databaseClass.processTransactions = function () {
    if (scheduled.has(this)) return;
    scheduled.add(this);
    setImmediate(() => {
      scheduled.delete(this);
      for (const transaction of runnable(this.transactions.filter(({ _state }) => _state !== "finished"))) {
        transaction.addEventListener("complete", this.processTransactions);
        transaction.addEventListener("abort", this.processTransactions);
        transaction._start();
      }
    });
  };
}

/**
 * Transactions that haven't started and don't overlap with an earlier one. Two that only read don't conflict (Indexed
 * Database API 3.0, 2.7.2, "Transaction scheduling").
 */
function runnable(transactions: readonly RawTransaction[]): RawTransaction[] {
  const read = new Set<string>();
  const written = new Set<string>();
  return transactions.filter(({ _scope, _started, mode }) => {
    const isReader = mode === "readonly";
    const isFree = [..._scope].every((store) => !written.has(store) && (isReader || !read.has(store)));
    for (const store of _scope) (isReader ? read : written).add(store);
    return isFree && !_started;
  });
}
