/**
 * Who is believed: pure functions from facts to verdicts. Knows nothing of where facts come from, nor what is done or
 * said after a verdict.
 *
 * @module
 */

import type { Invitation, Payload, Pin, RoomFacts, SenderFacts } from "./ports.ts";
import type { SenderTrust } from "./settings.ts";

/** Why a message is not believed to be its sender's wish. */
export type Disbelief =
  | "clear-in-encrypted-room"
  | "unencrypted-room"
  | "mismatched-sender"
  | "not-authentic"
  | "forwarded"
  | "unknown-device"
  | "deleted-device"
  | "other-keys"
  | "no-identity"
  | "other-identity"
  | "unsigned-device"
  | "new-device";

/** A judgement, and at first sight the pin that is to be written before anything is done. */
export type Verdict =
  | { readonly believed: true; readonly pin?: Pin }
  | { readonly believed: false; readonly reason: Disbelief; readonly tell: Tell; readonly pin?: Pin };

/** What an allowed user may be told of a disbelief; a forger is told nothing. */
export type Tell =
  | "nothing"
  | "not-encrypted"
  | "uncertain-device"
  | Extract<Disbelief, "no-identity" | "other-identity" | "unsigned-device" | "new-device">;

/** What could be read of an event. */
export type Readable = Exclude<Payload, { kind: "undecryptable" }>;

/** What a message is judged by, besides itself. */
export interface Grounds {
  /** The room is, or has once been, encrypted. */
  readonly encrypted: boolean;
  /** Clear text is refused in rooms that never were encrypted, too. */
  readonly requireEncryption: boolean;
  /** Which devices are believed. */
  readonly senderTrust: SenderTrust;
  /** The master key that the configuration names for the sender. */
  readonly named: string | undefined;
  /** Whom the sender was believed to be so far. */
  readonly pin: Pin | undefined;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** Judges whether a message is its sender's wish (SPEC 4c, 4d). That the sender is allowed is asked elsewhere. */
export function judge(payload: Readable, grounds: Grounds): Verdict {
  if (payload.kind === "decrypted") return judgeDevice(payload.senderFacts, grounds);
  // Whoever controls the homeserver can write clear text into an encrypted room in anybody's name.
  if (grounds.encrypted) return refuse("clear-in-encrypted-room", "not-encrypted");
  // Clear text shows no identity, and who is named is believed with that one only.
  if (grounds.requireEncryption || grounds.named !== undefined) return refuse("unencrypted-room", "not-encrypted");
  return { believed: true };
}

function judgeDevice(facts: SenderFacts, grounds: Grounds): Verdict {
  if (facts.mismatchedSender) return refuse("mismatched-sender", "nothing");
  const doubt = doubtAbout(facts);
  return doubt === undefined ? judgeOwner(facts, grounds) : refuse(doubt, "uncertain-device");
}

function doubtAbout({ forwardedBy, authenticityNotGuaranteed, deviceId, device }: SenderFacts): Disbelief | undefined {
  if (forwardedBy !== undefined) return "forwarded";
  if (authenticityNotGuaranteed) return "not-authentic";
  if (deviceId === undefined || device === undefined) return "unknown-device";
  if (device.deleted) return "deleted-device";
  // A device made anew under its old id still decrypts the old one's sessions as that device.
  if (!device.sameKeysAsSession) return "other-keys";
  return undefined;
}

/** The device is the sender's for all the crypto can tell: is it the sender whom we know? */
function judgeOwner(facts: SenderFacts, { senderTrust, named, pin, nowMs }: Grounds): Verdict {
  const { device, identity, devices } = facts;
  if (named === undefined && senderTrust === "any") return { believed: true };
  const known = named ?? (pin?.kind === "identity" ? pin.masterKey : undefined);
  const masterKey = known ?? (pin === undefined ? identity?.masterKey : undefined);
  if (masterKey !== undefined) {
    if (identity?.masterKey !== masterKey) return refuse("other-identity", "other-identity");
    // What is named by hand becomes the pin as well, and stays so when it is no longer named.
    const isPinned = pin?.kind === "identity" && pin.masterKey === masterKey;
    const first: { readonly pin?: Pin } = isPinned
      ? {}
      : { pin: { kind: "identity", masterKey, sinceMs: nowMs, roomId: pin?.roomId } };
    const isSigned = device?.crossSignedByOwner === true;
    return isSigned ? { believed: true, ...first } : { ...refuse("unsigned-device", "unsigned-device"), ...first };
  }
  if (senderTrust === "cross-signed") {
    // An identity that appears after the devices were pinned is no first sight.
    const reason = identity === undefined ? "no-identity" : "other-identity";
    return refuse(reason, reason);
  }
  if (pin === undefined) {
    const all = devices.map(({ deviceId, ed25519 }) => ({ deviceId, ed25519 }));
    return { believed: true, pin: { kind: "devices", devices: all, pending: [], sinceMs: nowMs } };
  }
  return pin.kind === "devices" && pin.devices.some((each) => isSameDevice(each, device))
    ? { believed: true }
    : refuse("new-device", "new-device");
}

/**
 * The crypto ties the message to a device of its sender's, which the homeserver lists: a copy in another's name would
 * have failed there. What remains to be doubted is whether the device is believed.
 */
export function isSenders(verdict: Verdict): boolean {
  return verdict.believed || (verdict.tell !== "nothing" && verdict.tell !== "uncertain-device");
}

function refuse(reason: Disbelief, tell: Tell): Extract<Verdict, { believed: false }> {
  return { believed: false, reason, tell };
}

/** A device is known by its key; under another key the same id means nothing. */
export function isSameDevice(
  one: { readonly deviceId: string; readonly ed25519: string },
  other: { readonly deviceId: string; readonly ed25519: string } | undefined,
): boolean {
  return one.deviceId === other?.deviceId && one.ed25519 === other.ed25519;
}

/**
 * Judges an invitation: somebody allowed, and nobody else, has invited us. A remote inviter can forge the stripped
 * state, so a second member event for us makes it suspect.
 */
export function isInvited({ inviters }: Invitation, allowedUsers: ReadonlySet<string>): boolean {
  return inviters.length > 0 && inviters.every((inviter) => allowedUsers.has(inviter));
}

/** Tells whether a joined room has an allowed user in it, besides ourselves. */
export function hasAllowedUser(room: RoomFacts, allowedUsers: ReadonlySet<string>, self: string): boolean {
  return room.joined.some((user) => user !== self && allowedUsers.has(user));
}

/** Tells whether commands are taken in a room; none given: in all rooms. */
export function isRoomAllowed(roomId: string, allowedRooms: ReadonlySet<string>): boolean {
  return allowedRooms.size === 0 || allowedRooms.has(roomId);
}
