/**
 * Object stores in SQLite. A transaction reads what is on disk, covered by its own changes, which are kept in memory
 * until it is committed.
 *
 * @module
 */

import { EncodedRange } from "./key_range.ts";
import { decodeKey, encodeKey, type Key, toKey } from "./keys.ts";
import { decodeValue } from "./values.ts";

/** A column of a row. */
export type SqlValue = null | number | bigint | string | Uint8Array;

/** An SQLite database. */
export interface Sql {
  run(sql: string, ...values: (number | string | Uint8Array)[]): number;
  get(sql: string, ...values: (number | string | Uint8Array)[]): Record<string, SqlValue> | undefined;
  all(sql: string, ...values: (number | string | Uint8Array)[]): Record<string, SqlValue>[];
  /** Runs writes in one transaction, which is durable on return. */
  transaction<Result>(writes: () => Result): Result;
  /** The same, but it may be durable a little later. */
  lazily<Result>(writes: () => Result): Result;
}

/** Called for each record that is written or deleted, with the name of its object store, within the SQL transaction. */
export interface RecordObserver {
  written(store: string, key: Key): void;
  deleted(store: string, key: Key): void;
}

/**
 * Path to a key within a value: names of properties, separated by dots; "" for the value itself; or several paths, for
 * an array of keys.
 */
export type KeyPath = string | readonly string[];

/** An index. */
export interface IndexSchema {
  readonly name: string;
  readonly keyPath: KeyPath;
  readonly unique: boolean;
  /** Made in the running transaction, so that its table is still empty. */
  isNew: boolean;
}

/** An object store. Its keys are given with its values. */
export interface StoreSchema {
  /** Never changes. */
  readonly id: number;
  readonly name: string;
  readonly indexes: Map<string, IndexSchema>;
}

/** A database. */
export interface DatabaseSchema {
  readonly id: number;
  readonly name: string;
  readonly version: number;
  readonly stores: Map<string, StoreSchema>;
}

/** Tables of databases, object stores, the declarations of their indexes, and records. */
export const recordTables = `
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
`;

/** Table of the records' keys in indexes. An index that was declared before this table existed is not filled. */
export const indexTables = `
  ALTER TABLE indexes ADD COLUMN filled INTEGER NOT NULL DEFAULT 0;
  CREATE TABLE index_records (
    store INTEGER NOT NULL, name TEXT NOT NULL, key BLOB NOT NULL, primary_key BLOB NOT NULL,
    PRIMARY KEY (store, name, key, primary_key)
  ) STRICT, WITHOUT ROWID;
  -- These columns described stores with keys of their own, which were never used.
  ALTER TABLE stores DROP COLUMN key_path;
  ALTER TABLE stores DROP COLUMN auto_increment;
  ALTER TABLE stores DROP COLUMN generator;
  ALTER TABLE indexes DROP COLUMN multi_entry;
`;

/** Number of records whose keys are computed at once when an index is filled. */
const PAGE = 500;

/** The databases, with their object stores and indexes. */
export class Catalog {
  readonly #sql: Sql;
  #lastId: number;

  /** Fills the indexes that aren't filled. */
  constructor(sql: Sql) {
    this.#sql = sql;
    const ids = "SELECT max(id) AS id FROM (SELECT id FROM databases UNION ALL SELECT id FROM stores)";
    this.#lastId = Number(sql.get(ids)?.["id"] ?? 0);
    for (const { store, name, key_path } of sql.all("SELECT store, name, key_path FROM indexes WHERE filled = 0")) {
      const keyPath = decodeValue(String(key_path)) as KeyPath;
      sql.transaction(() => fillIndex(sql, Number(store), String(name), keyPath));
    }
  }

