/**
 * A value that can't be printed by accident.
 *
 * @module
 */

const REDACTED = "[redacted]";

/** Holds a secret. Its string form, its JSON form and its inspection by Deno and Node.js are all `[redacted]`. */
export class Secret<Value = string> {
  readonly #value: Value;

  /** Wraps a secret. */
  constructor(value: Value) {
    this.#value = value;
  }

  /** Returns the secret. Call it only where a request or cipher needs the value. */
  reveal(): Value {
    return this.#value;
  }

  /** Returns `[redacted]`. */
  toString(): string {
    return REDACTED;
  }

  /** Returns `[redacted]`. */
  toJSON(): string {
    return REDACTED;
  }

  /** Returns `[redacted]`. `util.inspect` of Node.js, `Deno.inspect` and `console.log` all call this. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }
}
