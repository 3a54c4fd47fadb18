/**
 * The lifetime of one run of the program's parts, from a login to its end: all that is begun in it ends with it.
 *
 * @module
 */

import { Deadline, unlessAborted } from "../async.ts";

/** How long work may take to end, milliseconds: the effect in hand, a request that is being written. */
const GRACE_MS = 5_000;

/**
 * Owns what is begun: loops, resources, listeners. At its end loops are told to end and waited for, and what was opened is
 * closed, in the opposite order; a loop ends before what it uses is closed.
 */
export class Lifetime implements AsyncDisposable {
  readonly #ending = new AbortController();
  readonly #stack = new AsyncDisposableStack();
  readonly #failed = Promise.withResolvers<never>();
  readonly #onPanic: (error: unknown) => void;
  readonly #graceMs: number;

  /**
   * Begins.
   *
   * @param stopping ends it
   * @param onPanic told of a panic of a WebAssembly module, at once: after it nothing may be written
   * @param graceMs for each loop to end, and for the work of {@linkcode finish}
   */
  constructor(stopping: AbortSignal, onPanic: (error: unknown) => void, graceMs: number = GRACE_MS) {
    this.#onPanic = onPanic;
    this.#graceMs = graceMs;
    // That it failed matters to who waits; if nobody does any more, it was told.
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

  /** Closes something at the end. */
  use<Resource extends Disposable | AsyncDisposable>(resource: Resource): Resource {
    return this.#stack.use(resource);
  }

  /** Does something at the end. */
  defer(work: () => Promise<void> | void): void {
    this.#stack.defer(work);
  }

  /** Begins a loop. Its failure ends the lifetime; what it throws because it was told to end is none. */
  begin(loop: (signal: AbortSignal) => Promise<unknown>): void {
    const ended = loop(this.signal).catch((error) => this.#fail(error));
    this.#stack.defer(async () => {
      await this.#atMost(ended);
    });
  }

  /** Ends with an error that may come from elsewhere at any time; nobody waits for it at the end. */
  endsWith(error: Promise<unknown>): void {
    error.then((each) => this.#fail(each));
  }

  /**
   * Waits for work of the start.
   *
   * @throws what it throws; the first failure of a loop; the signal's reason
   */
  async until<Value>(work: Promise<Value>): Promise<Value> {
    return await unlessAborted(Promise.race([this.watch(work), this.#failed.promise]), this.signal);
  }

  /**
   * Waits for the work that all this is for. Told to end, it has a grace period.
   *
   * @throws what it throws, or the first failure of a loop
   */
  async finish(work: Promise<void>): Promise<void> {
    const watched = this.watch(work);
    try {
      await unlessAborted(Promise.race([watched, this.#failed.promise]), this.signal);
    } catch (error) {
      if (!this.signal.aborted || error !== this.signal.reason) throw error;
      await this.#atMost(watched);
    }
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new DOMException("The run has ended", "AbortError"));
    await this.#stack.disposeAsync();
  }

  async #atMost(work: Promise<unknown>): Promise<void> {
    using deadline = new Deadline(this.#graceMs, new AbortController().signal);
    try {
      await unlessAborted(work, deadline.signal);
    } catch (error) {
      if (!deadline.expired) throw error;
    }
  }

  /** Awaits work that heeds the signal itself, and tells of a panic in it before anything is closed. */
  async watch<Value>(work: Promise<Value>): Promise<Value> {
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
