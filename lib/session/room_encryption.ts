/**
 * Sending events into rooms: one at a time in each, and encrypted, for every device of every joined member, wherever the
 * room has once been seen encrypted. Knows nothing of what is said.
 *
 * @module
 */

import {
  CollectStrategy,
  EncryptionAlgorithm,
  EncryptionSettings,
  HistoryVisibility,
  RoomId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { RejectedError } from "../errors.ts";
import type { Store, StoredRoom } from "../store/mod.ts";
import { type Json, object } from "../json.ts";
import { KeyedMutex } from "../async.ts";
import type { SendProblem } from "./facts.ts";
import { type Machine, userIds } from "./olm_machine.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

type StoredEncryption = NonNullable<StoredRoom["encryption"]>;

const MEGOLM = "m.megolm.v1.aes-sha2";
/** The specification's defaults and what we let a room ask for (client-server API, 11.12.5, `m.room.encryption`). */
const WEEK_MS = 604_800_000;
const HOUR_MS = 3_600_000;

/** Sends events into rooms, in the name of one account. */
export class RoomEncryption {
  readonly #requests: HomeserverClient;
  readonly #store: Store;
  readonly #machine: Machine;
  readonly #onlySignedDevices: boolean;
  readonly #rooms = new KeyedMutex();
  /** Rooms whose session was made by this process, or renewed since it started. */
  readonly #fresh = new Set<string>();

  /** From now on also sends what the crypto wants sent in rooms: its part of verifications. */
  constructor(requests: HomeserverClient, store: Store, machine: Machine, onlySignedDevices: boolean) {
    this.#requests = requests;
    this.#store = store;
    this.#machine = machine;
    this.#onlySignedDevices = onlySignedDevices;
    machine.speakThrough((request, signal) => {
      const { room_id: roomId = "", txn_id: transactionId = "", event_type: type = "" } = request;
      return this.send(roomId, transactionId, type, object(JSON.parse(request.body)), signal);
    });
  }

  /**
   * Sends an event; the same transaction id never sends it twice.
   *
   * @returns the homeserver's answer, as text
   * @throws RejectedError if we are not in the room, it wants an encryption that we do not speak (nothing is sent in
   * clear instead), or the homeserver refuses to hand a key over; TransientError
   */
  send(roomId: string, transactionId: string, type: string, content: Json, signal: AbortSignal): Promise<string> {
    return this.#rooms.run(roomId, async () => {
      const room = this.#store.rooms.get(roomId);
      if (room?.membership !== "join") throw new RejectedError(`Cannot send into ${roomId}: not joined`, 0, "");
      const sent = room.encryption === undefined ? { type, body: content } : {
        type: "m.room.encrypted",
        body: await this.#encrypt(roomId, room.encryption, type, content, signal),
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
    return [...this.#store.rooms.members(roomId)].flatMap(([user, membership]) => membership === "join" ? [user] : []);
  }

  /** Why nothing can be sent into a room, whether we are joined or not; undefined if it can. */
  problem({ encryption }: StoredRoom): SendProblem | undefined {
    if (encryption === undefined) return undefined;
    if (encryption.algorithm !== MEGOLM) return "unusable-encryption";
    return this.#onlySignedDevices && !this.#machine.isSigned ? "own-device-unsigned" : undefined;
  }

  /** Has the room's session made anew before it is used again: somebody has left, or the room's policy has changed. */
  rotate(roomId: string): void {
    this.#fresh.delete(roomId);
  }

  /** Shares the room's session where it has not been shared yet, and encrypts; members may change while we wait. */
  async #encrypt(
    roomId: string,
    encryption: StoredEncryption,
    type: string,
    content: Json,
    signal: AbortSignal,
  ): Promise<string> {
    if (encryption.algorithm !== MEGOLM) {
      throw new RejectedError(`Cannot encrypt for ${roomId}: it asks for ${encryption.algorithm}`, 0, "");
    }
    const { olm } = this.#machine;
    if (!this.#fresh.has(roomId)) {
      // A volume restored from a snapshot would use message indices again: no session outlives the process.
      await olm.invalidateGroupSession(new RoomId(roomId));
      this.#fresh.add(roomId);
    }
    await this.#machine.track(this.joined(roomId));
    await this.#machine.sendKeys(signal);
    const claim = await olm.getMissingSessions(userIds(this.joined(roomId)));
    if (claim) await this.#machine.sendAll([claim], signal);
    const members = userIds(this.joined(roomId));
    const shares = await olm.shareRoomKey(new RoomId(roomId), members, this.#settings(encryption));
    await this.#machine.share(shares, signal);
    return await olm.encryptRoomEvent(new RoomId(roomId), type, JSON.stringify(content));
  }

  #settings(encryption: StoredEncryption): EncryptionSettings {
    const made = new EncryptionSettings();
    made.algorithm = EncryptionAlgorithm.MegolmV1AesSha2;
    made.historyVisibility = HistoryVisibility.Joined;
    made.sharingStrategy = this.#onlySignedDevices
      ? CollectStrategy.identityBasedStrategy()
      : CollectStrategy.allDevices();
    const periodMs = Math.min(Math.max(encryption.rotationPeriodMs ?? WEEK_MS, HOUR_MS), WEEK_MS);
    made.rotationPeriod = BigInt(periodMs) * 1_000n;
    made.rotationPeriodMessages = BigInt(Math.min(Math.max(encryption.rotationPeriodMessages ?? 100, 1), 10_000));
    return made;
  }
}
