/**
 * Pins: what each allowed user is recognised by (SPEC 4d). A pin holds a cross-signing identity or, if the user has
 * none, the devices seen first. It changes in two ways only: a device that is gone is removed, and an identity signed
 * by a pinned device replaces the devices.
 *
 * @module
 */

import { canonicalJson, object, text } from "../json.ts";
import type { Published } from "../session/mod.ts";
import { type DevicesPin, isSameDevice, type Pin, type PinnedDevice } from "./policy.ts";

/** Persistent pins. Every call is on disk when it returns. */
export interface Pins {
  /** The user's pin; undefined if the user has none yet. */
  get(userId: string): Pin | undefined;
  /** Sets the user's pin. */
  set(userId: string, pin: Pin): void;
}

/**
 * Updates a user's pin from what the homeserver publishes about the user now. A change is on disk when this resolves.
 *
 * @returns the updated pin; undefined if the user has none yet
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
    // Another message of the user may have changed the pin while a signature was being verified.
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
 * Verifies that a device has signed a user's master key (Matrix spec v1.16, client-server API, 11.12.3,
 * "CrossSigningKey"; appendices, "Signing JSON"). Clients make this signature when they create an identity.
 */
async function isIdentitySignedBy(
  { masterKey, crossSigningKey }: NonNullable<Published["identity"]>,
  userId: string,
  { deviceId, ed25519 }: PinnedDevice,
): Promise<boolean> {
  const { signatures, unsigned: _, ...signed } = crossSigningKey;
  const keys = Object.entries(object(signed["keys"]));
  // A device signs other objects too. Only a master key of this user may be read as one.
  const isMasterKey = signed["user_id"] === userId && JSON.stringify(signed["usage"]) === '["master"]' &&
    keys.length === 1 && keys[0]?.[0] === `ed25519:${masterKey}` && keys[0][1] === masterKey;
  const signature = bytesOf(text(object(object(signatures)[userId])[`ed25519:${deviceId}`]), 64);
  const publicKey = bytesOf(ed25519, 32);
  if (!isMasterKey || signature === undefined || publicKey === undefined) return false;
  const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  return await crypto.subtle.verify("Ed25519", key, signature, new TextEncoder().encode(canonicalJson(signed)));
}

/** Decodes base64, padded or not; undefined if it isn't exactly this many bytes. */
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
