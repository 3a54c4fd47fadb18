/**
 * Waiting, retrying and mutual exclusion: sleep, deadline, back-off, retry, mutex, semaphore, keyed queue, throttle.
 *
 * @module
 */

import { TransientError } from "./errors.ts";

/** A clock; tests replace it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Sleeps. Rejects with the signal's reason as soon as it is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** The real clock. */
export const systemClock: Clock = { now: () => Date.now(), sleep };

/** Longest delay of a timer. With a longer one it would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Sleeps. The timer is always cleared, so an aborted sleep doesn't keep the process alive.
 *
 * @param ms milliseconds, capped at about 24 days
 * @throws the signal's reason, as soon as it is aborted
 */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.reject(signal.reason);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = () => reject(signal.reason);
  const timer = setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
  signal.addEventListener("abort", abort, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
}

/** Abort reasons that nobody looks at. Made once, because an error that is made for each request costs its stack trace. */
const STOPPED = new DOMException("The timer was stopped", "AbortError");
const CANCELLED = new DOMException("Nobody waits for it any more", "AbortError");

/** A signal that is aborted after a time, or with its parent. Disposing stops the timer without aborting. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal;
  readonly #clock: Clock;
  readonly #reason: () => unknown;
  readonly #forward = (): void => this.#controller.abort(this.#parent.reason);
  #stopTimer = (): void => {};
  #expired = false;

  /**
   * @param ms milliseconds from now
   * @param parent aborts this one at once
   * @param reason makes the abort reason on expiry; a TimeoutError by default
   */
  constructor(
    ms: number,
    parent: AbortSignal,
    { clock = systemClock, reason }: { readonly clock?: Clock; readonly reason?: () => unknown } = {},
  ) {
    this.#parent = parent;
    this.#clock = clock;
    this.#reason = reason ?? (() => new DOMException("The time for it is over", "TimeoutError"));
    if (parent.aborted) this.#forward();
    parent.addEventListener("abort", this.#forward);
    this.extend(ms);
  }

  /** Aborted on expiry, with the parent, or by {@linkcode cancel}. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Whether the time has expired. False if only the parent was aborted. */
  get expired(): boolean {
    return this.#expired;
  }

  /** Restarts the timer. */
  extend(ms: number): void {
    this.#stopTimer();
    const expire = (): void => {
      if (this.signal.aborted) return;
      this.#expired = true;
      this.#controller.abort(this.#reason());
    };
    // A plain timer costs less than sleeping with a signal.
    if (this.#clock === systemClock) {
      const timer = setTimeout(expire, Math.min(ms, MAX_TIMER_MS));
      this.#stopTimer = () => clearTimeout(timer);
      return;
    }
    const timer = new AbortController();
    this.#stopTimer = () => timer.abort(STOPPED);
    this.#clock.sleep(ms, timer.signal).then(expire, (error) => {
      if (!timer.signal.aborted) this.#controller.abort(error);
    });
  }

  /** Aborts the signal before its time, for example when nobody waits for the rest of a body. */
  cancel(): void {
    this.#controller.abort(CANCELLED);
  }

  [Symbol.dispose](): void {
    this.#parent.removeEventListener("abort", this.#forward);
    this.#stopTimer();
  }
}

/** Wakes a waiting loop. A notification while nobody waits ends the next wait. */
export class Wakeup {
  #notified = false;
  #wake = (): void => {};

  /** Ends the current wait, or the next one. */
  notify(): void {
    this.#notified = true;
    this.#wake();
  }

  /**
   * Waits for a notification, or until the time is up.
   *
   * @param ms milliseconds; Infinity sets no timer
   * @throws the signal's reason
   */
  async wait(ms: number, signal: AbortSignal, clock: Clock = systemClock): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    using deadline = ms === Infinity ? undefined : new Deadline(ms, signal, { clock });
    const until = deadline?.signal ?? signal;
    this.#wake = resolve;
    const over = (): void => resolve();
    until.addEventListener("abort", over);
    if (this.#notified || until.aborted) resolve();
    await promise;
    until.removeEventListener("abort", over);
    this.#notified = false;
    signal.throwIfAborted();
  }
}

/** When to retry, how long to wait, and when to give up. Times are milliseconds. */
export interface BackoffPolicy {
  /** Wait after the first failure. */
  readonly initialMs: number;
  /** Longest wait, unless the server asks for more. */
  readonly maxMs: number;
  /** Give up after this many failures in a row, if they also span `minSpanMs`. Infinity: never give up. */
  readonly maxFailures: number;
  /** Time from the first to the last failure in a row before which we never give up. */
  readonly minSpanMs: number;
  /** After working for this long, the next failure counts as the first again. */
  readonly resetAfterMs: number;
}

