/**
 * Devices and identities that appear after first sight, as pure functions: which they are, under which id they are
 * shown, and what a user's word for one of them makes of the pin. Knows nothing of messages and rooms.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Shown } from "../commands/mod.ts";
import { isSameDevice } from "./access.ts";
import type { DevicesPin, Pin, Published } from "./ports.ts";

/** What is published of a user and neither believed nor pending yet. */
export function newcomers(pin: DevicesPin, { identity, devices }: Published): readonly Shown[] {
  const published = [
    ...devices.filter((device) => !pin.devices.some((known) => isSameDevice(known, device)))
      .map(({ deviceId, ed25519 }) => ({ deviceId, key: ed25519 })),
    ...identity === undefined ? [] : [{ key: identity.masterKey }],
  ];
  const pending = [...pin.pending];
  for (const each of published) {
    if (pending.some((known) => isSame(known, each))) continue;
    const taken = [...pin.devices.map(({ deviceId }) => deviceId), ...pending.map(({ shownId }) => shownId)];
    pending.push({ ...each, shownId: idFor(each, new Set(taken.map(folded))) });
  }
  return pending.slice(pin.pending.length);
}

/** What waits under an id, however a phone has written that; undefined if nothing does. */
export function pendingUnder(id: string, { pending }: DevicesPin): Shown | undefined {
  return pending.find(({ shownId }) => folded(shownId) === folded(id));
}

/** What was shown is what is published now, with the very key. */
export function isStillThere(shown: Shown, { identity, devices }: Published): boolean {
  const { deviceId, key } = shown;
  if (deviceId === undefined) return identity?.masterKey === key;
  return devices.some((device) => isSameDevice(device, { deviceId, ed25519: key }));
}

/** The pin after the user's word. An identity takes the place of all devices: only what is signed under it counts. */
export function vouched(shown: Shown, pin: DevicesPin, nowMs: number): Pin {
  const { deviceId, key } = shown;
  if (deviceId === undefined) return { kind: "identity", masterKey: key, sinceMs: nowMs, roomId: pin.roomId };
  const others = pin.devices.filter((device) => device.deviceId !== deviceId);
  const pending = pin.pending.filter((each) => each !== shown);
  return { ...pin, pending, devices: [...others, { deviceId, ed25519: key }] };
}

type Unnamed = Omit<Shown, "shownId">;

function isSame(one: Unnamed, other: Unnamed): boolean {
  return one.key === other.key && one.deviceId === other.deviceId;
}

/** Letters that nobody takes for digits, nor for each other. */
const letters = "ACDEFGHJKLMNPQRTUVWXY";

/**
 * An id to show and to type: a device's own where that is plain and resembles none that is taken, else letters made
 * from the key. So a device that bears the id of one that is believed goes by its key.
 */
function idFor({ deviceId, key }: Unnamed, taken: ReadonlySet<string>): string {
  if (deviceId !== undefined && /^[A-Z0-9]{6,16}$/.test(deviceId) && !taken.has(folded(deviceId))) return deviceId;
  const hash = createHash("sha256").update(JSON.stringify([deviceId ?? null, key])).digest();
  const name = Array.from(hash, (byte) => letters.charAt(byte % letters.length)).join("");
  let length = 8;
  while (taken.has(folded(name.slice(0, length)))) length += 1;
  return name.slice(0, length);
}

const alike: ReadonlyMap<string, string> = new Map([["0", "O"], ["1", "I"], ["L", "I"], ["2", "Z"], ["5", "S"], [
  "8",
  "B",
]]);

/** Ids that a person might take for each other become the same. */
function folded(id: string): string {
  return [...id.toUpperCase().replace(/[^A-Z0-9]/g, "")].map((letter) => alike.get(letter) ?? letter).join("");
}
