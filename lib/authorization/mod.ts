/**
 * Who is trusted: what an allowed user is known by, and whether a message, an invitation or a room passes.
 *
 * @module
 */

export { currentPin, type Pins } from "./pins.ts";
export {
  authorize,
  type DevicesPin,
  hasAllowedUser,
  type IdentityPin,
  isInvited,
  isRoomAllowed,
  type Pin,
  type PinnedDevice,
  type PolicyInput,
  type Readable,
  type SenderTrust,
  type UntrustedReason,
  type Verdict,
} from "./policy.ts";
