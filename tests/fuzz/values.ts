/**
 * Building blocks of the grammars: typed values that are occasionally replaced by hostile ones.
 *
 * @module
 */

import fc from "fast-check";
import { Members, Raw } from "./json.ts";

/** One value in this many is hostile. */
const HOSTILE_ONE_IN = 24;
/** Length of long lists and dictionaries. */
const THOUSANDS = 3_000;

/** Strings that are known to cause bugs. */
export const nastyText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
  ),
  fc.constantFrom(
    "!",
    "@",
    "@:",
    "#",
    "$",
    "*",
    ":",
    "/",
    "..",
    "%2e%2e%2f",
    "?a=b",
    "\r\n\r\n",
    "\x1b[2J",
    "\u202e",
    "💥".repeat(300),
  ),
  fc.constantFrom("-1", "1e999", "NaN", "null", "true", "[]", "{}"),
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constant("x".repeat(100_000)),
);

/** A value of any unexpected type. */
export const hostile: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<unknown>(null, true, false, {}, [], [[]], [{}], [null], { events: {} }) },
  { weight: 4, arbitrary: fc.constantFrom<unknown>(-1, 0, 1.5, -0.1, 2 ** 31, 2 ** 53, 2 ** 63, -(2 ** 63), 1e308) },
  { weight: 2, arbitrary: fc.constantFrom("1e999", "-1e999", "-0", "9".repeat(400), "0.1e-400").map(raw) },
  { weight: 4, arbitrary: nastyText },
  {
    weight: 1,
    arbitrary: fc.constantFrom(200, 5_000, 20_000).map((depth) => raw("[".repeat(depth) + "]".repeat(depth))),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(200, 5_000, 20_000).map((depth) => raw('{"a":'.repeat(depth) + "1" + "}".repeat(depth))),
  },
  { weight: 1, arbitrary: fc.constant(Array.from({ length: THOUSANDS }, (_, index) => index)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom("__proto__", "constructor", "length", "then")
      .map((name) => new Members([[name, { polluted: true }], ["a", 1], ["a", []]])),
  },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);

function raw(text: string): Raw {
  return new Raw(text);
}

/** Mostly the given value, sometimes a hostile one. */
export function mostly(value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: HOSTILE_ONE_IN - 1, arbitrary: value }, { weight: 1, arbitrary: hostile });
}

/**
 * An object with these fields. Some may be missing, duplicated or unknown.
 *
 * @param always is never missing or hostile, because otherwise the rest would not be read
 */
export function shape(
  fields: Readonly<Record<string, fc.Arbitrary<unknown>>>,
  always: Readonly<Record<string, fc.Arbitrary<unknown>>> = {},
): fc.Arbitrary<Members> {
  const known = Object.entries(fields).map(([name, value]) =>
    fc.tuple(fc.constant(name), mostly(value), fc.integer({ min: 0, max: 19 }))
  );
  const names = fc.constantFrom("__proto__", "constructor", "", ...Object.keys(fields));
  const others = fc.oneof(
    { weight: 15, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.tuple(names, hostile), { minLength: 1, maxLength: 2 }) },
  );
  return fc.tuple(fc.record(always), fc.tuple(...known), others).map(([needed, found, more]) =>
    new Members([
      ...Object.entries(needed),
      ...found.filter(([, , chance]) => chance > 0).map(([name, value]) => [name, value] as const),
      ...more,
    ])
  );
}

/** A list. Rarely a long one, made of `crowd`. */
export function listOf(
  item: fc.Arbitrary<unknown>,
  crowd: (index: number) => unknown = (index) => `${index}`,
  most = 4,
): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 40, arbitrary: fc.array(mostly(item), { maxLength: most }) },
    { weight: 1, arbitrary: fc.constant(Array.from({ length: THOUSANDS }, (_, index) => crowd(index))) },
  );
}

/** A dictionary. Rarely a very large one, made of `crowd`. */
export function dictionary(
  name: fc.Arbitrary<string>,
  value: fc.Arbitrary<unknown>,
  crowd: (index: number) => readonly [string, unknown] = (index) => [`${index}`, index],
  most = 3,
): fc.Arbitrary<Members> {
  return fc.oneof(
    {
      weight: 40,
      arbitrary: fc.array(fc.tuple(name, mostly(value)), { maxLength: most }).map((entries) => new Members(entries)),
    },
    {
      weight: 1,
      arbitrary: fc.constant(new Members(Array.from({ length: THOUSANDS }, (_, index) => crowd(index)))),
    },
  );
}

/** Mostly an existing value, sometimes one of `alike`, rarely a nasty string. */
export function oneOf(existing: readonly string[], alike: readonly string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...existing) },
    { weight: 3, arbitrary: fc.constantFrom(...alike) },
    { weight: 1, arbitrary: nastyText },
  );
}

/** Unpadded base64 of this many bytes. */
export function base64(bytes: number): fc.Arbitrary<string> {
  return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((each) => each.toBase64({ omitPadding: true }));
}

/** A count as servers send it. */
export const someCount: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: 0, max: 100 }),
  fc.integer(),
  fc.maxSafeNat(),
);

/** A timestamp in milliseconds since the epoch. */
export const someTime: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: 1_700_000_000_000, max: 1_900_000_000_000 }),
  fc.maxSafeInteger(),
);
