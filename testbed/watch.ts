/**
 * Events that a phone shows, and waiting for them.
 *
 * @module
 */

/** A JSON object. */
// deno-lint-ignore no-explicit-any
export type Content = Readonly<Record<string, any>>;

/** An event of a room's timeline, as a user's phone shows it. */
export interface SeenEvent {
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id. */
  readonly sender: string;
  /** State key of a state event. */
  readonly stateKey: string | null;
  /** Event type; the inner one if it was decrypted. */
  readonly type: string;
  /** Content; the inner one if it was decrypted. */
  readonly content: Content;
  /** Content as sent by the homeserver. */
  readonly outerContent: Content;
  /** Whether it was encrypted, and could be decrypted. */
  readonly how: "clear" | "decrypted" | "undecryptable";
}

/** Events that a user sees in a room from now on. Create it before the action whose effect you wait for. */
export class Watch implements Disposable {
  /** All events seen so far, in timeline order. */
  readonly events: SeenEvent[] = [];
  readonly #who: string;
  readonly #roomId: string;
  readonly #end: () => void;
  readonly #waiters = new Set<() => void>();

  /** Use {@linkcode Person.watch}. */
  constructor(who: string, roomId: string, end: () => void) {
    this.#who = who;
    this.#roomId = roomId;
    this.#end = end;
  }

  /**
   * The first matching event, whether it has already been seen or arrives within the deadline.
   *
   * @param what describes the event in the error message
   * @param accept whether an event matches
   * @param deadlineMs longest wait in milliseconds
   * @throws Error listing all events seen, if none matches
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

  /** Called by the person with each event that the phone shows. */
  see(event: SeenEvent): void {
    if (event.roomId !== this.#roomId) return;
    // An event whose key came late is told again.
    const before = this.events.findIndex(({ eventId }) => eventId === event.eventId);
    if (before === -1) this.events.push(event);
    else this.events[before] = event;
    for (const look of this.#waiters) look();
  }

  /** Stops watching. */
  [Symbol.dispose](): void {
    this.#end();
  }
}
