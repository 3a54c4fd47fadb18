/**
 * The error classes that the program distinguishes. A failure is mapped to one of them once, at the edge where it
 * happens. No code above the edge looks at status codes.
 *
 * @module
 */

/** Wrong configuration or usage: never retried, exit code 2. Lists all problems at once. */
export class ConfigError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "ConfigError";
  /** One line per problem: the variable, the given value (never a secret), and what is allowed. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** The homeserver or the cluster refused our credentials: never retried, exit code 1. The message says what to do. */
export class CredentialError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "CredentialError";
}

/** The homeserver refused our access token (Matrix spec v1.16, client-server API, 5.7.3). */
export class TokenRefused extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "TokenRefused";
  /** Whether the device still exists, so that we can log in again with the same device id. */
  readonly soft: boolean;

  /** `soft` is the response's `soft_logout`. */
  constructor(soft: boolean) {
    super(`the homeserver refused the access token (${soft ? "soft logout" : "the session has ended"})`);
    this.soft = soft;
  }
}

/** A failure that may go away: unreachable server, timeout, 429, 5xx, or a proxy's own 4xx. */
export class TransientError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "TransientError";
  /** Wait that the server asked for (`Retry-After`), in milliseconds; 0 if none. */
  readonly retryAfterMs: number;
  /** HTTP status; 0 if there was no response, or its status isn't the cause. */
  readonly status: number;

  /** The message says what was tried and what came back, without bodies or secrets. */
  constructor(message: string, options: { retryAfterMs?: number; status?: number; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.retryAfterMs = options.retryAfterMs ?? 0;
    this.status = options.status ?? 0;
  }
}

/** The Kubernetes API or the homeserver refused an action because a permission is missing. */
export class PermissionError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "PermissionError";
  /** The verb that was refused, such as `patch`. */
  readonly verb: string;
  /** The resource it was refused on, such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;

  constructor(verb: string, resource: string) {
    super(`Cannot ${verb} ${resource}: not permitted`);
    this.verb = verb;
    this.resource = resource;
  }
}

/** A request that was forbidden is made again after this time, because the permission may have been granted. */
export const FORBIDDEN_FOR_MS = 300_000;

/** A named object doesn't exist, such as a Deployment or a room. */
export class NotFoundError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "NotFoundError";
}

/** The object changed between read and write (Kubernetes 409). Read it again and decide again. */
export class ConflictError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "ConflictError";
}

/** The server rejected the request itself (any other 4xx). A retry wouldn't help. */
export class RejectedError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "RejectedError";
  /** HTTP status; 0 if the request wasn't sent. */
  readonly status: number;
  /** The server's error code, such as Matrix `M_FORBIDDEN` or Kubernetes `Invalid`; empty if there is none. */
  readonly code: string;
  readonly #answer: Readonly<Record<string, unknown>>;

  /** The message says what was tried and what came back, without bodies or secrets. */
  constructor(message: string, status: number, code: string, answer: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.#answer = answer;
  }

  /** The response's JSON, for protocols that continue after a refusal. Kept out of logs. */
  get answer(): Readonly<Record<string, unknown>> {
    return this.#answer;
  }
}

/** The store can't be opened, read or written. The message says why and what to do, and contains no secret. */
export class StoreError extends Error {
  /** The class, for readers of the text alone. */
  override readonly name = "StoreError";
  /** The file or folder concerned. */
  readonly path: string;

  /** The message has the form "Cannot …: why; what to do". */
  constructor(message: string, path: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.path = path;
  }
}

/** Message of a thrown value, which may not be an Error. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Whether an error ends the process, wherever it occurs. Any other error concerns one message, answer, room or target,
 * and is handled there.
 */
export function isFatal(error: unknown): boolean {
  return error instanceof StoreError || error instanceof WebAssembly.RuntimeError || error instanceof ConfigError ||
    error instanceof CredentialError || error instanceof TokenRefused;
}

/** Whether a server refused a request permanently, so that neither waiting nor restarting would help. */
export function isRefusal(error: unknown): error is PermissionError | NotFoundError | RejectedError {
  return error instanceof PermissionError || error instanceof NotFoundError || error instanceof RejectedError;
}

/** An error's class, and where it was thrown. Omits its message, which may quote a chat message, as JSON errors do. */
export function errorLocation(error: unknown): string {
  if (!(error instanceof Error)) return "a value that is not an Error was thrown";
  const place = /^\s+at .*$/m.exec(error.stack ?? "")?.[0].trim();
  return place === undefined ? error.name : `${error.name} ${place}`;
}
