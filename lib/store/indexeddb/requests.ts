/**
 * Requests, and what object stores need of the transaction that carries them out.
 *
 * @module
 */

import { IDBTarget, type Listener } from "./events.ts";
import type { StoreRecords, StoreSchema } from "./records.ts";

/** A request. It fires `success` or `error` when it has been carried out. */
export class IDBRequest<Result = unknown> extends IDBTarget {
  onsuccess: Listener | null = null;
  onerror: Listener | null = null;
  readyState: "pending" | "done" = "pending";
  /** What it was made on: an object store, an index or a cursor. */
  readonly source: unknown;
  /** The transaction that it belongs to. */
  transaction: IDBTarget | null;
  #outcome: { readonly result: Result } | { readonly error: DOMException } | undefined;

  constructor(source: unknown, transaction: IDBTarget | null) {
    super();
    this.source = source;
    this.transaction = transaction;
  }

  protected override get parent(): IDBTarget | undefined {
    return this.transaction ?? undefined;
  }

  /** The result; undefined if it has failed. */
  get result(): Result {
    const outcome = this.#known();
    return "result" in outcome ? outcome.result : undefined as Result;
  }

  /** Why it has failed; null if it hasn't. */
  get error(): DOMException | null {
    const outcome = this.#known();
    return "error" in outcome ? outcome.error : null;
  }

  /** Sets the outcome. */
  settle(outcome: { readonly result: Result } | { readonly error: DOMException }): void {
    this.#outcome = outcome;
    this.readyState = "done";
  }

  /** Makes the request pending again, for a cursor that moves on. */
  reset(): void {
    this.#outcome = undefined;
    this.readyState = "pending";
  }

  #known(): { readonly result: Result } | { readonly error: DOMException } {
    if (this.#outcome !== undefined) return this.#outcome;
    throw new DOMException("Cannot tell the outcome of a request that is pending", "InvalidStateError");
  }
}

/** A request to open or delete a database. */
export class IDBOpenDBRequest<Result = unknown> extends IDBRequest<Result> {
  onupgradeneeded: Listener | null = null;
  onblocked: Listener | null = null;

  constructor() {
    super(null, null);
  }
}

/** What an object store needs of its transaction. */
export interface RequestQueue extends IDBTarget {
  readonly mode: "readonly" | "readwrite" | "versionchange";

  /**
   * Queues an operation. Requests must be possible now.
   *
   * @param request one that was carried out before, for a cursor that moves on
   */
  place<Result>(source: unknown, run: () => Result, request?: IDBRequest<Result>): IDBRequest<Result>;

  /** @throws DOMException TransactionInactiveError if requests can't be made now; InvalidStateError if the store is gone */
  assertActive(store: StoreSchema): void;

  /** The records of a store as this transaction sees them. */
  records(store: StoreSchema): StoreRecords;
}
