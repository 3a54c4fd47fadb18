/**
 * Opening, changing and deleting databases.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { IDBEvent, IDBTarget, IDBVersionChangeEvent, type Listener } from "./events.ts";
import { type IDBObjectStore, wellFormed } from "./object_store.ts";
import { Catalog, type DatabaseSchema, type RecordObserver, type Sql, type StoreSchema } from "./records.ts";
import { IDBOpenDBRequest } from "./requests.ts";
import { IDBTransaction, NameList, TransactionScheduler } from "./transaction.ts";

/** A database, whether it is open or not. */
class Database {
  readonly name: string;
  /** Undefined if it doesn't exist. */
  schema: DatabaseSchema | undefined;
  readonly scheduler = new TransactionScheduler();
  readonly connections = new Set<IDBDatabase>();
  /** Openings and deletions, one after the other. */
  queue: Promise<void> = Promise.resolve();
  /** Called when a connection is closed. */
  closed = (): void => {};

  constructor(name: string, schema?: DatabaseSchema) {
    this.name = name;
    this.schema = schema;
  }
}

/** What an {@linkcode IDBFactory} needs. */
export interface FactoryOptions {
  /** Has the tables of records.ts, and nothing else writes to them. */
  readonly sql: Sql;
  readonly observer?: RecordObserver | undefined;
  /** Names of object stores whose changes may be lost with the process. By default there are none. */
  readonly relaxed?: ReadonlySet<string>;
  /** Called when records can't be read or written. The transaction that needs them is aborted. */
  readonly failed: (error: unknown) => void;
}

/** What connections share. */
interface Context extends Required<FactoryOptions> {
  readonly catalog: Catalog;
}

/** A connection to a database. */
export class IDBDatabase extends IDBTarget implements Disposable {
  onabort: Listener | null = null;
  onclose: Listener | null = null;
  onerror: Listener | null = null;
  onversionchange: Listener | null = null;
  readonly name: string;
  readonly #context: Context;
  readonly #database: Database;
  #schema: DatabaseSchema;
  #isClosed = false;
  #upgrade: IDBTransaction | undefined;

  /** Use {@linkcode IDBFactory.open}. */
  constructor(context: Context, database: Database, schema: DatabaseSchema) {
    super();
    this.#context = context;
    this.#database = database;
    this.#schema = schema;
    this.name = database.name;
    database.connections.add(this);
  }

  /** The version of the database. */
  get version(): number {
    return this.#schema.version;
  }

