/**
 * Graceful shutdown: the first signal starts it, a deadline enforces it, and a second signal exits at once. Signals and
 * exit are passed in.
 *
 * @module
 */

/**
 * A task runner forwards a signal that the terminal has already sent to us. Within this time it isn't a second signal.
 */
const SAME_SIGNAL_MS = 500;

/** What shutdown needs of the process. */
export interface Process {
  /** Adds a signal handler. The returned function removes it. */
  onSignal(name: "SIGTERM" | "SIGINT", handler: () => void): () => void;
  /** Exits the process at once, for the given reason. */
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
   * Handles signals until it is disposed of.
   *
   * @param host signals and exit
   * @param deadlineMs milliseconds from the first signal until the process exits with code 1, unless it has ended by
   * itself
   */
  constructor(host: Process, deadlineMs = 10_000) {
    this.#host = host;
    this.#deadlineMs = deadlineMs;
    this.#removals = (["SIGTERM", "SIGINT"] as const).map((name) => host.onSignal(name, () => this.#received(name)));
  }

  /** Aborted when shutdown begins. */
  get stopping(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts shutdown, as a signal does. The deadline counts from the first call. */
  stop(reason: string): void {
    if (this.stopping.aborted) return;
    this.#timer = setTimeout(
      () => this.#host.exit(1, `not stopped ${this.#deadlineMs / 1_000} s after ${reason}`),
      this.#deadlineMs,
    );
    this.#controller.abort(new DOMException(`Stopping: ${reason}`, "AbortError"));
  }

  /** Shutdown is complete: stops the deadline and removes the signal handlers. */
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
