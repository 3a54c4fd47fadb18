/**
 * Trying again for as long as it makes sense. Knows nothing of what is tried.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { TransientError } from "../errors.ts";
import type { Parts } from "./settings.ts";

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
