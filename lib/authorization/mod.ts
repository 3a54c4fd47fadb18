/**
 * Authorization: pins of allowed users, and the policy for messages, invitations and rooms.
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
