/**
 * Encodes IndexedDB keys as bytes whose memcmp order is the order of the keys: number < date < string < binary < array.
 * Numbers are doubles with their bits flipped to sort correctly. Strings are UTF-16 code units, because IndexedDB
 * compares those. Types without a fixed length end with a zero byte, and zero bytes within them are escaped.
 *
 * Source: Indexed Database API 3.0, 2.4 "Keys" and "compare two keys".
 *
 * @module
 */

/** A valid IndexedDB key, in normalised form. */
export type Key = number | Date | string | ArrayBuffer | readonly Key[];

const END = 0x00;
/** Follows a zero byte that belongs to the content. Greater than every tag, so that the shorter key sorts first. */
const ESCAPE = 0xff;
const NUMBER = 0x10;
const DATE = 0x20;
const STRING = 0x30;
const BINARY = 0x40;
const ARRAY = 0x50;
const ascii = new TextDecoder();
const encoder = new TextEncoder();
/** ASCII without zeros: each character is its own byte. */
// deno-lint-ignore no-control-regex -- keys are hashes with control characters between them
const PLAIN = /^[\x01-\x7f]*$/;
/** Arrays are nested at most this deep. Also stops the recursion into cyclic ones. */
const MAX_LEVELS = 200;

/**
 * Converts a value into a key: copies dates and buffers, and takes views for buffers (Indexed Database API 3.0, "convert
 * a value to a key").
 *
 * @throws DOMException DataError if it isn't a valid key
 */
export function toKey(value: unknown, level = 0): Key {
  if (typeof value === "string" || (typeof value === "number" && !Number.isNaN(value))) return value;
  if (value instanceof Date && !Number.isNaN(value.getTime())) return new Date(value);
  if (value instanceof ArrayBuffer && !value.detached) return value.slice();
  if (ArrayBuffer.isView(value) && !(value.buffer instanceof ArrayBuffer && value.buffer.detached)) {
    return Uint8Array.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)).buffer;
  }
  if (Array.isArray(value) && level < MAX_LEVELS) return Array.from(value, (part) => toKey(part, level + 1));
  throw new DOMException("The value is not a valid key", "DataError");
}

/**
 * Encodes a key.
 *
 * @throws TypeError if it isn't a valid key
 */
export function encodeKey(key: Key): Uint8Array {
  if (typeof key === "string" && PLAIN.test(key)) return encodePlain(key);
  const bytes: number[] = [];
  write(bytes, key);
  return Uint8Array.from(bytes);
}

/** Most keys are of this kind. */
function encodePlain(key: string): Uint8Array {
  const bytes = new Uint8Array(key.length + 2);
  bytes[0] = STRING;
  encoder.encodeInto(key, bytes.subarray(1));
  bytes[key.length + 1] = END;
  return bytes;
}

/**
 * Decodes a key encoded by {@linkcode encodeKey}. Negative zero becomes zero, which IndexedDB treats as equal.
 *
 * @throws RangeError if the bytes aren't an encoded key
 */
export function decodeKey(bytes: Uint8Array): Key {
  const cursor = { bytes, at: 0 };
  const key = read(cursor);
  if (cursor.at !== bytes.length) throw new RangeError("trailing bytes after the key");
  return key;
}

function write(bytes: number[], key: Key): void {
  if (typeof key === "number" && !Number.isNaN(key)) {
    bytes.push(NUMBER, ...sortable(key));
  } else if (key instanceof Date && !Number.isNaN(key.getTime())) {
    bytes.push(DATE, ...sortable(key.getTime()));
  } else if (typeof key === "string") {
    bytes.push(STRING);
    for (let i = 0; i < key.length; i++) writeUnit(bytes, key.charCodeAt(i));
    bytes.push(END);
  } else if (key instanceof ArrayBuffer) {
    bytes.push(BINARY);
    for (const byte of new Uint8Array(key)) writeEscaped(bytes, byte);
    bytes.push(END);
  } else if (Array.isArray(key)) {
    bytes.push(ARRAY);
    for (const part of key) write(bytes, part);
    bytes.push(END);
  } else {
    throw new TypeError(`Cannot encode a key: ${Object.prototype.toString.call(key)} is none`);
  }
}

