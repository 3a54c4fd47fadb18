/**
 * What is said about devices and identities: why one is not believed, and what a user's word for it has brought.
 *
 * @module
 */

import { code, joined, quoted, type Text, text } from "./text.ts";

/** A device or an identity that waits for its owner's word. */
export interface Shown {
  /** What to send after `trust`. */
  readonly shownId: string;
  /** The device's id; undefined for an identity. */
  readonly deviceId?: string;
  /** Its public key, as the owner's app shows it. */
  readonly key: string;
}

/**
 * A device or an identity that has appeared.
 *
 * @param isNamesake a device that is believed has the same id, and another key
 */
export function appeared(user: string, { shownId, deviceId, key }: Shown, isNamesake: boolean): Text {
  const command = code(`trust ${shownId}`);
  const shownKey = code(key.replace(/.{4}(?=.)/g, "$& "));
  if (deviceId === undefined) {
    return text`${user} has an identity (cross-signing) now, and had none before. Its key is ${shownKey}. If you have set it up yourself, send ${command} from a device I know: then I believe the devices signed under it, and no others.`;
  }
  const what = isNamesake
    ? text`A device of ${user} calls itself ${quoted(deviceId)}, like one that I know, but has another key`
    : text`A new device of ${user}, ${quoted(deviceId)}, appeared`;
  return text`${what}. Its session key is ${shownKey}. If it is yours, send ${command} from a device I know. Until then I do not obey it.`;
}

/** An identity in the place of another. */
export function identityChanged(user: string): Text {
  return text`${user} has another identity (cross-signing) now than the one I know, so I obey none of that account's devices. Was it you who reset it? Then whoever runs me can accept it: my log says how. If not, somebody else has got into the account.`;
}

/** More than is announced one by one. */
export function moreAppeared(user: string, announced: number): Text {
  return text`More new devices or identities of ${user} have appeared than the ${announced} that I announce in an hour. If they are not yours, somebody else has got into the account, or runs its homeserver.`;
}

/** Why a message was not believed, in the operator's own words. */
export type Doubt =
  | "not-encrypted"
  | "no-identity"
  | "other-identity"
  | "unsigned-device"
  | "new-device"
  /** Anything else: it is not certain which device sent it. */
  | "uncertain-device"
  | "nothing";

/** A message as far as its doubts go. */
export interface Doubtful {
  /** The room is encrypted. */
  readonly encrypted: boolean;
  /** The device that sent it. */
  readonly deviceId: string | undefined;
  /** What to send after `trust`, if the device waits for that. */
  readonly shownId: string | undefined;
}

/** A command that was not believed. */
export function disbelieved(doubt: Doubt, { encrypted, deviceId, shownId }: Doubtful): Text {
  switch (doubt) {
    case "not-encrypted":
      return encrypted
        ? text`I did nothing: that message was not encrypted, though this room is.`
        : text`I did nothing: this room is not encrypted, and I obey encrypted messages only. Turn its encryption on, or write to me in another room.`;
    case "no-identity":
      return text`I did nothing: I obey verified devices only, and your account has no cross-signing set up.`;
    case "other-identity":
      return text`I did nothing: your account does not have the identity (cross-signing) that I know. My log says how to accept the new one.`;
    case "unsigned-device":
      return text`I did nothing: that message came from ${
        quoted(deviceId ?? "")
      }, a device that you have not verified. If it is yours, verify it from another of your devices, then send it again.`;
    case "new-device": {
      const how = shownId === undefined
        ? text``
        : text` Send ${code(`trust ${shownId}`)} from a device I know, if it is yours.`;
      return text`I did nothing: that message came from a device I do not know yet.${how}`;
    }
    default:
      return text`I did nothing: I cannot tell for certain which of your devices sent that message.`;
  }
}

/** What a user has vouched for is believed. */
export function trusted({ shownId, deviceId }: Shown): Text {
  return deviceId === undefined
    ? text`I believe the devices signed under your identity ${code(shownId)} from now on, and no others.`
    : text`I believe your device ${quoted(deviceId)} from now on.`;
}

/** What a user has vouched for is not there any more. */
export function nothingTrusted({ shownId }: Shown): Text {
  return text`I did nothing: ${code(shownId)} is gone, or has another key now.`;
}

/** An id under which nothing waits. */
export function nothingWaits(given: string, waiting: readonly Shown[]): Text {
  const list = waiting.map(({ shownId, deviceId }) =>
    text`${deviceId === undefined ? "identity" : "device"} ${code(shownId)}`
  );
  const rest = list.length === 0
    ? text`Nothing waits for your word.`
    : text`What waits for your word: ${joined(list, ", ")}.`;
  return given === "" ? rest : text`Nothing waits under ${quoted(given)}. ${rest}`;
}

/** A user's word in clear text, which anybody could have written. */
export function trustInClear(): Text {
  return text`I did nothing: only an encrypted message can vouch for a device.`;
}
