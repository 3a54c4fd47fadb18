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
import { getLogger } from "@logtape/logtape";
import { errorMessage, RejectedError, StoreError, TransientError } from "../errors.ts";
import type { Store, StoredEncryption, StoredRoom } from "../store/mod.ts";
import { type Json, object } from "../json.ts";
import { KeyedMutex } from "../async.ts";
import { userIds } from "./crypto_requests.ts";
import { MEGOLM } from "./sync_response.ts";
import type { SendProblem } from "./facts.ts";
import type { CryptoMachine } from "./crypto_machine.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";
import { withTransactionId } from "./sent_messages.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** The specification's defaults and what we let a room ask for (client-server API, 11.12.5, `m.room.encryption`). */
const WEEK_MS = 604_800_000;
const HOUR_MS = 3_600_000;
/** A session is made anew so long before its time is over. */
const MARGIN_MS = 60_000;
/** Members' devices may change while keys are handed over; so often it is looked again. */
const MAX_ROUNDS = 5;
/** Members whose devices' one-time keys are claimed by one request, if there are any to be claimed. */
const CLAIMED_AT_ONCE = 500;
/** A device whose keys could not be claimed is tried again after so long. */
const LOOK_AGAIN_AFTER_MS = 60_000;

/** The Megolm session that a room's events are encrypted with. */
interface GroupSession {
  /** Milliseconds since the epoch. */
  readonly madeAtMs: number;
  messages: number;
  /** Since when every device that can be given it has it, what the crypto knew then, and how many had joined. */
  shared?: { readonly atMs: number; readonly revision: number; readonly joined: number };
}

/** Sends events into rooms, in the name of one account. */
export class RoomEncryption {
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #machine: CryptoMachine;
  readonly #onlySignedDevices: boolean;
  readonly #rooms = new KeyedMutex();
  readonly #now: () => number;
  /** By room. A volume restored from a snapshot would use message indices again, so no session outlives the process. */
  readonly #sessions = new Map<string, GroupSession>();