  /** Reads all databases. */
  load(): DatabaseSchema[] {
    return this.#sql.all("SELECT id, name, version FROM databases ORDER BY id").map(({ id, name, version }) => ({
      ...{ id: Number(id), name: String(name), version: Number(version) },
      stores: new Map(
        this.#sql.all("SELECT id, name FROM stores WHERE database = ?", Number(id))
          .map((row) => [String(row["name"]), this.#store(Number(row["id"]), String(row["name"]))]),
      ),
    }));
  }

  /** Returns an id that is not in use, for a database or a store. */
  newId(): number {
    return ++this.#lastId;
  }

  /** Within an SQL transaction: makes the database as described, and deletes its other stores. */
  save({ id, name, version, stores }: DatabaseSchema): void {
    this.#sql.run("INSERT OR REPLACE INTO databases (id, name, version) VALUES (?, ?, ?)", id, name, version);
    const kept = new Set([...stores.values()].map((store) => store.id));
    for (const row of this.#sql.all("SELECT id FROM stores WHERE database = ?", id)) {
      if (!kept.has(Number(row["id"]))) this.#dropStore(Number(row["id"]));
    }
    for (const store of stores.values()) {
      this.#sql.run("INSERT OR IGNORE INTO stores (id, database, name) VALUES (?, ?, ?)", store.id, id, store.name);
      for (const index of store.indexes.values()) this.#saveIndex(store.id, index);
    }
  }

  /** Deletes a database. */
  drop({ id, stores }: DatabaseSchema): void {
    this.#sql.transaction(() => {
      for (const store of stores.values()) this.#dropStore(store.id);
      this.#sql.run("DELETE FROM databases WHERE id = ?", id);
    });
  }

  #store(id: number, name: string): StoreSchema {
    const indexes = this.#sql.all("SELECT name, key_path, is_unique FROM indexes WHERE store = ?", id).map((row) => ({
      name: String(row["name"]),
      keyPath: decodeValue(String(row["key_path"])) as KeyPath,
      unique: Boolean(row["is_unique"]),
      isNew: false,
    }));
    return { id, name, indexes: new Map(indexes.map((index) => [index.name, index])) };
  }

  #saveIndex(store: number, { name, keyPath, unique, isNew }: IndexSchema): void {
    if (!isNew) return;
    this.#sql.run(
      "INSERT INTO indexes (store, name, key_path, is_unique) VALUES (?, ?, ?, ?)",
      ...[store, name, JSON.stringify(keyPath), Number(unique)],
    );
    fillIndex(this.#sql, store, name, keyPath);
  }

  #dropStore(id: number): void {
    for (const sql of ["records WHERE store", "index_records WHERE store", "indexes WHERE store", "stores WHERE id"]) {
      this.#sql.run(`DELETE FROM ${sql} = ?`, id);
    }
  }
}

function fillIndex(sql: Sql, store: number, name: string, keyPath: KeyPath): void {
  for (let after: Uint8Array = new Uint8Array();;) {
    const page = sql.all(
      `SELECT key, value FROM records WHERE store = ? AND key > ? ORDER BY key LIMIT ${PAGE}`,
      ...[store, after],
    );
    for (const { key, value } of page) insertEntry(sql, store, name, keyAt(String(value), keyPath), bytes(key));
    const last = page[PAGE - 1];
    if (last === undefined) break;
    after = bytes(last["key"]);
  }
  sql.run("UPDATE indexes SET filled = 1 WHERE store = ? AND name = ?", store, name);
}

function insertEntry(sql: Sql, store: number, name: string, key: Uint8Array | undefined, primaryKey: Uint8Array): void {
  if (key === undefined) return;
  sql.run(
    "INSERT INTO index_records (store, name, key, primary_key) VALUES (?, ?, ?, ?)",
    store,
    name,
    key,
    primaryKey,
  );
}

/** A record. In an index, its place is that of `key`, and then of `primaryKey`. */
export interface Row {
  readonly key: Uint8Array;
  readonly primaryKey: Uint8Array;
  /** Encoded. */
  readonly value: string;
}

/** A place in an index, or in a store, where both keys are the same. */
export type Place = Pick<Row, "key" | "primaryKey">;

/** A record as the running transaction leaves it. */
interface Change {
  readonly key: Uint8Array;
  /** Undefined if it is deleted. */
  readonly value: string | undefined;
}

/** The records of an object store as one transaction sees them. */
export class StoreRecords {
  readonly #sql: Sql;
  readonly #schema: StoreSchema;
  readonly #changes = new Map<string, Change>();
  #isCleared = false;

  constructor(sql: Sql, schema: StoreSchema) {
    this.#sql = sql;
    this.#schema = schema;
  }

  /** Whether nothing has been changed. */
  get isUnchanged(): boolean {
    return this.#changes.size === 0 && !this.#isCleared;
  }

