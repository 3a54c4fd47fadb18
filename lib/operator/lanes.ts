/**
 * Work that goes on side by side, but one after the other under the same name: rooms and targets don't wait for each
 * other. Knows nothing of the work.
 *
 * @module
 */

/** Queues by name. */
export class Lanes {
  readonly #tails = new Map<string, Promise<void>>();
  readonly #stop: AbortSignal;
  readonly #failed: (error: unknown) => void;

  /**
   * Starts empty.
   *
   * @param stop nothing is begun after it is aborted; what is under way goes on
   * @param failed told of what a piece of work throws before that
   */
  constructor(stop: AbortSignal, failed: (error: unknown) => void) {
    this.#stop = stop;
    this.#failed = failed;
  }

  /** Does a piece of work when all that was given before under the same name is over. */
  run(name: string, work: () => Promise<void>): void {
    const tail = (this.#tails.get(name) ?? Promise.resolve()).then(() => this.#do(work)).then(() => {
      if (this.#tails.get(name) === tail) this.#tails.delete(name);
    });
    this.#tails.set(name, tail);
  }

  /** Work under this name is under way. */
  isBusy(name: string): boolean {
    return this.#tails.has(name);
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
      if (!this.#isEnd(error)) this.#failed(error);
    }
  }

  /** Work that was told to end says so by throwing; any other failure is one, also at the end. */
  #isEnd(error: unknown): boolean {
    if (!this.#stop.aborted) return false;
    return error === this.#stop.reason || (error instanceof Error && error.name === "AbortError");
  }
}
