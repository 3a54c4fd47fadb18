/**
 * What must come of every way in for every sender: all cells of the matrix. The reasons are the words of the log and of
 * the counters.
 */

import type { SenderName } from "./senders.ts";

/** What the ways are called in the table. */
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

/** What must come of it. */
export type Expected = {
  /** What is done. */
  readonly effect: string;
  /** What is said in the room; nothing if left out. */
  readonly answer?: RegExp;
  /** What the log says of it; nothing if left out. */
  readonly log?: string | RegExp;
} | {
  /** Why there is no such thing. */
  readonly cannot: string;
};

/** Why a sender is refused, and what the room is told of it, once in ten minutes. */
const refusals: Readonly<Record<SenderName, { readonly log?: string; readonly answer?: RegExp }>> = {
  "stranger": { log: "stranger" },
  "allowed, in clear": { log: "clear-in-encrypted-room", answer: /wasn't encrypted/ },
  "allowed, unsigned device": { log: "unsigned-device", answer: /a device you haven't verified/ },
  "allowed, changed identity": { log: "other-identity", answer: /isn't the one I trust/ },
  "allowed, device made anew": { log: "other-keys", answer: /can't tell which of your devices/ },
  // Room keys are taken from allowed users only, so a stranger's session is one that nobody has given us.
  "allowed, another's session": { log: "undecryptable: no-key", answer: /I can't read your message/ },
  "self": {}, // the homeserver is asked not to tell us what our own account says
  "allowed and right": {},
  "allowed and right, no identity": {},
};

const nothing: Expected = { effect: "none" };
const isRight = (sender: SenderName) => sender.startsWith("allowed and right");
/** Whatever is encrypted and not under a forged sender counts once, trusted or not. */
const isUsedUp = (sender: SenderName) =>
  isRight(sender) || sender === "allowed, unsigned device" || sender === "allowed, changed identity" ||
  sender === "allowed, device made anew";

/** A refusal that the room has been told of already. */
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
    default: // An invitation is in clear whoever makes it, and gives nobody standing in the room.
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
  "reaction": () => nothing, // in clear, and never asked for
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
      case "allowed, another's session": // Told already, as above.
        return { ...nothing, log: "undecryptable: no-key" };
      default: // Whose device it was is not known before there is a key.
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
      default: // Comparing emojis shows who the operator is; it gives the user's device no standing.
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
