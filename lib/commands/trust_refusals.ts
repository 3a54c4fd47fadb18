/**
 * Explains to a sender that a command was ignored because the sender isn't trusted.
 *
 * @module
 */

import { code, enumerated, type Text, text } from "./rich_text.ts";

/** Why a command was ignored, as its sender is told. */
export type Explanation =
  | "not-encrypted"
  | "no-identity"
  | "other-identity"
  | "unsigned-device"
  | "new-device"
  /** The device that sent it is uncertain. */
  | "uncertain-device";

/** Details of an explanation. */
export interface Explained {
  /** Whether the room is encrypted. */
  readonly encrypted: boolean;
  /** Device that sent the command. */
  readonly deviceId: string | undefined;
  /** The sender's pinned devices, if trusted by device. */
  readonly trustedDevices: readonly string[];
}

/** Number of trusted devices to name. */
const MAX_NAMED = 3;

/** Explains that a command wasn't trusted. */
export function untrusted(explanation: Explanation, { encrypted, deviceId, trustedDevices }: Explained): Text {
  switch (explanation) {
    case "not-encrypted":
      return encrypted
        ? text`I ignored that: it wasn't encrypted, but this room is. Send it from an app that supports encryption.`
        : text`I ignored that: this room isn't encrypted. Turn encryption on, or write to me in an encrypted room.`;
    case "no-identity":
      return text`I ignored that: I only trust verified devices, and your account has no cross-signing. Set it up in your app, then send the command again.`;
    case "other-identity":
      return text`I ignored that: your account's cross-signing identity isn't the one I trust. If you reset it, see my log for how to trust the new one. If you didn't, somebody else may have access to your account.`;
    case "unsigned-device":
      return text`I ignored that: it came from ${
        code(deviceId ?? "")
      }, a device you haven't verified. If it's yours, verify it from a verified device, then send the command again. If it isn't, log it out.`;
    case "new-device": {
      const what = text`I ignored that: it came from ${code(deviceId ?? "")}, a device I don't trust yet.`;
      if (trustedDevices.length === 0) {
        return text`${what} You no longer have any device that I trust. Set up cross-signing, and have your identity added to ${
          code("TRUSTED_IDENTITIES")
        }.`;
      }
      const trusted = trustedDevices.slice(0, MAX_NAMED).map((id) => code(id));
      const there = trusted.length === 1 ? "there" : "on one of them";
      return text`${what} I trust ${
        enumerated(trusted, "and")
      }: set up cross-signing ${there}, verify the new device, then send the command again.`;
    }
    case "uncertain-device":
      return text`I ignored that: I can't tell which of your devices sent it. Send it again; if that fails, log out and back in on the device that you sent it from.`;
  }
}
