/**
 * Looking into objects as they came over the wire, of which nothing is certain. Never throws.
 *
 * @module
 */

/** An object with fields that may be anything. */
export type Fields = Readonly<Record<string, unknown>>;

/** The fields of an object; none if it is no object. */
export function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null ? value as Fields : {};
}

/** The elements of a list, each by its fields; none if it is no list. */
export function items(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}

/** A text; empty if it is none. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A count; undefined if it is none. */
export function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
