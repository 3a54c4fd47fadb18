/**
 * Waiting longer after each failure in a row. Knows nothing of what is retried: it turns a count of failures into a
 * wait, and decides when to give up and when the past is forgiven.
 *
 * @module
 */

/** When to wait, for how long, and when to give up. Times are milliseconds. */
export interface BackoffPolicy {
  /** Wait after the first failure. */
  readonly firstMs: number;
  /** Longest wait, unless the server asks for more. */
  readonly longestMs: number;
  /** Failures in a row after which there is no next try, if they also span `leastSpanMs`. */
  readonly mostFailures: number;
  /** From the first failure of a row to the last one: for less than that there is always a next try. */
  readonly leastSpanMs: number;
  /** Working for this long makes the next failure the first one again. */
  readonly forgivenAfterMs: number;
}

/**
 * The operator's policy: 1 s doubling to 15 s, and giving up after so many failures in a row that span 15 minutes; three
 * minutes of health reset the count.
 */
export function operatorPolicy(maxRetries: number): BackoffPolicy {
  return {
    firstMs: 1_000,
    longestMs: 15_000,
    mostFailures: maxRetries,
    leastSpanMs: 15 * 60_000,
    forgivenAfterMs: 3 * 60_000,
  };
}

/** What happens after a failure: another try after `waitMs`, or none. */
export type NextTry = { readonly retry: true; readonly waitMs: number } | { readonly retry: false };

/** Counts failures in a row against a {@linkcode BackoffPolicy}. */
export class Backoff {
  readonly #policy: BackoffPolicy;
  readonly #now: () => number;
  readonly #random: () => number;
  #failures = 0;
  #failingSince = 0;
  #workingSince: number | undefined;

  /**
   * Starts with no failures.
   *
   * @param now monotonic clock in milliseconds
   * @param random uniform in [0, 1); jitter keeps many clients from returning at the same instant
   */
  constructor(policy: BackoffPolicy, now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#policy = policy;
    this.#now = now;
    this.#random = random;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Says that the work has begun to go well. */
  working(): void {
    this.#workingSince ??= this.#now();
  }

  /** Counts a failure; `retryAfterMs` is what the server asked for, and never waited for less. */
  failed(retryAfterMs = 0): NextTry {
    const { firstMs, longestMs, mostFailures, leastSpanMs, forgivenAfterMs } = this.#policy;
    const now = this.#now();
    if (this.#workingSince !== undefined && now - this.#workingSince >= forgivenAfterMs) this.#failures = 0;
    this.#workingSince = undefined;

    if (this.#failures === 0) this.#failingSince = now;
    this.#failures += 1;
    if (this.#failures >= mostFailures && now - this.#failingSince >= leastSpanMs) return { retry: false };
    return { retry: true, waitMs: waitAfter({ firstMs, longestMs }, this.#failures, retryAfterMs, this.#random) };
  }
}

/**
 * How long to wait after so many failures in a row (1 after the first), in milliseconds: doubling from the first wait to
 * the longest, half of it left to chance; never less than the server asked for.
 */
export function waitAfter(
  { firstMs, longestMs }: Pick<BackoffPolicy, "firstMs" | "longestMs">,
  failures: number,
  retryAfterMs: number,
  random: () => number = Math.random,
): number {
  const ceilingMs = Math.min(firstMs * 2 ** (failures - 1), longestMs);
  return Math.max(ceilingMs / 2 + (ceilingMs / 2) * random(), retryAfterMs);
}
