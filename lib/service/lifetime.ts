/**
 * Lifetime of one run of the program's parts, from login to shutdown. Everything started in it ends with it.
 *
 * @module
 */

import { Deadline, unlessAborted } from "../async.ts";

/** How long work in progress, such as a request being written, may take to end, in milliseconds. */
const GRACE_MS = 5_000;

/**
 * Owns loops, resources and listeners. At the end it aborts the loops, waits for them, and closes resources, in reverse
 * order of their start, so that a loop ends before the resources it uses are closed.
 */
export class Lifetime implements AsyncDisposable {
  readonly #ending = new AbortController();
  readonly #stack = new AsyncDisposableStack();
  readonly #failed = Promise.withResolvers<never>();
  readonly #onPanic: (error: unknown) => void;
  readonly #graceMs: number;

  /**
   * Starts a lifetime.
   *
   * @param stopping ends it when aborted
   * @param onPanic called at once if a WebAssembly module panics; nothing may be written after that
   * @param graceMs grace period of each loop, and of the work passed to {@linkcode waitForMain}, in milliseconds
   */
  constructor(stopping: AbortSignal, onPanic: (error: unknown) => void, graceMs: number = GRACE_MS) {
    this.#onPanic = onPanic;
    this.#graceMs = graceMs;
    // Avoids an unhandled rejection if nobody waits any more.
    this.#failed.promise.catch(() => {});
    const stop = (): void => this.#end(stopping.reason);
    stopping.addEventListener("abort", stop);
    this.#stack.defer(() => stopping.removeEventListener("abort", stop));
    if (stopping.aborted) stop();
  }

  /** Aborted when the end begins. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Disposes of a resource at the end. */
  use<Resource extends Disposable | AsyncDisposable>(resource: Resource): Resource {
    return this.#stack.use(resource);
  }

  /** Calls a function at the end. */
  defer(work: () => Promise<void> | void): void {
    this.#stack.defer(work);
  }

  /** Starts a loop. If it fails, the lifetime ends. Errors that it throws because it was aborted are ignored. */
  start(loop: (signal: AbortSignal) => Promise<unknown>): void {
    const ended = loop(this.signal).catch((error) => this.#fail(error));
    this.#stack.defer(async () => {
      await this.#withinGrace(ended);
    });
  }

  /** Ends the lifetime with the error that this promise resolves with, if it ever does. */
  failOn(error: Promise<unknown>): void {
    error.then((each) => this.#fail(each));
  }

  /**
   * Waits for a step of the start.
   *
   * @throws what it throws; the first failure of a loop; the signal's reason
   */
  async waitFor<Value>(work: Promise<Value>): Promise<Value> {
    return await unlessAborted(Promise.race([this.guard(work), this.#failed.promise]), this.signal);
  }

  /**
   * Waits for the main work. When the lifetime ends, the work gets a grace period.
   *
   * @throws what it throws, or the first failure of a loop
   */
  async waitForMain(work: Promise<void>): Promise<void> {
    const watched = this.guard(work);
    try {
      await unlessAborted(Promise.race([watched, this.#failed.promise]), this.signal);
    } catch (error) {
      if (!this.signal.aborted || error !== this.signal.reason) throw error;
      await this.#withinGrace(watched);
    }
  }

  /** Ends the lifetime. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new DOMException("The run has ended", "AbortError"));
    await this.#stack.disposeAsync();
  }

  async #withinGrace(work: Promise<unknown>): Promise<void> {
    using deadline = new Deadline(this.#graceMs, new AbortController().signal);
    try {
      await unlessAborted(work, deadline.signal);
    } catch (error) {
      if (!deadline.expired) throw error;
    }
  }

  /** Awaits work that handles the abort signal itself. Reports a panic in it before anything is closed. */
  async guard<Value>(work: Promise<Value>): Promise<Value> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) this.#onPanic(error);
      throw error;
    }
  }

  #fail(error: unknown): void {
    if (error instanceof WebAssembly.RuntimeError) this.#onPanic(error);
    if (!this.signal.aborted) this.#failed.reject(error);
  }

  #end(reason: unknown): void {
    this.#ending.abort(reason);
  }
}
