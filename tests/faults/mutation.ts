/**
 * Corrupts JSON at random places: values are replaced, removed, duplicated, or swapped for another part of the same
 * document.
 *
 * @module
 */

import fc from "fast-check";

/** One corruption. */
interface Change {
  /** Selects the value to change, modulo the number of values. */
  readonly where: number;
  /** Kind of change. */
  readonly how: "replace" | "remove" | "double" | "transplant";
  /** Replacement value. */
  readonly by: unknown;
  /** Selects the value to transplant, modulo the number of values. */
  readonly from: number;
}

/** Strings that are known to cause bugs. */
const NASTY = ["", "\0", "a\0b", "\ud800", "__proto__", "constructor", "!", "@:", "@a:b", "$", "*", "💥".repeat(300)];

const json = fc.oneof(
  fc.constantFrom(...NASTY),
  fc.constantFrom(-1, 0, 1.5, 1e308, -1e308, 2 ** 53, 2 ** 63, NaN, null, true, {}, [], [[]], [{}], { events: {} }),
  fc.string({ unit: "binary" }),
  fc.jsonValue({ maxDepth: 3 }),
);

const change: fc.Arbitrary<Change> = fc.record({
  where: fc.nat(),
  how: fc.constantFrom("replace", "replace", "remove", "double", "transplant"),
  by: json,
  from: fc.nat(),
});

/** Returns corrupted copies of the originals. */
export function spoilt<T>(originals: readonly T[]): fc.Arbitrary<T> {
  return fc.tuple(fc.constantFrom(...originals), fc.array(change, { minLength: 1, maxLength: 4 }))
    .map(([original, changes]) => changes.reduce(spoil, structuredClone(original)));
}

type Slot = { readonly holder: Record<string, unknown>; readonly key: string };

function spoil<T>(whole: T, { where, how, by, from }: Change): T {
  const slots = slotsOf(whole);
  const slot = slots[where % slots.length];
  const other = slots[from % slots.length];
  if (slot === undefined || other === undefined) return whole;
  const { holder, key } = slot;
  const value = holder[key];
  if (how === "remove") {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
    else delete holder[key];
  } else if (how === "double") {
    if (Array.isArray(holder)) holder.splice(Number(key), 0, structuredClone(value));
    else put(holder, typeof by === "string" ? by : `${key}${key}`, structuredClone(value));
  } else {
    put(holder, key, structuredClone(how === "replace" ? by : other.holder[other.key]));
  }
  return whole;
}

/** Sets a property like JSON.parse does, even `__proto__`. */
function put(holder: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, configurable: true, enumerable: true, writable: true });
}

function slotsOf(value: unknown): Slot[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...slotsOf(holder[key])]);
}
