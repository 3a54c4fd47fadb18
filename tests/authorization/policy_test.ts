import assert from "node:assert/strict";
import {
  authorize,
  hasAllowedUser,
  isInvited,
  isRoomAllowed,
  type Pin,
  type PolicyInput,
  type SenderTrust,
  type Verdict,
} from "../../lib/authorization/mod.ts";
import type { DeviceFacts, RoomFacts, SenderFacts } from "../../lib/session/mod.ts";
import {
  alice,
  clear,
  decrypted,
  goodSender,
  identity,
  mallory,
  membersOf,
  phone,
  room,
  self,
} from "../operator/fakes.ts";

const goodDevice = goodSender.device as DeviceFacts;
const identityPin: Pin = { kind: "identity", masterKey: "master", sinceMs: 1 };
const devicesPin: Pin = {
  kind: "devices",
  devices: [{ deviceId: phone.deviceId, ed25519: phone.ed25519 }],
  sinceMs: 1,
};
const encryptedRoom: RoomFacts = {
  roomId: room,
  membership: "join",
  encrypted: true,
  sendProblem: undefined,
  ...membersOf([alice, self]),
};
const plain: PolicyInput = {
  room: encryptedRoom,
  allowedRooms: new Set(),
  requireEncryption: true,
  senderTrust: "tofu",
  named: undefined,
  pin: identityPin,
  nowMs: 7,
};

function verdictOn(facts: Partial<SenderFacts>, input: Partial<PolicyInput>): Verdict {
  const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { senderFacts: facts });
  assert.ok(payload.kind === "decrypted");
  return authorize(payload, { ...plain, ...input });
}

function inWords(verdict: Verdict): string {
  return verdict.trusted ? "trusted" : `${verdict.reason}, tell ${verdict.explanation ?? "nothing"}`;
}

