/**
 * HTTP client for the homeserver: sends a request with one deadline over headers and body, and maps failures to this
 * program's error classes.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, systemClock, waitAfter } from "../async.ts";
import { RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { type HttpRequest, type HttpResponse, redirectOf, retryAfterMs, sendHttp, shownUrl } from "../http.ts";
import { count, type Json, parseObject, text } from "../json.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Deadline of an ordinary request, in milliseconds. */
export const REQUEST_DEADLINE_MS = 30_000;

/**
 * Longest total time, in milliseconds, that one request waits for rate limits (429) on its own. Giving up early would
 * make the caller repeat steps that have succeeded. Longer waits are left to the caller, which may hold locks.
 */
const MAX_RATE_LIMIT_WAIT_MS = 15_000;

/** A request for {@linkcode HomeserverClient.send}. */
export interface Request {
  /** HTTP method. */
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path after the base URL, percent-encoded. See {@linkcode path}. */
  readonly path: string;
  /** Query parameters. Undefined ones are omitted. */
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** JSON body. A string is sent as is, URLSearchParams as a form. */
  readonly body?: Json | string | URLSearchParams;
  /** Deadline over headers and body, in milliseconds. Default: {@linkcode REQUEST_DEADLINE_MS}. */
  readonly deadlineMs?: number;
  /** Whether the endpoint needs no access token. Then none is sent or refreshed. */
  readonly isOpen?: boolean;
}

/** Keeps a client's access token valid. */
export interface TokenRenewal extends Disposable {
  /**
   * Refreshes the token if it expires soon. A failure doesn't fail the request: the current token may still be valid.
   */
  renewIfDue(signal: AbortSignal): Promise<void>;
  /**
   * Refreshes a token that was refused, unless it has already been replaced.
   *
   * @param isSoft whether the homeserver still has the device (`soft_logout`)
   * @throws TokenRefused if the token can no longer be refreshed; TransientError
   */
  renewRefused(accessToken: string | undefined, isSoft: boolean, signal: AbortSignal): Promise<void>;
}

/** A response whose body is a JSON object. */
export interface JsonAnswer {
  /** The parsed body. */
  readonly json: Json;
  /** The body as text. */
  readonly body: string;
  /** Response headers. */
  readonly headers: Headers;
}

/** Builds a path and percent-encodes its variable parts: ``path`/rooms/${roomId}/join` ``. */
export function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.reduce((made, part, index) => made + part + encodeURIComponent(values[index] ?? ""), "");
}

/** Options of {@linkcode HomeserverClient}. */
export interface ClientOptions {
  /** Called before each wait for a rate limit, with its length in milliseconds. */
  readonly onWait?: (waitMs: number) => void;
  /** Replaces real time in tests. */
  readonly clock?: Pick<Clock, "sleep">;
}

/** Client of one homeserver, with its own connections. */
export class HomeserverClient implements Disposable {
  /** Base URL without a trailing slash. */
  readonly baseUrl: string;
  /** Sent with every request, if set. */
  accessToken: string | undefined;
  #renewal: TokenRenewal | undefined;
  readonly #onWait: (waitMs: number) => void;
  readonly #clock: Pick<Clock, "sleep">;
  /**
   * HTTP/2 would send all requests over one connection. If that dies, current and new requests hang until the kernel
   * notices, which takes about 15 minutes.
   */
  readonly #client = Deno.createHttpClient({ http2: false });

  /** Makes a client for a base URL such as `https://matrix.example.org`. Sends nothing. */
  constructor(baseUrl: string, { onWait = () => {}, clock = systemClock }: ClientOptions = {}) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.#onWait = onWait;
    this.#clock = clock;
  }

  /** Uses this access token from now on. `renewal`, if given, keeps it valid. */
  authenticate(accessToken: string | undefined, renewal?: TokenRenewal): void {
    this.#renewal?.[Symbol.dispose]();
    this.#renewal = renewal;
    this.accessToken = accessToken;
  }

  /**
   * Sends a request and reads the response. Waits for short rate limits. Refreshes the access token before it expires,
   * and again if it is refused.
   *
   * @returns the response's JSON object, as text and parsed
   * @throws TransientError if the server can't be reached in time, asks to retry (429, 5xx), or has locked the account
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
          json: parseAnswer(what, request.path, response, this.baseUrl),
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
   * Sends one request to any server and returns the complete response, whatever its status. Error messages omit the
   * query, which may hold secrets.
   *
   * @throws TransientError if the complete response doesn't arrive within the deadline
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

/** Returns the value if it is an access token that a header can carry (RFC 9110, 5.5, "field-vchar"). */
export function accessTokenOf(value: unknown): string | undefined {
  return typeof value === "string" && /^[\x21-\x7e]+$/.test(value) ? value : undefined;
}

function headersOf(request: Request, accessToken: string | undefined): Headers {
  const headers = new Headers();
  if (request.body !== undefined && !(request.body instanceof URLSearchParams)) {
    headers.set("content-type", "application/json");
  }
  if (accessToken !== undefined) headers.set("authorization", `Bearer ${accessToken}`);
  return headers;
}

/**
 * Returns how long to wait for a rate limit, in milliseconds, clamped. Returns 0 if there is none or it names no time.
 */
function rateLimitOf({ status, headers, body }: HttpResponse): number {
  const wishMs = status === 429 ? retryAfter(headers, parseObject(body)) : 0;
  return wishMs === 0 ? 0 : waitAfter({ initialMs: 0, maxMs: 0 }, 1, wishMs);
}

function retryAfter(headers: Headers, json: Json | undefined): number {
  return retryAfterMs(headers, count(json?.["retry_after_ms"]), Date.now());
}

function parseAnswer(what: string, path: string, response: HttpResponse, baseUrl: string): Json {
  const { status } = response;
  const json = parseObject(response.body);
  const isOk = status >= 200 && status < 300;
  if (isOk && json !== undefined) return json;
  // Redirects are never followed: they would reveal the token to the target.
  const redirect = redirectOf(response, new URL(baseUrl));
  if (redirect !== undefined && redirect.origin !== new URL(baseUrl).origin) {
    throw new TransientError(
      `Cannot ${what}: ${status}, it redirects to ${redirect.origin}; give the URL where that ends`,
    );
  }
  if (isOk) throw new TransientError(`Cannot ${what}: the answer is not JSON`);
  const code = text(json?.["errcode"]) ?? "";
  // This response has soft_logout, too, but the token works again once the account is unlocked (client-server API,
  // 5.9).
  if (code === "M_USER_LOCKED") throw new TransientError(`Cannot ${what}: ${status} ${code}: the account is locked`);
  if (status === 401 && (code === "M_UNKNOWN_TOKEN" || code === "M_MISSING_TOKEN")) {
    throw new TokenRefused(json?.["soft_logout"] === true);
  }
  // A homeserver sends an errcode or authentication flows with every refusal. A response with neither comes from a
  // proxy and is transient, except that a URL or headers that are too long (414, 431) stay too long.
  const isFromProxy = code === "" && json?.["flows"] === undefined && path.startsWith("/_matrix/") &&
    status !== 414 && status !== 431;
  const message = `Cannot ${what}: ${status} ${code}`.trimEnd();
  if (status === 429 || status >= 500 || isFromProxy) {
    throw new TransientError(message, { retryAfterMs: retryAfter(response.headers, json), status });
  }
  throw new RejectedError(message, status, code, json);
}
