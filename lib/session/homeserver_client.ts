/**
 * Requests to the homeserver: one function, with a deadline over headers and body, and failures translated into the
 * few kinds that the rest of the program tells apart. Knows nothing of what is asked.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, systemClock, waitAfter } from "../async.ts";
import { RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { type HttpRequest, type HttpResponse, redirectOf, retryAfterMs, sendHttp, shownUrl } from "../http.ts";
import { count, type Json, parseObject, text } from "../json.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Deadline of an ordinary request in milliseconds. */
export const REQUEST_DEADLINE_MS = 30_000;

/**
 * So long in all a request waits by itself for what a rate limit (429) asks, milliseconds: a caller that starts over
 * repeats all that went well before. Longer wishes are left to the caller, who may hold what others wait for.
 */
const MAX_RATE_LIMIT_WAIT_MS = 15_000;

/** A request as {@linkcode HomeserverClient.send} takes it. */
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
  /** Needs no access token: none is sent, or renewed before. */
  readonly isOpen?: boolean;
}

/** What keeps the access token of a client valid. */
export interface TokenRenewal extends Disposable {
  /** Renews the token if it is soon to expire. That this fails is no failure of the request: the token may still do. */
  renewIfDue(signal: AbortSignal): Promise<void>;
  /**
   * Renews a token that was refused, unless that has been done meanwhile.
   *
   * @param isSoft the device is still there, says the homeserver (`soft_logout`)
   * @throws TokenRefused if it cannot be renewed any more; TransientError
   */
  renewRefused(accessToken: string | undefined, isSoft: boolean, signal: AbortSignal): Promise<void>;
}

/** An answer that is a JSON object. */
export interface JsonAnswer {
  /** The object. */
  readonly json: Json;
  /** The same as text. */
  readonly body: string;
  /** Response headers. */
  readonly headers: Headers;
}

/** A path with its variable parts encoded: ``path`/rooms/${roomId}/join` ``. */
export function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.reduce((made, part, index) => made + part + encodeURIComponent(values[index] ?? ""), "");
}

/** What a client is made with, besides the homeserver. */
export interface ClientOptions {
  /** Told of each wait for a rate limit, milliseconds. */
  readonly onWait?: (waitMs: number) => void;
  /** Waits; real time unless a test says otherwise. */
  readonly clock?: Pick<Clock, "sleep">;
}

/** Sends requests to one homeserver, over connections of its own. */
export class HomeserverClient implements Disposable {
  /** Base URL without a trailing slash. */
  readonly baseUrl: string;
  /** Sent with every request once it is set. */
  accessToken: string | undefined;
  #renewal: TokenRenewal | undefined;
  readonly #onWait: (waitMs: number) => void;
  readonly #clock: Pick<Clock, "sleep">;
  /**
   * Over HTTP/2 all requests share one connection; when that is dead they hang, and so do all that come after them, for
   * as long as the kernel does not notice: about a quarter of an hour.
   */
  readonly #client = Deno.createHttpClient({ http2: false });

