/**
 * Spoils real JSON in random places: values replaced, left out, doubled, or swapped for another part of the same. Knows
 * nothing of what the JSON means.
 *
 * @module
 */

import fc from "fast-check";

/** One thing that is spoilt. */
interface Change {
  /** Which of all values, counted by this number modulo how many there are. */
  readonly where: number;
  /** What becomes of it. */
  readonly how: "replace" | "remove" | "double" | "transplant";
  /** Takes its place. */
  readonly by: unknown;
  /** Which of all values takes its place. */
  readonly from: number;
}

/** Texts that have hurt somebody before. */
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

/** Spoilt copies of the originals. */
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

/** As JSON.parse does it, whatever the name. */
function put(holder: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, configurable: true, enumerable: true, writable: true });
}

function slotsOf(value: unknown): Slot[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...slotsOf(holder[key])]);
}