/** Longest `Retry-After` that is honoured. A longer one would let one response silence the operator. */
const MAX_RETRY_AFTER_MS = 5 * 60_000;
/** Shortest `Retry-After` that is honoured. A shorter one would let the server cause a request loop. */
const MIN_RETRY_AFTER_MS = 250;

/**
 * SPEC 5c: waits 1 s, doubling up to 15 s. Gives up after `maxRetries` failures in a row that span at least 15 minutes.
 * Three minutes of success reset the count.
 */
export function operatorPolicy(maxRetries: number): BackoffPolicy {
  return {
    initialMs: 1_000,
    maxMs: 15_000,
    maxFailures: maxRetries,
    minSpanMs: 15 * 60_000,
    resetAfterMs: 3 * 60_000,
  };
}

/** What to do after a failure: retry after `waitMs`, or give up. */
export type NextTry = { readonly retry: true; readonly waitMs: number } | { readonly retry: false };

/** Counts failures in a row for one kind of work, under a {@linkcode BackoffPolicy}. */
export class Backoff {
  readonly #policy: BackoffPolicy;
  readonly #now: () => number;
  readonly #random: () => number;
  #failures = 0;
  #failingSinceMs = 0;
  #workingSinceMs: number | undefined;

  /**
   * Starts without failures.
   *
   * @param now monotonic clock in milliseconds
   * @param random uniform in [0, 1); the jitter keeps many clients from retrying at the same instant
   */
  constructor(policy: BackoffPolicy, now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#policy = policy;
    this.#now = now;
    this.#random = random;
  }

  /** Number of failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Reports that the work is succeeding. */
  working(): void {
    this.#workingSinceMs ??= this.#now();
  }

  /** Counts a failure. `retryAfterMs` is the wait that the server asked for, 0 if none. */
  failed(retryAfterMs = 0): NextTry {
    const { maxFailures, minSpanMs, resetAfterMs } = this.#policy;
    const nowMs = this.#now();
    if (this.#workingSinceMs !== undefined && nowMs - this.#workingSinceMs >= resetAfterMs) this.#failures = 0;
    this.#workingSinceMs = undefined;

    if (this.#failures === 0) this.#failingSinceMs = nowMs;
    this.#failures += 1;
    if (this.#failures >= maxFailures && nowMs - this.#failingSinceMs >= minSpanMs) return { retry: false };
    return { retry: true, waitMs: waitAfter(this.#policy, this.#failures, retryAfterMs, this.#random) };
  }
}

/**
 * Wait before the next try, in milliseconds, after this many failures in a row (1 after the first). It doubles from
 * `initialMs` up to `maxMs`, and half of it is random. A wait that the server asked for replaces it, within bounds.
 */
export function waitAfter(
  { initialMs, maxMs }: Pick<BackoffPolicy, "initialMs" | "maxMs">,
  failures: number,
  retryAfterMs: number,
  random: () => number = Math.random,
): number {
  if (retryAfterMs > 0) return Math.min(Math.max(retryAfterMs, MIN_RETRY_AFTER_MS), MAX_RETRY_AFTER_MS);
  const ceilingMs = Math.min(initialMs * 2 ** (failures - 1), maxMs);
  return ceilingMs / 2 + (ceilingMs / 2) * random();
}

/** Options of {@linkcode retry}. */
export interface RetryOptions {
  /** Decides on waits and giving up. Use one per kind of work, so that one kind's failures don't delay another. */
  readonly backoff: Backoff;
  /** Whether to retry after an error. Default: {@linkcode TransientError} only. */
  readonly isRetryable?: (error: unknown) => error is Error;
  /** Called after each failure, before the wait. */
  readonly onRetry?: (error: Error, waitMs: number) => void;
  /** Replaces {@linkcode sleep} in tests. */
  readonly sleep?: Clock["sleep"];
}

/**
 * Runs work, and runs it again after each retryable failure.
 *
 * @param work gets the signal, and a function to report success, which resets the failure count in time
 * @throws the signal's reason if it is aborted; an error that isn't retryable, at once; an error with the last failure
 * as its cause when the back-off gives up
 */
export async function retry<Value>(
  work: (signal: AbortSignal, working: () => void) => Promise<Value>,
  { backoff, isRetryable = isTransient, onRetry, sleep: wait = sleep }: RetryOptions,
  signal: AbortSignal,
): Promise<Value> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await work(signal, () => backoff.working());
    } catch (error) {
      if (!isRetryable(error)) throw error;
      signal.throwIfAborted();
      const next = backoff.failed(error instanceof TransientError ? error.retryAfterMs : 0);
      if (!next.retry) {
        throw new Error(`Gave up after ${backoff.failures} failures in a row: ${error.message}`, { cause: error });
      }
      onRetry?.(error, next.waitMs);
      await wait(next.waitMs, signal);
    }
  }
}

function isTransient(error: unknown): error is Error {
  return error instanceof TransientError;
}

/** Runs work one at a time, in the order of the calls. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs the work when all earlier work has ended, whether it succeeded or failed.
   *
   * @param signal aborts the wait, not work that has begun
   */
  run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#last;
    const mine = unlessAborted(turn, signal).then(work);
    // The next one waits for this one's end, not its success. Our caller gets the error.
    this.#last = turn.then(() => mine).then(() => {}, () => {});
    return mine;
  }
}

