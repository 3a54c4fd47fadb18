import assert from "node:assert/strict";
import {
  type Grounds,
  hasAllowedUser,
  isInvited,
  isRoomAllowed,
  judge,
  type Verdict,
} from "../../lib/operator/access.ts";
import type { DeviceFacts, Pin, RoomFacts, SenderFacts, SenderTrust } from "../../lib/operator/mod.ts";
import { alice, clear, decrypted, goodSender, mallory, phone, self } from "./fakes.ts";

const goodDevice = goodSender.device as DeviceFacts;
const identityPin: Pin = { kind: "identity", masterKey: "master", sinceMs: 1, roomId: "!here" };
const devicesPin: Pin = {
  kind: "devices",
  devices: [{ deviceId: phone.deviceId, ed25519: phone.ed25519 }],
  pending: [{ shownId: "TABLET", deviceId: "TABLET", key: "key of TABLET" }],
  sinceMs: 1,
  roomId: "!here",
};
const plain: Grounds = {
  encrypted: true,
  requireEncryption: true,
  senderTrust: "tofu",
  named: undefined,
  pin: identityPin,
  nowMs: 7,
};

function verdictOn(facts: Partial<SenderFacts>, grounds: Partial<Grounds>): Verdict {
  const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { senderFacts: facts });
  assert.ok(payload.kind === "decrypted");
  return judge(payload, { ...plain, ...grounds });
}

function inWords(verdict: Verdict): string {
  return verdict.believed ? "believed" : `${verdict.reason}, tell ${verdict.tell}`;
}

Deno.test("judge() believes only what a known device of the sender has encrypted, in every mode", async (t) => {
  const rows: [verdict: string, name: string, facts: Partial<SenderFacts>][] = [
    ["believed", "nothing wrong", {}],
    ["mismatched-sender, tell nothing", "forged sender", { mismatchedSender: true }],
    ["mismatched-sender, tell nothing", "forged sender, no device", { mismatchedSender: true, deviceId: undefined }],
    ["not-authentic, tell uncertain-device", "key not from the device", { authenticityNotGuaranteed: true }],
    ["forwarded, tell uncertain-device", "key from a third party", { forwardedBy: mallory }],
    ["forwarded, tell uncertain-device", "key from another device of the sender", { forwardedBy: alice }],
    ["unknown-device, tell uncertain-device", "no device named", { deviceId: undefined }],
    ["unknown-device, tell uncertain-device", "device not listed", { device: undefined }],
    ["deleted-device, tell uncertain-device", "device gone", { device: { ...goodDevice, deleted: true } }],
    ["other-keys, tell uncertain-device", "device made anew", { device: { ...goodDevice, sameKeysAsSession: false } }],
  ];
  const others: Partial<Grounds>[] = [
    {},
    { pin: devicesPin },
    { pin: undefined },
    { senderTrust: "cross-signed" },
    { senderTrust: "any" },
    { senderTrust: "any", named: "master" },
    { encrypted: false, requireEncryption: false },
  ];
  for (const [expected, name, facts] of rows) {
    for (const grounds of others) {
      await t.step(`${name}, ${JSON.stringify(grounds)}: ${expected}`, () => {
        const verdict = verdictOn(facts, grounds);
        assert.equal(inWords(verdict), expected);
        // What is in doubt is no first sight.
        if (!verdict.believed) assert.equal(verdict.pin, undefined);
      });
    }
  }
});

