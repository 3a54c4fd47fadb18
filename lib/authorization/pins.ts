/**
 * What each allowed user is known by (SPEC 4d): a cross-signing identity, or, without one, the devices of first sight.
 * A pin changes in two ways only: a device that is gone is struck, and an identity signed by a pinned device takes the
 * devices' place.
 *
 * @module
 */

import { canonicalJson, object, text } from "../json.ts";
import type { Published } from "../session/mod.ts";
import { type DevicesPin, isSameDevice, type Pin, type PinnedDevice } from "./policy.ts";

/** The pins that last. Every call is on disk when it returns. */
export interface Pins {
  /** The user's pin; undefined before first sight. */
  get(userId: string): Pin | undefined;
  /** Sets the user's pin. */
  set(userId: string, pin: Pin): void;
}

/**
 * A user's pin after what the homeserver publishes of the user now; what has changed is on disk when it resolves.
 *
 * @returns undefined before first sight
 */
export async function currentPin(
  pins: Pins,
  userId: string,
  published: Published,
  nowMs: number,
): Promise<Pin | undefined> {
  for (;;) {
    const before = pins.get(userId);
    if (before?.kind !== "devices") return before;
    const after = await changedPin(before, userId, published, nowMs);
    if (after === before) return before;
    // Another message of the user may have changed it while a signature was checked.
    if (JSON.stringify(pins.get(userId)) !== JSON.stringify(before)) continue;
    pins.set(userId, after);
    return after;
  }
}

async function changedPin(pin: DevicesPin, userId: string, published: Published, nowMs: number): Promise<Pin> {
  const { identity } = published;
  const listed = pin.devices.filter((device) => published.devices.some((each) => isSameDevice(device, each)));
  if (identity !== undefined) {
    for (const device of listed) {
      if (await isIdentitySignedBy(identity, userId, device)) {
        return { kind: "identity", masterKey: identity.masterKey, sinceMs: nowMs };
      }
    }
  }
  if (listed.length === pin.devices.length) return pin;
  return { kind: "devices", devices: listed, sinceMs: pin.sinceMs };
}

/**
 * Whether a user's master key carries a valid signature by a device (Matrix spec v1.16, client-server API, 11.12.3,
 * "CrossSigningKey"; appendices, "Signing JSON"). Clients sign so when they make an identity.
 */
async function isIdentitySignedBy(
  { masterKey, crossSigningKey }: NonNullable<Published["identity"]>,
  userId: string,
  { deviceId, ed25519 }: PinnedDevice,
): Promise<boolean> {
  const { signatures, unsigned: _, ...signed } = crossSigningKey;
  const keys = Object.entries(object(signed["keys"]));
  // A device signs other objects, too: only a master key of this user says what we read from it.
  const isMasterKey = signed["user_id"] === userId && JSON.stringify(signed["usage"]) === '["master"]' &&
    keys.length === 1 && keys[0]?.[0] === `ed25519:${masterKey}` && keys[0][1] === masterKey;
  const signature = bytesOf(text(object(object(signatures)[userId])[`ed25519:${deviceId}`]), 64);
  const publicKey = bytesOf(ed25519, 32);
  if (!isMasterKey || signature === undefined || publicKey === undefined) return false;
  const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  return await crypto.subtle.verify("Ed25519", key, signature, new TextEncoder().encode(canonicalJson(signed)));
}

/** Base64 of so many bytes, padded or not; undefined for anything else. */
function bytesOf(base64: string | undefined, length: number): Uint8Array<ArrayBuffer> | undefined {
  if (base64 === undefined) return undefined;
  try {
    const bytes = Uint8Array.fromBase64(base64);
    return bytes.length === length ? bytes : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
