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
import { RejectedError } from "../errors/mod.ts";
import type { Store, StoredRoom } from "../store/mod.ts";
import { type Json, object, text } from "./json.ts";
import { Locks } from "./lock.ts";
import { type Machine, userIds } from "./machine.ts";
import { path, type Requests } from "./request.ts";
import type { Findings } from "./trust.ts";

type RoomEncryption = NonNullable<StoredRoom["encryption"]>;

const MEGOLM = "m.megolm.v1.aes-sha2";
/** The specification's defaults and what we let a room ask for (client-server API, 11.12.5, `m.room.encryption`). */
const WEEK_MS = 604_800_000;
const HOUR_MS = 3_600_000;
/** So long before a session is too old the crypto is asked about it. */
const MARGIN_MS = 60_000;

/** A room's session: for whom it was shared, and how far it is used up. */
interface Shared {
  /** What was known of devices before; undefined if not all could be reached. */
  known: Findings | undefined;
  /** Joined members. */
  members: string;
  /** When it was shared last, milliseconds since the epoch. */
  atMs: number;
  /** The session that has encrypted last. */
  sessionId: string | undefined;
  /** When that was made, at the earliest, milliseconds since the epoch. */
  madeAtMs: number;
  /** Messages that it was used for. */
  messages: number;
}

/** Sends events of one account. */
export class Speaker {
  readonly #requests: Requests;
  readonly #store: Store;
  readonly #machine: Machine;
  readonly #onlySignedDevices: boolean;
  readonly #rooms = new Locks();
  /** Rooms whose session was made by this process, or renewed since it started. */
  readonly #fresh = new Set<string>();
  /** For whom the sessions of rooms were shared last, and how they were used since. */
  readonly #shared = new Map<string, Shared>();

  /** From now on also says what the crypto wants said. */
  constructor(requests: Requests, store: Store, machine: Machine, onlySignedDevices: boolean) {
    this.#requests = requests;
    this.#store = store;
    this.#machine = machine;
    this.#onlySignedDevices = onlySignedDevices;
    machine.speakThrough((request, signal) => {
      const { room_id: roomId = "", txn_id: transactionId = "", event_type: type = "" } = request;
      return this.put(roomId, transactionId, type, object(JSON.parse(request.body)), signal);
    });
  }

  /**
   * Sends an event; the same transaction id never sends it twice.
   *
   * @returns the homeserver's answer, as text
   * @throws RejectedError if we are not in the room, it wants an encryption that we do not speak (nothing is sent in
   * clear instead), or the homeserver refuses to hand a key over; TransientError
   */
  put(roomId: string, transactionId: string, type: string, content: Json, signal: AbortSignal): Promise<string> {
    return this.#rooms.run(roomId, async () => {
      const room = this.#store.sync.room(roomId);
      if (room?.membership !== "join") throw new RejectedError(`Cannot speak in ${roomId}: not joined`, 0, "");
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
    return [...this.#store.sync.members(roomId)].flatMap(([user, membership]) => membership === "join" ? [user] : []);
  }

  /** Has the room's session made anew before it is used again: somebody has left, or the room's policy has changed. */
  renew(roomId: string): void {
    this.#fresh.delete(roomId);
  }

  /** Shares the room's session where it has not been shared yet, and encrypts; members may change while we wait. */
  async #encrypt(
    roomId: string,
    encryption: RoomEncryption,
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
      this.#shared.delete(roomId);
      this.#fresh.add(roomId);
    }
    let shared = this.#shared.get(roomId);
    if (!this.#isUsable(shared, roomId, encryption)) shared = await this.#share(shared, roomId, encryption, signal);
    shared.messages += 1;
    const encrypted = await olm.encryptRoomEvent(new RoomId(roomId), type, JSON.stringify(content));
    const sessionId = text(object(JSON.parse(encrypted))["session_id"]);
    if (sessionId !== shared.sessionId) Object.assign(shared, { sessionId, madeAtMs: shared.atMs, messages: 1 });
    return encrypted;
  }

  /**
   * Everyone who is in the room has the session, and it may be used once more; the crypto panics where it may not. To have
   * it find that out takes a quarter of a millisecond for each member.
   */
  #isUsable(shared: Shared | undefined, roomId: string, encryption: RoomEncryption): shared is Shared {
    if (shared === undefined || shared.known !== this.#machine.known) return false;
    const nowMs = Date.now();
    const isYoung = nowMs >= shared.atMs && nowMs < shared.madeAtMs + periodMs(encryption) - MARGIN_MS;
    return isYoung && shared.messages < periodMessages(encryption) && shared.members === this.joined(roomId).join();
  }

  async #share(
    before: Shared | undefined,
    roomId: string,
    encryption: RoomEncryption,
    signal: AbortSignal,
  ): Promise<Shared> {
    const { olm, known } = this.#machine;
    const atMs = Date.now();
    await this.#machine.track(this.joined(roomId));
    await this.#machine.sendKeys(signal);
    const claim = await olm.getMissingSessions(userIds(this.joined(roomId)));
    if (claim) await this.#machine.sendAll([claim], signal);
    const members = this.joined(roomId);
    const shares = await olm.shareRoomKey(new RoomId(roomId), userIds(members), this.#settings(encryption));
    await this.#machine.share(shares, signal);
    const shared = {
      ...before ?? { sessionId: undefined, madeAtMs: atMs, messages: 0 },
      ...{ known: claim ? undefined : known, members: members.join(), atMs },
    };
    this.#shared.set(roomId, shared);
    return shared;
  }

  #settings(encryption: RoomEncryption): EncryptionSettings {
    const made = new EncryptionSettings();
    made.algorithm = EncryptionAlgorithm.MegolmV1AesSha2;
    made.historyVisibility = HistoryVisibility.Joined;
    made.sharingStrategy = this.#onlySignedDevices
      ? CollectStrategy.identityBasedStrategy()
      : CollectStrategy.allDevices();
    made.rotationPeriod = BigInt(periodMs(encryption)) * 1_000n;
    made.rotationPeriodMessages = BigInt(periodMessages(encryption));
    return made;
  }
}

/** After so long a room's session is made anew. */
function periodMs({ rotationPeriodMs = WEEK_MS }: RoomEncryption): number {
  return Math.min(Math.max(rotationPeriodMs, HOUR_MS), WEEK_MS);
}

/** After so many messages a room's session is made anew. */
function periodMessages({ rotationPeriodMessages = 100 }: RoomEncryption): number {
  return Math.min(Math.max(rotationPeriodMessages, 1), 10_000);
}
