/**
 * Encodes IndexedDB values as text, in a format of our own that doesn't depend on the JavaScript engine: JSON, with
 * non-JSON types marked as `{"$": [kind, content]}`. Unsupported types (Map, BigInt, Error …) are rejected rather than
 * lost. An object that occurs twice in a value is decoded as two objects.
 *
 * @module
 */

const MARK = "$";

/** Also stops the recursion into cyclic values. */
const MAX_LEVELS = 200;

/**
 * Encodes a value made by structuredClone.
 *
 * @throws TypeError if it contains an unsupported type
 */
export function encodeValue(value: unknown): string {
  return JSON.stringify(toJson(value, 0));
}

/**
 * Decodes a value encoded by {@linkcode encodeValue}.
 *
 * @throws SyntaxError | RangeError if the text isn't an encoded value
 */
export function decodeValue(text: string): unknown {
  const json = JSON.parse(text);
  // Most values are plain JSON.
  return text.includes(JSON.stringify(MARK)) ? fromJson(json) : json;
}

function toJson(value: unknown, level: number): unknown {
  if (level > MAX_LEVELS) throw new TypeError("Cannot encode a value: it is nested too deeply");
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (value === undefined) return { [MARK]: ["undefined"] };
  if (typeof value === "number") {
    return Number.isFinite(value) && !Object.is(value, -0) ? value : { [MARK]: ["number", numberName(value)] };
  }
  if (value instanceof Date) return { [MARK]: ["date", toJson(value.getTime(), level)] };
  if (value instanceof ArrayBuffer) return { [MARK]: ["buffer", new Uint8Array(value).toBase64()] };
  if (value instanceof Uint8Array) return { [MARK]: ["bytes", value.toBase64()] };
  if (Array.isArray(value) && Object.keys(value).length === value.length) {
    return value.map((part) => toJson(part, level + 1));
  }
  if (typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    const object = Object.fromEntries(Object.entries(value).map(([name, part]) => [name, toJson(part, level + 1)]));
    return Object.hasOwn(object, MARK) ? { [MARK]: ["object", object] } : object;
  }
  throw new TypeError(`Cannot encode a value: its kind is unknown, ${Object.prototype.toString.call(value)}`);
}

function numberName(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

function fromJson(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(fromJson);
  if (json === null || typeof json !== "object") return json;
  if (!Object.hasOwn(json, MARK)) return fromEntries(json);
  const [kind, content] = (json as { [MARK]: unknown[] })[MARK];
  switch (kind) {
    case "undefined":
      return undefined;
    case "number":
      return Number(content);
    case "date":
      return new Date(fromJson(content) as number);
    case "buffer":
      return Uint8Array.fromBase64(String(content)).buffer;
    case "bytes":
      return Uint8Array.fromBase64(String(content));
    case "object":
      return fromEntries(content as object);
    default:
      throw new RangeError(`a value has the unknown kind ${kind}`);
  }
}

/** Defines each property, so that one named `__proto__` stays an ordinary property. */
function fromEntries(object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).map(([name, part]) => [name, fromJson(part)]));
}
