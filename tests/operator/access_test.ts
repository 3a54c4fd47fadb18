import assert from "node:assert/strict";
import { hasAllowedUser, isInvited, isRoomAllowed, judge } from "../../lib/operator/access.ts";
import type { DeviceFacts, RoomFacts, SenderFacts } from "../../lib/operator/mod.ts";
import { alice, clear, decrypted, goodSender, mallory, self } from "./fakes.ts";

const goodDevice = goodSender.device as DeviceFacts;

Deno.test("judge() believes only what a known device of the sender has encrypted", async (t) => {
  const rows: [verdict: string, name: string, facts: Partial<SenderFacts>][] = [
    ["believed", "nothing wrong", {}],
    ["believed", "a device that its owner has not signed", { device: { ...goodDevice, crossSignedByOwner: false } }],
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
  for (const [expected, name, senderFacts] of rows) {
    await t.step(`${name}: ${expected}`, () => {
      const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { senderFacts });
      assert.ok(payload.kind === "decrypted");
      const verdict = judge(payload, { encrypted: true }, true);
      assert.equal(verdict.believed ? "believed" : `${verdict.reason}, tell ${verdict.tell}`, expected);
    });
  }
});

Deno.test("judge() lets clear text pass only where nothing was ever encrypted and nothing must be", async (t) => {
  const rows: [verdict: string, encrypted: boolean, requireEncryption: boolean][] = [
    ["clear-in-encrypted-room", true, true],
    ["clear-in-encrypted-room", true, false],
    ["unencrypted-room", false, true],
    ["believed", false, false],
  ];
  for (const [expected, encrypted, requireEncryption] of rows) {
    await t.step(`encrypted: ${encrypted}, required: ${requireEncryption}: ${expected}`, () => {
      const payload = clear("start");
      assert.ok(payload.kind === "clear");
      const verdict = judge(payload, { encrypted }, requireEncryption);
      assert.equal(verdict.believed ? "believed" : verdict.reason, expected);
    });
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
    joined,
    aliases: [],
  });
  assert.equal(hasAllowedUser(room([self, mallory, alice]), new Set([alice, self]), self), true);
  assert.equal(hasAllowedUser(room([self, mallory]), new Set([alice, self]), self), false);
});

Deno.test("isRoomAllowed() takes ids and aliases", async (t) => {
  const facts: RoomFacts = { roomId: "!r", membership: "join", encrypted: true, joined: [], aliases: ["#ops:x"] };
  const rows: [expected: boolean, allowed: string[]][] = [
    [true, []],
    [true, ["!r"]],
    [true, ["!other", "#ops:x"]],
    [false, ["!other"]],
    [false, ["#OPS:x"]],
  ];
  for (const [expected, allowed] of rows) {
    await t.step(
      `${JSON.stringify(allowed)}: ${expected}`,
      () => assert.equal(isRoomAllowed(facts, new Set(allowed)), expected),
    );
  }
});
