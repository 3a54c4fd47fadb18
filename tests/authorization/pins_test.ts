import assert from "node:assert/strict";
import { currentPin, type Pin, type PinnedDevice, type Pins } from "../../lib/authorization/mod.ts";
import { canonicalJson, type Json } from "../../lib/json.ts";
import type { Identity, Published } from "../../lib/session/mod.ts";
import { alice, mallory } from "../operator/fakes.ts";

/** A device with its private key. */
interface Signer extends PinnedDevice {
  sign(value: Json): Promise<string>;
}

async function signer(deviceId: string): Promise<Signer> {
  const { publicKey, privateKey } = await crypto.subtle.generateKey("Ed25519", true, [
    "sign",
    "verify",
  ]) as CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", publicKey));
  return {
    deviceId,
    ed25519: raw.toBase64({ omitPadding: true }),
    sign: async (value) => {
      const bytes = new TextEncoder().encode(canonicalJson(value));
      return new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, bytes)).toBase64({ omitPadding: true });
    },
  };
}

/** An identity whose master key carries a signature under the id of a device. */
async function signedIdentity(
  by: Signer,
  change: (key: Json) => Json = (key) => key,
  afterwards: (key: Json) => Json = (key) => key,
): Promise<Identity> {
  const { ed25519: masterKey } = await signer("master");
  const key = change({ user_id: alice, usage: ["master"], keys: { [`ed25519:${masterKey}`]: masterKey } });
  const signatures = { [alice]: { [`ed25519:${by.deviceId}`]: await by.sign(key) } };
  return { masterKey, crossSigningKey: afterwards({ ...key, signatures, unsigned: { note: "not signed" } }) };
}

function listed(...devices: readonly PinnedDevice[]): Published["devices"] {
  return devices.map(({ deviceId, ed25519 }) => ({ deviceId, ed25519, crossSignedByOwner: false }));
}

function pinned(...devices: readonly PinnedDevice[]): Pin {
  return { kind: "devices", devices: devices.map(({ deviceId, ed25519 }) => ({ deviceId, ed25519 })), sinceMs: 1 };
}

class StoredPins implements Pins {
  readonly written: Pin[] = [];
  #pin: Pin | undefined;

  constructor(pin: Pin | undefined) {
    this.#pin = pin;
  }

