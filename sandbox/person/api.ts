/**
 * Requests to a homeserver, each with a deadline over headers and body. Knows nothing of what is asked.
 *
 * @module
 */

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** The homeserver said no. */
export class Refused extends Error {
  /** The error's name. */
  override readonly name = "Refused";
  /** HTTP status. */
  readonly status: number;
  /** The answer's body. */
  readonly body: JsonObject;

  /**
   * A refusal.
   *
   * @param what what was asked
   * @param status HTTP status
   * @param body the answer's body
   */
  constructor(what: string, status: number, body: JsonObject) {
    super(`Cannot ${what}: ${status} ${body["errcode"] ?? ""} ${body["error"] ?? ""}`);
    this.status = status;
    this.body = body;
  }
}

/** A request that gets no answer is made so often, with pauses between. */
const TRIES = 3;
const PAUSE_MS = 200;

/** The client-server API as one user sees it. */
export class Api {
  readonly #url: string;
  readonly #signal: AbortSignal;
  /** Access token; empty before login. */
  token = "";

  /**
   * Not logged in yet.
   *
   * @param url base URL of the homeserver
   * @param signal ends every request
   */
  constructor(url: string, signal: AbortSignal) {
    this.#url = url;
    this.#signal = signal;
  }

  /**
   * Asks for a path below /_matrix/client/v3; again where no answer came, as clients do.
   *
   * @param timeoutMs deadline of each try, over headers and body
   * @throws Refused if the homeserver says no
   */
  async request(method: string, path: string, body?: unknown, timeoutMs = 10_000): Promise<JsonObject> {
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
