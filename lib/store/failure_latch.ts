/**
 * Latch that blocks all access to the store after its first failure.
 *
 * @module
 */

import { StoreError } from "../errors.ts";

/** Holds the first failure. From then on nothing is read or written. */
export class FailureLatch {
  readonly #failed = Promise.withResolvers<StoreError>();
  #error: StoreError | undefined;

  /** Resolves with the first failure. */
  get failed(): Promise<StoreError> {
    return this.#failed.promise;
  }

  /** Why the store can't be used: it has failed or is closed. Undefined while it can. */
  get error(): StoreError | undefined {
    return this.#error;
  }

  /** @throws StoreError if the store has failed or is closed */
  check(): void {
    if (this.#error) throw this.#error;
  }

  /** Records a failure and resolves {@linkcode failed}. */
  fail(error: StoreError): void {
    this.#error ??= error;
    this.#failed.resolve(this.#error);
  }

  /** Blocks all further access without reporting a failure. */
  close(path: string): void {
    this.#error ??= new StoreError(`Cannot use the store ${path}: it is closed`, path);
  }
}