Deno.test("authorize() trusts only what a known device of the sender has encrypted, in every mode", async (t) => {
  const rows: [verdict: string, name: string, facts: Partial<SenderFacts>][] = [
    ["trusted", "nothing wrong", {}],
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
  const others: Partial<PolicyInput>[] = [
    {},
    { pin: devicesPin },
    { pin: undefined },
    { senderTrust: "cross-signed" },
    { senderTrust: "any" },
    { senderTrust: "any", named: "master" },
    { room: { ...encryptedRoom, encrypted: false }, requireEncryption: false },
  ];
  for (const [expected, name, facts] of rows) {
    for (const input of others) {
      await t.step(`${name}, ${JSON.stringify(input)}: ${expected}`, () => {
        const verdict = verdictOn(facts, input);
        assert.equal(inWords(verdict), expected);
        // What is in doubt is no first sight.
        if (!verdict.trusted) assert.equal(verdict.pin, undefined);
      });
    }
  }
});

const unsigned = { ...phone, crossSignedByOwner: false };
const tablet = { deviceId: "TABLET", ed25519: "key of TABLET", crossSignedByOwner: false };
const signedTablet = { ...tablet, crossSignedByOwner: true };
/** Senders by what is published of them. PHONE is the device that is pinned where devices are. */
const senders: Readonly<Record<string, Partial<SenderFacts>>> = {
  "signed": {},
  "signed, new device": {
    deviceId: "TABLET",
    device: { ...goodDevice, ...signedTablet },
    devices: [phone, signedTablet],
  },
  "unsigned": { device: { ...goodDevice, ...unsigned }, devices: [unsigned] },
  "unsigned, new device": { deviceId: "TABLET", device: { ...goodDevice, ...tablet }, devices: [phone, tablet] },
  "changed": { identity: identity("other") },
  "changed, unsigned": {
    device: { ...goodDevice, ...unsigned },
    devices: [unsigned],
    identity: identity("other"),
  },
  "bare": { device: { ...goodDevice, ...unsigned }, devices: [unsigned, tablet], identity: undefined },
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
};

const pins: Readonly<Record<string, Pin | undefined>> = {
  none: undefined,
  identity: identityPin,
  devices: devicesPin,
};
const modes: readonly SenderTrust[] = ["tofu", "cross-signed", "any"];

/** A verdict, and behind it what is pinned from then on: an identity by its key, or devices by their ids. */
function cellOf(verdict: Verdict): string {
  const { pin } = verdict;
  const written = pin?.kind === "identity" ? pin.masterKey : pin?.devices.map(({ deviceId }) => deviceId).join("+");
  const end = written === undefined ? "" : ` → ${written}`;
  return (verdict.trusted ? "trusted" : verdict.reason) + end;
}

/** The refusal matrix: every sender, by mode, by the identity that is named, by what the sender was known by. */
function matrix(): string {
  const lines: string[] = [];
  for (const mode of modes) {
    for (const named of [undefined, "master"]) {
      lines.push(`${mode}${named === undefined ? "" : `, ${named} named`}`);
      for (const [sender, facts] of Object.entries(senders)) {
        const cells = Object.values(pins).map((pin) => cellOf(verdictOn(facts, { senderTrust: mode, named, pin })));
        lines.push(`  ${[sender, ...cells].map((cell) => cell.padEnd(28)).join("").trimEnd()}`);
      }
    }
  }
  return lines.join("\n");
}

const expectedMatrix = `
tofu
  signed                      trusted → master            trusted                     trusted
  signed, new device          trusted → master            trusted                     new-device
  unsigned                    unsigned-device → master    unsigned-device             trusted
  unsigned, new device        unsigned-device → master    unsigned-device             new-device
  changed                     trusted → other             other-identity              trusted
  changed, unsigned           unsigned-device → other     other-identity              trusted
  bare                        trusted → PHONE+TABLET      other-identity              trusted
  bare, new device            trusted → PHONE+TABLET      other-identity              new-device
  bare, old id                trusted → PHONE             other-identity              new-device
  bare, other id              trusted → OTHER             other-identity              new-device
tofu, master named
  signed                      trusted → master            trusted                     trusted → master
  signed, new device          trusted → master            trusted                     trusted → master
  unsigned                    unsigned-device → master    unsigned-device             unsigned-device → master
  unsigned, new device        unsigned-device → master    unsigned-device             unsigned-device → master
  changed                     other-identity              other-identity              other-identity
  changed, unsigned           other-identity              other-identity              other-identity
  bare                        other-identity              other-identity              other-identity
  bare, new device            other-identity              other-identity              other-identity
  bare, old id                other-identity              other-identity              other-identity
  bare, other id              other-identity              other-identity              other-identity
cross-signed
  signed                      trusted → master            trusted                     other-identity
  signed, new device          trusted → master            trusted                     other-identity
  unsigned                    unsigned-device → master    unsigned-device             other-identity
  unsigned, new device        unsigned-device → master    unsigned-device             other-identity
  changed                     trusted → other             other-identity              other-identity
  changed, unsigned           unsigned-device → other     other-identity              other-identity
  bare                        no-identity                 other-identity              no-identity
  bare, new device            no-identity                 other-identity              no-identity
  bare, old id                no-identity                 other-identity              no-identity
  bare, other id              no-identity                 other-identity              no-identity
cross-signed, master named
  signed                      trusted → master            trusted                     trusted → master
  signed, new device          trusted → master            trusted                     trusted → master
  unsigned                    unsigned-device → master    unsigned-device             unsigned-device → master
  unsigned, new device        unsigned-device → master    unsigned-device             unsigned-device → master
  changed                     other-identity              other-identity              other-identity
  changed, unsigned           other-identity              other-identity              other-identity
  bare                        other-identity              other-identity              other-identity
  bare, new device            other-identity              other-identity              other-identity
  bare, old id                other-identity              other-identity              other-identity
  bare, other id              other-identity              other-identity              other-identity
any
  signed                      trusted                     trusted                     trusted
  signed, new device          trusted                     trusted                     trusted
  unsigned                    trusted                     trusted                     trusted
  unsigned, new device        trusted                     trusted                     trusted
  changed                     trusted                     trusted                     trusted
  changed, unsigned           trusted                     trusted                     trusted
  bare                        trusted                     trusted                     trusted
  bare, new device            trusted                     trusted                     trusted
  bare, old id                trusted                     trusted                     trusted
  bare, other id              trusted                     trusted                     trusted
any, master named
  signed                      trusted → master            trusted                     trusted → master
  signed, new device          trusted → master            trusted                     trusted → master
  unsigned                    unsigned-device → master    unsigned-device             unsigned-device → master
  unsigned, new device        unsigned-device → master    unsigned-device             unsigned-device → master
  changed                     other-identity              other-identity              other-identity
  changed, unsigned           other-identity              other-identity              other-identity
  bare                        other-identity              other-identity              other-identity
  bare, new device            other-identity              other-identity              other-identity
  bare, old id                other-identity              other-identity              other-identity
  bare, other id              other-identity              other-identity              other-identity
`.trim();

Deno.test("authorize() goes by the mode, the identity that is named, and the pin: the refusal matrix", () => {
  const found = matrix();
  console.log(
    `${" ".repeat(30)}${Object.keys(pins).map((pin) => `pin: ${pin}`.padEnd(28)).join("").trimEnd()}\n${found}`,
  );
  assert.equal(found, expectedMatrix);
});

Deno.test("authorize() explains only what the sender can fix", () => {
  for (const mode of modes) {
    for (const facts of Object.values(senders)) {
      for (const pin of Object.values(pins)) {
        const verdict = verdictOn(facts, { senderTrust: mode, pin });
        if (!verdict.trusted) assert.equal(verdict.explanation, verdict.reason);
      }
    }
  }
});

Deno.test("authorize() refuses trusted messages in rooms where they can't be answered", async (t) => {
  const rows: [reason: string, input: Partial<PolicyInput>][] = [
    ["not-joined", { room: undefined }],
    ["not-joined", { room: { ...encryptedRoom, membership: "leave" } }],
    ["room-not-allowed", { allowedRooms: new Set(["!other:example.org"]) }],
    ["unusable-encryption", { room: { ...encryptedRoom, sendProblem: "unusable-encryption" } }],
    ["own-device-unsigned", { room: { ...encryptedRoom, sendProblem: "own-device-unsigned" } }],
  ];
  for (const [reason, input] of rows) {
    await t.step(reason, () => {
      assert.equal(inWords(verdictOn({}, input)), `${reason}, tell nothing`);
      // Who is not trusted hears of that first, wherever we are joined.
      const unsure = verdictOn({ device: undefined }, input);
      assert.ok(!unsure.trusted);
      assert.equal(unsure.reason, reason === "not-joined" ? reason : "unknown-device");
    });
  }
});

Deno.test("authorize() lets clear text pass only where nothing was ever encrypted and nothing must be", async (t) => {
  const rows: [verdict: string, encrypted: boolean, requireEncryption: boolean, named?: string][] = [
    ["clear-in-encrypted-room, tell not-encrypted", true, true],
    ["clear-in-encrypted-room, tell not-encrypted", true, false],
    ["unencrypted-room, tell not-encrypted", false, true],
    ["unencrypted-room, tell not-encrypted", false, false, "master"],
    ["trusted", false, false],
  ];
  for (const [expected, encrypted, requireEncryption, named] of rows) {
    for (const senderTrust of ["tofu", "cross-signed", "any"] as const) {
      const name = `encrypted: ${encrypted}, required: ${requireEncryption}, named: ${named}, ${senderTrust}`;
      await t.step(`${name}: ${expected}`, () => {
        const payload = clear("start");
        assert.ok(payload.kind === "clear");
        const verdict = authorize(payload, {
          ...plain,
          room: { ...encryptedRoom, encrypted },
          requireEncryption,
          named,
          senderTrust,
        });
        assert.equal(inWords(verdict), expected);
        assert.equal(verdict.pin, undefined);
      });
    }
  }
});

Deno.test("isInvited() requires that all inviters are allowed", async (t) => {
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
    ...membersOf(joined),
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
