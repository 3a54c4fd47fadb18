/**
 * What goes wrong with the store, and the switch that keeps a broken one from being written to again.
 *
 * @module
 */

/** The store cannot be opened, read or written. The message says why and what to do; it holds no secret. */
export class StoreError extends Error {
  /** Name of the class. */
  override readonly name = "StoreError";
  /** The file or folder that it is about. */
  readonly path: string;

  /** The message is "Cannot …: why; what to do". */
  constructor(message: string, path: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.path = path;
  }
}

/** Remembers the first failure: from then on nothing is read or written. */
export class Latch {
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