  /** Returns the value of a record, encoded. */
  get(key: Uint8Array): string | undefined {
    const change = this.#changes.get(nameOf(key));
    if (change !== undefined) return change.value;
    return this.#isCleared ? undefined : this.#onDisk(key);
  }

  /** Writes a record. Throws a ConstraintError if it is in an index's way, or must be new and isn't. */
  put(key: Uint8Array, value: string, mustBeNew: boolean): void {
    if (mustBeNew && this.get(key) !== undefined) {
      throw new DOMException("Cannot add the record: its key exists", "ConstraintError");
    }
    for (const { name, keyPath, unique } of this.#schema.indexes.values()) {
      const indexKey = unique ? keyAt(value, keyPath) : undefined;
      if (indexKey === undefined) continue;
      const others = this.read(EncodedRange.ofKey(indexKey), { index: name, limit: 2 });
      if (others.some(({ primaryKey }) => Buffer.compare(primaryKey, key) !== 0)) {
        throw new DOMException(`Cannot write the record: its key in the index ${name} exists`, "ConstraintError");
      }
    }
    this.#changes.set(nameOf(key), { key, value });
  }

  /** Deletes the records in a range. */
  delete(range: EncodedRange): void {
    for (const { key } of this.read(range)) this.#changes.set(nameOf(key), { key, value: undefined });
  }

  /** Deletes all records. */
  clear(): void {
    this.#changes.clear();
    this.#isCleared = true;
  }

