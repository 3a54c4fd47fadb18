/**
 * To-device messages. Each is kept until its device has synced past it.
 *
 * @module
 */
import { type JsonObject, objectOf, Stream } from "./protocol.ts";

/** Synapse returns at most this many per sync. */
const mostAtOnce = 100;

/** Pending to-device messages of all devices. */
export class Inbox {
  readonly #stream: Stream;
  readonly #waiting = new Map<string, { place: number; event: JsonObject }[]>();

  /** @param stream gives messages their positions */
  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /**
   * PUT /sendToDevice (Matrix spec v1.16, client-server API, 11.9).
   *
   * @param messages content by user id and device id, or `*` for all devices
   * @param devicesOf returns the device ids of a user; messages to other devices are dropped
   */
  send(sender: string, type: string, messages: JsonObject, devicesOf: (userId: string) => string[]): void {
    for (const [userId, byDevice] of Object.entries(messages)) {
      for (const [named, content] of Object.entries(objectOf(byDevice))) {
        for (const deviceId of devicesOf(userId).filter((known) => named === "*" || named === known)) {
          this.deliver(userId, deviceId, { sender, type, content });
        }
      }
    }
  }

  /** Delivers a message to a device without a permission check. */
  deliver(userId: string, deviceId: string, event: JsonObject): void {
    const waiting = this.#waiting.get(`${userId}|${deviceId}`) ?? [];
    waiting.push({ place: this.#stream.advance(), event });
    this.#waiting.set(`${userId}|${deviceId}`, waiting);
  }

  /**
   * Returns the messages after a position, and the position that they reach. Earlier messages count as acknowledged and
   * are deleted.
   */
  take(userId: string, deviceId: string, after: number): { events: JsonObject[]; upTo: number } {
    const left = (this.#waiting.get(`${userId}|${deviceId}`) ?? []).filter(({ place }) => place > after);
    this.#waiting.set(`${userId}|${deviceId}`, left);
    const now = left.slice(0, mostAtOnce);
    return {
      events: now.map(({ event }) => event),
      upTo: left[mostAtOnce] ? now.at(-1)?.place ?? 0 : this.#stream.place,
    };
  }

  /** Deletes the messages of a device. */
  deleteDevice(userId: string, deviceId: string): void {
    this.#waiting.delete(`${userId}|${deviceId}`);
  }
}
