/**
 * Requests to a homeserver, each with a deadline over headers and body.
 *
 * @module
 */

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** The homeserver has refused a request. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  /** Body of the response. */
  readonly body: JsonObject;

  /**
   * @param what request, for the message
   * @param status HTTP status
   * @param body body of the response
   */
  constructor(what: string, status: number, body: JsonObject) {
    super(`Cannot ${what}: ${status} ${body["errcode"] ?? ""} ${body["error"] ?? ""}`);
    this.status = status;
    this.body = body;
  }
}

/** Attempts per request, with pauses between them, if there is no response. */
const TRIES = 3;
const PAUSE_MS = 200;

/** The client-server API for one user. */
export class Api {
  readonly #url: string;
  readonly #signal: AbortSignal;
  /** Access token; empty before login. */
  token = "";

  /**
   * @param url base URL of the homeserver
   * @param signal aborts every request
   */
  constructor(url: string, signal: AbortSignal) {
    this.#url = url;
    this.#signal = signal;
  }

  /**
   * Sends a request to a path below /_matrix/client/v3. Retries if there is no response, as clients do.
   *
   * @param timeoutMs deadline of each attempt, over headers and body
   * @throws Refused if the homeserver refuses the request
   */
  async request(method: string, path: string, body?: unknown, timeoutMs = 60_000): Promise<JsonObject> {
    for (let tries = 1;; tries += 1) {
      try {
        return await this.#ask(method, path, body, timeoutMs);
      } catch (error) {
        if (error instanceof Refused || this.#signal.aborted || tries === TRIES) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async #ask(method: string, path: string, body: unknown, timeoutMs: number): Promise<JsonObject> {
    this.#signal.throwIfAborted();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(new Error(`No answer to ${method} ${path}`)), timeoutMs);
    try {
      const response = await fetch(`${this.#url}/_matrix/client/v3${path}`, {
        method,
        headers: { "content-type": "application/json", ...(this.token && { authorization: `Bearer ${this.token}` }) },
        signal: AbortSignal.any([deadline.signal, this.#signal]),
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Refused(`${method} ${path.split("?")[0]}`, response.status, answer);
      return answer;
    } finally {
      clearTimeout(timer);
    }
  }
}
