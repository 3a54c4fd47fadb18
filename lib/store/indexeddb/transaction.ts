/**
 * Transactions: when they start, how their requests are carried out, and how they end.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { IDBEvent, IDBTarget, type Listener } from "./events.ts";
import { IDBObjectStore } from "./object_store.ts";
import { type RecordObserver, type Sql, StoreRecords, type StoreSchema } from "./records.ts";
import { IDBRequest, type RequestQueue } from "./requests.ts";

/** Names of object stores, as a DOMStringList. */
export class NameList extends Array<string> {
  /** Sorts names. */
  static sorted(names: Iterable<string>): NameList {
    return NameList.from([...names].sort()) as NameList;
  }

  /** Returns a name. */
  item(index: number): string | null {
    return this[index] ?? null;
  }

  /** Whether a name is among them. */
  contains(name: string): boolean {
    return this.includes(name);
  }
}

/** A request that hasn't been carried out yet. */
interface Placed {
  readonly request: IDBRequest;
  readonly run: () => unknown;
}

/** What a transaction works on. */
export interface TransactionOptions {
  readonly sql: Sql;
  readonly observer: RecordObserver | undefined;
  /** Names of object stores whose changes may be lost with the process. */
  readonly relaxed: ReadonlySet<string>;
  /** Called when a record can't be read or written. */
  readonly failed: (error: unknown) => void;
  /** Schemas of the database's object stores. */
  readonly stores: ReadonlyMap<string, StoreSchema>;
  /** Names of the object stores in its scope. */
  readonly scope: readonly string[];
  readonly mode: RequestQueue["mode"];
  /** Writes what is to be committed besides the records, within the same SQL transaction. */
  readonly save?: () => void;
  /** Called when it is aborted. */
  readonly undo?: () => void;
}

/** A transaction. It ends by itself when no more requests are made. */
export class IDBTransaction extends IDBTarget implements RequestQueue {
  onabort: Listener | null = null;
  oncomplete: Listener | null = null;
  onerror: Listener | null = null;
  readonly db: IDBTarget;
  readonly mode: RequestQueue["mode"];
  readonly durability = "strict";
  /** Why it was aborted; null if it wasn't, or only because it was asked to. */
  error: DOMException | null = null;
  readonly #options: TransactionOptions;
  readonly #records = new Map<StoreSchema, StoreRecords>();
  readonly #handles = new Map<StoreSchema, IDBObjectStore>();
  readonly #ended = Promise.withResolvers<boolean>();
  #state: "active" | "inactive" | "committing" | "finished" = "active";
  #placed: Placed[] = [];
  #isStarted = false;

