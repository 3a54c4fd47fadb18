/**
 * Who is believed: pure functions from facts to verdicts. Knows nothing of where facts come from, nor what is done or
 * said after a verdict.
 *
 * @module
 */

import type { Invitation, Payload, RoomFacts, SenderFacts } from "./ports.ts";

/** Why a message is not believed to be its sender's wish. */
export type Disbelief =
  | "clear-in-encrypted-room"
  | "unencrypted-room"
  | "mismatched-sender"
  | "not-authentic"
  | "forwarded"
  | "unknown-device"
  | "deleted-device"
  | "other-keys";

/** A judgement. `tell` is what an allowed user may be told of it; a forger is told nothing. */
export type Verdict =
  | { readonly believed: true }
  | {
    readonly believed: false;
    readonly reason: Disbelief;
    readonly tell: "nothing" | "not-encrypted" | "uncertain-device";
  };

/** What could be read of an event. */
export type Readable = Exclude<Payload, { kind: "undecryptable" }>;

/**
 * Judges whether a message is its sender's wish. That the sender is allowed is asked elsewhere.
 *
 * @param payload what was read
 * @param room whether it is, or has once been, encrypted
 * @param requireEncryption whether clear text is refused in rooms that never were encrypted, too
 */
export function judge(payload: Readable, room: Pick<RoomFacts, "encrypted">, requireEncryption: boolean): Verdict {
  if (payload.kind === "decrypted") return judgeDevice(payload.senderFacts);
  // Whoever controls the homeserver can write clear text into an encrypted room in anybody's name.
  if (room.encrypted) return { believed: false, reason: "clear-in-encrypted-room", tell: "not-encrypted" };
  if (requireEncryption) return { believed: false, reason: "unencrypted-room", tell: "not-encrypted" };
  return { believed: true };
}

function judgeDevice(facts: SenderFacts): Verdict {
  if (facts.mismatchedSender) return { believed: false, reason: "mismatched-sender", tell: "nothing" };
  const reason = doubtAbout(facts);
  return reason === undefined ? { believed: true } : { believed: false, reason, tell: "uncertain-device" };
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

/** Tells whether commands are taken in a room, by its id or an alias that it claims; no names given: in all rooms. */
export function isRoomAllowed(room: RoomFacts, allowedRooms: ReadonlySet<string>): boolean {
  return allowedRooms.size === 0 || [room.roomId, ...room.aliases].some((name) => allowedRooms.has(name));
}
