/**
 * One at a time. Knows nothing of what is done.
 *
 * @module
 */

/** Runs pieces of work one after the other, in the order in which they were given. */
export class Lock {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs the work once all earlier work has ended, well or badly.
   *
   * @param signal ends the wait; what has begun takes a signal of its own
   */
  run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#last;
    const mine = either(turn, signal).then(work);
    // The next in line waits for the ends of all before, not for success; whoever called us gets the failure itself.
    this.#last = turn.then(() => mine).catch((): void => undefined);
    return mine;
  }
}

/** A lock for each name. */
export class Locks {
  readonly #locks = new Map<string, Lock>();

  /** Runs the work under the lock of this name. */
  run<T>(name: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    let lock = this.#locks.get(name);
    if (lock === undefined) this.#locks.set(name, lock = new Lock());
    return lock.run(work, signal);
  }
}

/** Waits for something that does not fail, or ends with the signal's reason. */
function either(turn: Promise<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => reject(signal.reason);
    if (signal.aborted) return end();
    signal.addEventListener("abort", end);
    turn.then(() => {
      signal.removeEventListener("abort", end);
      resolve();
    });
  });
}
