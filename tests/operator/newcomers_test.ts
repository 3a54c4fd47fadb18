import assert from "node:assert/strict";
import { newcomers, pendingUnder } from "../../lib/operator/newcomers.ts";
import type { DevicesPin } from "../../lib/operator/mod.ts";

function pinned(...ids: string[]): DevicesPin {
  const devices = ids.map((deviceId) => ({ deviceId, ed25519: `key of ${deviceId}` }));
  return { kind: "devices", devices, pending: [], sinceMs: 0 };
}

function appearing(pin: DevicesPin, ...ids: [deviceId: string, key: string][]): string[] {
  const devices = ids.map(([deviceId, ed25519]) => ({ deviceId, ed25519, crossSignedByOwner: false }));
  return newcomers(pin, { identity: undefined, devices }).map(({ shownId }) => shownId);
}

Deno.test("newcomers() shows a device by its own id only where that is plain and resembles no other", async (t) => {
  const rows: [deviceId: string, byItself: boolean][] = [
    ["ABCDEFGHIJ", true],
    ["AB12CD34", true],
    ["abcdefghij", false],
    ["ABC", false],
    ["ABCDEFGHIJKLMNOPQ", false],
    ["MY PHONE", false],
    ["ΑΒΓΔΕΖ", false],
    ["`; rm", false],
    ["KNOWN1", false],
    ["KN0WNI", false],
    ["KNOWNL", false],
  ];
  for (const [deviceId, byItself] of rows) {
    await t.step(`${deviceId}: ${byItself}`, () => {
      const [shownId] = appearing(pinned("KNOWN1"), [deviceId, "key"]);
      if (byItself) assert.equal(shownId, deviceId);
      else assert.match(shownId ?? "", /^[ACDEFGHJKLMNPQRTUVWXY]{8}$/);
    });
  }
});

Deno.test("newcomers() never shows two things under one id", () => {
  const [first = ""] = appearing(pinned(), ["my phone", "key"]);
  // Somebody who knows how ids are made takes the one that is to come.
  const ids = appearing(pinned(), [first, "evil key"], ["my phone", "key"]);
  assert.deepEqual(ids[0], first);
  assert.equal(ids[1]?.length, 9);
  assert.deepEqual(appearing(pinned(first), ["my phone", "key"])[0]?.length, 9);
});

Deno.test("newcomers() tells another key under a known id, and nothing twice", () => {
  assert.deepEqual(appearing(pinned("ABCDEF"), ["ABCDEF", "key of ABCDEF"]), []);
  assert.equal(appearing(pinned("ABCDEF"), ["ABCDEF", "other"]).length, 1);
  const pin = { ...pinned(), pending: [{ shownId: "ABCDEF", deviceId: "ABCDEF", key: "key" }] };
  assert.deepEqual(appearing(pin, ["ABCDEF", "key"]), []);
  assert.equal(appearing(pin, ["ABCDEF", "other"]).length, 1);
});

Deno.test("pendingUnder() reads an id however a phone has written it", () => {
  const pin = { ...pinned(), pending: [{ shownId: "AB1LO0", key: "key" }] };
  for (const given of ["AB1LO0", "ab1lo0", "`AB1LO0`", "ABILOO", "ab-1L-00"]) {
    assert.equal(pendingUnder(given, pin)?.key, "key", given);
  }
  for (const given of ["", "AB1LO", "AB1LO0X"]) assert.equal(pendingUnder(given, pin), undefined, given);
});
