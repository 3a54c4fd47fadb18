/**
 * Who may, and why not: pure functions from facts to verdicts (SPEC 4b to 4e).
 *
 * @module
 */

import type { Explanation } from "../commands/mod.ts";
import type { Invitation, Payload, RoomFacts, SenderFacts, SendProblem } from "../session/mod.ts";

/** What a user is known by. */
export type Pin = IdentityPin | DevicesPin;

/** Devices signed under this identity are trusted, and no others. */
export interface IdentityPin {
  /** Tells it from {@linkcode DevicesPin}. */
  readonly kind: "identity";
  /** Public master key, unpadded base64. */
  readonly masterKey: string;
  /** When it was set, milliseconds since the epoch. */
  readonly sinceMs: number;
}

/** A user without an identity: these devices are trusted, and no others. */
export interface DevicesPin {
  /** Tells it from {@linkcode IdentityPin}. */
  readonly kind: "devices";
  /** The devices of first sight that have been listed ever since. */
  readonly devices: readonly PinnedDevice[];
  /** When it was set, milliseconds since the epoch. */
  readonly sinceMs: number;
}

/** A device is known by its id and its key: under another key the same id is another device. */
export interface PinnedDevice {
  /** Device id. */
  readonly deviceId: string;
  /** Public Ed25519 key, unpadded base64. */
  readonly ed25519: string;
}

/** Which devices of an allowed user are trusted: those of first sight, only signed ones, or all (SENDER_TRUST). */
export type SenderTrust = "tofu" | "cross-signed" | "any";

/** Why a message is not taken for its sender's wish, or not acted on all the same. */
export type UntrustedReason =
  | "not-joined"
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
  | "new-device"
  | "room-not-allowed"
  | SendProblem;

/** Whether it may be acted on, and at first sight the pin that is to be written before anything is done. */
export type Verdict =
  | { readonly trusted: true; readonly pin?: Pin }
  | {
    readonly trusted: false;
    readonly reason: UntrustedReason;
    /** What the sender may be told; a forger is told nothing. */
    readonly explanation?: Explanation;
    readonly pin?: Pin;
  };

/** What could be read of an event. */
export type Readable = Exclude<Payload, { kind: "undecryptable" }>;