  constructor(db: IDBTarget, options: TransactionOptions) {
    super();
    this.db = db;
    this.mode = options.mode;
    this.#options = options;
    // Whoever has made it can make requests until the event loop turns.
    setImmediate(() => {
      if (this.#state === "active" && !this.#isStarted) this.#state = "inactive";
    });
  }

  protected override get parent(): IDBTarget {
    return this.db;
  }

  /** Names of the object stores in its scope. */
  get objectStoreNames(): NameList {
    return NameList.sorted(this.mode === "versionchange" ? this.#options.stores.keys() : this.#options.scope);
  }

  /** The same names, in any order. A transaction that changes the version has none: it runs alone. */
  get scope(): readonly string[] {
    return this.#options.scope;
  }

  /** Whether it has not ended. */
  get isLive(): boolean {
    return this.#state !== "finished";
  }

  /** Whether it may carry requests out. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Resolves after the event `complete` or `abort` with whether it was committed. */
  get ended(): Promise<boolean> {
    return this.#ended.promise;
  }

  /** Returns an object store. */
  objectStore(name: string): IDBObjectStore {
    if (this.#state === "finished") throw new DOMException("The transaction has ended", "InvalidStateError");
    const schema = this.#options.stores.get(name);
    if (schema === undefined || !(this.mode === "versionchange" || this.#options.scope.includes(name))) {
      throw new DOMException(`There is no object store ${name} in the transaction`, "NotFoundError");
    }
    const handle = this.#handles.get(schema) ?? new IDBObjectStore(this, schema);
    this.#handles.set(schema, handle);
    return handle;
  }

  /** Whether stores may be made and deleted now. */
  get isActive(): boolean {
    return this.#state === "active";
  }

  assertActive(store: StoreSchema): void {
    if (this.#isDeleted(store)) throw new DOMException("The object store was deleted", "InvalidStateError");
    if (this.#state === "active") return;
    throw new DOMException("The transaction takes no requests now", "TransactionInactiveError");
  }

  records(schema: StoreSchema): StoreRecords {
    const records = this.#records.get(schema) ?? new StoreRecords(this.#options.sql, schema);
    this.#records.set(schema, records);
    return records;
  }

  place<Result>(source: unknown, run: () => Result, request?: IDBRequest<Result>): IDBRequest<Result> {
    request?.reset();
    const placed = request ?? new IDBRequest<Result>(source, this);
    this.#placed.push({ request: placed as IDBRequest, run });
    return placed;
  }

  /** Undoes everything. */
  abort(): void {
    if (this.#state === "committing" || this.#state === "finished") {
      throw new DOMException("The transaction has ended", "InvalidStateError");
    }
    this.#abort(null);
  }

  /** Ends it when the requests that were made have been carried out. */
  commit(): void {
    if (this.#state !== "active") throw new DOMException("The transaction takes no requests now", "InvalidStateError");
    this.#state = "committing";
  }

  /** Starts to carry requests out. */
  start(): void {
    this.#isStarted = true;
    this.#turn();
  }

  /** Carries out the requests that were made together. What is made in their handlers comes in the next turn. */
  #turn(): void {
    if (this.#state === "finished") return;
    if (this.#placed.length === 0) return this.#commit();
    for (let left = this.#placed.length; left > 0; left--) {
      const next = this.#placed.shift();
      if (next !== undefined) this.#carryOut(next);
    }
    setImmediate(() => this.#turn());
  }

  #carryOut({ request, run }: Placed): void {
    let event = new IDBEvent("success");
    try {
      request.settle({ result: run() });
    } catch (error) {
      request.settle({ error: this.#exception(error) });
      event = new IDBEvent("error", { bubbles: true, cancelable: true });
    }
    if (this.#state === "inactive") this.#state = "active";
    const succeeded = request.fire(event);
    if (!this.isLive) return;
    if (!succeeded) this.#abort(new DOMException("A handler has thrown", "AbortError"));
    else if (event.type === "error" && !event.defaultPrevented) this.#abort(request.error);
  }

  #commit(): void {
    this.#state = "committing";
    const { sql, observer, relaxed, save } = this.#options;
    const changed = [...this.#records].filter(([schema, records]) => !records.isUnchanged && !this.#isDeleted(schema));
    const isRelaxed = save === undefined && changed.every(([{ name }]) => relaxed.has(name));
    const write = (): void => {
      for (const [, records] of changed) records.flush(observer);
      save?.();
    };
    try {
      if (isRelaxed && changed.length > 0) sql.lazily(write);
      else if (!isRelaxed) sql.transaction(write);
    } catch (error) {
      return this.#abort(this.#exception(error));
    }
    this.#state = "finished";
    this.fire(new IDBEvent("complete"));
    this.#ended.resolve(true);
  }

  #isDeleted(schema: StoreSchema): boolean {
    return this.#options.stores.get(schema.name) !== schema;
  }

  #exception(error: unknown): DOMException {
    if (error instanceof DOMException) return error;
    this.#options.failed(error);
    return new DOMException(String(error), "UnknownError");
  }

  #abort(error: DOMException | null): void {
    this.#state = "finished";
    this.error = error;
    this.#options.undo?.();
    for (const { request } of this.#placed.splice(0)) this.#refuse(request);
    setImmediate(() => {
      this.fire(new IDBEvent("abort", { bubbles: true }));
      this.#ended.resolve(false);
    });
  }

  #refuse(request: IDBRequest): void {
    setImmediate(() => {
      request.settle({ error: new DOMException("The transaction was aborted", "AbortError") });
      request.fire(new IDBEvent("error", { bubbles: true, cancelable: true }));
    });
  }
}

/** Starts transactions of a database in the order in which they were made, if they overlap and one of them writes. */
export class TransactionScheduler {
  #live: IDBTransaction[] = [];
  #isScheduled = false;

  /** Adds a transaction. */
  add(transaction: IDBTransaction): void {
    this.#live.push(transaction);
    transaction.ended.then(() => this.#schedule());
    this.#schedule();
  }

  /** Waits until the transactions of a connection have ended. */
  async idle(db: IDBTarget): Promise<void> {
    await Promise.all(this.#live.filter((transaction) => transaction.db === db).map(({ ended }) => ended));
  }

  /** One pass over all transactions, however many were added: the Rust crypto makes thousands for a large room. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#live = this.#live.filter(({ isLive }) => isLive);
      for (const transaction of runnable(this.#live)) transaction.start();
    });
  }
}

/**
 * Transactions that haven't started and don't overlap with an earlier one. Two that only read don't conflict (Indexed
 * Database API 3.0, 2.7.2, "Transaction scheduling").
 */
function runnable(transactions: readonly IDBTransaction[]): IDBTransaction[] {
  const read = new Set<string>();
  const written = new Set<string>();
  return transactions.filter(({ scope, isStarted, mode }) => {
    const isReader = mode === "readonly";
    const isFree = scope.every((store) => !written.has(store) && (isReader || !read.has(store)));
    for (const store of scope) (isReader ? read : written).add(store);
    return isFree && !isStarted;
  });
}
