/**
 * Durable IndexedDB: fake-indexeddb provides the semantics, SQLite the durability. A transaction is on disk before its
 * `complete` event fires; if it can't be written, it is aborted. The owner of the SQLite database decides on locking
 * and syncing.
 *
 * @module
 */

import * as memory from "fake-indexeddb";
import type { DatabaseSync, SQLOutputValue, StatementSync } from "node:sqlite";
import { installHooks, type Internals, type RawDatabase, type RawStore, setCommit, type Touched } from "./hooks.ts";
import { decodeKey, encodeKey, type Key } from "./keys.ts";
import { decodeValue, encodeValue } from "./values.ts";

export { decodeKey, decodeValue, encodeKey, encodeValue };
export type { Key };

/** Schema steps. All must be applied before the SQLite database is used. */
export const indexedDBSchema: readonly string[] = [`
  CREATE TABLE databases (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL) STRICT;
  CREATE TABLE stores (
    id INTEGER PRIMARY KEY, database INTEGER NOT NULL, name TEXT NOT NULL, key_path TEXT NOT NULL,
    auto_increment INTEGER NOT NULL, generator INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE indexes (
    store INTEGER NOT NULL, name TEXT NOT NULL, key_path TEXT NOT NULL,
    multi_entry INTEGER NOT NULL, is_unique INTEGER NOT NULL, PRIMARY KEY (store, name)
  ) STRICT;
  CREATE TABLE records (store INTEGER NOT NULL, key BLOB NOT NULL, value TEXT NOT NULL, PRIMARY KEY (store, key)) STRICT;
`];

/** Number of records loaded per query. */
const PAGE = 500;

/** Called for each record that is written or deleted, with the name of its object store, within the SQL transaction. */
export interface RecordObserver {
  written(store: string, key: Key): void;
  deleted(store: string, key: Key): void;
}

/** An IDBFactory. Deno has no types for it, and code that uses it brings its own. */
export type DurableFactory = {
  readonly open: (name: string, version?: number) => object;
  readonly databases: () => Promise<readonly { readonly name: string }[]>;
  readonly deleteDatabase: (name: string) => EventTarget & { readonly error: unknown };
};

/**
 * Loads the content of a SQLite database, and writes all changes through to it.
 *
 * @param database has the tables of {@linkcode indexedDBSchema}, and nothing else writes to them
 * @param transaction runs the writes in one SQL transaction that is durable on return; throws if it fails
 * @throws RangeError if a key or value can't be read; Error if fake-indexeddb isn't the expected version
 */
export async function openDurableIndexedDB(
  database: DatabaseSync,
  transaction: (writes: () => void) => void,
  observer?: RecordObserver,
): Promise<DurableFactory> {
  const internals = await installHooks();
  const factory = internals.newFactory();
  factory._databases = new DurableDatabases(internals, database, transaction, observer);
  return factory as unknown as DurableFactory;
}

/** Installs a factory as the global `indexedDB`, with the IDB classes that code using it refers to by name. */
export function installGlobals(factory: DurableFactory): void {
  const classes = Object.entries(memory).filter(([name]) => name.startsWith("IDB"));
  for (const [name, value] of [["indexedDB", factory] as const, ...classes]) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true, enumerable: false });
  }
}

type Row = Record<string, SQLOutputValue>;

/** The factory's map of databases by name, backed by SQLite tables. */
class DurableDatabases extends Map<string, RawDatabase> {
  readonly #sql: DatabaseSync;
  readonly #transaction: (writes: () => void) => void;
  readonly #observer: RecordObserver | undefined;
  readonly #put;
  readonly #remove;
  /** An id is assigned once and never changes, so renaming a store doesn't touch its records. */
  readonly #ids = new WeakMap<RawDatabase | RawStore, number>();
  #lastId = 0;

  constructor(
    internals: Internals,
    sql: DatabaseSync,
    transaction: (writes: () => void) => void,
    observer: RecordObserver | undefined,
  ) {
    super();
    this.#observer = observer;
    this.#sql = sql;
    this.#transaction = transaction;
    this.#put = sql.prepare(
      "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    );
    this.#remove = sql.prepare("DELETE FROM records WHERE store = ? AND key = ?");
    for (const row of sql.prepare("SELECT * FROM databases").all()) this.#load(internals, row);
  }

  /** Adds a database that was opened for the first time. It is stored when its first version change completes. */
  override set(name: string, database: RawDatabase): this {
    setCommit(database, (...what) => this.#commit(...what));
    return super.set(name, database);
  }

  /** Deletes a database, from disk first. fake-indexeddb can't report a failure here, so this throws. */
  override delete(name: string): boolean {
    const database = this.get(name);
    if (!database) return false;
    const id = this.#id(database);
    this.#transaction(() => {
      for (const row of this.#sql.prepare("SELECT id FROM stores WHERE database = ?").all(id)) this.#drop(row);
      this.#sql.prepare("DELETE FROM databases WHERE id = ?").run(id);
    });
    return super.delete(name);
  }