/** The bits of a double, transformed so that byte order is numeric order. */
function sortable(number: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number === 0 ? 0 : number);
  const bits = view.getBigUint64(0);
  view.setBigUint64(0, number < 0 ? ~bits : bits | (1n << 63n));
  return new Uint8Array(view.buffer);
}

/** Encodes a code unit in UTF-8's form, each surrogate on its own, which keeps the order of code units. */
function writeUnit(bytes: number[], unit: number): void {
  if (unit < 0x80) writeEscaped(bytes, unit);
  else if (unit < 0x800) bytes.push(0xc0 | (unit >> 6), 0x80 | (unit & 0x3f));
  else bytes.push(0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f));
}

function writeEscaped(bytes: number[], byte: number): void {
  bytes.push(byte);
  if (byte === END) bytes.push(ESCAPE);
}

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

function next(cursor: Cursor): number {
  const byte = cursor.bytes[cursor.at++];
  if (byte === undefined) throw new RangeError("a key ends too early");
  return byte;
}

function read(cursor: Cursor): Key {
  const tag = next(cursor);
  if (tag === NUMBER) return readNumber(cursor);
  if (tag === DATE) return new Date(readNumber(cursor));
  if (tag === STRING) return readString(cursor);
  if (tag === BINARY) {
    const bytes: number[] = [];
    for (let byte = readEscaped(cursor); byte !== undefined; byte = readEscaped(cursor)) bytes.push(byte);
    return Uint8Array.from(bytes).buffer;
  }
  if (tag !== ARRAY) throw new RangeError(`a key has the unknown kind ${tag}`);
  const parts: Key[] = [];
  while (cursor.bytes[cursor.at] !== END) parts.push(read(cursor));
  cursor.at += 1;
  return parts;
}

function readNumber(cursor: Cursor): number {
  const view = new DataView(new ArrayBuffer(8));
  for (let i = 0; i < 8; i++) view.setUint8(i, next(cursor));
  const bits = view.getBigUint64(0);
  view.setBigUint64(0, bits >> 63n === 0n ? ~bits : bits & ~(1n << 63n));
  return view.getFloat64(0);
}

function readString(cursor: Cursor): string {
  const { bytes, at } = cursor;
  const end = bytes.indexOf(END, at);
  // Fast path: most strings are pure ASCII, and decoding unit by unit takes ten times as long.
  if (end !== -1 && bytes[end + 1] !== ESCAPE && isAscii(bytes, at, end)) {
    cursor.at = end + 1;
    return ascii.decode(bytes.subarray(at, end));
  }
  let text = "";
  for (let first = readEscaped(cursor); first !== undefined; first = readEscaped(cursor)) {
    let unit = first;
    if (first >= 0xe0) unit = ((first & 0x0f) << 12) | ((next(cursor) & 0x3f) << 6) | (next(cursor) & 0x3f);
    else if (first >= 0x80) unit = ((first & 0x1f) << 6) | (next(cursor) & 0x3f);
    text += String.fromCharCode(unit);
  }
  return text;
}

function isAscii(bytes: Uint8Array, begin: number, end: number): boolean {
  for (let at = begin; at < end; at++) if ((bytes[at] ?? 0) > 0x7f) return false;
  return true;
}

/** Reads a byte of content; undefined at the end of it. */
function readEscaped(cursor: Cursor): number | undefined {
  const byte = next(cursor);
  if (byte !== END) return byte;
  if (cursor.bytes[cursor.at] !== ESCAPE) return undefined;
  cursor.at += 1;
  return END;
}
