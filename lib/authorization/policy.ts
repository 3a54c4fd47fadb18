/**
 * Authorization policy: pure functions from facts to verdicts (SPEC 4b to 4e).
 *
 * @module
 */

import type { Explanation } from "../commands/mod.ts";
import type { Invitation, Payload, RoomFacts, SenderFacts, SendProblem } from "../session/mod.ts";

/** What a user is recognised by. */
export type Pin = IdentityPin | DevicesPin;

/** Only devices signed by this identity are trusted. */
export interface IdentityPin {
  /** Discriminates it from {@linkcode DevicesPin}. */
  readonly kind: "identity";
  /** Public master key, unpadded base64. */
  readonly masterKey: string;
  /** Time of pinning, milliseconds since the epoch. */
  readonly sinceMs: number;
}

/** For a user without an identity: only these devices are trusted. */
export interface DevicesPin {
  /** Discriminates it from {@linkcode IdentityPin}. */
  readonly kind: "devices";
  /** The devices seen first, without those that have been removed since. */
  readonly devices: readonly PinnedDevice[];
  /** Time of pinning, milliseconds since the epoch. */
  readonly sinceMs: number;
}

/** A device, identified by id and key. The same id with another key is another device. */
export interface PinnedDevice {
  /** Device id. */
  readonly deviceId: string;
  /** Public Ed25519 key, unpadded base64. */
  readonly ed25519: string;
}

/** Trusted devices of an allowed user: pinned on first use, only cross-signed ones, or all (SENDER_TRUST). */
export type SenderTrust = "tofu" | "cross-signed" | "any";

/** Why a message isn't trusted, or isn't acted on although it is. */
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

/** Whether to act on a message. On first use it includes the pin, which must be written before anything is done. */
export type Verdict =
  | { readonly trusted: true; readonly pin?: Pin }
  | {
    readonly trusted: false;
    readonly reason: UntrustedReason;
    /** What to tell the sender. A forger is told nothing. */
    readonly explanation?: Explanation;
    readonly pin?: Pin;
  };

/** An event that could be read. */
export type Readable = Exclude<Payload, { kind: "undecryptable" }>;

/** Everything besides the message that the decision depends on. */
export interface PolicyInput {
  /** The room's current state; undefined if the room is unknown. */
  readonly room: Pick<RoomFacts, "roomId" | "membership" | "encrypted" | "sendProblem"> | undefined;
  /** Rooms that accept commands; empty means all. */
  readonly allowedRooms: ReadonlySet<string>;
  /** Refuses clear text even in rooms that were never encrypted. */
  readonly requireEncryption: boolean;
  /** Which devices are trusted. */
  readonly senderTrust: SenderTrust;
  /** The sender's master key according to TRUSTED_IDENTITIES. */
  readonly named: string | undefined;
  /** The sender's current pin. */
  readonly pin: Pin | undefined;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** Decides whether to act on a message. The caller has checked that the sender is an allowed user. */
export function authorize(payload: Readable, input: PolicyInput): Verdict {
  const { room, allowedRooms } = input;
  if (room?.membership !== "join") return refuse("not-joined");
  const verdict = payload.kind === "decrypted"
    ? authorizeDevice(payload.senderFacts, input)
    : authorizeClear(room.encrypted, input);
  if (!verdict.trusted) return verdict;
  if (!isRoomAllowed(room.roomId, allowedRooms)) return { ...verdict, ...refuse("room-not-allowed") };
  // Don't act on what can't be answered.
  return room.sendProblem === undefined ? verdict : { ...verdict, ...refuse(room.sendProblem) };
}

function authorizeClear(isEncrypted: boolean, { requireEncryption, named }: PolicyInput): Verdict {
  // The homeserver can forge clear text in any user's name, even in an encrypted room.
  if (isEncrypted) return refuse("clear-in-encrypted-room", "not-encrypted");
  // Clear text proves no identity, and a user in TRUSTED_IDENTITIES is trusted only with the named one.
  if (requireEncryption || named !== undefined) return refuse("unencrypted-room", "not-encrypted");
  return { trusted: true };
}

function authorizeDevice(facts: SenderFacts, input: PolicyInput): Verdict {
  if (facts.mismatchedSender) return refuse("mismatched-sender");
  const reason = uncertaintyOf(facts);
  return reason === undefined ? authorizeOwner(facts, input) : refuse(reason, "uncertain-device");
}

/** Why it is uncertain which device sent a message; undefined if it is certain. */
function uncertaintyOf(
  { forwardedBy, authenticityNotGuaranteed, deviceId, device }: SenderFacts,
): UntrustedReason | undefined {
  if (forwardedBy !== undefined) return "forwarded";
  if (authenticityNotGuaranteed) return "not-authentic";
  if (deviceId === undefined || device === undefined) return "unknown-device";
  if (device.deleted) return "deleted-device";
  // A device recreated under its old id still decrypts the old device's sessions as if they were its own.
  if (!device.sameKeysAsSession) return "other-keys";
  return undefined;
}

/** Decides whether the device belongs to the known user. The crypto has already attributed it to the sender. */
function authorizeOwner(facts: SenderFacts, { senderTrust, named, pin, nowMs }: PolicyInput): Verdict {
  const { device, identity, devices } = facts;
  if (named === undefined && senderTrust === "any") return { trusted: true };
  const known = named ?? (pin?.kind === "identity" ? pin.masterKey : undefined);
  const masterKey = known ?? (pin === undefined ? identity?.masterKey : undefined);
  if (masterKey !== undefined) {
    if (identity?.masterKey !== masterKey) return refuse("other-identity", "other-identity");
    // An identity from TRUSTED_IDENTITIES is pinned too, and stays pinned after it is removed from the setting.
    const isPinned = pin?.kind === "identity" && pin.masterKey === masterKey;
    const first: { readonly pin?: Pin } = isPinned ? {} : { pin: { kind: "identity", masterKey, sinceMs: nowMs } };
    const isSigned = device?.crossSignedByOwner === true;
    return isSigned ? { trusted: true, ...first } : { ...refuse("unsigned-device", "unsigned-device"), ...first };
  }
  if (senderTrust === "cross-signed") {
    // An identity that appears after devices were pinned doesn't count as first use.
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

/** Compares devices by id and key. */
export function isSameDevice(one: PinnedDevice, other: PinnedDevice | undefined): boolean {
  return one.deviceId === other?.deviceId && one.ed25519 === other.ed25519;
}

/**
 * Whether allowed users, and nobody else, have invited us. A remote inviter can forge the stripped state, so all member
 * events for us in it are checked.
 */
export function isInvited({ inviters }: Invitation, allowedUsers: ReadonlySet<string>): boolean {
  return inviters.length > 0 && inviters.every((inviter) => allowedUsers.has(inviter));
}

/** Whether an allowed user other than ourselves has joined the room. */
export function hasAllowedUser(
  room: Pick<RoomFacts, "isJoined">,
  allowedUsers: ReadonlySet<string>,
  self: string,
): boolean {
  return [...allowedUsers].some((user) => user !== self && room.isJoined(user));
}

/** Whether a room accepts commands. All do if no rooms are configured. */
export function isRoomAllowed(roomId: string, allowedRooms: ReadonlySet<string>): boolean {
  return allowedRooms.size === 0 || allowedRooms.has(roomId);
}
