/**
 * Events of IndexedDB. Unlike those of the platform's EventTarget, they go from a request up to its transaction and
 * connection, and an exception of a handler reaches whoever has fired the event.
 *
 * @module
 */

/** An event. */
export class IDBEvent {
  /** Its name, such as `success`. */
  readonly type: string;
  /** Where it was fired. */
  target: IDBTarget | null = null;
  /** Whose handlers are being called. */
  currentTarget: IDBTarget | null = null;
  /** Whether it goes up to the target's parents. */
  readonly bubbles: boolean;
  /** Whether {@linkcode preventDefault} has an effect. */
  readonly cancelable: boolean;
  /** Whether a handler has called {@linkcode preventDefault}. */
  defaultPrevented = false;
  /** Whether a handler has called {@linkcode stopPropagation}. */
  isStopped = false;

  constructor(type: string, { bubbles = false, cancelable = false } = {}) {
    this.type = type;
    this.bubbles = bubbles;
    this.cancelable = cancelable;
  }

  /** Keeps an error from aborting its transaction. */
  preventDefault(): void {
    if (this.cancelable) this.defaultPrevented = true;
  }

  /** Keeps the event from going up further. */
  stopPropagation(): void {
    this.isStopped = true;
  }
}

/** The event `upgradeneeded`, `versionchange` or `blocked`. */
export class IDBVersionChangeEvent extends IDBEvent {
  /** Version before. */
  readonly oldVersion: number;
  /** Version after; null if the database is deleted. */
  readonly newVersion: number | null;

  constructor(type: string, oldVersion: number, newVersion: number | null) {
    super(type);
    this.oldVersion = oldVersion;
    this.newVersion = newVersion;
  }
}

/** Handles an event. */
export type Listener = (event: IDBEvent) => void;

/** Something that events are fired at. A handler may also be set as a property, such as `onsuccess`. */
export class IDBTarget {
  readonly #listeners = new Map<string, Set<Listener>>();

  /** Where its events go next, if they bubble. */
  protected get parent(): IDBTarget | undefined {
    return undefined;
  }

  /** Adds a handler. */
  addEventListener(type: string, listener: Listener): void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
  }

  /** Removes a handler. */
  removeEventListener(type: string, listener: Listener): void {
    this.#listeners.get(type)?.delete(listener);
  }

  /**
   * Calls the handlers, also if some of them throw.
   *
   * @returns whether none of them threw; what they threw is reported as uncaught
   */
  fire(event: IDBEvent): boolean {
    event.target = this;
    let succeeded = true;
    for (const at of event.bubbles ? this.#path() : [this]) {
      if (event.isStopped) break;
      event.currentTarget = at;
      for (const listener of at.#handlers(event.type)) {
        try {
          listener.call(at, event);
        } catch (error) {
          succeeded = false;
          reportError(error);
        }
      }
    }
    event.currentTarget = null;
    return succeeded;
  }

  #path(): IDBTarget[] {
    const { parent } = this;
    return parent === undefined ? [this] : [this, ...parent.#path()];
  }

  #handlers(type: string): Listener[] {
    const handler: unknown = Reflect.get(this, `on${type}`);
    return [...typeof handler === "function" ? [handler as Listener] : [], ...this.#listeners.get(type) ?? []];
  }
}