/** A mutex per key, kept while it is in use. */
export class KeyedMutex {
  readonly #mutexes = new Map<string, { readonly mutex: Mutex; users: number }>();

  /** Number of keys under which work runs or waits. */
  get size(): number {
    return this.#mutexes.size;
  }

  /** Runs the work under the key's mutex. */
  async run<T>(key: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const entry = this.#mutexes.get(key) ?? { mutex: new Mutex(), users: 0 };
    this.#mutexes.set(key, entry);
    entry.users += 1;
    try {
      return await entry.mutex.run(work, signal);
    } finally {
      entry.users -= 1;
      if (entry.users === 0) this.#mutexes.delete(key);
    }
  }
}

/** Limits how much work runs at once. The rest starts in the order of the calls. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param permits how many may run at once */
  constructor(permits: number) {
    this.#free = permits;
  }

  /**
   * Runs the work when a permit is free.
   *
   * @param signal aborts the wait, not work that has begun
   */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      // Hands the permit to the next waiter, so that a new caller can't overtake it.
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(begin), 1);
        reject(signal.reason);
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.push(begin);
    });
  }
}

/**
 * Waits for work until the signal is aborted. The work itself goes on.
 *
 * @throws what the work throws; the signal's reason as soon as it is aborted
 */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Runs background work: in order under the same key, concurrently under different keys. */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<void>>();
  readonly #stop: AbortSignal;
  readonly #failed: (error: unknown) => void;

  /**
   * @param stop no work starts after it is aborted; running work goes on
   * @param failed called with each error that work throws, unless it is only the stop
   */
  constructor(stop: AbortSignal, failed: (error: unknown) => void) {
    this.#stop = stop;
    this.#failed = failed;
  }

  /** Runs the work when all earlier work under the same key has ended. */
  run(key: string, work: () => Promise<void>): void {
    const tail = (this.#tails.get(key) ?? Promise.resolve()).then(() => this.#do(work)).then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    this.#tails.set(key, tail);
  }

  /** Whether work under this key runs or waits. */
  isBusy(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Resolves when no work runs or waits. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values());
  }

  async #do(work: () => Promise<void>): Promise<void> {
    if (this.#stop.aborted) return;
    try {
      await work();
    } catch (error) {
      const isStop = this.#stop.aborted &&
        (error === this.#stop.reason || (error instanceof Error && error.name === "AbortError"));
      if (!isStop) this.#failed(error);
    }
  }
}

/** Rate limiter: allows a burst after a pause, then one turn per interval. */
export class Throttle {
  readonly #burst: number;
  readonly #everyMs: number;
  readonly #clock: Clock;
  /** When the next turn would be due at an even rate. */
  #dueAtMs = -Infinity;

  /**
   * @param burst turns that are allowed at once after a pause
   * @param everyMs interval between turns after that, in milliseconds
   */
  constructor({ burst, everyMs, clock = systemClock }: {
    readonly burst: number;
    readonly everyMs: number;
    readonly clock?: Clock;
  }) {
    this.#burst = burst;
    this.#everyMs = everyMs;
    this.#clock = clock;
  }

  /**
   * Waits for the next turn.
   *
   * @throws the signal's reason
   */
  async turn(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.now();
    // A clock that is set back must not cause a long wait.
    this.#dueAtMs = Math.min(Math.max(this.#dueAtMs, nowMs - (this.#burst - 1) * this.#everyMs), nowMs + this.#everyMs);
    const waitMs = this.#dueAtMs - nowMs;
    this.#dueAtMs += this.#everyMs;
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
    signal.throwIfAborted();
  }
}
