/**
 * The retry policy that all parts of the operator share.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Backoff, type BackoffPolicy, type Clock, retry } from "../async.ts";
import { errorLocation, isFatal, isRefusal, TransientError } from "../errors.ts";
import type { Observer } from "./audit.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Creates a back-off. Unless changed, it never gives up. */
export type NewBackoff = (changes?: Partial<BackoffPolicy>) => Backoff;

/** What is retried in addition to transient failures. */
export interface RetryLimits {
  /** Retries after unknown failures. Default: 0. */
  readonly unknownFailures?: number;
  /** Whether refusals by a server are retried, too. */
  readonly refusals?: boolean;
  /** Changes to the back-off. */
  readonly policy?: Partial<BackoffPolicy>;
}

/** Retries work after failures. Each piece of work has a back-off of its own. */
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
   * Runs work until it succeeds, waiting longer after each {@linkcode TransientError}.
   *
   * @param task names the work in the log
   * @param signal ends the retries, between attempts
   * @throws any failure that isn't retryable; the signal's reason
   */
  run<Value>(task: string, work: () => Promise<Value>, signal: AbortSignal, limits: RetryLimits = {}): Promise<Value> {
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
        // The message of an unknown error may quote chat text.
        const isKnown = error instanceof TransientError || isRefusal(error);
        const reason = isKnown ? error.message : errorLocation(error);
        this.#observer.retried();
        const wait = Math.ceil(waitMs / 1_000);
        logger.warn("failed to {what}, trying again in {wait} s: {reason}", { what: task, wait, reason });
      },
      sleep: (ms, until) => this.#clock.sleep(ms, until),
    }, signal);
  }
}