const unsigned = { ...phone, crossSignedByOwner: false };
const tablet = { deviceId: "TABLET", ed25519: "key of TABLET", crossSignedByOwner: false };
/** Senders by what is published of them. */
const senders = {
  signed: {},
  unsigned: { device: { ...goodDevice, ...unsigned }, devices: [unsigned] },
  changed: { identity: { masterKey: "other" } },
  "changed, unsigned": {
    device: { ...goodDevice, ...unsigned },
    devices: [unsigned],
    identity: { masterKey: "other" },
  },
  bare: { device: { ...goodDevice, ...unsigned }, devices: [unsigned, tablet], identity: undefined },
  "bare, new device": {
    deviceId: "TABLET",
    device: { ...goodDevice, ...tablet },
    devices: [unsigned, tablet],
    identity: undefined,
  },
  "bare, old id": {
    device: { ...goodDevice, ...unsigned, ed25519: "another key" },
    devices: [{ ...unsigned, ed25519: "another key" }],
    identity: undefined,
  },
  "bare, other id": {
    deviceId: "OTHER",
    device: { ...goodDevice, ...unsigned, deviceId: "OTHER" },
    devices: [{ ...unsigned, deviceId: "OTHER" }],
    identity: undefined,
  },
  "new device, signed": {
    deviceId: "TABLET",
    device: { ...goodDevice, ...tablet, crossSignedByOwner: true },
    devices: [phone, { ...tablet, crossSignedByOwner: true }],
  },
} as const satisfies Record<string, Partial<SenderFacts>>;

const pins = { none: undefined, identity: identityPin, devices: devicesPin } as const;
/** What is expected to be written at first sight, by the letter in the table. */
const written: Readonly<Record<string, Pin>> = {
  i: { kind: "identity", masterKey: "master", sinceMs: 7, roomId: undefined },
  o: { kind: "identity", masterKey: "other", sinceMs: 7, roomId: undefined },
  I: { kind: "identity", masterKey: "master", sinceMs: 7, roomId: "!here" },
  O: { kind: "identity", masterKey: "other", sinceMs: 7, roomId: "!here" },
  d: {
    kind: "devices",
    devices: [unsigned, tablet].map(({ deviceId, ed25519 }) => ({ deviceId, ed25519 })),
    pending: [],
    sinceMs: 7,
  },
};

type Row = [pin: keyof typeof pins, sender: keyof typeof senders, verdict: string, writes?: string];

const byMode: [mode: SenderTrust, named: string | undefined, rows: Row[]][] = [
  ["tofu", undefined, [
    ["none", "signed", "believed", "i"],
    ["none", "unsigned", "unsigned-device", "i"],
    ["none", "changed", "believed", "o"],
    ["none", "bare", "believed", "d"],
    ["none", "bare, new device", "believed", "d"],
    ["identity", "signed", "believed"],
    ["identity", "new device, signed", "believed"],
    ["identity", "unsigned", "unsigned-device"],
    ["identity", "changed", "other-identity"],
    ["identity", "changed, unsigned", "other-identity"],
    ["identity", "bare", "other-identity"],
    ["devices", "bare", "believed"],
    ["devices", "bare, new device", "new-device"],
    ["devices", "bare, old id", "new-device"],
    ["devices", "bare, other id", "new-device"],
    ["devices", "signed", "believed"],
    ["devices", "unsigned", "believed"],
    ["devices", "changed", "believed"],
    ["devices", "new device, signed", "new-device"],
  ]],
  ["cross-signed", undefined, [
    ["none", "signed", "believed", "i"],
    ["none", "unsigned", "unsigned-device", "i"],
    ["none", "bare", "no-identity"],
    ["identity", "signed", "believed"],
    ["identity", "unsigned", "unsigned-device"],
    ["identity", "changed", "other-identity"],
    ["identity", "bare", "other-identity"],
    ["devices", "bare", "no-identity"],
    ["devices", "signed", "other-identity"],
  ]],
  ["any", undefined, [
    ["none", "signed", "believed"],
    ["none", "bare, new device", "believed"],
    ["identity", "unsigned", "believed"],
    ["identity", "changed", "believed"],
    ["identity", "bare", "believed"],
    ["devices", "bare, new device", "believed"],
    ["devices", "new device, signed", "believed"],
  ]],
  ...(["tofu", "cross-signed", "any"] as const).flatMap((mode): typeof byMode => [
    [mode, "master", [
      ["none", "signed", "believed", "i"],
      ["none", "unsigned", "unsigned-device", "i"],
      ["none", "changed", "other-identity"],
      ["none", "bare", "other-identity"],
      ["identity", "signed", "believed"],
      ["identity", "bare", "other-identity"],
      ["devices", "signed", "believed", "I"],
      ["devices", "bare", "other-identity"],
    ]],
    [mode, "other", [
      ["identity", "changed", "believed", "O"],
      ["identity", "changed, unsigned", "unsigned-device", "O"],
      ["identity", "signed", "other-identity"],
    ]],
  ]),
];

