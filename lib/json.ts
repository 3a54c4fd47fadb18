/**
 * Reads untrusted JSON: a value of the wrong type reads as absent and never throws.
 *
 * @module
 */

/** Matrix spec v1.16, appendices, 4.2, "Common Identifier Format". */
const MAX_IDENTIFIER_LENGTH = 255;

/**
 * Levels of arrays and objects in each other that are read. JSON.parse() reads any number, but JSON.stringify() overflows
 * the stack at some thousands if an object has a name such as `0` or `toJSON`. Events have a dozen.
 */
const MAX_LEVELS = 100;

const [QUOTE, BACKSLASH, BRACKET, CLOSING_BRACKET, BRACE, CLOSING_BRACE] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d];

/** A JSON object whose fields are unchecked. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Parses a JSON object; undefined if the text isn't one. What is nested too deeply reads as null. */
export function parseObject(body: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (!isObject(value)) return undefined;
    return isDeep(body) ? object(shallow(value, MAX_LEVELS)) : value;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Whether valid JSON has more than {@linkcode MAX_LEVELS}. */
function isDeep(body: string): boolean {
  let levels = 0;
  for (let index = 0; index < body.length; index += 1) {
    const letter = body.charCodeAt(index);
    if (letter === QUOTE) index = endOfText(body, index);
    else if (letter === BRACKET || letter === BRACE) levels += 1;
    else if (letter === CLOSING_BRACKET || letter === CLOSING_BRACE) levels -= 1;
    if (levels > MAX_LEVELS) return true;
  }
  return false;
}

/** Index of the quote that ends the text which begins at `start`. */
function endOfText(body: string, start: number): number {
  for (let end = start + 1;; end += 1) {
    const letter = body.charCodeAt(end);
    if (letter === BACKSLASH) end += 1;
    else if (letter === QUOTE) return end;
  }
}

/** A copy of so many levels of a value. Further ones are null. */
function shallow(value: unknown, levels: number): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (levels === 0) return null;
  if (Array.isArray(value)) return value.map((item) => shallow(item, levels - 1));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shallow(item, levels - 1)]));
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
