/**
 * Periodic work.
 *
 * @module
 */

import { sleep } from "../async.ts";

/**
 * Runs work every `ms` milliseconds, first after one interval, until the signal is aborted. Then it rejects with its
 * reason.
 */
export async function every(ms: number, work: () => Promise<unknown>, signal: AbortSignal): Promise<never> {
  for (;;) {
    await sleep(ms, signal);
    await work();
  }
}

/** Returns a function that runs `work` at most once an hour, and not before the delay has passed. */
export function hourly(work: () => void, delayMs = 0): () => void {
  let nextMs = performance.now() + delayMs;
  return () => {
    if (performance.now() < nextMs) return;
    nextMs = performance.now() + 3_600_000;
    work();
  };
}
