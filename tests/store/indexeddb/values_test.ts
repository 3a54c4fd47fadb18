import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeValue, encodeValue } from "../../../lib/store/indexeddb/mod.ts";

const anything = fc.anything({
  withDate: true,
  withNullPrototype: false,
  withUnicodeString: true,
  key: fc.oneof(fc.string(), fc.constantFrom("$", "__proto__", "constructor", "")),
  values: [
    fc.double(),
    fc.constantFrom(-0, NaN, Infinity, -Infinity, undefined, null, true, "", "\ud800", "a\0b"),
    fc.string({ unit: "binary" }),
    fc.uint8Array(),
    fc.uint8Array().map((bytes) => bytes.slice().buffer),
  ],
});

Deno.test("decodeValue() gives back what encodeValue() was given", () => {
  fc.assert(
    fc.property(anything, (value) => assert.deepStrictEqual(decodeValue(encodeValue(value)), value)),
    { numRuns: 1_000 },
  );
});

Deno.test("encodeValue() refuses what it would lose", async (t) => {
  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  const values = [
    1n,
    new Map(),
    new Set([1]),
    /a/,
    new Error("no"),
    new Float32Array(1),
    new Array(2),
    cyclic,
    Symbol(),
  ];
  for (const value of values) {
    await t.step(
      Object.prototype.toString.call(value),
      () => assert.throws(() => encodeValue({ within: [value] }), TypeError),
    );
  }
});

Deno.test("decodeValue() refuses a kind of a later version", () => {
  assert.throws(() => decodeValue('{"$":["bigint","1"]}'), RangeError);
});
