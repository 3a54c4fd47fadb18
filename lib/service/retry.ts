/**
 * Doing something again after a failure that time may cure, and sleeping in between. The signal is looked at before
 * anything else. Knows nothing of what is done.
 *
 * @module
 */

import { TransientError } from "../errors/mod.ts";
import type { Backoff } from "./backoff.ts";

/** The longest time that a timer can be set to; beyond it, it would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * Waits. The timer is always cleared, so a sleep that was cut short doesn't keep the process alive.
 *
 * @param ms milliseconds; more than 24 days count as 24 days
 * @throws the signal's reason, at once when it is or becomes aborted
 */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.reject(signal.reason);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = () => reject(signal.reason);
  const timer = setTimeout(resolve, Math.min(ms, longestTimerMs));
  signal.addEventListener("abort", abort, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
}

/** How to retry. */
export interface RetryOptions {
  /** Decides on waits and on giving up. */
  readonly backoff: Backoff;
  /** Ends the work and the waiting. */
  readonly signal: AbortSignal;
  /** Told of each failure before its wait: for the log and for health. */
  readonly onFailure: (error: TransientError, waitMs: number) => void;
  /** Waits; {@linkcode sleep} unless a test says otherwise. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Does something, and does it again after each {@linkcode TransientError}. Serves work that ends, such as a login, and
 * work that goes on, such as syncing: that says by `working()` that it goes well, so that failures are forgiven in time.
 *
 * @throws the signal's reason when aborted; any other error of the work, at once; an error with the last failure as its
 * cause when the back-off gives up
 */
export async function retrying<Value>(
  work: (signal: AbortSignal, working: () => void) => Promise<Value>,
  { backoff, signal, onFailure, wait = sleep }: RetryOptions,
): Promise<Value> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await work(signal, () => backoff.working());
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      signal.throwIfAborted();
      const next = backoff.failed(error.retryAfterMs);
      if (!next.retry) {
        throw new Error(`Gave up after ${backoff.failures} failures in a row: ${error.message}`, { cause: error });
      }
      onFailure(error, next.waitMs);
      await wait(next.waitMs, signal);
    }
  }
}