  /** Number of records in a range. */
  count(range: EncodedRange, index?: string): number {
    if (!this.isUnchanged || this.#isNew(index)) return this.read(range, { index }).length;
    const { from, values } = this.#query(range, index, undefined);
    return Number(this.#sql.get(`SELECT count(*) AS count FROM ${from}`, ...values)?.["count"]);
  }

  /**
   * Reads records in order.
   *
   * @param index name of the index whose keys the range is about; the store's own keys by default
   * @param after only records after this place
   */
  read(
    range: EncodedRange,
    { index, after, limit = Infinity }: {
      readonly index?: string | undefined;
      readonly after?: Place | undefined;
      readonly limit?: number;
    } = {},
  ): Row[] {
    const isWanted = (row: Row) => range.includes(row.key) && (after === undefined || compare(row, after) > 0);
    if (this.#isNew(index)) return this.#rowsOf(this.read(new EncodedRange()), index).filter(isWanted).slice(0, limit);
    const changed = [...this.#changes.values()].flatMap(({ key, value }) =>
      value === undefined ? [] : [{ key, primaryKey: key, value }]
    );
    const added = this.#rowsOf(changed, index).filter(isWanted);
    if (this.#isCleared) return added.slice(0, limit);
    // No more rows than there are changes can be left out.
    const rows = this.#rowsOnDisk(range, index, after, limit + this.#changes.size);
    if (this.#changes.size === 0) return rows;
    const kept = rows.filter(({ primaryKey }) => !this.#changes.has(nameOf(primaryKey)));
    return [...kept, ...added].sort(compare).slice(0, limit);
  }

  /** Within an SQL transaction: writes the changes. */
  flush(observer: RecordObserver | undefined): void {
    const { id, name, indexes } = this.#schema;
    if (this.#isCleared) {
      for (const { key } of this.#rowsOnDisk(new EncodedRange(), undefined, undefined, Infinity)) {
        this.#changes.set(nameOf(key), this.#changes.get(nameOf(key)) ?? { key, value: undefined });
      }
    }
    const filled = [...indexes.values()].filter(({ isNew }) => !isNew);
    for (const { key, value } of this.#changes.values()) {
      const before = filled.length === 0 ? undefined : this.#onDisk(key);
      for (const index of filled) this.#moveEntry(index, key, before, value);
      if (value !== undefined) {
        this.#sql.run(
          "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
          ...[id, key, value],
        );
        observer?.written(name, decodeKey(key));
      } else {
        this.#sql.run("DELETE FROM records WHERE store = ? AND key = ?", id, key);
        observer?.deleted(name, decodeKey(key));
      }
    }
  }

  #moveEntry({ name, keyPath }: IndexSchema, key: Uint8Array, before: string | undefined, after: string | undefined) {
    const { id } = this.#schema;
    const keyBefore = before === undefined ? undefined : keyAt(before, keyPath);
    const keyAfter = after === undefined ? undefined : keyAt(after, keyPath);
    if (keyBefore !== undefined && keyAfter !== undefined && Buffer.compare(keyBefore, keyAfter) === 0) return;
    if (keyBefore !== undefined) {
      const sql = "DELETE FROM index_records WHERE store = ? AND name = ? AND key = ? AND primary_key = ?";
      this.#sql.run(sql, id, name, keyBefore, key);
    }
    insertEntry(this.#sql, id, name, keyAfter, key);
  }

  #onDisk(key: Uint8Array): string | undefined {
    const row = this.#sql.get("SELECT value FROM records WHERE store = ? AND key = ?", this.#schema.id, key);
    return row && String(row["value"]);
  }

  #rowsOnDisk(range: EncodedRange, index: string | undefined, after: Place | undefined, limit: number): Row[] {
    const { columns, from, values, order } = this.#query(range, index, after);
    const rows = this.#sql.all(
      `SELECT ${columns} FROM ${from} ORDER BY ${order} LIMIT ?`,
      ...values,
      Math.min(limit, 2 ** 31),
    );
    return rows.map(({ key, primary_key, value }) => ({
      key: bytes(key),
      primaryKey: bytes(primary_key),
      value: String(value),
    }));
  }

  /** Parts of the SQL that selects a range. */
  #query({ lower, upper }: EncodedRange, index: string | undefined, after: Place | undefined) {
    const [columns, table, order] = index === undefined
      ? ["r.key, r.key AS primary_key, r.value", "records AS r", "r.key"]
      : [
        "r.key, r.primary_key, v.value",
        "index_records AS r JOIN records AS v ON v.store = r.store AND v.key = r.primary_key",
        "r.key, r.primary_key",
      ];
    const values: (number | string | Uint8Array)[] = [this.#schema.id];
    let where = "r.store = ?";
    const add = (condition: string, ...more: (string | Uint8Array)[]) => {
      where += ` AND ${condition}`;
      values.push(...more);
    };
    if (index !== undefined) add("r.name = ?", index);
    if (lower !== undefined) add(`r.key ${lower.isOpen ? ">" : ">="} ?`, lower.key);
    if (upper !== undefined) add(`r.key ${upper.isOpen ? "<" : "<="} ?`, upper.key);
    if (after !== undefined && index === undefined) add("r.key > ?", after.key);
    if (after !== undefined && index !== undefined) add("(r.key, r.primary_key) > (?, ?)", after.key, after.primaryKey);
    return { columns, from: `${table} WHERE ${where}`, values, order };
  }

  #isNew(index: string | undefined): boolean {
    return index !== undefined && this.#schema.indexes.get(index)?.isNew === true;
  }

  /** Places records in an index. */
  #rowsOf(records: readonly Row[], index: string | undefined): Row[] {
    const keyPath = index === undefined ? undefined : this.#schema.indexes.get(index)?.keyPath;
    if (keyPath === undefined) return records.toSorted(compare);
    return records.flatMap((record) => {
      const key = keyAt(record.value, keyPath);
      return key === undefined ? [] : [{ ...record, key }];
    }).sort(compare);
  }
}

function compare(one: Place, other: Place): number {
  return Buffer.compare(one.key, other.key) || Buffer.compare(one.primaryKey, other.primaryKey);
}

/** Name of an encoded key in a Map. */
function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function bytes(value: SqlValue | undefined): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new RangeError("a key is not stored as bytes");
}

/** The encoded key that an index has for an encoded value; undefined if there is none. */
function keyAt(value: string, keyPath: KeyPath): Uint8Array | undefined {
  const key = keyIn(decodeValue(value), keyPath);
  return key === undefined ? undefined : encodeKey(key);
}

function keyIn(value: unknown, keyPath: KeyPath): Key | undefined {
  if (typeof keyPath !== "string") {
    const keys = keyPath.map((path) => keyIn(value, path));
    return keys.some((key) => key === undefined) ? undefined : keys as Key[];
  }
  let at = value;
  for (const name of keyPath === "" ? [] : keyPath.split(".")) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) return undefined;
    at = Reflect.get(at, name);
  }
  try {
    return toKey(at);
  } catch (error) {
    if (error instanceof DOMException) return undefined;
    throw error;
  }
}
