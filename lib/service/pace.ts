/**
 * How often something is done that is done again and again. Knows nothing of what that is.
 *
 * @module
 */

import { Backoff, type BackoffPolicy, sleep } from "../async.ts";

/** Back-off of one line of work, with the means to wait. */
export interface Pace {
  /** Says that the work has begun to go well. */
  working(): void;
  /** Counts a failure; `retryAfterMs` is what the server asked for. */
  failed(retryAfterMs: number): { readonly retry: true; readonly waitMs: number } | { readonly retry: false };
  /** Waits, or ends early with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** A pace that tells of its waits, milliseconds. */
export function paceOf(policy: BackoffPolicy, waiting: (waitMs: number) => void): Pace {
  const backoff = new Backoff(policy);
  return {
    working: () => backoff.working(),
    failed: (retryAfterMs) => {
      const next = backoff.failed(retryAfterMs);
      if (next.retry) waiting(next.waitMs);
      return next;
    },
    sleep,
  };
}

/** Does something every so many milliseconds, the first time after as many, until the signal ends it with its reason. */
export async function every(ms: number, work: () => Promise<unknown>, signal: AbortSignal): Promise<never> {
  for (;;) {
    await sleep(ms, signal);
    await work();
  }
}

/** Does something at the first call after a delay, and then at most once an hour. */
export function hourly(work: () => void, delayMs = 0): () => void {
  let nextMs = performance.now() + delayMs;
  return () => {
    if (performance.now() < nextMs) return;
    nextMs = performance.now() + 3_600_000;
    work();
  };
}
