/**
 * Waits for a condition by checking it again whenever something may have changed.
 *
 * @module
 */

/** Callers that wait for news. */
export class Waiting {
  readonly #looking = new Set<() => void>();
  #end: { readonly reason: unknown } | undefined;

  /** Makes every waiting caller check again. */
  news(): void {
    for (const look of [...this.#looking]) look();
  }

  /** Rejects all callers, present and future, with this reason. The first reason counts. */
  end(reason: unknown): void {
    this.#end ??= { reason };
    this.news();
  }

  /**
   * Calls `look` now and on all news until it returns a value.
   *
   * @param what names the value in the error
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