  /** For a base URL such as `https://matrix.example.org`. */
  constructor(baseUrl: string, { onWait = () => {}, clock = systemClock }: ClientOptions = {}) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.#onWait = onWait;
    this.#clock = clock;
  }

  /** From now on sends this access token, and has it renewed, where that can be done. */
  authenticate(accessToken: string | undefined, renewal?: TokenRenewal): void {
    this.#renewal?.[Symbol.dispose]();
    this.#renewal = renewal;
    this.accessToken = accessToken;
  }

  /**
   * Sends a request and reads its answer. A rate limit that asks for a short wait is waited for; an access token is
   * renewed in time, and when it is refused.
   *
   * @returns the answer's JSON object as text and parsed
   * @throws TransientError if the server could not be reached in time, or asked to come back (429, 5xx), or the account
   * is locked
   * @throws TokenRefused if the access token is refused
   * @throws RejectedError if the request itself is refused
   */
  async send(request: Request, signal: AbortSignal): Promise<JsonAnswer> {
    if (request.isOpen) return await this.#send(request, undefined, signal);
    await this.#renewal?.renewIfDue(signal);
    const { accessToken } = this;
    try {
      return await this.#send(request, accessToken, signal);
    } catch (error) {
      if (!(error instanceof TokenRefused) || this.#renewal === undefined) throw error;
      await this.#renewal.renewRefused(accessToken, error.soft, signal);
      return await this.#send(request, this.accessToken, signal);
    }
  }

  async #send(request: Request, accessToken: string | undefined, signal: AbortSignal): Promise<JsonAnswer> {
    const { body, deadlineMs = REQUEST_DEADLINE_MS, method } = request;
    const url = this.#url(request);
    const what = `${method} ${shownUrl(url)}`;
    const sent = {
      method,
      url,
      headers: headersOf(request, accessToken),
      body: body === undefined || typeof body === "string" || body instanceof URLSearchParams
        ? body
        : JSON.stringify(body),
      deadlineMs,
    };
    for (let waitedMs = 0;;) {
      const response = await this.exchange(sent, signal);
      const waitMs = rateLimitOf(response);
      if (waitMs === 0 || waitedMs + waitMs > Math.min(MAX_RATE_LIMIT_WAIT_MS, deadlineMs)) {
        return {
          json: readAnswer(what, request.path, response, this.baseUrl),
          body: response.body,
          headers: response.headers,
        };
      }
      waitedMs += waitMs;
      log.debug("waiting {waitMs} ms after a 429: {what}", { what, waitMs });
      this.#onWait(waitMs);
      await this.#clock.sleep(waitMs, signal);
    }
  }

  /**
   * One request, to whomever, and its whole answer, whatever its status. Queries are left out of messages: they may hold
   * secrets.
   *
   * @throws TransientError if there was no whole answer within the deadline
   */
  async exchange(request: Omit<HttpRequest, "client">, signal: AbortSignal): Promise<HttpResponse> {
    const response = await sendHttp({ ...request, client: this.#client }, signal);
    const what = `${request.method} ${shownUrl(request.url)}`;
    log.debug("answered {status}: {what}", { what, status: response.status });
    return response;
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#renewal?.[Symbol.dispose]();
    this.#client.close();
  }

  #url(request: Request): URL {
    const url = new URL(this.baseUrl + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    return url;
  }
}

function headersOf(request: Request, accessToken: string | undefined): Headers {
  const headers = new Headers();
  if (request.body !== undefined && !(request.body instanceof URLSearchParams)) {
    headers.set("content-type", "application/json");
  }
  if (accessToken !== undefined) headers.set("authorization", `Bearer ${accessToken}`);
  return headers;
}

/** How long a rate limit asks to wait, milliseconds and within bounds; 0 if the answer is none or asks for nothing. */
function rateLimitOf({ status, headers, body }: HttpResponse): number {
  const wishMs = status === 429 ? retryAfter(headers, parseObject(body)) : 0;
  return wishMs === 0 ? 0 : waitAfter({ initialMs: 0, maxMs: 0 }, 1, wishMs);
}

function retryAfter(headers: Headers, json: Json | undefined): number {
  return retryAfterMs(headers, count(json?.["retry_after_ms"]), Date.now());
}

function readAnswer(what: string, path: string, response: HttpResponse, baseUrl: string): Json {
  const { status } = response;
  const json = parseObject(response.body);
  const isOk = status >= 200 && status < 300;
  if (isOk && json !== undefined) return json;
  // Never followed: the token would go to wherever that is.
  const redirect = redirectOf(response, new URL(baseUrl));
  if (redirect !== undefined && redirect.origin !== new URL(baseUrl).origin) {
    throw new TransientError(
      `Cannot ${what}: ${status}, it redirects to ${redirect.origin}; give the URL where that ends`,
    );
  }
  if (isOk) throw new TransientError(`Cannot ${what}: the answer is not JSON`);
  const code = text(json?.["errcode"]) ?? "";
  // It says soft_logout, too, but the token works again once the account is unlocked (client-server API, 5.9).
  if (code === "M_USER_LOCKED") throw new TransientError(`Cannot ${what}: ${status} ${code}: the account is locked`);
  if (status === 401 && (code === "M_UNKNOWN_TOKEN" || code === "M_MISSING_TOKEN")) {
    throw new TokenRefused(json?.["soft_logout"] === true);
  }
  // A homeserver gives a code with every refusal, or flows of authentication; what has neither comes from a proxy. That
  // a URL or the headers are too long will not change, whoever says so.
  const isFromProxy = code === "" && json?.["flows"] === undefined && path.startsWith("/_matrix/") &&
    status !== 414 && status !== 431;
  const message = `Cannot ${what}: ${status} ${code}`.trimEnd();
  if (status === 429 || status >= 500 || isFromProxy) {
    throw new TransientError(message, { retryAfterMs: retryAfter(response.headers, json), status });
  }
  throw new RejectedError(message, status, code, json);
}