Deno.test("judge() goes by the pin, the mode and the identity that is named", async (t) => {
  for (const [senderTrust, named, rows] of byMode) {
    for (const [pin, sender, expected, writes = ""] of rows) {
      const name = `${senderTrust}${named ? `, ${named} named` : ""}, pinned: ${pin}, ${sender}`;
      await t.step(`${name}: ${expected} ${writes}`, () => {
        const verdict = verdictOn(senders[sender], { senderTrust, named, pin: pins[pin] });
        assert.equal(inWords(verdict), expected === "believed" ? expected : `${expected}, tell ${expected}`);
        assert.deepEqual(verdict.pin, written[writes]);
      });
    }
  }
});

Deno.test("judge() lets clear text pass only where nothing was ever encrypted and nothing must be", async (t) => {
  const rows: [verdict: string, encrypted: boolean, requireEncryption: boolean, named?: string][] = [
    ["clear-in-encrypted-room, tell not-encrypted", true, true],
    ["clear-in-encrypted-room, tell not-encrypted", true, false],
    ["unencrypted-room, tell not-encrypted", false, true],
    ["unencrypted-room, tell not-encrypted", false, false, "master"],
    ["believed", false, false],
  ];
  for (const [expected, encrypted, requireEncryption, named] of rows) {
    for (const senderTrust of ["tofu", "cross-signed", "any"] as const) {
      const name = `encrypted: ${encrypted}, required: ${requireEncryption}, named: ${named}, ${senderTrust}`;
      await t.step(`${name}: ${expected}`, () => {
        const payload = clear("start");
        assert.ok(payload.kind === "clear");
        const verdict = judge(payload, { ...plain, encrypted, requireEncryption, named, senderTrust });
        assert.equal(inWords(verdict), expected);
        assert.equal(verdict.pin, undefined);
      });
    }
  }
});

Deno.test("isInvited() wants allowed inviters, and nobody else", async (t) => {
  const rows: [expected: boolean, inviters: string[]][] = [
    [true, [alice]],
    [true, [alice, alice]],
    [false, []],
    [false, [mallory]],
    [false, [alice, mallory]],
    [false, [mallory, alice]],
    [false, [alice.toUpperCase()]],
    [false, [`${alice} `]],
  ];
  for (const [expected, inviters] of rows) {
    await t.step(
      `${JSON.stringify(inviters)}: ${expected}`,
      () => assert.equal(isInvited({ roomId: "!r", inviters }, new Set([alice])), expected),
    );
  }
});

Deno.test("hasAllowedUser() does not count ourselves", () => {
  const room = (joined: string[]): RoomFacts => ({
    roomId: "!r",
    membership: "join",
    encrypted: true,
    sendProblem: undefined,
    joined,
  });
  assert.equal(hasAllowedUser(room([self, mallory, alice]), new Set([alice, self]), self), true);
  assert.equal(hasAllowedUser(room([self, mallory]), new Set([alice, self]), self), false);
});

Deno.test("isRoomAllowed() takes the rooms given, or all", async (t) => {
  const rows: [expected: boolean, allowed: string[]][] = [
    [true, []],
    [true, ["!r"]],
    [true, ["!other", "!r"]],
    [false, ["!other"]],
    [false, ["!R"]],
  ];
  for (const [expected, allowed] of rows) {
    await t.step(
      `${JSON.stringify(allowed)}: ${expected}`,
      () => assert.equal(isRoomAllowed("!r", new Set(allowed)), expected),
    );
  }
});
