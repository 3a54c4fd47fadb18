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
  type Device,
  DeviceId,
  MegolmDecryptionError,
  RoomId,
  ShieldStateCode,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { TransientError } from "../errors/mod.ts";
import type { Payload, SenderFacts, Undecryptable } from "../operator/mod.ts";
import { type Json, object, text } from "./json.ts";
import type { Machine } from "./machine.ts";
import { ciphertextKey } from "./megolm.ts";

/**
 * Reads an event as the server sent it.
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
  const decrypted = await decrypt(machine, roomId, event);
  if ("kind" in decrypted) return { kind: "undecryptable", why: decrypted, sessionId: ciphertext.sessionId };
  using message = decrypted;
  const inner = object(JSON.parse(message.event));
  return {
    kind: "decrypted",
    type: text(inner["type"]) ?? "",
    content: object(inner["content"]),
    outerRelation: outer["m.relates_to"],
    ciphertext,
    senderFacts: await senderFacts(machine, sender, message, signal),
  };
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
  if (machine.isStale(sender)) await machine.sendOutgoing(signal);
  let device = await findDevice(machine, sender, message);
  if (device === undefined) {
    // Unknown is pending, not refused, until the homeserver has been asked.
    await machine.query(sender, signal);
    device = await findDevice(machine, sender, message);
  }
  if (machine.isStale(sender)) {
    throw new TransientError(`Cannot judge a message of ${sender}: the homeserver did not tell their devices`);
  }
  using identity = await machine.olm.getIdentity(new UserId(sender));
  const code = message.shieldState(false).code;
  const facts: SenderFacts = {
    deviceId: device?.deviceId.toString() ?? message.senderDevice?.toString(),
    mismatchedSender: code === ShieldStateCode.MismatchedSender,
    authenticityNotGuaranteed: code === ShieldStateCode.AuthenticityNotGuaranteed,
    forwardedBy: message.forwarder?.toString(),
    device: device === undefined ? undefined : {
      ed25519: device.ed25519Key?.toBase64() ?? "",
      deleted: device.isDeleted(),
      sameKeysAsSession: device.curve25519Key?.toBase64() === message.senderCurve25519Key &&
        device.ed25519Key?.toBase64() === message.senderClaimedEd25519Key,
      crossSignedByOwner: device.isCrossSignedByOwner(),
    },
    identity: identity === undefined ? undefined : { masterKey: publicKey(identity.masterKey) },
  };
  device?.free();
  return facts;
}

/** The device by the id that the crypto names, or, where it names none, by the key that made the session. */
async function findDevice(machine: Machine, sender: string, message: DecryptedRoomEvent): Promise<Device | undefined> {
  const named = message.senderDevice?.toString();
  if (named !== undefined) return await machine.olm.getDevice(new UserId(sender), new DeviceId(named));
  using devices = await machine.olm.getUserDevices(new UserId(sender));
  return devices.devices().find((device) => device.curve25519Key?.toBase64() === message.senderCurve25519Key);
}

/** The one public key in a cross-signing key's JSON (Matrix spec v1.16, client-server API, 11.12.3, "CrossSigningKey"). */
export function publicKey(crossSigningKey: string): string {
  return text(Object.values(object(object(JSON.parse(crossSigningKey))["keys"]))[0]) ?? "";
}
