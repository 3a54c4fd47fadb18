/**
 * What can go wrong at the edges, in the few kinds that the rest of the program tells apart. A failure is translated
 * into one of these once, where it happens; nobody above looks at status codes. Knows nothing of who throws them.
 * The store has an error of its own, `StoreError`, because it imports nothing of ours.
 *
 * @module
 */

/** Wrong configuration or usage: never retried, exit code 2. Holds every problem at once. */
export class ConfigError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "ConfigError";
  /** One line for each problem: the variable, what was given (never a secret), what is permitted. */
  readonly problems: readonly string[];

  /** Takes every problem at once. */
  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** The homeserver refused who we say we are: never retried, exit code 1. The message says what to do. */
export class CredentialError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "CredentialError";
}

/** A failure that time may cure: an unreachable server, a deadline, 429, 5xx. */
export class TransientError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "TransientError";
  /** What the server asked to wait for (`Retry-After`), in milliseconds; 0 if it did not ask. */
  readonly retryAfterMs: number;

  /** The message says what was tried and what came back, without bodies and secrets. */
  constructor(message: string, options: { retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/** The Kubernetes API or the homeserver refused an action for want of a permission. */
export class PermissionError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "PermissionError";
  /** The verb that was refused, such as `patch`. */
  readonly verb: string;
  /** What it was refused on, such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;

  /** Says what was refused. */
  constructor(verb: string, resource: string) {
    super(`Cannot ${verb} ${resource}: not permitted`);
    this.verb = verb;
    this.resource = resource;
  }
}

/** Something that was named does not exist: a Deployment, a room. */
export class NotFoundError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "NotFoundError";
}

/** The thing changed between reading and writing (Kubernetes 409): read again and decide anew. */
export class ConflictError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "ConflictError";
}

/** The server refused the request itself (4xx other than the above): a retry would change nothing. */
export class RejectedError extends Error {
  /** Tells it from other errors, also in logs. */
  override readonly name = "RejectedError";
  /** HTTP status. */
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
