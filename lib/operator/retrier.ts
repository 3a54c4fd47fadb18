/**
 * Trying again, the way every part of the operator does it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Backoff, type BackoffPolicy, type Clock, retry } from "../async.ts";
import { isFatal, isRefusal, placeOf, TransientError } from "../errors.ts";
import type { Observer } from "./audit.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Makes the back-off of one piece of work, which never gives up unless it is to be different. */
export type NewBackoff = (changes?: Partial<BackoffPolicy>) => Backoff;

/** What else may be tried again than what time may cure. */
export interface RetryLimits {
  /** So many failures of a kind that the code does not know; 0 unless said otherwise. */
  readonly unknownFailures?: number;
  /** What a server has refused, too. */
  readonly refusals?: boolean;
  /** What is different about waits and giving up. */
  readonly policy?: Partial<BackoffPolicy>;
}

/** Tries again after failures, each piece of work at its own pace. */
export class Retrier {
  readonly #newBackoff: NewBackoff;
  readonly #clock: Clock;
  readonly #observer: Pick<Observer, "retried">;

  constructor(newBackoff: NewBackoff, clock: Clock, observer: Pick<Observer, "retried">) {
    this.#newBackoff = newBackoff;
    this.#clock = clock;
    this.#observer = observer;
  }

  /**
   * Tries until it works, waiting longer after each {@linkcode TransientError}.
   *
   * @param what said in the log
   * @param signal ends it, between tries
   * @throws whatever else a try throws; the signal's reason
   */
  run<Value>(what: string, work: () => Promise<Value>, signal: AbortSignal, limits: RetryLimits = {}): Promise<Value> {
    const { unknownFailures = 0, refusals = false, policy } = limits;
    let unknown = 0;
    return retry(work, {
      backoff: this.#newBackoff(policy),
      isRetryable: (error): error is Error => {
        if (!(error instanceof Error) || isFatal(error)) return false;
        if (isRefusal(error)) return refusals;
        return error instanceof TransientError || ++unknown <= unknownFailures;
      },
      onRetry: (error, waitMs) => {
        // Of a kind that the code does not know, the words may quote a message.
        const isKnown = error instanceof TransientError || isRefusal(error);
        const reason = isKnown ? error.message : placeOf(error);
        this.#observer.retried();
        const wait = Math.ceil(waitMs / 1_000);
        logger.warn("failed to {what}, trying again in {wait} s: {reason}", { what, wait, reason });
      },
      sleep: (ms, until) => this.#clock.sleep(ms, until),
    }, signal);
  }
}
