/**
 * What a dishonest administrator of the homeserver, or a stranger with one, can do to its users.
 *
 * @module
 */
import { type JsonObject, notFound } from "./protocol.ts";
import type { NewEvent } from "./rooms.ts";
import type { Sources } from "./sync.ts";

/** Attacks on the users of a homeserver, at will. */
export class Attacks {
  readonly #sources: Sources;

  /** Attacks on what the homeserver holds. */
  constructor(sources: Sources) {
    this.#sources = sources;
  }

  /** Puts an event into a room under any sender's name.
   *
   * @returns event id
   */
  inject(roomId: string, event: NewEvent): string {
    return this.#sources.rooms.resolve(roomId).append(event).event_id;
  }

  /**
   * Puts an event that was sent before into the room again: under a new event id and time, or, by what is given as
   * changes, under the old id, an older age, another sender.
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

  /** Delivers an event again under its own id. */
  duplicate(roomId: string, eventId: string): void {
    this.replay(roomId, eventId, { event_id: eventId });
  }

  /** Invites a user on behalf of anybody; what is told of the room and of the inviters is made up. */
  forgeInvitation(roomId: string, userId: string, inviter: string, strippedState: JsonObject[]): void {
    const room = this.#sources.rooms.resolve(roomId);
    room.forgedInvitations.set(userId, strippedState);
    room.append({ type: "m.room.member", sender: inviter, state_key: userId, content: { membership: "invite" } });
  }

  /** Publishes keys for a device of a user, making the device if it is not there. */
  publishDevice(userId: string, deviceId: string, deviceKeys: JsonObject): void {
    const { devices } = this.#sources.accounts.get(userId);
    devices.set(deviceId, devices.get(deviceId) ?? "");
    this.#sources.keys.setDeviceKeys(userId, deviceId, deviceKeys);
  }

  /** Publishes a cross-signing identity: `master_key`, `self_signing_key`, `user_signing_key`. */
  publishIdentity(userId: string, keys: JsonObject): void {
    this.#sources.keys.setIdentity(userId, keys);
  }

  /** Puts a to-device message before a device under any sender's name. */
  sendToDevice(userId: string, deviceId: string, event: JsonObject): void {
    this.#sources.inbox.deliver(userId, deviceId, event);
  }

  /** Resets a password, as the admin API does. */
  resetPassword(userId: string, password: string): void {
    this.#sources.accounts.get(userId).password = password;
  }

  /**
   * Takes a device's tokens back.
   *
   * @param soft tells `soft_logout`, and the device stays
   */
  revokeTokens(userId: string, deviceId: string, soft: boolean): void {
    this.#sources.accounts.revoke(userId, deviceId, soft);
  }

  /** Deletes a device with its tokens, keys and messages. */
  deleteDevice(userId: string, deviceId: string): void {
    this.#sources.accounts.deleteDevice(userId, deviceId);
    this.#sources.keys.deleteDevice(userId, deviceId);
    this.#sources.inbox.deleteDevice(userId, deviceId);
  }
}
