/**
 * The errors that the rest of the program tells apart. A failure is translated into one of these once, at the edge where
 * it happens; above the edge nobody looks at status codes.
 *
 * @module
 */

/** Wrong configuration or usage: never retried, exit code 2. Holds every problem at once. */
export class ConfigError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "ConfigError";
  /** One line for each problem: the variable, what was given (never a secret), what is permitted. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** The homeserver or the cluster refused who we say we are: never retried, exit code 1. The message says what to do. */
export class CredentialError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "CredentialError";
}

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

/** A failure that time may cure: an unreachable server, a deadline, 429, 5xx, a proxy's own 4xx. */
export class TransientError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "TransientError";
  /** What the server asked us to wait for (`Retry-After`), in milliseconds; 0 if it did not ask. */
  readonly retryAfterMs: number;
  /** HTTP status; 0 if there was no answer, or its status has nothing to do with it. */
  readonly status: number;

  /** The message says what was tried and what came back, without bodies and secrets. */
  constructor(message: string, options: { retryAfterMs?: number; status?: number; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.retryAfterMs = options.retryAfterMs ?? 0;
    this.status = options.status ?? 0;
  }
}

/** The Kubernetes API or the homeserver refused an action for want of a permission. */
export class PermissionError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "PermissionError";
  /** The verb that was refused, such as `patch`. */
  readonly verb: string;
  /** What it was refused on, such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;

  constructor(verb: string, resource: string) {
    super(`Cannot ${verb} ${resource}: not permitted`);
    this.verb = verb;
    this.resource = resource;
  }
}

/** Something that was named does not exist: a Deployment, a room. */
export class NotFoundError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "NotFoundError";
}

/** The object changed between reading and writing (Kubernetes 409): read again and decide anew. */
export class ConflictError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "ConflictError";
}

/** The server refused the request itself (4xx other than the above): a retry would change nothing. */
export class RejectedError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "RejectedError";
  /** HTTP status; 0 if the request was not sent at all. */
  readonly status: number;
  /** The server's own code, such as Matrix `M_FORBIDDEN` or Kubernetes `Invalid`; empty if it gave none. */
  readonly code: string;
  readonly #answer: Readonly<Record<string, unknown>>;

  /** The message says what was tried and what came back, without bodies and secrets. */
  constructor(message: string, status: number, code: string, answer: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.#answer = answer;
  }

  /** The answer's JSON, for protocols that go on after a refusal; it is kept out of logs. */
  get answer(): Readonly<Record<string, unknown>> {
    return this.#answer;
  }
}

/** The store cannot be opened, read or written. The message says why and what to do; it holds no secret. */
export class StoreError extends Error {
  /** The class, for whoever only has the text. */
  override readonly name = "StoreError";
  /** The file or folder that it is about. */
  readonly path: string;

  /** The message is "Cannot …: why; what to do". */
  constructor(message: string, path: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.path = path;
  }
}

/** The message of what was thrown, which may be no Error. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Whether a failure ends the process, whatever it was met at. Everything else is a failure of one message, answer, room or
 * target, and is dealt with there.
 */
export function isFatal(error: unknown): boolean {
  return error instanceof StoreError || error instanceof WebAssembly.RuntimeError || error instanceof ConfigError ||
    error instanceof CredentialError || error instanceof TokenRefused;
}

/** Whether a server has refused a request for good, so that neither time nor a restart would help. */
export function isRefusal(error: unknown): error is PermissionError | NotFoundError | RejectedError {
  return error instanceof PermissionError || error instanceof NotFoundError || error instanceof RejectedError;
}

/** What failed, and where. An error's own words may quote the message, as those of JSON do. */
export function placeOf(error: unknown): string {
  if (!(error instanceof Error)) return "a value that is no error was thrown";
  const place = /^\s+at .*$/m.exec(error.stack ?? "")?.[0].trim();
  return place === undefined ? error.name : `${error.name} ${place}`;
}
