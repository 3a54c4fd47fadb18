/**
 * Sending events into rooms: one at a time in each, and encrypted wherever the room has once been seen encrypted. Knows
 * nothing of what is said.
 *
 * @module
 */

import { RejectedError } from "../errors/mod.ts";
import type { Store } from "../store/mod.ts";
import { Encryption } from "./encryption.ts";
import { type Json, object } from "./json.ts";
import { Locks } from "./lock.ts";
import type { Machine } from "./machine.ts";
import type { OutgoingRequest } from "./outgoing.ts";
import { path, type Requests } from "./request.ts";

/** Sends events of one account. */
export class Speaker {
  readonly #requests: Requests;
  readonly #store: Store;
  readonly #encryption: Encryption;
  readonly #rooms = new Locks();

  /**
   * From now on also says what the crypto wants said.
   *
   * @param requests to the homeserver
   * @param store what is known of rooms
   * @param machine the Rust crypto
   * @param onlySignedDevices keys go to devices that their owners have signed, and to no others
   */
  constructor(requests: Requests, store: Store, machine: Machine, onlySignedDevices: boolean) {
    this.#requests = requests;
    this.#store = store;
    this.#encryption = new Encryption(machine, onlySignedDevices);
    machine.speakThrough((request, signal) => this.#speak(request, signal));
  }

  /**
   * Sends an event; the same transaction id never sends it twice.
   *
   * @returns the homeserver's answer, as text
   * @throws RejectedError if we are not in the room, or it wants an encryption that we do not speak; TransientError
   */
  put(roomId: string, transactionId: string, type: string, content: Json, signal: AbortSignal): Promise<string> {
    return this.#rooms.run(roomId, async () => {
      const room = this.#store.sync.room(roomId);
      if (room?.membership !== "join") throw new RejectedError(`Cannot speak in ${roomId}: not joined`, 0, "");
      const { encryption } = room;
      const sent = encryption === undefined ? { type, body: content } : {
        type: "m.room.encrypted",
        body: await this.#encryption.encrypt(roomId, encryption, () => this.joined(roomId), type, content, signal),
      };
      const { body } = await this.#requests.send({
        method: "PUT",
        path: path`/_matrix/client/v3/rooms/${roomId}/send/${sent.type}/${transactionId}`,
        body: sent.body,
      }, signal);
      return body;
    }, signal);
  }

  /** User ids of a room's joined members. */
  joined(roomId: string): string[] {
    return [...this.#store.sync.members(roomId)].flatMap(([user, membership]) => membership === "join" ? [user] : []);
  }

  /** Has the room's session made anew before it is used again: somebody has left, or the room's policy has changed. */
  renew(roomId: string): void {
    this.#encryption.renew(roomId);
  }

  #speak(request: OutgoingRequest, signal: AbortSignal): Promise<string> {
    const { room_id: roomId = "", txn_id: transactionId = "", event_type: type = "" } = request;
    return this.put(roomId, transactionId, type, object(JSON.parse(request.body)), signal);
  }
}
