/**
 * How often something is done that is done again and again. Knows nothing of what that is.
 *
 * @module
 */

import { sleep } from "../async.ts";

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
