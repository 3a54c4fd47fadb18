/**
 * Waiting, retrying and taking turns: sleep, deadline, back-off, retry, mutex, keyed queue.
 *
 * @module
 */

import { TransientError } from "./errors.ts";

/** Time, as tests replace it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Waits; rejects with the signal's reason as soon as that is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Real time. */
export const systemClock: Clock = { now: () => Date.now(), sleep };

/** The longest time that a timer can be set to; beyond it, it would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

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
  const timer = setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
  signal.addEventListener("abort", abort, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
}

/** A signal that is aborted after a time, or with its parent. Disposing stops the timer and aborts nothing. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal;
  readonly #clock: Clock;
  readonly #reason: unknown;
  readonly #forward = (): void => this.#controller.abort(this.#parent.reason);
  #timer = new AbortController();
  #expired = false;

  /**
   * @param ms milliseconds from now
   * @param parent aborts this one at once
   * @param reason given when the time is over; a TimeoutError unless said otherwise
   */
  constructor(
    ms: number,
    parent: AbortSignal,
    { clock = systemClock, reason }: { readonly clock?: Clock; readonly reason?: unknown } = {},
  ) {
    this.#parent = parent;
    this.#clock = clock;
    this.#reason = reason ?? new DOMException("The time for it is over", "TimeoutError");
    if (parent.aborted) this.#forward();
    parent.addEventListener("abort", this.#forward);
    this.extend(ms);
  }

  /** Aborted when the time is over, with the parent, or by {@linkcode cancel}. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The time is over; not merely the parent aborted. */
  get expired(): boolean {
    return this.#expired;
  }

  /** Starts anew with so many milliseconds. */
  extend(ms: number): void {
    this.#timer.abort();
    const timer = this.#timer = new AbortController();
    this.#clock.sleep(ms, timer.signal).then(() => {
      if (this.signal.aborted) return;
      this.#expired = true;
      this.#controller.abort(this.#reason);
    }, (error) => {
      if (!timer.signal.aborted) this.#controller.abort(error);
    });
  }

  /** Aborts it: nobody waits any more, such as for the rest of a body. */
  cancel(): void {
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.#parent.removeEventListener("abort", this.#forward);
    this.#timer.abort();
  }
}

/** Wakes a loop that waits. A notification that nobody was waiting for ends the next wait. */
export class Wakeup {
  #notified = false;
  #wake = (): void => {};

  /** Ends the wait under way, or the next one. */
  notify(): void {
    this.#notified = true;
    this.#wake();
  }

  /**
   * Waits until it is notified, or the time is over.
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

/** When to wait after failures, for how long, and when to give up. Times are milliseconds. */
export interface BackoffPolicy {
  /** Wait after the first failure. */
  readonly initialMs: number;
  /** Longest wait of our own. */
  readonly maxMs: number;
  /** Failures in a row after which there is no next try, if they also span `minSpanMs`; Infinity: never give up. */
  readonly maxFailures: number;
  /** From the first failure of a row to the last one: for less than that there is always a next try. */
  readonly minSpanMs: number;
  /** Working for this long makes the next failure the first one again. */
  readonly resetAfterMs: number;
}

/** A server's `Retry-After` is honoured up to this; more would let one answer silence the operator. */
const MAX_RETRY_AFTER_MS = 5 * 60_000;
/** And from this on; less would be a request loop at the server's bidding. */
const MIN_RETRY_AFTER_MS = 250;

/**
 * SPEC 5c: 1 s doubling to 15 s; gives up after so many failures in a row that span 15 minutes; three minutes of health
 * reset the count.
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

/** What happens after a failure: another try after `waitMs`, or none. */
export type NextTry = { readonly retry: true; readonly waitMs: number } | { readonly retry: false };

/** Counts failures in a row of one kind of work against a {@linkcode BackoffPolicy}. */
export class Backoff {
  readonly #policy: BackoffPolicy;
  readonly #now: () => number;
  readonly #random: () => number;
  #failures = 0;
  #failingSinceMs = 0;
  #workingSinceMs: number | undefined;

