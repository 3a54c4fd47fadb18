/**
 * Faults on demand, and a log of all requests to count by. Knows paths as templates, nothing of what they do.
 *
 * @module
 */

/** A request as it was seen. */
export interface Logged {
  /** HTTP method. */
  readonly method: string;
  /** Path as the router knows it, such as `/rooms/{roomId}/join`; the path itself if it knows none. */
  readonly template: string;
  /** Path and query. */
  readonly path: string;
  /** User id; undefined if the request named no valid token. */
  userId: string | undefined;
  /** Device id; undefined if the request named no valid token. */
  deviceId: string | undefined;
  /** HTTP status; undefined while it is being answered, and if it never was. */
  status: number | undefined;
}

/** What goes wrong, and for which requests. */
export interface Fault {
  /** Only this method. */
  readonly method?: string;
  /** Only this template, or templates that match. */
  readonly path?: string | RegExp;
  /** Only this user id. */
  readonly userId?: string;
  /** Lets so many requests through first. */
  readonly skip?: number;
  /** Goes wrong so often; without it until the fault is removed. */
  readonly times?: number;
  /** Waits before anything else, milliseconds; Infinity answers only when the fault is removed. */
  readonly delayMs?: number;
  /** Does what was asked for first, and then goes wrong. */
  readonly after?: boolean;
  /** An answer in place of the right one. */
  readonly answer?: { readonly status: number; readonly body?: unknown; readonly headers?: Record<string, string> };
  /** `stall`: headers, and then nothing until the fault is removed; `drop`: the connection breaks in the body. */
  readonly body?: "stall" | "drop";
}

/** A fault in force; disposing of it ends it. */
export interface ActiveFault extends Disposable {
  /** How often it has struck. */
  readonly hits: number;
}

/** 429 as Matrix tells it (Matrix spec v1.16, client-server API, 2.2.1). */
export function tooManyRequests(retryAfterMs: number): Required<Fault>["answer"] {
  return {
    status: 429,
    body: { errcode: "M_LIMIT_EXCEEDED", error: "Too Many Requests", retry_after_ms: retryAfterMs },
    headers: { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) },
  };
}

/** A fault with its count and its end. */
export class Striking implements ActiveFault {
  /** What goes wrong. */
  readonly fault: Fault;
  /** How often it has struck. */
  hits = 0;
  #skipped = 0;
  readonly #over = new AbortController();

  /** @param fault what goes wrong */
  constructor(fault: Fault) {
    this.fault = fault;
  }

  /** Aborted when the fault is removed. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Whether it strikes this request; counts it if so. */
  strikes(request: Logged): boolean {
    const { method, path, userId, skip = 0, times = Infinity } = this.fault;
    if (this.over.aborted || (method !== undefined && method !== request.method)) return false;
    if (userId !== undefined && userId !== request.userId) return false;
    if (typeof path === "string" ? path !== request.template : !(path?.test(request.template) ?? true)) return false;
    if (this.#skipped < skip) {
      this.#skipped += 1;
      return false;
    }
    if (this.hits >= times) return false;
    this.hits += 1;
    return true;
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }
}

/** The requests that a homeserver has seen. */
export class RequestLog {
  /** All requests, earliest first. */
  readonly entries: Logged[] = [];
  readonly #waiting = new Set<(entry: Logged) => void>();

  /** Notes a request. */
  note(entry: Logged): void {
    this.entries.push(entry);
    for (const look of [...this.#waiting]) look(entry);
  }

  /** Requests so far of that method and template. */
  count(method: string, template: string): number {
    return this.entries.filter((entry) => entry.method === method && entry.template === template).length;
  }

  /** The next request that matches, as it arrives; rejects when the signal aborts. */
  async next(matches: (entry: Logged) => boolean, signal: AbortSignal): Promise<Logged> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Logged>();
    const look = (entry: Logged) => matches(entry) && resolve(entry);
    const giveUp = () => reject(signal.reason);
    this.#waiting.add(look);
    signal.addEventListener("abort", giveUp);
    try {
      return await promise;
    } finally {
      this.#waiting.delete(look);
      signal.removeEventListener("abort", giveUp);
    }
  }
}
