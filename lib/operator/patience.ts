/**
 * Trying again for as long as it makes sense. Knows nothing of what is tried.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { NotFoundError, PermissionError, RejectedError, TransientError } from "../errors/mod.ts";
import type { Clock, Parts } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/**
 * Tries until it works, waiting longer after each {@linkcode TransientError}.
 *
 * @param what said in the log
 * @param attempt one try
 * @param signal ends it, between tries
 * @throws whatever else a try throws; the signal's reason
 */
export async function persistently<T>(
  what: string,
  attempt: () => Promise<T>,
  { clock, waitAfter }: Pick<Parts, "clock" | "waitAfter">,
  signal: AbortSignal,
): Promise<T> {
  for (let failures = 1;; failures += 1) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      const waitMs = waitAfter(failures, error.retryAfterMs);
      logger.warn("Cannot {what}, next try in {waitMs} ms: {reason}", { what, waitMs, reason: error.message });
      await clock.sleep(waitMs, signal);
    }
  }
}

/** A server's refusal for good. */
export type Refused = PermissionError | NotFoundError | RejectedError;

/** Tells whether a server has refused a request for good, so that neither time nor a restart would help. */
export function isRefused(error: unknown): error is Refused {
  return error instanceof PermissionError || error instanceof NotFoundError || error instanceof RejectedError;
}

/** A signal that is aborted after a time, or with another one. */
export class Deadline implements Disposable {
  readonly #own = new AbortController();
  readonly #timer = new AbortController();
  readonly #parent: AbortSignal;
  readonly #follow = (): void => this.#own.abort(this.#parent.reason);
  #expired = false;

  /**
   * Starts the clock.
   *
   * @param ms time until it is aborted
   * @param clock the clock
   * @param parent aborted at once with this one
   */
  constructor(ms: number, clock: Clock, parent: AbortSignal) {
    this.#parent = parent;
    if (parent.aborted) this.#follow();
    parent.addEventListener("abort", this.#follow);
    clock.sleep(ms, this.#timer.signal).then(() => {
      this.#expired = true;
      this.#own.abort(new DOMException("The time for it is over", "TimeoutError"));
    }, () => {
      // The wait was called off: the deadline is no longer needed.
    });
  }

  /** Aborted when the time is over. */
  get signal(): AbortSignal {
    return this.#own.signal;
  }

  /** The time is over; not merely the parent aborted. */
  get expired(): boolean {
    return this.#expired;
  }

  /** Forgets about it. */
  [Symbol.dispose](): void {
    this.#parent.removeEventListener("abort", this.#follow);
    this.#timer.abort();
  }
}

/** Wakes somebody who waits. */
export class Bell {
  #isRung = false;
  #wake = (): void => {};

  /** Ends the wait under way, or the next one. */
  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  /**
   * Waits until it is rung, or the time is over.
   *
   * @throws the signal's reason
   */
  async wait(ms: number, clock: Clock, signal: AbortSignal): Promise<void> {
    using deadline = new Deadline(ms, clock, signal);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      deadline.signal.addEventListener("abort", () => resolve());
      if (this.#isRung || deadline.signal.aborted) resolve();
    });
    this.#isRung = false;
    signal.throwIfAborted();
  }
}
