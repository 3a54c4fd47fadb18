/**
 * Object stores, indexes and cursors of a transaction.
 *
 * @module
 */

import { EncodedRange } from "./key_range.ts";
import { decodeKey, encodeKey, type Key, toKey } from "./keys.ts";
import type { IndexSchema, KeyPath, Place, Row, StoreSchema } from "./records.ts";
import type { IDBRequest, RequestQueue } from "./requests.ts";
import { decodeValue, encodeValue } from "./values.ts";

/** What can be read: an object store or an index. */
abstract class Source {
  /** Name. */
  readonly name: string;
  protected readonly queue: RequestQueue;
  protected readonly schema: StoreSchema;
  readonly #index: string | undefined;

  constructor(queue: RequestQueue, store: StoreSchema, index: string | undefined) {
    this.queue = queue;
    this.name = index ?? store.name;
    this.schema = store;
    this.#index = index;
  }

  /** Reads the value of the first record that matches a key or range. */
  get(query: unknown): IDBRequest {
    const range = this.#range(query ?? NaN);
    const key = this.#index === undefined ? range.only : undefined;
    return this.queue.place(this, () => {
      const value = key === undefined ? this.#read(range, 1)[0]?.value : this.queue.records(this.schema).get(key);
      return value === undefined ? undefined : decodeValue(value);
    });
  }

  /** Reads the values of all matching records. */
  getAll(query?: unknown, count?: number): IDBRequest<unknown[]> {
    const range = this.#range(query);
    return this.queue.place(this, () => this.#read(range, count || Infinity).map(valueOf));
  }

  /** Reads the primary keys of all matching records. */
  getAllKeys(query?: unknown, count?: number): IDBRequest<Key[]> {
    const range = this.#range(query);
    return this.queue.place(
      this,
      () => this.#read(range, count || Infinity).map(({ primaryKey }) => decodeKey(primaryKey)),
    );
  }

  /** Counts the matching records. */
  count(query?: unknown): IDBRequest<number> {
    const range = this.#range(query);
    return this.queue.place(this, () => this.queue.records(this.schema).count(range, this.#index));
  }

  /** Visits the matching records in order. */
  openCursor(query?: unknown): IDBRequest<IDBCursor | null> {
    const range = this.#range(query);
    const next = (after: Place | undefined) => this.#read(range, 1, after)[0];
    const request: IDBRequest<IDBCursor | null> = this.queue.place(this, () => {
      const row = next(undefined);
      return row === undefined ? null : new IDBCursorWithValue(this, this.queue, request, row, next);
    });
    return request;
  }

  /** The object store that holds the records. */
  abstract get records(): IDBObjectStore;

  /** @throws DOMException if requests can't be made now */
  assertActive(): void {
    this.queue.assertActive(this.schema);
  }

  #range(query: unknown): EncodedRange {
    this.assertActive();
    return EncodedRange.of(query);
  }

  #read(range: EncodedRange, limit: number, after?: Place): Row[] {
    return this.queue.records(this.schema).read(range, { index: this.#index, after, limit });
  }
}

/** An object store. Its keys are given with its values: it makes and finds none by itself. */
export class IDBObjectStore extends Source {
  /** Its transaction. */
  readonly transaction: RequestQueue;
  readonly keyPath = null;
  readonly autoIncrement = false;
  readonly #indexes = new Map<string, IDBIndex>();

  constructor(transaction: RequestQueue, schema: StoreSchema) {
    super(transaction, schema, undefined);
    this.transaction = transaction;
  }

  override get records(): IDBObjectStore {
    return this;
  }

  /** Names of its indexes. */
  get indexNames(): string[] {
    return [...this.schema.indexes.keys()].sort();
  }

  /** Writes a record. */
  put(value: unknown, key?: unknown): IDBRequest<Key> {
    return this.#write(value, key, false);
  }

  /** Writes a record that doesn't exist yet. */
  add(value: unknown, key?: unknown): IDBRequest<Key> {
    return this.#write(value, key, true);
  }

  /** Deletes the records that match a key or range. */
  delete(query: unknown): IDBRequest<undefined> {
    this.#assertWritable();
    const range = EncodedRange.of(query ?? NaN);
    return this.queue.place(this, () => void this.queue.records(this.schema).delete(range));
  }

  /** Deletes all records. */
  clear(): IDBRequest<undefined> {
    this.#assertWritable();
    return this.queue.place(this, () => void this.queue.records(this.schema).clear());
  }

  /** Returns an index. */
  index(name: string): IDBIndex {
    const schema = this.schema.indexes.get(name);
    if (schema === undefined) throw new DOMException(`There is no index ${name}`, "NotFoundError");
    const index = this.#indexes.get(name) ?? new IDBIndex(this.queue, this, this.schema, schema);
    this.#indexes.set(name, index);
    return index;
  }

  /** Declares an index, while the version is being changed. Of the options, only `unique` is supported. */
  createIndex(
    name: string,
    keyPath: KeyPath,
    options: { readonly unique?: boolean; readonly multiEntry?: boolean } = {},
  ): IDBIndex {
    if (this.queue.mode !== "versionchange") {
      throw new DOMException("Cannot make an index outside of a version change", "InvalidStateError");
    }
    this.assertActive();
    if (this.schema.indexes.has(name)) {
      throw new DOMException(`Cannot make an index ${name}: it exists`, "ConstraintError");
    }
    if (options.multiEntry) throw new DOMException("An index over each entry is not supported", "NotSupportedError");
    assertKeyPath(keyPath);
    const { unique = false } = options;
    const copy = typeof keyPath === "string" ? keyPath : [...keyPath];
    this.schema.indexes.set(wellFormed(name), { name, keyPath: copy, unique, isNew: true });
    return this.index(name);
  }

  #write(value: unknown, key: unknown, mustBeNew: boolean): IDBRequest<Key> {
    this.#assertWritable();
    const written = toKey(key);
    const [encodedKey, encodedValue] = [encodeKey(written), cloned(value)];
    return this.queue.place(this, () => {
      this.queue.records(this.schema).put(encodedKey, encodedValue, mustBeNew);
      return written;
    });
  }

  #assertWritable(): void {
    this.assertActive();
    if (this.queue.mode === "readonly") {
      throw new DOMException("Cannot write in a transaction that only reads", "ReadOnlyError");
    }
  }
}

/** An index of an object store. */
export class IDBIndex extends Source {
  /** Its object store. */
  readonly objectStore: IDBObjectStore;
  readonly keyPath: KeyPath;
  readonly unique: boolean;
  readonly multiEntry = false;

