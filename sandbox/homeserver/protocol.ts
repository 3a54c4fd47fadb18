/**
 * What every part of the homeserver speaks: JSON values, Matrix errors, and the stream of places that syncing counts
 * by. Knows no endpoint.
 *
 * @module
 */

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** An answer of the Matrix API that is no success (Matrix spec v1.16, client-server API, 2.1). */
export class MatrixError extends Error {
  override readonly name = "MatrixError";
  /** HTTP status. */
  readonly status: number;
  /** The answer's body. */
  readonly body: JsonObject;

  /**
   * @param status HTTP status
   * @param code Matrix error code, such as `M_FORBIDDEN`; empty for an answer that carries none
   * @param reason for people
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

/** The value as an object; an empty one if it is none. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as JsonObject : {};
}

/** The value's texts; none if it is no list. */
export function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/**
 * A text that a body must hold.
 *
 * @throws MatrixError 400 M_MISSING_PARAM if it does not
 */
export function textIn(body: JsonObject, name: string): string {
  const value = body[name];
  if (typeof value !== "string") throw new MatrixError(400, "M_MISSING_PARAM", `Missing parameter: ${name}`);
  return value;
}

/** A fresh identifier of letters and digits. */
export function randomId(length: number): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => alphabet[byte % alphabet.length]).join(
    "",
  );
}

/** Everything that syncs takes a place in one stream; who waits is woken by the next one. */
export class Stream {
  #place = 0;
  readonly #waiting = new Set<() => void>();

  /** The latest place taken. */
  get place(): number {
    return this.#place;
  }

  /** Takes the next place and wakes who waits. The change must be made before anything is awaited. */
  advance(): number {
    for (const wake of [...this.#waiting]) wake();
    return ++this.#place;
  }

  /** Waits for a change.
   *
   * @returns false if the time or the signal came first
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