  #commit(database: RawDatabase, schemaChanged: boolean, touched: ReadonlyMap<RawStore, Readonly<Touched>>): void {
    this.#transaction(() => {
      if (schemaChanged) this.#saveSchema(database);
      for (const [store, { cleared, keys }] of touched) {
        if (store.deleted) continue;
        const id = this.#id(store);
        if (cleared) this.#sql.prepare("DELETE FROM records WHERE store = ?").run(id);
        for (const key of keys) {
          const record = store.records.get(key);
          if (record) {
            this.#put.run(id, encodeKey(key), encodeValue(record.value));
            this.#observer?.written(store.name, key);
          } else {
            this.#remove.run(id, encodeKey(key));
            this.#observer?.deleted(store.name, key);
          }
        }
        if (store.keyGenerator) {
          this.#sql.prepare("UPDATE stores SET generator = ? WHERE id = ?").run(store.keyGenerator.num, id);
        }
      }
    });
  }

  #saveSchema(database: RawDatabase): void {
    const id = this.#id(database);
    this.#sql.prepare("INSERT OR REPLACE INTO databases (id, name, version) VALUES (?, ?, ?)")
      .run(id, validName(database.name), database.version);
    const stores = [...database.rawObjectStores.values()];
    const kept = new Set(stores.map((store) => this.#id(store)));
    for (const row of this.#sql.prepare("SELECT id FROM stores WHERE database = ?").all(id)) {
      if (!kept.has(Number(row.id))) this.#drop(row);
    }
    for (const store of stores) this.#saveStore(id, store);
  }

  #saveStore(database: number, store: RawStore): void {
    const id = this.#id(store);
    this.#sql.prepare("INSERT OR REPLACE INTO stores VALUES (?, ?, ?, ?, ?, ?)").run(
      ...[id, database, validName(store.name), encodeValue(store.keyPath)],
      ...[Number(store.autoIncrement), store.keyGenerator?.num ?? 0],
    );
    this.#sql.prepare("DELETE FROM indexes WHERE store = ?").run(id);
    for (const { name, keyPath, multiEntry, unique, deleted } of store.rawIndexes.values()) {
      if (deleted) continue;
      this.#sql.prepare("INSERT INTO indexes VALUES (?, ?, ?, ?, ?)")
        .run(id, validName(name), encodeValue(keyPath), Number(multiEntry), Number(unique));
    }
  }

  #drop({ id }: Row): void {
    for (const sql of ["records WHERE store = ?", "indexes WHERE store = ?", "stores WHERE id = ?"]) {
      this.#sql.prepare(`DELETE FROM ${sql}`).run(Number(id));
    }
  }

  #load(internals: Internals, row: Row): void {
    const database = internals.newDatabase(String(row.name), Number(row.version));
    this.#setId(database, row);
    this.set(database.name, database);
    for (const storeRow of this.#sql.prepare("SELECT * FROM stores WHERE database = ?").all(Number(row.id))) {
      this.#loadStore(internals, database, storeRow);
    }
  }

  #loadStore(internals: Internals, database: RawDatabase, row: Row): void {
    const { newStore, newIndex } = internals;
    const store = newStore(database, String(row.name), decodeValue(String(row.key_path)), Boolean(row.auto_increment));
    this.#setId(store, row);
    database.rawObjectStores.set(store.name, store);
    if (store.keyGenerator) store.keyGenerator.num = Number(row.generator);
    for (const [key, value] of this.#records(Number(row.id))) {
      store.records.put({ key: decodeKey(key), value: decodeValue(value) });
    }
    const indexes = this.#sql.prepare("SELECT * FROM indexes WHERE store = ?").all(Number(row.id));
    for (const { name, key_path, multi_entry, is_unique } of indexes) {
      const keyPath = decodeValue(String(key_path));
      const index = newIndex(store, String(name), keyPath, Boolean(multi_entry), Boolean(is_unique));
      index.initialized = true;
      store.rawIndexes.set(index.name, index);
      for (const record of store.records.values()) index.storeRecord(record);
    }
  }

  /**
   * Pages of arrays take two thirds of the time of single objects. Reading all at once would need memory for all of
   * them.
   */
  *#records(store: number): Generator<readonly [key: Uint8Array, value: string], void> {
    const page = this.#sql.prepare(
      `SELECT key, value FROM records WHERE store = ? AND key > ? ORDER BY key LIMIT ${PAGE}`,
    );
    // Deno's types don't have this method yet.
    (page as StatementSync & { setReturnArrays(enabled: boolean): void }).setReturnArrays(true);
    for (let after = new Uint8Array();;) {
      const rows = page.all(store, after) as unknown as [Uint8Array<ArrayBuffer>, string][];
      yield* rows;
      const last = rows[PAGE - 1];
      if (last === undefined) return;
      [after] = last;
    }
  }

  #id(thing: RawDatabase | RawStore): number {
    let id = this.#ids.get(thing);
    if (id === undefined) this.#ids.set(thing, id = ++this.#lastId);
    return id;
  }

  #setId(thing: RawDatabase | RawStore, { id }: Row): void {
    this.#ids.set(thing, Number(id));
    this.#lastId = Math.max(this.#lastId, Number(id));
  }
}

/** Rejects names that SQLite would silently change (not valid UTF-8) or truncate (with a NUL). */
function validName(name: string): string {
  if (name.isWellFormed() && !name.includes("\0")) return name;
  throw new TypeError(`Cannot store a name: ${JSON.stringify(name)} holds a zero or half a character`);
}
