/**
 * The graceful end: the first signal asks for it, a deadline makes sure of it, a second signal doesn't wait. Signals and
 * the way out are handed in.
 *
 * @module
 */

/** A task runner forwards a terminal's signal to a process that has had it already: that is no second one. */
const SAME_SIGNAL_MS = 500;

/** What the end needs of the process. */
export interface Process {
  /** Begins to listen to a signal; the function that comes back ends it. */
  onSignal(name: "SIGTERM" | "SIGINT", handler: () => void): () => void;
  /** Ends the process at once, and may say why. */
  exit(code: number, reason: string): void;
  /** Monotonic clock in milliseconds. */
  now(): number;
}

/** Turns SIGTERM and SIGINT into an AbortSignal. */
export class Shutdown implements Disposable {
  readonly #host: Process;
  readonly #deadlineMs: number;
  readonly #controller = new AbortController();
  readonly #removals: (() => void)[];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last: { readonly name: string; readonly atMs: number } | undefined;

  /**
   * Listens from now on, until disposed of.
   *
   * @param host signals and the way out
   * @param deadlineMs milliseconds from the first signal to an exit with code 1, if the end isn't reached by itself
   */
  constructor(host: Process, deadlineMs = 10_000) {
    this.#host = host;
    this.#deadlineMs = deadlineMs;
    this.#removals = (["SIGTERM", "SIGINT"] as const).map((name) => host.onSignal(name, () => this.#received(name)));
  }

  /** Aborted when the end begins. */
  get stopping(): AbortSignal {
    return this.#controller.signal;
  }

  /** Begins the end, as a signal does; the deadline runs from the first call. */
  stop(reason: string): void {
    if (this.stopping.aborted) return;
    this.#timer = setTimeout(
      () => this.#host.exit(1, `not stopped ${this.#deadlineMs / 1_000} s after ${reason}`),
      this.#deadlineMs,
    );
    this.#controller.abort(new DOMException(`Stopping: ${reason}`, "AbortError"));
  }

  /** The end is reached: no deadline and no signals any more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const remove of this.#removals) remove();
  }

  #received(name: string): void {
    const nowMs = this.#host.now();
    const isSame = this.#last?.name === name && nowMs - this.#last.atMs < SAME_SIGNAL_MS;
    this.#last = { name, atMs: nowMs };
    if (!this.stopping.aborted) this.stop(name);
    else if (!isSame) this.#host.exit(1, `${name} while stopping`);
  }
}