  /** Names of its object stores. */
  get objectStoreNames(): NameList {
    return NameList.sorted(this.#schema.stores.keys());
  }

  /** Whether it was closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Makes a transaction over object stores. */
  transaction(stores: string | Iterable<string>, mode: "readonly" | "readwrite" = "readonly"): IDBTransaction {
    if (this.#upgrade?.isLive || this.#isClosed) {
      throw new DOMException("The connection takes no transactions now", "InvalidStateError");
    }
    const scope = [...new Set(typeof stores === "string" ? [stores] : stores)];
    const missing = scope.find((name) => !this.#schema.stores.has(name));
    if (missing !== undefined) throw new DOMException(`There is no object store ${missing}`, "NotFoundError");
    if (scope.length === 0) throw new DOMException("A transaction needs an object store", "InvalidAccessError");
    if (mode !== "readonly" && mode !== "readwrite") throw new TypeError(`Not a mode of transactions: ${mode}`);
    const transaction = new IDBTransaction(this, { ...this.#context, stores: this.#schema.stores, scope, mode });
    this.#database.scheduler.add(transaction);
    return transaction;
  }

  /** Makes an object store, while the version is being changed. Its keys are given with its values. */
  createObjectStore(name: string, options?: { keyPath?: unknown; autoIncrement?: boolean }): IDBObjectStore {
    const upgrade = this.#upgrading();
    if ((options?.keyPath ?? null) !== null || options?.autoIncrement) {
      throw new DOMException("An object store with keys of its own is not supported", "NotSupportedError");
    }
    if (this.#schema.stores.has(name)) {
      throw new DOMException(`Cannot make an object store ${name}: it exists`, "ConstraintError");
    }
    this.#schema.stores.set(wellFormed(name), { id: this.#context.catalog.newId(), name, indexes: new Map() });
    return upgrade.objectStore(name);
  }

  /** Deletes an object store, while the version is being changed. */
  deleteObjectStore(name: string): void {
    this.#upgrading();
    const isDeleted = this.#schema.stores.delete(name);
    if (!isDeleted) throw new DOMException(`There is no object store ${name}`, "NotFoundError");
  }

  /** Closes the connection when its transactions have ended. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    Promise.all([this.#database.scheduler.idle(this), this.#upgrade?.ended]).then(() => {
      this.#database.connections.delete(this);
      this.#database.closed();
    });
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Changes the version: calls `change` while object stores can be made and deleted.
   *
   * @returns whether the change was committed
   */
  async upgrade(version: number, change: (transaction: IDBTransaction) => boolean): Promise<boolean> {
    const draft: DatabaseSchema = { ...this.#schema, version, stores: copyOf(this.#schema.stores) };
    const before = this.#schema;
    this.#schema = draft;
    const save = (): void => this.#context.catalog.save(draft);
    const undo = (): void => void (this.#schema = before);
    const options = { ...this.#context, stores: draft.stores, scope: [], mode: "versionchange", save, undo } as const;
    const transaction = this.#upgrade = new IDBTransaction(this, options);
    if (!change(transaction) && transaction.isLive) transaction.abort();
    setImmediate(() => transaction.start());
    const isCommitted = await transaction.ended;
    this.#upgrade = undefined;
    if (!isCommitted) return false;
    for (const { indexes } of draft.stores.values()) for (const index of indexes.values()) index.isNew = false;
    this.#database.schema = draft;
    return true;
  }

  #upgrading(): IDBTransaction {
    if (this.#upgrade === undefined) {
      throw new DOMException("Object stores are made and deleted in a version change only", "InvalidStateError");
    }
    if (this.#upgrade.isActive) return this.#upgrade;
    throw new DOMException("The version change takes no requests now", "TransactionInactiveError");
  }
}

/** Opens and deletes databases. */
export class IDBFactory {
  readonly #context: Context;
  readonly #databases: Map<string, Database>;

  /** Serves the databases in an SQLite database. */
  constructor(options: FactoryOptions) {
    const catalog = new Catalog(options.sql);
    this.#context = { observer: undefined, relaxed: new Set(), ...options, catalog };
    this.#databases = new Map(catalog.load().map((schema) => [schema.name, new Database(schema.name, schema)]));
  }

  /** Opens a database, and makes it or changes its version first if needed. */
  open(name: string, version?: number): IDBOpenDBRequest<IDBDatabase> {
    if (version !== undefined && !(Number.isSafeInteger(version) && version > 0)) {
      throw new TypeError(`Not a version of a database: ${version}`);
    }
    const request = new IDBOpenDBRequest<IDBDatabase>();
    this.#queue(wellFormed(name), request, (database) => this.#open(database, version, request));
    return request;
  }

  /** Deletes a database. */
  deleteDatabase(name: string): IDBOpenDBRequest<undefined> {
    const request = new IDBOpenDBRequest<undefined>();
    this.#queue(`${name}`, request, async (database) => {
      const { schema } = database;
      const version = schema?.version ?? 0;
      await this.#closeOthers(database, request, version, null);
      if (schema !== undefined) this.#context.catalog.drop(schema);
      database.schema = undefined;
      request.settle({ result: undefined });
      request.fire(new IDBVersionChangeEvent("success", version, null));
    });
    return request;
  }

  /** Lists the databases. */
  databases(): Promise<{ readonly name: string; readonly version: number }[]> {
    const schemas = [...this.#databases.values()].flatMap(({ schema }) => schema ?? []);
    return Promise.resolve(schemas.map(({ name, version }) => ({ name, version })));
  }

  #queue<Result>(name: string, request: IDBOpenDBRequest<Result>, work: (database: Database) => Promise<void>): void {
    const database = this.#databases.get(name) ?? new Database(name);
    this.#databases.set(name, database);
    database.queue = database.queue.then(turn).then(() => work(database)).catch((cause) => {
      const error = cause instanceof DOMException ? cause : new DOMException(String(cause), "UnknownError");
      request.transaction = null;
      request.settle({ error });
      request.fire(new IDBEvent("error", { bubbles: true, cancelable: true }));
    });
  }

  async #open(database: Database, wanted: number | undefined, request: IDBOpenDBRequest<IDBDatabase>): Promise<void> {
    const schema = database.schema ??
      { id: this.#context.catalog.newId(), name: database.name, version: 0, stores: new Map() };
    const before = schema.version;
    const version = wanted ?? (before || 1);
    if (version < before) {
      throw new DOMException(`The database has version ${before}, which is newer than ${version}`, "VersionError");
    }
    if (version > before) await this.#closeOthers(database, request, before, version);
    const connection = new IDBDatabase(this.#context, database, schema);
    if (version > before) {
      const isChanged = await connection.upgrade(version, (transaction) => {
        request.transaction = transaction;
        request.settle({ result: connection });
        return request.fire(new IDBVersionChangeEvent("upgradeneeded", before, version));
      });
      request.transaction = null;
      if (!isChanged) connection.close();
      if (!isChanged || connection.isClosed) {
        throw new DOMException("The version change was aborted, or the connection closed", "AbortError");
      }
    }
    request.settle({ result: connection });
    request.fire(new IDBEvent("success"));
  }

  /** Asks other connections to close, and waits until they are closed. */
  async #closeOthers<Result>(
    database: Database,
    request: IDBOpenDBRequest<Result>,
    before: number,
    after: number | null,
  ): Promise<void> {
    for (const connection of database.connections) {
      if (!connection.isClosed) connection.fire(new IDBVersionChangeEvent("versionchange", before, after));
    }
    if ([...database.connections].some(({ isClosed }) => !isClosed)) {
      request.fire(new IDBVersionChangeEvent("blocked", before, after));
    }
    while (database.connections.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      database.closed = resolve;
      await promise;
    }
  }
}

/** Waits for a turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function copyOf(stores: ReadonlyMap<string, StoreSchema>): Map<string, StoreSchema> {
  return new Map([...stores].map(([name, store]) => [name, { ...store, indexes: new Map(store.indexes) }]));
}
