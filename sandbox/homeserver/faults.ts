/**
 * Fault injection, and a log of all requests.
 *
 * @module
 */

/** A request in the log. */
export interface Logged {
  readonly method: string;
  /** Template of the endpoint, such as `/rooms/{roomId}/join`; the path itself if there is no such endpoint. */
  readonly template: string;
  /** Path and query. */
  readonly path: string;
  /** User id; undefined without a valid token. */
  userId: string | undefined;
  /** Device id; undefined without a valid token. */
  deviceId: string | undefined;
  /** HTTP status; undefined while there is no response, and if there never was one. */
  status: number | undefined;
}

/** A fault, and the requests that it affects. */
export interface Fault {
  /** Affects this method only. */
  readonly method?: string;
  /** Affects this template, or matching templates, only. */
  readonly path?: string | RegExp;
  /** Affects this user only. */
  readonly userId?: string;
  /** Number of requests to let through first. */
  readonly skip?: number;
  /** Number of requests to affect. Default: until the fault is removed. */
  readonly times?: number;
  /** Delay before anything else, in milliseconds. Infinity delays until the fault is removed. */
  readonly delayMs?: number;
  /** Whether to carry the request out before the fault takes effect. */
  readonly after?: boolean;
  /** Response to send instead. */
  readonly answer?: { readonly status: number; readonly body?: unknown; readonly headers?: Record<string, string> };
  /**
   * `stall` sends the headers and then nothing until the fault is removed. `drop` breaks the connection in the body.
   */
  readonly body?: "stall" | "drop";
}

/** A fault in force. Disposing of it removes it. */
export interface ActiveFault extends Disposable {
  /** Number of requests that it has affected. */
  readonly hits: number;
}

/** Returns a Matrix 429 response (Matrix spec v1.16, client-server API, 2.2.1). */
export function tooManyRequests(retryAfterMs: number): Required<Fault>["answer"] {
  return {
    status: 429,
    body: { errcode: "M_LIMIT_EXCEEDED", error: "Too Many Requests", retry_after_ms: retryAfterMs },
    headers: { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) },
  };
}

/** A fault in force, with its counter. */
export class Striking implements ActiveFault {
  readonly fault: Fault;
  /** Number of requests that it has affected. */
  hits = 0;
  #skipped = 0;
  readonly #over = new AbortController();

  constructor(fault: Fault) {
    this.fault = fault;
  }

  /** Aborted when the fault is removed. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Whether the fault affects this request. Counts it if so. */
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

/** Log of the requests to a homeserver. */
export class RequestLog {
  /** All requests, oldest first. */
  readonly entries: Logged[] = [];
  readonly #waiting = new Set<(entry: Logged) => void>();

  /** Adds a request. */
  note(entry: Logged): void {
    this.entries.push(entry);
    for (const look of [...this.#waiting]) look(entry);
  }

  /** Counts the requests so far with this method and template. */
  count(method: string, template: string): number {
    return this.entries.filter((entry) => entry.method === method && entry.template === template).length;
  }

  /** Returns the next request that matches, as it arrives. Rejects when the signal aborts. */
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