  get(): Pin | undefined {
    return structuredClone(this.#pin);
  }

  set(_: string, pin: Pin): void {
    this.#pin = pin;
    this.written.push(pin);
  }
}

Deno.test("currentPin() accepts an identity that a pinned device has signed, and no other", async (t) => {
  const [phone, tablet, thief] = await Promise.all([signer("PHONE"), signer("TABLET"), signer("PHONE")]);
  const other = await signer("other master");
  const rows: [accepted: boolean, name: string, identity: Identity, devices: Published["devices"]][] = [
    [true, "signed by the pinned device", await signedIdentity(phone), listed(phone, tablet)],
    [false, "signed by a device that came later", await signedIdentity(tablet), listed(phone, tablet)],
    [false, "signed by another key under the device's id", await signedIdentity(thief), listed(phone)],
    [false, "the pinned device is gone", await signedIdentity(phone), listed(tablet)],
    [false, "the pinned device has another key now", await signedIdentity(phone), listed(thief)],
    [
      false,
      "nobody has signed it",
      await signedIdentity(phone, undefined, (key) => ({ ...key, signatures: {} })),
      listed(
        phone,
      ),
    ],
    [
      false,
      "the signature is of another user",
      await signedIdentity(phone, undefined, (key) => ({
        ...key,
        signatures: { [mallory]: Object.values(key["signatures"] as Json)[0] },
      })),
      listed(phone),
    ],
    [
      false,
      "changed after it was signed",
      await signedIdentity(phone, undefined, (key) => ({ ...key, more: 1 })),
      listed(phone),
    ],
    [
      false,
      "another user's master key",
      await signedIdentity(phone, (key) => ({ ...key, user_id: mallory })),
      listed(phone),
    ],
    [
      false,
      "a self-signing key",
      await signedIdentity(phone, (key) => ({ ...key, usage: ["self_signing"] })),
      listed(phone),
    ],
    [
      false,
      "another key than the one that is published",
      await signedIdentity(phone, (key) => ({ ...key, keys: { [`ed25519:${other.ed25519}`]: other.ed25519 } })),
      listed(phone),
    ],
    [
      false,
      "two keys",
      await signedIdentity(phone, (key) => ({ ...key, keys: { ...key["keys"] as Json, "ed25519:x": other.ed25519 } })),
      listed(phone),
    ],
    ...["", "!", "AAAA", 5, null].map((signature): typeof rows[number] => [
      false,
      `a signature of no shape: ${JSON.stringify(signature)}`,
      {
        masterKey: other.ed25519,
        crossSigningKey: {
          user_id: alice,
          usage: ["master"],
          keys: { [`ed25519:${other.ed25519}`]: other.ed25519 },
          signatures: { [alice]: { "ed25519:PHONE": signature } },
        },
      },
      listed(phone),
    ]),
    [false, "a key of no shape", { masterKey: "x", crossSigningKey: { signatures: [], keys: "x" } }, listed(phone)],
  ];
  for (const [accepted, name, identity, devices] of rows) {
    await t.step(`${name}: ${accepted}`, async () => {
      const pins = new StoredPins(pinned(phone));
      const pin = await currentPin(pins, alice, { identity, devices }, 7);
      const expected = { kind: "identity", masterKey: identity.masterKey, sinceMs: 7 };
      if (accepted) assert.deepEqual(pin, expected);
      else assert.equal(pin?.kind, "devices");
      assert.deepEqual(pins.get(), pin, "what is returned is on disk");
    });
  }
});

Deno.test("currentPin() strikes a pinned device that was seen gone, for good", async () => {
  const [phone, tablet] = await Promise.all([signer("PHONE"), signer("TABLET")]);
  const pins = new StoredPins(pinned(phone, tablet));
  const see = (...devices: PinnedDevice[]) =>
    currentPin(pins, alice, { identity: undefined, devices: listed(...devices) }, 7);
  assert.deepEqual(await see(phone, tablet), pinned(phone, tablet));
  assert.equal(pins.written.length, 0, "what has not changed is not written");
  assert.deepEqual(await see(tablet), pinned(tablet));
  assert.deepEqual(await see(phone, tablet), pinned(tablet), "it comes back, and counts for nothing");
  assert.deepEqual(await see(phone), pinned());
  assert.deepEqual(await see(phone, tablet), pinned());
  const identity = await signedIdentity(phone);
  assert.deepEqual(
    await currentPin(pins, alice, { identity, devices: listed(phone) }, 7),
    pinned(),
    "nor does its signature",
  );
});

Deno.test("currentPin() changes neither an identity pin nor an unknown user's", async () => {
  const phone = await signer("PHONE");
  const published = { identity: await signedIdentity(phone), devices: listed(phone) };
  for (const pin of [undefined, { kind: "identity", masterKey: "known", sinceMs: 1 }] as const) {
    const pins = new StoredPins(pin);
    assert.deepEqual(await currentPin(pins, alice, published, 7), pin);
    assert.equal(pins.written.length, 0);
  }
});

Deno.test("currentPin() does not undo what another message has written meanwhile", async () => {
  const [phone, tablet] = await Promise.all([signer("PHONE"), signer("TABLET")]);
  const pins = new StoredPins(pinned(phone, tablet));
  const identity = await signedIdentity(phone);
  const accepting = currentPin(pins, alice, { identity, devices: listed(phone, tablet) }, 7);
  // While the signature is checked, the phone is seen gone.
  pins.set(alice, pinned(tablet));
  assert.deepEqual(await accepting, pinned(tablet));
});

Deno.test("canonicalJson() is that of the specification's appendix", async (t) => {
  const rows: [value: unknown, json: string][] = [
    [{}, "{}"],
    [{ one: 1, two: "Two" }, '{"one":1,"two":"Two"}'],
    [{ b: "2", a: "1" }, '{"a":"1","b":"2"}'],
    [
      { auth: { success: true, mxid: "@john.doe:example.com", profile: { display_name: "John Doe", three_pids: [] } } },
      '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[]},"success":true}}',
    ],
    [{ a: "日本語" }, '{"a":"日本語"}'],
    [{ "本": 2, "日": 1 }, '{"日":1,"本":2}'],
    [{ a: "\u65E5" }, '{"a":"日"}'],
    [{ a: null }, '{"a":null}'],
    [{ "\u{1F99E}": 1, "\uFFFD": 2, ab: 3, a: 4 }, '{"a":4,"ab":3,"\uFFFD":2,"\u{1F99E}":1}'],
    [{ a: undefined, b: [{ d: 1, c: 2 }] }, '{"b":[{"c":2,"d":1}]}'],
  ];
  for (const [value, json] of rows) {
    await t.step(json, () => assert.equal(canonicalJson(value), json));
  }
});
