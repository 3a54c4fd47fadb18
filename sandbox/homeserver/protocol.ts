/**
 * What all parts of the homeserver share: JSON values, Matrix errors, and the stream whose positions order everything
 * that syncs.
 *
 * @module
 */

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** An error response of the Matrix API (Matrix spec v1.16, client-server API, 2.1). */
export class MatrixError extends Error {
  override readonly name = "MatrixError";
  readonly status: number;
  /** Body of the response. */
  readonly body: JsonObject;

  /**
   * @param status HTTP status
   * @param code Matrix error code, such as `M_FORBIDDEN`; empty for a response without one
   * @param reason message for people
   * @param more further fields of the body
   */
  constructor(status: number, code: string, reason: string, more: JsonObject = {}) {
    super(reason);
    this.status = status;
    this.body = code === "" ? more : { errcode: code, error: reason, ...more };
  }
}

/** 403 M_FORBIDDEN. */
export function forbidden(reason: string): MatrixError {
  return new MatrixError(403, "M_FORBIDDEN", reason);
}

/** 404 M_NOT_FOUND. */
export function notFound(reason: string): MatrixError {
  return new MatrixError(404, "M_NOT_FOUND", reason);
}

/** Returns the value if it is an object, else an empty object. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as JsonObject : {};
}

/** Returns the strings in a list; empty if the value isn't a list. */
export function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/**
 * Returns a required string in a body.
 *
 * @throws MatrixError 400 M_MISSING_PARAM if it is missing
 */
export function textIn(body: JsonObject, name: string): string {
  const value = body[name];
  if (typeof value !== "string") throw new MatrixError(400, "M_MISSING_PARAM", `Missing parameter: ${name}`);
  return value;
}

/** Returns a random id of letters and digits. */
export function randomId(length: number): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => alphabet[byte % alphabet.length]).join(
    "",
  );
}

/** Orders everything that syncs by position, and wakes those who wait for a new one. */
export class Stream {
  #place = 0;
  readonly #waiting = new Set<() => void>();

  /** Latest position. */
  get place(): number {
    return this.#place;
  }

  /** Takes the next position and wakes those who wait. The change must be made before the caller awaits anything. */
  advance(): number {
    for (const wake of [...this.#waiting]) wake();
    return ++this.#place;
  }

  /**
   * Waits for a change.
   *
   * @returns false if the timeout or the signal came first
   */
  async changed(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted || timeoutMs <= 0) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const wake = () => resolve(true);
    const giveUp = () => resolve(false);
    const timer = setTimeout(giveUp, timeoutMs);
    this.#waiting.add(wake);
    signal.addEventListener("abort", giveUp);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(wake);
      signal.removeEventListener("abort", giveUp);
    }
  }
}
