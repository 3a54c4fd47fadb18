import assert from "node:assert/strict";
import fc from "fast-check";
import { indexedDB } from "fake-indexeddb";
import { decodeKey, encodeKey, type Key } from "../../../lib/store/indexeddb/mod.ts";

const { key } = fc.letrec<{ key: Key }>((tie) => ({
  key: fc.oneof(
    { depthSize: "small" },
    fc.double({ noNaN: true }),
    fc.integer({ min: -3, max: 3 }),
    fc.date({ noInvalidDate: true }),
    fc.string({ unit: "binary", maxLength: 6 }),
    // Lone surrogates, zeros and the borders of the encoding's lengths.
    fc.array(fc.constantFrom(0, 1, 0x7f, 0x80, 0x7ff, 0x800, 0xd800, 0xdfff, 0xe000, 0xffff), { maxLength: 4 })
      .map((units) => String.fromCharCode(...units)),
    fc.array(fc.constantFrom(0, 1, 0x10, 0xfe, 0xff), { maxLength: 4 }).map((bytes) => Uint8Array.from(bytes).buffer),
    fc.array(tie("key"), { maxLength: 3 }),
  ),
}));

Deno.test("encodeKey() gives bytes in the order of IndexedDB's keys", () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      assert.equal(Math.sign(Buffer.compare(encodeKey(a), encodeKey(b))), indexedDB.cmp(a, b));
    }),
    { numRuns: 3_000 },
  );
});

Deno.test("decodeKey() gives back an equal key of the same kind", () => {
  fc.assert(
    fc.property(key, (key) => {
      const decoded = decodeKey(encodeKey(key));
      assert.equal(indexedDB.cmp(key, decoded), 0);
      assert.deepEqual(encodeKey(decoded), encodeKey(key));
    }),
    { numRuns: 1_000 },
  );
});

Deno.test("encodeKey() rejects invalid keys", async (t) => {
  for (const value of [NaN, new Date(NaN), null, undefined, true, {}, [{}], new Uint8Array(1)]) {
    await t.step(Deno.inspect(value), () => assert.throws(() => encodeKey(value as unknown as Key), TypeError));
  }
});

Deno.test("decodeKey() rejects damaged keys", async (t) => {
  const rows: [what: string, bytes: number[]][] = [
    ["nothing", []],
    ["a string without end", [0x30, 0x61]],
    ["half a number", [0x10, 0x80]],
    ["an array without end", [0x50, 0x30, 0x00]],
    ["a tail", [0x30, 0x00, 0x01]],
    ["an unknown kind", [0x77]],
  ];
  for (const [what, bytes] of rows) {
    await t.step(what, () => assert.throws(() => decodeKey(Uint8Array.from(bytes)), RangeError));
  }
});
