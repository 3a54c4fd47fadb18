/**
 * Expected outcome of every way in for every sender: all cells of the matrix. Reasons are those of the log and the
 * counters.
 */

import type { SenderName } from "./senders.ts";

/** Names of the ways in the table. */
export type WayName =
  | "command"
  | "mention"
  | "edit"
  | "reaction"
  | "invitation while up"
  | "invitation while down"
  | "undecryptable"
  | "verification request"
  | "replay under a new event id"
  | "forged sender";

/** The expected outcome. */
export type Expected = {
  /** What happens. */
  readonly effect: string;
  /** Answer in the room. None if omitted. */
  readonly answer?: RegExp;
  /** Log entry. None if omitted. */
  readonly log?: string | RegExp;
} | {
  /** Why this combination doesn't exist. */
  readonly cannot: string;
};

/** Why a sender is refused, and what the room is told about it, once in ten minutes. */
const refusals: Readonly<Record<SenderName, { readonly log?: string; readonly answer?: RegExp }>> = {
  "stranger": { log: "stranger" },
  "allowed, in clear": { log: "clear-in-encrypted-room", answer: /wasn't encrypted/ },
  "allowed, unsigned device": { log: "unsigned-device", answer: /a device you haven't verified/ },
  "allowed, changed identity": { log: "other-identity", answer: /isn't the one I trust/ },
  "allowed, device made anew": { log: "other-keys", answer: /can't tell which of your devices/ },
  // Room keys are accepted from allowed users only, so a stranger's session counts as one without a key.
  "allowed, another's session": { log: "undecryptable: no-key", answer: /I can't read your message/ },
  "self": {}, // the sync filter drops events of our own account
  "allowed and right": {},
  "allowed and right, no identity": {},
};

const nothing: Expected = { effect: "none" };
const isRight = (sender: SenderName) => sender.startsWith("allowed and right");
/** Any ciphertext counts once, trusted or not, unless its sender is forged. */
const isUsedUp = (sender: SenderName) =>
  isRight(sender) || sender === "allowed, unsigned device" || sender === "allowed, changed identity" ||
  sender === "allowed, device made anew";

/** A refusal that the room has already been told about. */
const refusedAgain = (sender: SenderName): Expected => {
  const { log } = refusals[sender];
  return { ...nothing, ...log === undefined ? {} : { log } };
};

const invited = (sender: SenderName): Expected => {
  switch (sender) {
    case "stranger":
      return { effect: "declined", log: "invitation" };
    case "allowed, another's session":
      return { cannot: "an invitation is made by no session" };
    case "self":
      return { effect: "refused by the homeserver" };
    default: // Every invitation is in clear, and grants no trust in the room.
      return { effect: "joined", log: "joined" };
  }
};

/** The matrix. */
export const expected: Readonly<Record<WayName, (sender: SenderName) => Expected>> = {
  "command": (sender) =>
    isRight(sender) ? { effect: "0 → 1", answer: /is on/, log: "start: done" } : { ...nothing, ...refusals[sender] },
  "mention": (sender) =>
    isRight(sender) ? { effect: "0 → 1", answer: /is on/, log: "start: done" } : refusedAgain(sender),
  "edit": (sender) => isRight(sender) ? { ...nothing, log: "edit" } : refusedAgain(sender),
  "reaction": () => nothing, // in clear, and filtered out of the sync
  "invitation while up": invited,
  "invitation while down": invited,
  "undecryptable": (sender) => {
    switch (sender) {
      case "stranger":
        return { ...nothing, log: "stranger" };
      case "allowed, in clear":
        return { cannot: "there is nothing to decrypt" };
      case "self":
        return nothing;
      case "allowed, another's session": // Already told, as above.
        return { ...nothing, log: "undecryptable: no-key" };
      default: // Without a key, the sending device is unknown.
        return { ...nothing, answer: /I can't read your message/, log: "undecryptable: no-key" };
    }
  },
  "verification request": (sender) => {
    switch (sender) {
      case "stranger":
        return { ...nothing, log: "stranger" };
      case "self":
      case "allowed, another's session":
        return nothing;
      default: // Comparing emojis verifies the operator. It doesn't make the user's device trusted.
        return { effect: "accepted", log: /verifies this device/ };
    }
  },
  "replay under a new event id": (sender) => isUsedUp(sender) ? { ...nothing, log: "repeat" } : refusedAgain(sender),
  "forged sender": (sender) => {
    switch (sender) {
      case "allowed, in clear":
        return { ...nothing, log: "clear-in-encrypted-room" };
      case "stranger":
        return { ...nothing, log: "undecryptable: no-key", answer: /I can't read your message/ };
      case "allowed, another's session":
        return { ...nothing, log: "undecryptable: no-key" };
      default:
        return { ...nothing, log: "mismatched-sender" };
    }
  },
};