  /**
   * No failure has been counted yet.
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
    this.#workingSinceMs ??= this.#now();
  }

  /** Counts a failure; `retryAfterMs` is what the server asked for, 0 if it did not ask. */
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
 * How long to wait after so many failures in a row (1 after the first), in milliseconds: doubling from the first wait to
 * the longest, half of it left to chance. What the server asked for takes the place of that, within bounds.
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

/** How to retry. */
export interface RetryOptions {
  /** Decides on waits and on giving up; one for each kind of work, so that kinds don't lengthen each other's waits. */
  readonly backoff: Backoff;
  /** Failures that are worth another try; {@linkcode TransientError} unless said otherwise. */
  readonly isRetryable?: (error: unknown) => error is Error;
  /** Told of each failure before its wait. */
  readonly onRetry?: (error: Error, waitMs: number) => void;
  /** Waits; {@linkcode sleep} unless a test says otherwise. */
  readonly sleep?: Clock["sleep"];
}

/**
 * Does something, and does it again after each failure that time may cure.
 *
 * @param work is given the signal, and a function to say that it goes well, so that failures are forgiven in time
 * @throws the signal's reason when aborted; any other error of the work, at once; an error with the last failure as its
 * cause when the back-off gives up
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

/** Runs pieces of work one after the other, in the order in which they were given. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs the work once all earlier work has ended, well or badly.
   *
   * @param signal ends the wait; work that has begun takes a signal of its own
   */
  run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#last;
    const mine = unlessAborted(turn, signal).then(work);
    // The next in line waits for the ends of all before, not for success; whoever called us gets the failure itself.
    this.#last = turn.then(() => mine).then(() => {}, () => {});
    return mine;
  }
}

/** A mutex for each key, as long as it is in use. */
export class KeyedMutex {
  readonly #mutexes = new Map<string, { readonly mutex: Mutex; users: number }>();

  /** Keys under which work runs or waits. */
  get size(): number {
    return this.#mutexes.size;
  }

  /** Runs the work under the mutex of this key. */
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

/** Lets so many pieces of work run at once; the others begin in the order in which they came. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param permits how many may run at once */
  constructor(permits: number) {
    this.#free = permits;
  }

  /**
   * Runs the work once there is room for it.
   *
   * @param signal ends the wait; work that has begun takes a signal of its own
   */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      // A permit is handed on, so that nobody who comes in between overtakes.
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
 * Waits for work that goes on all the same when nobody waits for it any more.
 *
 * @throws what it throws; the signal's reason as soon as that is aborted
 */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Background work that is done in order under the same key, and side by side under different ones. */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<void>>();
  readonly #stop: AbortSignal;
  readonly #failed: (error: unknown) => void;

  /**
   * @param stop nothing is begun after it is aborted; what is under way goes on
   * @param failed told of what a piece of work throws, unless that is only the stop
   */
  constructor(stop: AbortSignal, failed: (error: unknown) => void) {
    this.#stop = stop;
    this.#failed = failed;
  }

  /** Does a piece of work when all that was given before under the same key is over. */
  run(key: string, work: () => Promise<void>): void {
    const tail = (this.#tails.get(key) ?? Promise.resolve()).then(() => this.#do(work)).then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    this.#tails.set(key, tail);
  }

  /** Work under this key is under way. */
  isBusy(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Resolves when nothing is under way. */
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

/** Lets something happen only so often: a burst after a pause, then one at a time. */
export class Throttle {
  readonly #burst: number;
  readonly #everyMs: number;
  readonly #clock: Clock;
  /** When the next one would be due if all came evenly. */
  #dueAtMs = -Infinity;

  /**
   * @param burst how many may happen at once after a pause
   * @param everyMs how much time lies between two of a longer row, milliseconds
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
   * Waits until it may happen once more.
   *
   * @throws the signal's reason
   */
  async turn(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.now();
    // A clock that was set back must not make us wait.
    this.#dueAtMs = Math.min(Math.max(this.#dueAtMs, nowMs - (this.#burst - 1) * this.#everyMs), nowMs + this.#everyMs);
    const waitMs = this.#dueAtMs - nowMs;
    this.#dueAtMs += this.#everyMs;
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
    signal.throwIfAborted();
  }
}
