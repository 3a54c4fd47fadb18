/**
 * The switch that keeps a broken store from being written to again.
 *
 * @module
 */

import { StoreError } from "../errors.ts";

/** Remembers the first failure: from then on nothing is read or written. */
export class FailureLatch {
  readonly #failed = Promise.withResolvers<StoreError>();
  #error: StoreError | undefined;

  /** Resolves at the first failure. */
  get failed(): Promise<StoreError> {
    return this.#failed.promise;
  }

  /** Why the store is not to be used any more, if it is not. */
  get error(): StoreError | undefined {
    return this.#error;
  }

  /** @throws StoreError if the store has failed or is closed */
  check(): void {
    if (this.#error) throw this.#error;
  }

  /** Remembers a failure and tells of it. */
  fail(error: StoreError): void {
    this.#error ??= error;
    this.#failed.resolve(this.#error);
  }

  /** Refuses everything from now on, which is no failure. */
  close(path: string): void {
    this.#error ??= new StoreError(`Cannot use the store ${path}: it is closed`, path);
  }
}