  constructor(
    queue: RequestQueue,
    objectStore: IDBObjectStore,
    store: StoreSchema,
    { name, keyPath, unique }: IndexSchema,
  ) {
    super(queue, store, name);
    this.objectStore = objectStore;
    this.keyPath = keyPath;
    this.unique = unique;
  }

  override get records(): IDBObjectStore {
    return this.objectStore;
  }
}

/** A cursor: at one record, and moved to the next one by {@linkcode IDBCursor.continue}. */
export class IDBCursor {
  readonly source: Source;
  readonly direction = "next";
  /** Fires `success` again each time that it has moved. */
  readonly request: IDBRequest<IDBCursor | null>;
  /** Key of the record, in the store or index that is being visited. */
  key: Key;
  /** Key of the record in its object store. */
  primaryKey: Key;
  /** Value of the record. */
  value: unknown;
  readonly #queue: RequestQueue;
  readonly #next: (after: Place) => Row | undefined;
  #row: Row;
  #isMoving = false;

  constructor(
    source: Source,
    queue: RequestQueue,
    request: IDBRequest<IDBCursor | null>,
    row: Row,
    next: (after: Place) => Row | undefined,
  ) {
    this.source = source;
    this.request = request;
    this.#queue = queue;
    this.#next = next;
    this.#row = row;
    [this.key, this.primaryKey, this.value] = decoded(row);
  }

  /** Moves to the next record. */
  continue(): void {
    this.#assertAtRecord();
    this.#isMoving = true;
    const moved = () => {
      const row = this.#next(this.#row);
      if (row === undefined) return null;
      this.#row = row;
      [this.key, this.primaryKey, this.value] = decoded(row);
      this.#isMoving = false;
      return this;
    };
    this.#queue.place(this.source, moved, this.request);
  }

  /** Writes the value of the record. */
  update(value: unknown): IDBRequest<Key> {
    this.#assertAtRecord();
    return this.source.records.put(value, this.primaryKey);
  }

  /** Deletes the record. */
  delete(): IDBRequest<undefined> {
    this.#assertAtRecord();
    return this.source.records.delete(this.primaryKey);
  }

  #assertAtRecord(): void {
    this.source.assertActive();
    if (this.#isMoving) throw new DOMException("The cursor is at no record now", "InvalidStateError");
  }
}

/** What {@linkcode IDBObjectStore.openCursor} makes. All cursors here give values. */
export class IDBCursorWithValue extends IDBCursor {}

function valueOf({ value }: Row): unknown {
  return decodeValue(value);
}

function decoded({ key, primaryKey, value }: Row): [key: Key, primaryKey: Key, value: unknown] {
  return [decodeKey(key), decodeKey(primaryKey), decodeValue(value)];
}

/** Encodes a value as it is now. */
function cloned(value: unknown): string {
  try {
    return encodeValue(value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new DOMException(error.message, "DataCloneError");
  }
}

/** Names of properties, separated by dots. */
const PATH = /^(?:[\p{ID_Start}$_][\p{ID_Continue}$]*(?:\.[\p{ID_Start}$_][\p{ID_Continue}$]*)*)?$/u;

/** @throws DOMException SyntaxError */
function assertKeyPath(keyPath: KeyPath): void {
  const paths = typeof keyPath === "string" ? [keyPath] : keyPath;
  if (paths.length > 0 && paths.every((path) => PATH.test(path))) return;
  throw new DOMException(`${JSON.stringify(keyPath)} is no path to a key`, "SyntaxError");
}

/** Refuses a name that SQLite would silently change (not valid UTF-8) or truncate (with a NUL). */
export function wellFormed(name: string): string {
  if (name.isWellFormed() && !name.includes("\0")) return name;
  throw new DOMException(`Cannot store a name: ${JSON.stringify(name)} holds a zero or half a character`, "DataError");
}
