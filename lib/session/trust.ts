/**
 * Reading messages: decrypts an event and gathers what the crypto knows of its sender's device and identity as they
 * stand now. Facts only; who is believed is decided elsewhere. The crypto's own marks of trust are not looked at.
 *
 * @module
 */

import {
  type DecryptedRoomEvent,
  DecryptionErrorCode,
  DecryptionSettings,
  MegolmDecryptionError,
  RoomId,
  ShieldStateCode,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { TransientError } from "../errors.ts";
import type { ListedDevice, Payload, Published, SenderFacts, Undecryptable } from "../operator/mod.ts";
import type { Known, KnownDevice } from "./findings.ts";
import { type Json, object, text } from "../json.ts";
import type { ListedKeys, Machine } from "./machine.ts";
import { ciphertextKey } from "./megolm.ts";

/**
 * Reads an event as the server sent it; the same object again is decrypted anew only if what the crypto knows has changed.
 *
 * @throws TransientError if the sender's devices are not known as they are now, and could not be asked for
 */
export async function readEvent(
  machine: Machine,
  roomId: string,
  sender: string,
  event: Json,
  signal: AbortSignal,
): Promise<Payload> {
  const outer = object(event["content"]);
  if (event["type"] !== "m.room.encrypted") {
    return { kind: "clear", type: text(event["type"]) ?? "", content: outer };
  }
  const ciphertext = ciphertextKey(outer);
  if (ciphertext === undefined) {
    return { kind: "undecryptable", why: { kind: "broken", reason: "not a Megolm message" }, sessionId: undefined };
  }
  const { messages } = machine.known;
  const remembered = machine.isStale(sender) ? undefined : messages.get(event);
  if (remembered !== undefined) return remembered;
  const decrypted = await decrypt(machine, roomId, event);
  if ("kind" in decrypted) return { kind: "undecryptable", why: decrypted, sessionId: ciphertext.sessionId };
  using message = decrypted;
  const inner = object(JSON.parse(message.event));
  const payload: Payload = {
    kind: "decrypted",
    type: text(inner["type"]) ?? "",
    content: object(inner["content"]),
    outerRelation: outer["m.relates_to"],
    ciphertext,
    senderFacts: await senderFacts(machine, sender, message, signal),
  };
  // Should something have changed meanwhile, these are no longer the messages that are asked.
  messages.set(event, payload);
  return payload;
}

async function decrypt(machine: Machine, roomId: string, event: Json): Promise<DecryptedRoomEvent | Undecryptable> {
  try {
    return await machine.olm.decryptRoomEvent(
      JSON.stringify(event),
      new RoomId(roomId),
      new DecryptionSettings(TrustRequirement.Untrusted),
    );
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    // What the crypto cannot even parse is somebody's malformed event; it must not end the operator.
    if (!(error instanceof MegolmDecryptionError)) return { kind: "broken", reason: "malformed" };
    using failure = error;
    if (failure.code === DecryptionErrorCode.MismatchedSender) return { kind: "forged" };
    if (failure.withheldCode !== undefined) return { kind: "withheld", code: failure.withheldCode };
    if (
      failure.code === DecryptionErrorCode.MissingRoomKey || failure.code === DecryptionErrorCode.UnknownMessageIndex
    ) {
      return { kind: "no-key" };
    }
    return { kind: "broken", reason: DecryptionErrorCode[failure.code] };
  }
}

async function senderFacts(
  machine: Machine,
  sender: string,
  message: DecryptedRoomEvent,
  signal: AbortSignal,
): Promise<SenderFacts> {
  const named = message.senderDevice?.toString();
  // By the id that the crypto names, or, where it names none, by the key that made the session.
  const isSenders = ({ deviceId, curve25519 }: KnownDevice): boolean =>
    named === undefined ? curve25519 === message.senderCurve25519Key : deviceId === named;
  const { identity, devices } = await known(machine, sender, (listed) => listed.some(isSenders), signal);
  const device = devices.find(isSenders);
  const code = message.shieldState(false).code;
  return {
    deviceId: device?.deviceId ?? named,
    mismatchedSender: code === ShieldStateCode.MismatchedSender,
    authenticityNotGuaranteed: code === ShieldStateCode.AuthenticityNotGuaranteed,
    forwardedBy: message.forwarder?.toString(),
    device: device && {
      ...listed(device),
      deleted: device.deleted,
      sameKeysAsSession: device.curve25519 === message.senderCurve25519Key &&
        device.ed25519 === message.senderClaimedEd25519Key,
    },
    identity,
    devices: devices.map(listed),
  };
}

/**
 * What is published of a user.
 *
 * @throws TransientError if it is not known as it is now, and could not be asked for
 */
export async function published(machine: Machine, userId: string, signal: AbortSignal): Promise<Published> {
  const { identity, devices } = await known(machine, userId, (all) => all.length > 0, signal);
  return { identity, devices: devices.map(listed) };
}

function listed({ deviceId, ed25519, crossSignedByOwner }: KnownDevice): ListedDevice {
  return { deviceId, ed25519, crossSignedByOwner };
}

/** A user's identity and devices as they are now; asked for anew if they have changed or what is sought is not there. */
async function known(
  machine: Machine,
  userId: string,
  suffices: (devices: readonly KnownDevice[]) => boolean,
  signal: AbortSignal,
): Promise<Known> {
  if (machine.isStale(userId)) await machine.sendOutgoing(signal);
  let found = await snapshot(machine, userId);
  if (!suffices(found.devices) || machine.listed(userId) === undefined) {
    // Unknown is pending, not refused, until the homeserver has been asked.
    await machine.query(userId, signal);
    found = await snapshot(machine, userId);
  }
  if (machine.isStale(userId)) {
    throw new TransientError(`Cannot judge a message of ${userId}: the homeserver did not tell their devices`);
  }
  return found;
}

/** Identity and devices of one moment: both may change while we look at one of them. */
async function snapshot(machine: Machine, userId: string): Promise<Known> {
  for (;;) {
    const { users } = machine.known;
    const remembered = users.get(userId);
    if (remembered !== undefined) return remembered;
    const before = await masterKeyOf(machine, userId);
    using list = await machine.olm.getUserDevices(new UserId(userId));
    const devices = list.devices().map((each) => {
      using device = each;
      const held = {
        deviceId: device.deviceId.toString(),
        ed25519: device.ed25519Key?.toBase64() ?? "",
        curve25519: device.curve25519Key?.toBase64(),
        crossSignedByOwner: device.isCrossSignedByOwner(),
        deleted: device.isDeleted(),
      };
      return asListed(held, machine.listed(userId)?.get(held.deviceId));
    });
    const after = await masterKeyOf(machine, userId);
    if (before !== after) continue;
    const found = { identity: after === undefined ? undefined : { masterKey: after }, devices };
    // Should something have changed meanwhile, this is no longer the map that is asked.
    users.set(userId, found);
    return found;
  }
}

/** A device as it is listed now. Under other keys than the crypto holds it is another device, and nobody's word for it counts. */
function asListed(held: KnownDevice, now: ListedKeys | undefined): KnownDevice {
  if (now === undefined || (now.ed25519 === held.ed25519 && now.curve25519 === held.curve25519)) return held;
  return { ...held, ed25519: now.ed25519 ?? "", curve25519: now.curve25519, crossSignedByOwner: false };
}

async function masterKeyOf(machine: Machine, userId: string): Promise<string | undefined> {
  using identity = await machine.olm.getIdentity(new UserId(userId));
  return identity && publicKey(identity.masterKey);
}

/** The one public key in a cross-signing key's JSON (Matrix spec v1.16, client-server API, 11.12.3, "CrossSigningKey"). */
export function publicKey(crossSigningKey: string): string {
  return text(Object.values(object(object(JSON.parse(crossSigningKey))["keys"]))[0]) ?? "";
}
