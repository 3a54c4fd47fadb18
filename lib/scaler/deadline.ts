/**
 * A signal that ends a request: when its time is over, or when the caller's signal is aborted.
 *
 * @module
 */

/** A deadline that can be put off. To be disposed of when the request has ended. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal;
  readonly #late: Error;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Looks at the caller's signal first.
   *
   * @param ms time from now, milliseconds
   * @param late the reason when that is over
   * @throws the caller's reason
   */
  constructor(ms: number, late: Error, caller: AbortSignal) {
    caller.throwIfAborted();
    this.#late = late;
    this.#caller = caller;
    caller.addEventListener("abort", this.#forward, { once: true });
    this.extend(ms);
  }

  /** Aborted when it is over, with the reason why. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Begins anew with so many milliseconds. */
  extend(ms: number): void {
    // A timer of our own: one of AbortSignal.timeout() could not be cleared, and would keep the process alive.
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(this.#late), ms);
  }

  /** Ends what is left of the request, such as a body that nobody reads to its end. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#controller.abort();
    this.#caller.removeEventListener("abort", this.#forward);
  }

  readonly #forward = (): void => {
    clearTimeout(this.#timer);
    this.#controller.abort(this.#caller.reason);
  };
}
