/**
 * Tells users of devices and identities that have appeared in their accounts, and takes their word for them. Knows
 * nothing of how messages are judged.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import {
  appeared,
  identityChanged,
  moreAppeared,
  nothingTrusted,
  nothingWaits,
  type Text,
  trusted,
} from "../commands/mod.ts";
import { isSameDevice } from "./access.ts";
import { isStillThere, newcomers, pendingUnder, vouched } from "./newcomers.ts";
import type { Outbox } from "./outbox.ts";
import { isRefusal } from "../errors.ts";
import { persistently } from "./patience.ts";
import type { ListedDevice, Pin, Published, SenderFacts } from "./ports.ts";
import type { Inside, Outcome } from "./settings.ts";

/** More is not announced of a user in an hour: whoever runs the homeserver can make up as much as they like. */
const mostAnHour = 5;
const hourMs = 3_600_000;

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Watches over what is published of the allowed users. */
export class Vouching {
  readonly #inside: Inside;
  readonly #outbox: Outbox;
  /** Users who are to be looked at. */
  readonly #waiting = new Set<string>();
  /** Identities that were told of, by user and room. */
  readonly #told = new Set<string>();
  /** Since when what is announced of a user is counted, and how much it was. */
  readonly #hours = new Map<string, { readonly sinceMs: number; announced: number }>();

  /** Looks at nobody yet. */
  constructor(inside: Inside, outbox: Outbox) {
    this.#inside = inside;
    this.#outbox = outbox;
  }

  /** Looks at what is published of those among the users who are known. */
  devicesChanged(userIds: Iterable<string>): void {
    const { pins, settings, lanes } = this.#inside;
    for (const user of userIds) {
      const isKnown = settings.allowedUsers.has(user) &&
        (settings.trustedIdentities.has(user) || pins.get(user) !== undefined);
      if (!isKnown || this.#waiting.has(user)) continue;
      this.#waiting.add(user);
      lanes.run(`devices ${user}`, () => {
        this.#waiting.delete(user);
        return this.#query(user);
      });
    }
  }

  async #query(user: string): Promise<void> {
    const { chat, stop } = this.#inside;
    try {
      const ask = () => chat.published(user, stop);
      this.look(user, await persistently("look at a user's devices", ask, this.#inside, stop), undefined);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      logger.warn("Cannot look at the devices of {user}: {reason}", { user, reason: error.message });
    }
  }

  /**
   * Announces what has appeared since first sight, once: in the room where the user last gave a command, else in the
   * given one. What is too much for an hour is taken for unseen, until it is looked at again.
   *
   * @returns whether a device or an identity that waits for the user's word was announced in the given room
   */
  look(user: string, published: Published, roomId: string | undefined): boolean {
    const { pins, settings: { senderTrust, trustedIdentities } } = this.#inside;
    const named = trustedIdentities.get(user);
    if (named === undefined && senderTrust === "any") return false;

    const pin = pins.get(user);
    const room = [pin?.roomId, roomId].find((id) => id !== undefined && this.#isThere(user, id));
    const known = named ?? (pin?.kind === "identity" ? pin.masterKey : undefined);
    if (known !== undefined || (pin !== undefined && senderTrust === "cross-signed")) {
      const masterKey = published.identity?.masterKey;
      if (masterKey !== undefined && masterKey !== known) this.#changed(user, masterKey, room);
      return false;
    }
    if (pin?.kind !== "devices" || room === undefined) return false;
    const all = newcomers(pin, published);
    const news = all.slice(0, this.#allowance(user, all.length, room));
    if (news.length === 0) return false;
    for (const each of news) {
      const { deviceId: device, key } = each;
      logger.warn("A new device or identity of {user} appeared: {device} {key}", { user, device, key });
      const isNamesake = pin.devices.some(({ deviceId }) => deviceId === device);
      this.#announce(user, `${device ?? ""} ${key}`, room, appeared(user, each, isNamesake));
    }
    pins.set(user, { ...pin, pending: [...pin.pending, ...news] });
    return room === roomId;
  }

  /**
   * Takes a user's word for what waits under an id.
   *
   * @param facts of the message that says so, which is believed
   */
  trust(user: string, facts: SenderFacts, given: string): { readonly outcome: Outcome; readonly text: Text } {
    const { pins, clock } = this.#inside;
    const pin = pins.get(user);
    // With all devices believed the word may come from one that has no standing among the pinned ones.
    if (pin?.kind !== "devices" || !pin.devices.some((each) => isSameDevice(each, facts.device))) {
      return { outcome: "failed", text: nothingWaits(given, []) };
    }
    const shown = pendingUnder(given, pin);
    if (shown === undefined) {
      return { outcome: "failed", text: nothingWaits(given, pin.pending.filter((each) => isStillThere(each, facts))) };
    }
    // It keeps its id: under an id that was shown once, nothing else is ever believed.
    if (!isStillThere(shown, facts)) return { outcome: "failed", text: nothingTrusted(shown) };
    pins.set(user, vouched(shown, pin, clock.now()));
    const { deviceId: device, key } = shown;
    logger.warn("{user} vouches for the device or identity {device} {key}", { user, device, key });
    return { outcome: "done", text: trusted(shown) };
  }

  /** Remembers where a user gives commands: that is where announcements are made. */
  commandedIn(roomId: string, user: string): void {
    const { pins } = this.#inside;
    const pin: Pin | undefined = pins.get(user);
    if (pin !== undefined && pin.roomId !== roomId) pins.set(user, { ...pin, roomId });
  }

  /** Id under which the user was told of a device; undefined if it does not wait. */
  shownIdOf(user: string, device: ListedDevice | undefined): string | undefined {
    const pin = this.#inside.pins.get(user);
    if (pin?.kind !== "devices" || device === undefined) return undefined;
    return pin.pending.find(({ deviceId, key }) => deviceId === device.deviceId && key === device.ed25519)?.shownId;
  }

  #changed(user: string, masterKey: string, room: string | undefined): void {
    const about = `${user} ${masterKey} ${room}`;
    if (this.#told.has(about) || this.#allowance(user, 1, room) === 0) return;
    this.#told.add(about);
    const setting = `TRUSTED_IDENTITIES=${user}=${masterKey}`;
    logger.warn("{user} has another identity than the one known; this accepts it: {setting}", { user, setting });
    if (room !== undefined) this.#announce(user, masterKey, room, identityChanged(user));
  }

  /** How many of so many may be announced now; that there is more is said once in an hour. */
  #allowance(user: string, wanted: number, room: string | undefined): number {
    const nowMs = this.#inside.clock.now();
    const last = this.#hours.get(user);
    const hour = last !== undefined && nowMs - last.sinceMs < hourMs ? last : { sinceMs: nowMs, announced: 0 };
    const allowed = Math.min(wanted, mostAnHour - hour.announced);
    hour.announced += allowed;
    this.#hours.set(user, hour);
    if (allowed < wanted && room !== undefined) {
      this.#announce(user, `more ${hour.sinceMs}`, room, moreAppeared(user, mostAnHour));
    }
    return allowed;
  }

  /** Said but once: what it is about makes its transaction id. */
  #announce(user: string, about: string, roomId: string, text: Text): void {
    const eventId = `${user} ${about}`;
    this.#outbox.say({
      kind: "alert",
      sequence: 0,
      roomId,
      eventId,
      form: "text",
      text,
      reply: false,
      mentions: [user],
    });
  }

  #isThere(user: string, roomId: string): boolean {
    const room = this.#inside.chat.room(roomId);
    return room?.membership === "join" && room.joined.includes(user);
  }
}
