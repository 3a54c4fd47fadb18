/**
 * What a sender is told whose command was not carried out because it is not certain to be theirs.
 *
 * @module
 */

import { joined, quoted, type Text, text } from "./text.ts";

/** Why a command was not carried out, as far as its sender is told. */
export type Explanation =
  | "not-encrypted"
  | "no-identity"
  | "other-identity"
  | "unsigned-device"
  | "new-device"
  /** It is not certain which device sent it. */
  | "uncertain-device";

/** What an explanation names. */
export interface Explained {
  /** The room is encrypted. */
  readonly encrypted: boolean;
  /** The device that sent the command. */
  readonly deviceId: string | undefined;
  /** The sender's trusted devices, where devices are trusted one by one. */
  readonly trustedDevices: readonly string[];
}

/** So many of a user's trusted devices are named. */
const MAX_NAMED = 3;

/** A command that was not trusted. */
export function untrusted(explanation: Explanation, { encrypted, deviceId, trustedDevices }: Explained): Text {
  switch (explanation) {
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
      const what = text`I ignored that: it came from ${quoted(deviceId ?? "")}, a device I don't trust yet.`;
      if (trustedDevices.length === 0) {
        return text`${what} None of the devices I trusted is left in your account. Whoever runs me can name your identity (cross-signing) in TRUSTED_IDENTITIES.`;
      }
      const trusted = joined(trustedDevices.slice(0, MAX_NAMED).map((id) => quoted(id)), " or ");
      return text`${what} Set up cross-signing on ${trusted}, which I trust, then verify the new device from there.`;
    }
    case "uncertain-device":
      return text`I did nothing: I cannot tell for certain which of your devices sent that message.`;
  }
}
