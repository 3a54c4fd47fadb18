/**
 * Work beside the sync loop that persists through transient failures. Knows nothing of Matrix.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError, TransientError } from "../errors.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Between tries that others would not make any more, milliseconds. */
const TIRELESS_MS = 60_000;

/** How to go on after failures in a row; the clock and the policy are somebody else's. */
export interface Pace {
  /** Says that a request has gone well. */
  working(): void;
  /** Counts a failure; `retryAfterMs` is what the server asked for. */
  failed(retryAfterMs: number): { readonly retry: true; readonly waitMs: number } | { readonly retry: false };
  /** Waits, or ends early with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Pieces of work that are woken up, run one at a time each, and persist through transient failures. */
export class Chores {
  readonly #controller = new AbortController();
  /** Ends with the signal. */
  readonly signal: AbortSignal;
  /** Rejects when a piece of work fails for good. */
  readonly failed: Promise<never>;
  #fail!: (error: unknown) => void;
  readonly #running = new Set<Promise<void>>();

  /** @param signal ends every piece of work */
  constructor(signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.#controller.signal]);
    this.failed = new Promise((_, reject) => this.#fail = reject);
  }

  /** Adds a piece of work; `wake` has it done once more, soon. */
  add(work: (signal: AbortSignal) => Promise<void>, pace: Pace): { wake(): void } {
    let wanted = false;
    let running = false;
    const run = async (): Promise<void> => {
      running = true;
      while (wanted) {
        wanted = false;
        await untilDone(() => work(this.signal), pace, this.signal);
      }
      running = false;
    };
    return {
      wake: (): void => {
        wanted = true;
        if (!running) this.#begin(run());
      },
    };
  }

  /** Does a piece of work again and again. */
  repeat(work: (signal: AbortSignal) => Promise<void>, pace: Pace): void {
    const run = async (): Promise<void> => {
      for (;;) await untilDone(() => work(this.signal), pace, this.signal);
    };
    this.#begin(run());
  }

  /** Ends every piece of work; resolves when all have ended. */
  async stop(): Promise<void> {
    this.#controller.abort(new DOMException("the session has ended", "AbortError"));
    await Promise.all(this.#running);
  }

  #begin(run: Promise<void>): void {
    const mine = run.catch((error) => this.#fail(error)).finally(() => this.#running.delete(mine));
    this.#running.add(mine);
  }
}

/**
 * Never gives up: that one thing cannot be had is no reason to end. Whether the homeserver is there at all is for others
 * to find out.
 */
export function tireless(pace: Pace): Pace {
  return {
    ...pace,
    failed: (retryAfterMs) => {
      const next = pace.failed(retryAfterMs);
      return next.retry ? next : { retry: true, waitMs: Math.max(retryAfterMs, TIRELESS_MS) };
    },
  };
}

/** Does the work once, trying again after transient failures as the pace says. */
async function untilDone(work: () => Promise<void>, pace: Pace, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await work();
      pace.working();
      return;
    } catch (error) {
      // Also what looks final may be a proxy in front of a homeserver that is just being restarted.
      if (!(error instanceof TransientError || error instanceof RejectedError)) throw error;
      const next = pace.failed(error instanceof TransientError ? error.retryAfterMs : 0);
      if (!next.retry) throw error;
      log.warning("{reason}; trying again in {wait} s", {
        reason: error.message,
        wait: Math.ceil(next.waitMs / 1_000),
      });
      await pace.sleep(next.waitMs, signal);
    }
  }
}
