/**
 * Sends events into rooms, one at a time per room. In a room that has ever been seen encrypted, events are encrypted
 * for every device of every joined member.
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

/**
 * Defaults of the specification, and limits for what a room may request (client-server API, 11.12.5,
 * `m.room.encryption`).
 */
const WEEK_MS = 604_800_000;
const HOUR_MS = 3_600_000;
/** A session is rotated this long before it expires, in milliseconds. */
const MARGIN_MS = 60_000;
/** Members' devices may change while keys are being shared. Sharing is repeated this often. */
const MAX_ROUNDS = 5;
/** Members per request to claim one-time keys. */
const CLAIMED_AT_ONCE = 500;
/** After this time, in milliseconds, keys are claimed again for devices for which that failed. */
const LOOK_AGAIN_AFTER_MS = 60_000;

/** The outbound Megolm session of a room. */
interface GroupSession {
  /** Milliseconds since the epoch. */
  readonly madeAtMs: number;
  messages: number;
  /**
   * When the session was last shared with every reachable device, with the crypto's revision and the number of joined
   * members at that time.
   */
  shared?: { readonly atMs: number; readonly revision: number; readonly joined: number };
}

/** Sends events into rooms from one account. */
export class RoomEncryption {
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #machine: CryptoMachine;
  readonly #onlySignedDevices: boolean;
  readonly #rooms = new KeyedMutex();
  readonly #now: () => number;
  /**
   * By room. A session never outlives the process, because a volume restored from a snapshot would reuse message
   * indices.
   */
  readonly #sessions = new Map<string, GroupSession>();

  /** Makes a sender, and registers it with `machine` for the crypto's room messages, which are verification steps. */
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
   * Sends an event. Repeating a transaction ID doesn't send it twice.
   *
   * @returns the body of the homeserver's response
   * @throws RejectedError if we haven't joined the room, if it requires an encryption that we don't support (the event
   * is never sent in clear instead), or if the homeserver refuses to deliver a key; TransientError
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
   * Marks a room as encrypted after a message in it was decrypted, because the server may hide the state event. Known
   * encryption settings are kept.
   */
  noteEncrypted(roomId: string): void {
    if (this.#store.rooms.get(roomId)?.encrypted !== false) return;
    this.#store.rooms.setEncrypted(roomId, { algorithm: MEGOLM });
    log.warn("kept encryption on in {room}: the homeserver doesn't say that it is encrypted", { room: roomId });
  }

  /** Returns why nothing can be sent into a room, regardless of our membership, or undefined if sending is possible. */
  problem({ encrypted, encryption }: StoredRoom): SendProblem | undefined {
    if (!encrypted) return undefined;
    if (encryption === undefined) return "unusable-encryption";
    return this.#onlySignedDevices && !this.#machine.isSigned ? "own-device-unsigned" : undefined;
  }

  /**
   * Discards the room's session, because a member has left or the encryption settings have changed. The next message
   * creates a new one.
   */
  rotate(roomId: string): void {
    this.#sessions.delete(roomId);
  }

  /** Shares the room's session if needed, and encrypts. Members may change while keys are being sent. */
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
      // From here on, only calls into the crypto are awaited, unless keys must be sent.
      const made = await guarded(async () => {
        const session = this.#current(roomId, encryption) ?? await this.#createSession(roomId);
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

  /** Claims one-time keys, in batches of members, for devices that we have no Olm session with. */
  async #claimMissing(members: readonly string[], signal: AbortSignal): Promise<void> {
    for (let first = 0; first < members.length; first += CLAIMED_AT_ONCE) {
      const claim = await this.#machine.olm.getMissingSessions(userIds(members.slice(first, first + CLAIMED_AT_ONCE)));
      if (claim !== null) await this.#machine.sendAll([claim], signal);
    }
  }

  /**
   * Returns the session unless it is used up, about to expire, or dated in the future because the clock was set back.
   */
  #current(roomId: string, encryption: StoredEncryption): GroupSession | undefined {
    const session = this.#sessions.get(roomId);
    if (session === undefined || session.messages >= maxMessages(encryption)) return undefined;
    const ageMs = this.#now() - session.madeAtMs;
    return ageMs >= 0 && ageMs < maxAgeMs(encryption) - MARGIN_MS ? session : undefined;
  }

  async #createSession(roomId: string): Promise<GroupSession> {
    await this.#machine.olm.invalidateGroupSession(new RoomId(roomId));
    const session = { madeAtMs: this.#now(), messages: 0 };
    this.#sessions.set(roomId, session);
    return session;
  }

  /**
   * Reports whether the session was recently shared with every reachable device. Asking the crypto takes time per
   * member, and this saves it for consecutive messages. Members who leave are not a concern here: they cause a
   * rotation.
   */
  #isShared(roomId: string, { shared }: GroupSession): boolean {
    if (shared === undefined) return false;
    const agoMs = this.#now() - shared.atMs;
    return agoMs >= 0 && agoMs < LOOK_AGAIN_AFTER_MS && shared.revision === this.#machine.revision &&
      shared.joined === this.#store.rooms.joinedCount(roomId);
  }

  /** Settings for the crypto. It panics if it encrypts with an expired session, so it is given a later expiry. */
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
