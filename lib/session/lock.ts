/**
 * One at a time. Knows nothing of what is done.
 *
 * @module
 */

/** Runs pieces of work one after the other, in the order in which they were given. */
export class Lock {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs the work once all earlier work has ended, well or badly. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    // The next in line waits for the end, not for success; whoever called us gets the failure itself.
    this.#last = mine.catch((): void => undefined);
    return mine;
  }
}

/** A lock for each name. */
export class Locks {
  readonly #locks = new Map<string, Lock>();

  /** Runs the work under the lock of this name. */
  run<T>(name: string, work: () => Promise<T>): Promise<T> {
    let lock = this.#locks.get(name);
    if (lock === undefined) this.#locks.set(name, lock = new Lock());
    return lock.run(work);
  }
}
