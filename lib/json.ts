/**
 * Reads untrusted JSON: a value of the wrong type reads as absent and never throws.
 *
 * @module
 */

/** Matrix spec v1.16, appendices, 4.2, "Common Identifier Format". */
const MAX_IDENTIFIER_LENGTH = 255;

/** A JSON object whose fields are unchecked. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Parses a JSON object; undefined if the text isn't one. */
export function parseObject(body: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The value if it is a JSON object, else an empty object. */
export function object(value: unknown): Json {
  return isObject(value) ? value : {};
}

/** The value if it is an array, else an empty one. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The value if it is a string that SQLite and UTF-8 preserve: no NUL, no lone surrogate. */
export function text(value: unknown): string | undefined {
  return typeof value === "string" && value.isWellFormed() && !value.includes("\0") ? value : undefined;
}

/** The value if it is a {@linkcode text} of at most 255 characters: no Matrix identifier is longer. */
export function identifier(value: unknown): string | undefined {
  const found = text(value);
  return found !== undefined && found.length <= MAX_IDENTIFIER_LENGTH ? found : undefined;
}

/** The value if it is a non-negative safe integer. */
export function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** The strings in an array. */
export function texts(value: unknown): string[] {
  return list(value).filter((item) => typeof item === "string");
}

/** Objects by name. Names that aren't a valid {@linkcode text} are omitted. */
export function objects(value: unknown): [name: string, value: Json][] {
  return Object.entries(object(value)).filter(([name]) => text(name) !== undefined)
    .map(([name, each]) => [name, object(each)]);
}

/**
 * JSON in the form that is signed (Matrix spec v1.16, appendices, "Canonical JSON"): keys by code point, no whitespace.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined)
    .sort(([one], [other]) => byCodePoint(one, other));
  return `{${entries.map(([name, each]) => `${JSON.stringify(name)}:${canonicalJson(each)}`).join(",")}}`;
}

/** JavaScript compares UTF-16 code units, which puts characters beyond U+FFFF before U+E000. */
function byCodePoint(one: string, other: string): number {
  const [left, right] = [[...one], [...other]];
  const place = left.findIndex((letter, index) => letter !== right[index]);
  if (place === -1) return left.length - right.length;
  return (left[place]?.codePointAt(0) ?? 0) - (right[place]?.codePointAt(0) ?? -1);
}
