/**
 * Translates what a Kubernetes API server answers instead of success into the error classes of this program: the one
 * place that looks at status codes. Of the answer's body only the short `reason` is kept.
 *
 * @module
 */

import { ConflictError, NotFoundError, PermissionError, RejectedError, TransientError } from "../errors.ts";

/** What was tried, for messages. */
export interface Attempt {
  /** Kubernetes verb: `get`, `patch`, `create`. */
  readonly verb: string;
  /** On what, such as `deployments.apps "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/** What came back, as far as errors are concerned. */
export interface Refusal {
  /** HTTP status. */
  readonly status: number;
  /** Value of the Retry-After header, or null. */
  readonly retryAfter: string | null;
  /** The body as text. */
  readonly body: string;
}

/**
 * Makes the error for an answer that is no success and no 401.
 *
 * 403, 404 and 409 mean what Kubernetes means by them only if a Status object says so; a proxy or a wrong address in
 * between answers with the same numbers and is not to be mistaken for the API server.
 *
 * @param nowMs milliseconds since the epoch, for a Retry-After that is a date
 */
export function failureOf(attempt: Attempt, refusal: Refusal, nowMs: number): Error {
  const { status, retryAfter, body } = refusal;
  const cannot = `Cannot ${attempt.verb} ${attempt.resource}`;
  const reason = statusReason(body);
  const answered = `the Kubernetes API answered ${status}${reason ? ` (${reason})` : ""}`;

  if (status === 429 || status === 408 || status >= 500) {
    return new TransientError(`${cannot}: ${answered}`, { retryAfterMs: retryAfterMs(retryAfter, nowMs) });
  }
  if (reason === undefined) {
    return new RejectedError(`${cannot}: got ${status}, and not from a Kubernetes API; check its address`, status, "");
  }
  if (status === 403) return new PermissionError(attempt.verb, attempt.resource);
  if (status === 404) return new NotFoundError(`${cannot}: not found`);
  if (status === 409) return new ConflictError(`${cannot}: it has changed since it was read`);
  return new RejectedError(`${cannot}: ${answered}`, status, reason);
}

/** Milliseconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); 0 if it asks for nothing. */
export function retryAfterMs(header: string | null, nowMs: number): number {
  if (header === null) return 0;
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1_000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? 0 : Math.max(0, date - nowMs);
}

/** `reason` of a Status object (Kubernetes API, meta/v1): a word, empty if it has none; undefined if this is no Status. */
function statusReason(body: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof parsed !== "object" || parsed === null || !("kind" in parsed) || parsed.kind !== "Status") {
    return undefined;
  }
  const reason = "reason" in parsed ? parsed.reason : "";
  return typeof reason === "string" && /^[A-Za-z]{1,64}$/.test(reason) ? reason : "";
}