  /** From now on also sends what the crypto wants sent in rooms: its part of verifications. */
  constructor(
    client: HomeserverClient,
    store: Store,
    machine: CryptoMachine,
    onlySignedDevices: boolean,
    now: () => number,
  ) {
    this.#client = client;
    this.#store = store;
    this.#machine = machine;
    this.#onlySignedDevices = onlySignedDevices;
    this.#now = now;
    machine.sendRoomMessagesWith((request, signal) => {
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
      const sent = !room.encrypted ? { type, content } : {
        type: "m.room.encrypted",
        content: object(
          JSON.parse(await this.#encrypt(room, room.encryption, transactionId, { type, content }, signal)),
        ),
      };
      const { body } = await this.#client.send({
        method: "PUT",
        path: path`/_matrix/client/v3/rooms/${roomId}/send/${sent.type}/${transactionId}`,
        body: withTransactionId(sent.content, transactionId),
      }, signal);
      return body;
    }, signal);
  }

  /**
   * Takes a room for encrypted from now on, as a message in it has been decrypted: the server may hide the state event, and
   * what is known of the room's settings stays.
   */
  noteEncrypted(roomId: string): void {
    if (this.#store.rooms.get(roomId)?.encrypted !== false) return;
    this.#store.rooms.setEncrypted(roomId, { algorithm: MEGOLM });
    log.warn("kept encryption on in {room}: the homeserver doesn't say that it is encrypted", { room: roomId });
  }

  /** Why nothing can be sent into a room, whether we are joined or not; undefined if it can. */
  problem({ encrypted, encryption }: StoredRoom): SendProblem | undefined {
    if (!encrypted) return undefined;
    if (encryption === undefined) return "unusable-encryption";
    return this.#onlySignedDevices && !this.#machine.isSigned ? "own-device-unsigned" : undefined;
  }

  /** Has the room's session made anew before it is used again: somebody has left, or the room's policy has changed. */
  rotate(roomId: string): void {
    this.#sessions.delete(roomId);
  }

  /** Shares the room's session where it has not been shared yet, and encrypts; members may change while we wait. */
  async #encrypt(
    room: StoredRoom,
    encryption: StoredEncryption | undefined,
    transactionId: string,
    event: { readonly type: string; readonly content: Json },
    signal: AbortSignal,
  ): Promise<string> {
    const { roomId } = room;
    const refused = (reason: string, code: string) =>
      new RejectedError(`Cannot encrypt for ${roomId}: ${reason}`, 0, code);
    if (encryption === undefined) throw refused("its encryption settings are unusable", "UNUSABLE_ENCRYPTION");
    if (this.problem(room) === "own-device-unsigned") {
      throw refused("our own device is not signed", "OWN_DEVICE_UNSIGNED");
    }
    const input = `answer ${transactionId}`;
    if (this.#machine.guard.isBarred(input)) throw refused("the crypto panics at it", "PANIC");

    const encrypt = (session: GroupSession): Promise<string> => {
      session.messages += 1;
      return this.#machine.olm.encryptRoomEvent(new RoomId(roomId), event.type, JSON.stringify(event.content));
    };
    const guarded = <T>(work: () => Promise<T>): Promise<T> =>
      this.#machine.guard.run(input, work, signal).catch((error) => {
        if (error instanceof WebAssembly.RuntimeError || error instanceof StoreError || signal.aborted) throw error;
        throw refused(errorMessage(error), "ENCRYPTION_FAILED");
      });

    const current = this.#current(roomId, encryption);
    if (current !== undefined && this.#isShared(roomId, current)) return await guarded(() => encrypt(current));
    await this.#machine.track(this.#store.rooms.joinedMembers(roomId));
    await this.#machine.sendKeys(signal);
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const { revision } = this.#machine;
      await this.#claimMissing(this.#store.rooms.joinedMembers(roomId), signal);
      // Nothing is waited for but the crypto from here on, unless there are keys to be handed over.
      const made = await guarded(async () => {
        const session = this.#current(roomId, encryption) ?? await this.#begin(roomId);
        const members = this.#store.rooms.joinedMembers(roomId);
        const shares = await this.#machine.shareRoomKey(roomId, members, this.#settings(encryption), signal);
        if (shares.length > 0) return shares;
        session.shared = { atMs: this.#now(), revision, joined: members.length };
        return await encrypt(session);
      });
      if (typeof made === "string") return made;
      await this.#machine.share(made, signal);
    }
    throw new TransientError(`Cannot encrypt for ${roomId}: its members' devices change all the time`);
  }

  /** Claims one-time keys of the members' devices that we have no Olm session with, for some members at a time. */
  async #claimMissing(members: readonly string[], signal: AbortSignal): Promise<void> {
    for (let first = 0; first < members.length; first += CLAIMED_AT_ONCE) {
      const claim = await this.#machine.olm.getMissingSessions(userIds(members.slice(first, first + CLAIMED_AT_ONCE)));
      if (claim !== null) await this.#machine.sendAll([claim], signal);
    }
  }

  /**
   * The session, unless it is used up or about to expire; also if it was made in the future, because the clock was set
   * back.
   */
  #current(roomId: string, encryption: StoredEncryption): GroupSession | undefined {
    const session = this.#sessions.get(roomId);
    if (session === undefined || session.messages >= maxMessages(encryption)) return undefined;
    const ageMs = this.#now() - session.madeAtMs;
    return ageMs >= 0 && ageMs < maxAgeMs(encryption) - MARGIN_MS ? session : undefined;
  }

  async #begin(roomId: string): Promise<GroupSession> {
    await this.#machine.olm.invalidateGroupSession(new RoomId(roomId));
    const session = { madeAtMs: this.#now(), messages: 0 };
    this.#sessions.set(roomId, session);
    return session;
  }

  /**
   * Whether a session has been given to every device that it can be given to. To ask the crypto takes time for each
   * member, and most messages follow another one. Who leaves has the session made anew.
   */
  #isShared(roomId: string, { shared }: GroupSession): boolean {
    if (shared === undefined) return false;
    const agoMs = this.#now() - shared.atMs;
    return agoMs >= 0 && agoMs < LOOK_AGAIN_AFTER_MS && shared.revision === this.#machine.revision &&
      shared.joined === this.#store.rooms.joinedCount(roomId);
  }

  /** For the crypto, which panics when it encrypts with a session that has expired: it is told a later time. */
  #settings(encryption: StoredEncryption): EncryptionSettings {
    const made = new EncryptionSettings();
    made.algorithm = EncryptionAlgorithm.MegolmV1AesSha2;
    made.historyVisibility = HistoryVisibility.Joined;
    made.sharingStrategy = this.#onlySignedDevices
      ? CollectStrategy.identityBasedStrategy()
      : CollectStrategy.allDevices();
    // In microseconds.
    made.rotationPeriod = BigInt(maxAgeMs(encryption) + HOUR_MS) * 1_000n;
    made.rotationPeriodMessages = BigInt(maxMessages(encryption));
    return made;
  }
}

function maxAgeMs({ rotationPeriodMs = WEEK_MS }: StoredEncryption): number {
  return Math.min(Math.max(rotationPeriodMs, HOUR_MS), WEEK_MS);
}

function maxMessages({ rotationPeriodMessages = 100 }: StoredEncryption): number {
  return Math.min(Math.max(rotationPeriodMessages, 1), 10_000);
}
