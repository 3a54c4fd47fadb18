/**
 * To-device messages: kept for each device until it has synced past them. Knows nothing of what they say.
 *
 * @module
 */
import { type JsonObject, objectOf, Stream } from "./protocol.ts";

/** Synapse hands out no more in one sync. */
const mostAtOnce = 100;

/** The to-device messages that wait for the devices of a homeserver. */
export class Inbox {
  readonly #stream: Stream;
  readonly #waiting = new Map<string, { place: number; event: JsonObject }[]>();

  /** @param stream where messages take their places */
  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /**
   * PUT /sendToDevice (Matrix spec v1.16, client-server API, 11.9).
   *
   * @param messages content by user id and device id, or `*` for all devices
   * @param devicesOf device ids of a user; messages for others are lost
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

  /** Puts a message before a device, whoever may or may not do that. */
  deliver(userId: string, deviceId: string, event: JsonObject): void {
    const waiting = this.#waiting.get(`${userId}|${deviceId}`) ?? [];
    waiting.push({ place: this.#stream.advance(), event });
    this.#waiting.set(`${userId}|${deviceId}`, waiting);
  }

  /** What waits after that place, and up to which place that goes. All before it is acknowledged, and forgotten. */
  take(userId: string, deviceId: string, after: number): { events: JsonObject[]; upTo: number } {
    const left = (this.#waiting.get(`${userId}|${deviceId}`) ?? []).filter(({ place }) => place > after);
    this.#waiting.set(`${userId}|${deviceId}`, left);
    const now = left.slice(0, mostAtOnce);
    return {
      events: now.map(({ event }) => event),
      upTo: left[mostAtOnce] ? now.at(-1)?.place ?? 0 : this.#stream.place,
    };
  }

  /** Forgets a device. */
  deleteDevice(userId: string, deviceId: string): void {
    this.#waiting.delete(`${userId}|${deviceId}`);
  }
}
