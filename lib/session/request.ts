/**
 * Requests to the homeserver: one function, with a deadline over headers and body, and failures translated into the
 * few kinds that the rest of the program tells apart. Knows nothing of what is asked.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError, TransientError } from "../errors.ts";
import { count, type Json, object, text } from "../json.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Deadline of an ordinary request in milliseconds. */
export const REQUEST_DEADLINE_MS = 30_000;

/** The homeserver does not (or no longer) accept our access token. Matrix spec v1.16, client-server API, 5.7.3. */
export class TokenRefused extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "TokenRefused";
  /** The device still exists: log in again under the same device id. */
  readonly soft: boolean;

  /** By `soft_logout` of the answer. */
  constructor(soft: boolean) {
    super(`the homeserver refused the access token (${soft ? "soft logout" : "the session has ended"})`);
    this.soft = soft;
  }
}

/** A request as {@linkcode Requests.send} takes it. */
export interface Request {
  /** HTTP method. */
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path after the base URL, already encoded: see {@linkcode path}. */
  readonly path: string;
  /** Query parameters; undefined ones are left out. */
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** JSON body; a string is sent as it is, parameters as a form. */
  readonly body?: Json | string | URLSearchParams;
  /** Deadline over headers and body, milliseconds; {@linkcode REQUEST_DEADLINE_MS} if left out. */
  readonly deadlineMs?: number;
}

/** A path with its variable parts encoded: ``path`/rooms/${roomId}/join` ``. */
export function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.reduce((made, part, index) => made + part + encodeURIComponent(values[index] ?? ""), "");
}

/** Sends requests to one homeserver, over connections of its own. */
export class Requests implements Disposable {
  /** Base URL without a trailing slash. */
  readonly baseUrl: string;
  /** Sent with every request once it is set. */
  accessToken: string | undefined;
  /**
   * Over HTTP/2 all requests share one connection; when that is dead they hang, and so do all that come after them, for
   * as long as the kernel does not notice: about a quarter of an hour.
   */
  readonly #client = Deno.createHttpClient({ http2: false });

  /** Makes no request yet; the URL is such as `https://matrix.example.org`. */
  constructor(baseUrl: string) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
  }

  /**
   * Sends a request and reads its answer.
   *
   * @returns the answer's JSON object as text and parsed
   * @throws TransientError if the server could not be reached in time, or asked to come back (429, 5xx)
   * @throws TokenRefused if the access token is refused
   * @throws RejectedError if the request itself is refused
   */
  async send(request: Request, signal: AbortSignal): Promise<{ readonly json: Json; readonly body: string }> {
    const { body: given } = request;
    const what = `${request.method} ${this.baseUrl}${request.path}`;
    const { response, body } = await this.exchange(
      this.#url(request),
      {
        method: request.method,
        headers: this.#headers(request),
        ...(given === undefined ? {} : {
          body: typeof given === "string" || given instanceof URLSearchParams ? given : JSON.stringify(given),
        }),
        redirect: "manual",
      },
      request.deadlineMs ?? REQUEST_DEADLINE_MS,
      signal,
    );
    return { json: answer(what, request.path, response, body), body };
  }

  /**
   * One request, to whomever, and its whole answer, whatever its status. Queries are left out of messages: they may hold
   * secrets.
   *
   * @throws TransientError if there was no whole answer within the deadline
   */
  async exchange(
    url: URL,
    init: RequestInit,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<{ readonly response: Response; readonly body: string }> {
    signal.throwIfAborted();
    const what = `${init.method} ${url.origin}${url.pathname}`;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), deadlineMs);
    try {
      const response = await fetch(url, {
        ...init,
        client: this.#client,
        signal: AbortSignal.any([signal, deadline.signal]),
      });
      const body = await response.text();
      log.debug("{what}: {status}", { what, status: response.status });
      return { response, body };
    } catch (error) {
      signal.throwIfAborted();
      if (deadline.signal.aborted) {
        throw new TransientError(`Cannot ${what}: no answer within ${deadlineMs / 1_000} s`);
      }
      // fetch says TypeError for everything below HTTP: name not found, refused, broken off. Its cause repeats the URL
      // first.
      if (error instanceof TypeError) {
        const { message } = error.cause instanceof Error ? error.cause : error;
        throw new TransientError(`Cannot ${what}: ${message.split(url.href).at(-1)?.replace(/^\): /, "")}`);
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#client.close();
  }

  #url(request: Request): URL {
    const url = new URL(this.baseUrl + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    return url;
  }

  #headers(request: Request): Headers {
    const headers = new Headers();
    if (request.body !== undefined && !(request.body instanceof URLSearchParams)) {
      headers.set("content-type", "application/json");
    }
    if (this.accessToken !== undefined) headers.set("authorization", `Bearer ${this.accessToken}`);
    return headers;
  }
}

/** Where an answer redirects to; undefined if it does not, or, without a base, says so by a path alone. */
export function redirectOf({ status, headers }: Response, base?: URL): URL | undefined {
  const location = headers.get("location");
  if (status < 300 || status >= 400 || location === null) return undefined;
  return URL.parse(location, base) ?? undefined;
}

function answer(what: string, path: string, response: Response, body: string): Json {
  let json: Json | undefined;
  try {
    json = object(JSON.parse(body));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (response.ok && json !== undefined) return json;
  const { status } = response;
  // Never followed: the token would go to wherever that is.
  const redirect = redirectOf(response);
  if (redirect !== undefined) {
    throw new TransientError(
      `Cannot ${what}: ${status}, it redirects to ${redirect.origin}; give the URL where that ends`,
    );
  }
  if (response.ok) throw new TransientError(`Cannot ${what}: the answer is not JSON`);
  const code = text(json?.["errcode"]) ?? "";
  if (status === 401 && (code === "M_UNKNOWN_TOKEN" || code === "M_MISSING_TOKEN")) {
    throw new TokenRefused(json?.["soft_logout"] === true);
  }
  // A homeserver gives a code with every refusal, or flows of authentication; what has neither comes from a proxy.
  const isFromProxy = code === "" && json?.["flows"] === undefined && path.startsWith("/_matrix/");
  if (status === 429 || status >= 500 || isFromProxy) {
    throw new TransientError(`Cannot ${what}: ${status} ${code}`.trimEnd(), {
      retryAfterMs: retryAfterMs(response.headers, json),
    });
  }
  throw new RejectedError(`Cannot ${what}: ${status} ${code}`.trimEnd(), status, code, json);
}

/** The server's wish: the header in seconds or as a date, or `retry_after_ms` of older servers. */
function retryAfterMs(headers: Headers, json: Json | undefined): number {
  const header = headers.get("retry-after");
  if (header !== null) {
    if (/^\d+$/.test(header)) return Number(header) * 1_000;
    const dateMs = Date.parse(header);
    if (!Number.isNaN(dateMs)) return Math.max(0, dateMs - Date.now());
  }
  return count(json?.["retry_after_ms"]) ?? 0;
}
