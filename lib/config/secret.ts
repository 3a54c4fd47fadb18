/**
 * A value that can't be printed by accident. It comes out only where somebody asks for it by name.
 *
 * @module
 */

const REDACTED = "[redacted]";

/** Holds a secret. Its string form, its JSON form and its inspection by Deno and Node.js are all `[redacted]`. */
export class Secret<Value = string> {
  readonly #value: Value;

  /** Takes a secret in. */
  constructor(value: Value) {
    this.#value = value;
  }

  /** The secret itself: for the request or the cipher that needs it, and nothing else. */
  reveal(): Value {
    return this.#value;
  }

  /** `[redacted]` */
  toString(): string {
    return REDACTED;
  }

  /** `[redacted]` */
  toJSON(): string {
    return REDACTED;
  }

  /** `[redacted]`, for `util.inspect` of Node.js, `Deno.inspect` and `console.log`, which all look for this. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }
}