/** What decides about a message of an allowed user, besides itself. */
export interface PolicyInput {
  /** The room as it stands now; undefined if we don't know it. */
  readonly room: Pick<RoomFacts, "roomId" | "membership" | "encrypted" | "sendProblem"> | undefined;
  /** Rooms in which commands are taken; empty: all. */
  readonly allowedRooms: ReadonlySet<string>;
  /** Clear text is refused in rooms that never were encrypted, too. */
  readonly requireEncryption: boolean;
  /** Which devices are trusted. */
  readonly senderTrust: SenderTrust;
  /** The master key that TRUSTED_IDENTITIES names for the sender. */
  readonly named: string | undefined;
  /** What the sender was known by so far. */
  readonly pin: Pin | undefined;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** Decides whether a message is its sender's wish, and may be acted on. That the sender is allowed is asked before. */
export function authorize(payload: Readable, input: PolicyInput): Verdict {
  const { room, allowedRooms } = input;
  if (room?.membership !== "join") return refuse("not-joined");
  const verdict = payload.kind === "decrypted"
    ? authorizeDevice(payload.senderFacts, input)
    : authorizeClear(room.encrypted, input);
  if (!verdict.trusted) return verdict;
  if (!isRoomAllowed(room.roomId, allowedRooms)) return { ...verdict, ...refuse("room-not-allowed") };
  // What cannot be answered is not done.
  return room.sendProblem === undefined ? verdict : { ...verdict, ...refuse(room.sendProblem) };
}

function authorizeClear(isEncrypted: boolean, { requireEncryption, named }: PolicyInput): Verdict {
  // Whoever controls the homeserver can write clear text into an encrypted room in anybody's name.
  if (isEncrypted) return refuse("clear-in-encrypted-room", "not-encrypted");
  // Clear text shows no identity, and who is named is trusted with that one only.
  if (requireEncryption || named !== undefined) return refuse("unencrypted-room", "not-encrypted");
  return { trusted: true };
}

function authorizeDevice(facts: SenderFacts, input: PolicyInput): Verdict {
  if (facts.mismatchedSender) return refuse("mismatched-sender");
  const reason = uncertaintyOf(facts);
  return reason === undefined ? authorizeOwner(facts, input) : refuse(reason, "uncertain-device");
}

/** Why it is not certain which device sent a message. */
function uncertaintyOf(
  { forwardedBy, authenticityNotGuaranteed, deviceId, device }: SenderFacts,
): UntrustedReason | undefined {
  if (forwardedBy !== undefined) return "forwarded";
  if (authenticityNotGuaranteed) return "not-authentic";
  if (deviceId === undefined || device === undefined) return "unknown-device";
  if (device.deleted) return "deleted-device";
  // A device made anew under its old id still decrypts the old one's sessions as that device.
  if (!device.sameKeysAsSession) return "other-keys";
  return undefined;
}

/** The device is the sender's for all that the crypto can tell: is it a device of the person whom we know? */
function authorizeOwner(facts: SenderFacts, { senderTrust, named, pin, nowMs }: PolicyInput): Verdict {
  const { device, identity, devices } = facts;
  if (named === undefined && senderTrust === "any") return { trusted: true };
  const known = named ?? (pin?.kind === "identity" ? pin.masterKey : undefined);
  const masterKey = known ?? (pin === undefined ? identity?.masterKey : undefined);
  if (masterKey !== undefined) {
    if (identity?.masterKey !== masterKey) return refuse("other-identity", "other-identity");
    // What is named by hand becomes the pin as well, and stays so when it is no longer named.
    const isPinned = pin?.kind === "identity" && pin.masterKey === masterKey;
    const first: { readonly pin?: Pin } = isPinned ? {} : { pin: { kind: "identity", masterKey, sinceMs: nowMs } };
    const isSigned = device?.crossSignedByOwner === true;
    return isSigned ? { trusted: true, ...first } : { ...refuse("unsigned-device", "unsigned-device"), ...first };
  }
  if (senderTrust === "cross-signed") {
    // An identity that appears after the devices were pinned is no first sight.
    const reason = identity === undefined ? "no-identity" : "other-identity";
    return refuse(reason, reason);
  }
  if (pin === undefined) {
    const all = devices.map(({ deviceId, ed25519 }) => ({ deviceId, ed25519 }));
    return { trusted: true, pin: { kind: "devices", devices: all, sinceMs: nowMs } };
  }
  return pin.kind === "devices" && pin.devices.some((each) => isSameDevice(each, device))
    ? { trusted: true }
    : refuse("new-device", "new-device");
}

function refuse(reason: UntrustedReason, explanation?: Explanation): Extract<Verdict, { trusted: false }> {
  return { trusted: false, reason, ...explanation === undefined ? {} : { explanation } };
}

/** Whether both are the same device: under another key the same id means nothing. */
export function isSameDevice(one: PinnedDevice, other: PinnedDevice | undefined): boolean {
  return one.deviceId === other?.deviceId && one.ed25519 === other.ed25519;
}

/**
 * Whether somebody allowed, and nobody else, has invited us. A remote inviter can forge the stripped state, so every
 * member event for us in it counts.
 */
export function isInvited({ inviters }: Invitation, allowedUsers: ReadonlySet<string>): boolean {
  return inviters.length > 0 && inviters.every((inviter) => allowedUsers.has(inviter));
}

/** Whether an allowed user is joined, besides ourselves. */
export function hasAllowedUser(
  room: Pick<RoomFacts, "isJoined">,
  allowedUsers: ReadonlySet<string>,
  self: string,
): boolean {
  return [...allowedUsers].some((user) => user !== self && room.isJoined(user));
}

/** Whether commands are taken in a room; without any room given, in all of them. */
export function isRoomAllowed(roomId: string, allowedRooms: ReadonlySet<string>): boolean {
  return allowedRooms.size === 0 || allowedRooms.has(roomId);
}
