/**
 * One HTTP request with limits: a deadline over headers and body, a maximum response size, and no redirects.
 *
 * @module
 */

import { Deadline, unlessAborted } from "./async.ts";
import { RejectedError, TransientError } from "./errors.ts";
import { count } from "./json.ts";

/** Default limit of a response body, in bytes. Reading takes six times as much memory, and a pod has 256 MiB. */
const MAX_BODY_BYTES = 16 * 1_024 * 1_024;
/** Error code for a response body over the limit. */
export const TOO_LARGE = "TOO_LARGE";
/** Longest URL that `fetch` sends, in characters. */
const MAX_URL_LENGTH = 65_534;
/** Longest URL shown in a message, in characters. Longer ones contain text made by others. */
const MAX_SHOWN_LENGTH = 300;

/** Start of the message about an untrusted certificate; the reason in rustls' words follows. */
export const UNTRUSTED_CERTIFICATE = "the certificate isn't trusted: ";

/** A request. */
export interface HttpRequest {
  /** HTTP method. */
  readonly method: string;
  /** Full URL. Error messages omit its query, which may hold secrets. */
  readonly url: URL;
  /** Headers. */
  readonly headers?: HeadersInit;
  /** Body. */
  readonly body?: BodyInit | undefined;
  /** Client whose connections to use. */
  readonly client?: Deno.HttpClient | undefined;
  /** Deadline for headers and body of the response, in milliseconds. */
  readonly deadlineMs: number;
  /** Largest response body, in bytes. Default: 16 MiB. */
  readonly maxBytes?: number;
  /** What errors say after "Cannot". Default: method and URL. */
  readonly action?: string;
}

/** A response with any status. */
export interface HttpResponse {
  /** HTTP status. */
  readonly status: number;
  /** Headers. */
  readonly headers: Headers;
  /** The complete body as text. */
  readonly body: string;
}

/**
 * Sends a request and reads the complete response.
 *
 * @throws TransientError if there is no complete response within the deadline; RejectedError if the response is too
 * large or the URL too long to be sent; the signal's reason if it is aborted
 */
export async function sendHttp(request: HttpRequest, signal: AbortSignal): Promise<HttpResponse> {
  signal.throwIfAborted();
  const { method, url, headers, body, client, deadlineMs, maxBytes = MAX_BODY_BYTES } = request;
  const action = request.action ?? `${method} ${shownUrl(url)}`;
  if (url.href.length > MAX_URL_LENGTH) {
    throw new RejectedError(`Cannot ${action}: its URL is longer than ${MAX_URL_LENGTH} characters`, 0, "TOO_LONG");
  }
  using deadline = new Deadline(deadlineMs, signal);
  try {
    const response = await fetch(url, {
      method,
      headers: headers ?? {},
      body: body ?? null,
      redirect: "manual",
      signal: deadline.signal,
      ...(client === undefined ? {} : { client }),
    });
    const text = await textOf(response, action, maxBytes, deadline.signal);
    return { status: response.status, headers: response.headers, body: text };
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.expired) throw new TransientError(`Cannot ${action}: no answer within ${deadlineMs / 1_000} s`);
    if (isNetworkFailure(error)) {
      // Without the cause, which contains the query.
      throw new TransientError(`Cannot ${action}: ${networkReason(error, url)}`);
    }
    throw error;
  }
}

/**
 * Reads a body. The signal of `fetch` doesn't reach a body whose Response has been garbage-collected (Deno 2.9.6), so
 * it is checked here too.
 */
async function textOf(response: Response, action: string, maxBytes: number, signal: AbortSignal): Promise<string> {
  if (response.body === null) return "";
  const declared = count(Number(response.headers.get("content-length") ?? NaN));
  // A compressed body gets larger than its header says, and a chunked one ends where it likes (RFC 9112, 6.3).
  const isCoded = ["content-encoding", "transfer-encoding"].some((name) => response.headers.has(name));
  const isBounded = declared !== undefined && declared <= maxBytes && !isCoded;
  // This takes half the time of reading part by part.
  if (isBounded) return unlessAborted(response.text(), signal);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const toldBytes = declared ?? 0;
      if (Math.max(bytes, toldBytes) > maxBytes) {
        const size = toldBytes > bytes ? ` of ${mebibytes(toldBytes)}` : "";
        const reason = `the answer${size} is larger than ${mebibytes(maxBytes)}`;
        throw new RejectedError(`Cannot ${action}: ${reason}`, response.status, TOO_LARGE);
      }
      const { done, value } = await unlessAborted(reader.read(), signal);
      if (done) break;
      bytes += value.byteLength;
      if (bytes <= maxBytes) parts.push(decoder.decode(value, { stream: true }));
    }
    return parts.join("") + decoder.decode();
  } catch (error) {
    // Frees the connection. An error here adds nothing to the one being thrown.
    await reader.cancel(error).catch(() => {});
    throw error;
  }
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1_048_576)} MiB`;
}

/** Whether `fetch` failed below HTTP. BadResource means that another request has just closed the client. */
export function isNetworkFailure(error: unknown): error is Error {
  return error instanceof TypeError || error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Http;
}

/** Last reason in Deno's error message, such as `Connection refused`. For certificates, a sentence of its own. */
export function networkReason(error: Error, url: URL): string {
  const { message } = error.cause instanceof Error ? error.cause : error;
  const [before = "", ...after] = message.split(url.href);
  const rest = (after.at(-1) ?? before)
    .replace(/^\)?( \([^)]*\))?: (client error \([^)]*\): )?/s, "").replace(/ \(os error \d+\)$/, "");
  // If nothing follows the URL, the reason precedes it, such as `Invalid URL`.
  const reasons = [rest, before.replace(/ for url \($/, "")].map((each) => each.replace(/^\)$/, "").trim());
  const reason = reasons.find((each) => each !== "") ?? error.name;
  return reason.replace(/^invalid peer certificate: /, UNTRUSTED_CERTIFICATE);
}

/** A URL for messages: without its query, which may hold secrets, and cut to a maximum length. */
export function shownUrl({ origin, pathname }: URL): string {
  const shown = `${origin}${pathname}`;
  return shown.length > MAX_SHOWN_LENGTH ? `${shown.slice(0, MAX_SHOWN_LENGTH)}…` : shown;
}

/**
 * Wait that a response asks for, in milliseconds: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), else
 * Matrix's older `retry_after_ms`; 0 if neither.
 */
export function retryAfterMs(headers: Headers, retryAfterMs: number | undefined, nowMs: number): number {
  const header = headers.get("retry-after")?.trim();
  if (header !== undefined && /^\d+$/.test(header)) return Number(header) * 1_000;
  const date = header === undefined ? NaN : Date.parse(header);
  return Number.isNaN(date) ? retryAfterMs ?? 0 : Math.max(0, date - nowMs);
}

/** Target of a redirect; undefined if the response isn't one. */
export function redirectOf({ status, headers }: Pick<HttpResponse, "status" | "headers">, base: URL): URL | undefined {
  const location = headers.get("location");
  if (status < 300 || status >= 400 || location === null) return undefined;
  return URL.parse(location, base) ?? undefined;
}
