/**
 * What a phone shows, and waiting for it. Knows nothing of how it gets there.
 *
 * @module
 */

/** JSON object. */
// deno-lint-ignore no-explicit-any
export type Content = Readonly<Record<string, any>>;

/** An event of a room's timeline as a person's phone shows it. */
export interface SeenEvent {
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id. */
  readonly sender: string;
  /** For state events: the state key. */
  readonly stateKey: string | null;
  /** Event type; of a decrypted event the one within. */
  readonly type: string;
  /** Content; of a decrypted event the one within. */
  readonly content: Content;
  /** Content as the homeserver gave it. */
  readonly outerContent: Content;
  /** Whether it was encrypted, and whether it could be read. */
  readonly how: "clear" | "decrypted" | "undecryptable";
}

/** What a person sees in a room from some moment on. Made before the act whose effect is waited for. */
export class Watch implements Disposable {
  /** Everything seen so far, in the order of the timeline. */
  readonly events: SeenEvent[] = [];
  readonly #who: string;
  readonly #roomId: string;
  readonly #end: () => void;
  readonly #waiters = new Set<() => void>();

  /** Made by {@linkcode Person.watch}. */
  constructor(who: string, roomId: string, end: () => void) {
    this.#who = who;
    this.#roomId = roomId;
    this.#end = end;
  }

  /**
   * The first event that is accepted, whether it has been seen already or comes in time.
   *
   * @param what for the error message
   * @param accept which event
   * @param deadlineMs longest wait in milliseconds
   * @throws Error with everything that was seen instead
   */
  async first(what: string, accept: (event: SeenEvent) => boolean, deadlineMs = 10_000): Promise<SeenEvent> {
    const found = this.events.find(accept);
    if (found) return found;
    const { promise, resolve, reject } = Promise.withResolvers<SeenEvent>();
    const look = () => {
      const event = this.events.findLast(accept);
      if (event) resolve(event);
    };
    const timer = setTimeout(() => {
      const seen = this.events.map(({ sender, type, how, content }) =>
        `${sender} ${type} (${how}): ${content.body ?? ""}`
      );
      reject(new Error(`${this.#who}: no ${what} within ${deadlineMs} ms; seen: ${JSON.stringify(seen, null, 1)}`));
    }, deadlineMs);
    this.#waiters.add(look);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(look);
    }
  }

  /** Takes an event that the phone shows; called by the person. */
  see(event: SeenEvent): void {
    if (event.roomId !== this.#roomId) return;
    this.events.push(event);
    for (const look of this.#waiters) look();
  }

  /** Stops looking. */
  [Symbol.dispose](): void {
    this.#end();
  }
}
