/**
 * Attacks by a dishonest administrator of the homeserver, or by a stranger who runs a homeserver.
 *
 * @module
 */
import { type JsonObject, notFound } from "./protocol.ts";
import type { NewEvent } from "./rooms.ts";
import type { Sources } from "./sync.ts";

/** Attacks on the users of a homeserver. */
export class Attacks {
  readonly #sources: Sources;

  constructor(sources: Sources) {
    this.#sources = sources;
  }

  /**
   * Appends an event to a room with any sender.
   *
   * @returns event id
   */
  inject(roomId: string, event: NewEvent): string {
    return this.#sources.rooms.resolve(roomId).append(event).event_id;
  }

  /**
   * Appends an earlier event again. Event id and time are new, unless `changes` sets the old id, an age or another
   * sender.
   *
   * @returns event id
   */
  replay(roomId: string, eventId: string, changes: Partial<NewEvent> = {}): string {
    const room = this.#sources.rooms.resolve(roomId);
    const original = room.timeline.find(({ event_id }) => event_id === eventId);
    if (original === undefined) throw notFound("Event not found.");
    const { type, sender, content, state_key } = original;
    return room.append({ type, sender, content, state_key, ...changes }).event_id;
  }

  /** Delivers an event again with the same id. */
  duplicate(roomId: string, eventId: string): void {
    this.replay(roomId, eventId, { event_id: eventId });
  }

  /** Invites a user in anybody's name, with made-up stripped state. */
  forgeInvitation(roomId: string, userId: string, inviter: string, strippedState: JsonObject[]): void {
    const room = this.#sources.rooms.resolve(roomId);
    room.forgedInvitations.set(userId, strippedState);
    room.append({ type: "m.room.member", sender: inviter, state_key: userId, content: { membership: "invite" } });
  }

  /** Publishes keys for a device of a user, creating the device if necessary. */
  publishDevice(userId: string, deviceId: string, deviceKeys: JsonObject): void {
    const { devices } = this.#sources.accounts.get(userId);
    devices.set(deviceId, devices.get(deviceId) ?? "");
    this.#sources.keys.setDeviceKeys(userId, deviceId, deviceKeys);
  }

  /** Publishes a cross-signing identity: `master_key`, `self_signing_key`, `user_signing_key`. */
  publishIdentity(userId: string, keys: JsonObject): void {
    this.#sources.keys.setIdentity(userId, keys);
  }

  /** Delivers a to-device message to a device with any sender. */
  sendToDevice(userId: string, deviceId: string, event: JsonObject): void {
    this.#sources.inbox.deliver(userId, deviceId, event);
  }

  /** Resets a password, as the admin API does. */
  resetPassword(userId: string, password: string): void {
    this.#sources.accounts.get(userId).password = password;
  }

  /**
   * Revokes the tokens of a device.
   *
   * @param soft whether the error says `soft_logout` and the device is kept
   */
  revokeTokens(userId: string, deviceId: string, soft: boolean): void {
    this.#sources.accounts.revoke(userId, deviceId, soft);
  }

  /** Deletes a device and its tokens, keys and messages. */
  deleteDevice(userId: string, deviceId: string): void {
    this.#sources.accounts.deleteDevice(userId, deviceId);
    this.#sources.keys.deleteDevice(userId, deviceId);
    this.#sources.inbox.deleteDevice(userId, deviceId);
  }
}
