/**
 * Waiting for something to be there, by looking again whenever there may be news. Knows nothing of what is looked for.
 *
 * @module
 */

/** Who waits, until news come or everything ends. */
export class Waiting {
  readonly #looking = new Set<() => void>();
  #end: { readonly reason: unknown } | undefined;

  /** Looks again for everybody who waits. */
  news(): void {
    for (const look of [...this.#looking]) look();
  }

  /** Ends all waiting, now and later, with this reason; the first one counts. */
  end(reason: unknown): void {
    this.#end ??= { reason };
    this.news();
  }

  /**
   * Looks now and at all news until something is there.
   *
   * @param what named in the error
   * @throws Error at the deadline, or the reason why waiting has ended
   */
  async until<T>(look: () => T | undefined, deadlineMs: number, what: () => string): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const lookNow = () => {
      const found = look();
      if (found !== undefined) resolve(found);
      else if (this.#end !== undefined) reject(this.#end.reason);
    };
    const giveUp = () => reject(new Error(`Cannot wait longer for ${what()}: ${deadlineMs} ms are over`));
    const timer = setTimeout(giveUp, deadlineMs);
    this.#looking.add(lookNow);
    try {
      lookNow();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#looking.delete(lookNow);
    }
  }
}
