/**
 * The Rust crypto (OlmMachine) over the durable store, and the requests that it wants sent. It isn't concerned with
 * rooms: `decryption.ts` decrypts events, `room_encryption.ts` encrypts them.
 *
 * @module
 */

import {
  DecryptionSettings,
  DeviceId,
  DeviceLists,
  type EncryptionSettings,
  initAsync,
  OlmMachine,
  type ProcessedToDeviceEvent,
  RequestType,
  RoomId,
  StoreHandle,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import { RejectedError } from "../errors.ts";
import { CRYPTO_NAME, type Store } from "../store/mod.ts";
import { type Json, list, object, parseObject, text, texts } from "../json.ts";
import { Mutex } from "../async.ts";
import {
  type CryptoAnswer,
  cryptoAnswer,
  endpoint,
  isWellFormed,
  keyCounts,
  type OutgoingRequest,
  userIds,
} from "./crypto_requests.ts";
import { inputName, PanicGuard } from "./panic_guard.ts";
import type { HomeserverClient } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

const REPORT_AGAIN_AFTER_MS = 60_000;
/** Dropped entries of an answer that one log line names. */
const MAX_NAMED_ENTRIES = 5;

/** Consecutive uploads of one-time keys that may be refused because of their IDs. Each round has about 50 new IDs. */
const MAX_KEY_CONFLICTS = 20;

/**
 * Size of the Olm account, in bytes, from which on no one-time keys are made, because the private halves of some 500
 * are unused. Anyone may claim a key and never use it. The crypto keeps 5,000, and each to-device message makes it read
 * and write them all. Homeservers hand out the fallback key where no one-time key is left.
 */
const MAX_ACCOUNT_BYTES = 100_000;
/** Number of one-time keys to which the crypto fills up. */
const ENOUGH_KEYS = 50;

/**
 * Public keys of a device as the homeserver lists them, unpadded base64. Unverified: they may only lower trust, never
 * raise it.
 */
export interface ListedKeys {
  /** Signing key. */
  readonly ed25519: string | undefined;
  /** Identity key for Olm. */
  readonly curve25519: string | undefined;
}

/** Sends a message of the crypto into a room. Returns the body of the homeserver's answer. */
export type RoomMessageSender = (request: OutgoingRequest, signal: AbortSignal) => Promise<string>;

/** Options of {@linkcode CryptoMachine.open}. */
export interface CryptoMachineOptions {
  readonly client: HomeserverClient;
  /** Its crypto database must be open. */
  readonly store: Store;
  readonly self: string;
  readonly deviceId: string;
  readonly allowedUsers: ReadonlySet<string>;
}

/** Wraps the Rust crypto and its requests. */
export class CryptoMachine implements Disposable {
  /** The Rust crypto itself. */
  readonly olm: OlmMachine;
  /** Wraps calls that process other people's input. */
  readonly guard: PanicGuard;
  readonly #client: HomeserverClient;
  readonly #store: Store;
  /** Users whose to-device events the crypto receives. */
  readonly #senders: ReadonlySet<string>;
  /** Serializes fetching, sending and marking outgoing requests. Otherwise a request could be sent twice. */
  readonly #outgoing = new Mutex();
  /**
   * Serializes calls that change the crypto's store. It is never held while waiting for an answer, so claims, queries
   * and room keys can be in flight concurrently.
   */
  readonly #changes = new Mutex();
  /**
   * Allowed users, and ourselves, whose devices have changed since the last query, with the number of the sync that
   * reported it.
   */
  readonly #stale: Map<string, number>;
  /** Their devices by user and device ID, as the homeserver last listed them since this process started. */
  readonly #listed = new Map<string, ReadonlyMap<string, ListedKeys>>();
  /** Those of them who have an identity, according to the homeserver's last answer. */
  readonly #identified = new Set<string>();
  #revision = 0;
  #isSigned = false;
  #syncs = 0;
  /** Counts of our own keys at the homeserver, as last passed to the crypto. */
  #reportedKeys = "";
  #reportAgainAtMs = 0;
  /** Whether too many one-time keys were unused when last checked. */
  #isFull = false;
  /** IDs of room messages being sent. Sending one fetches the outgoing requests again, which still include it. */
  readonly #roomMessagesInFlight = new Set<string>();
  #sendRoomMessage: RoomMessageSender | undefined;

  private constructor(olm: OlmMachine, { client, store, self, allowedUsers }: CryptoMachineOptions) {
    this.olm = olm;
    this.guard = new PanicGuard(store.cryptoNotes);
    this.#client = client;
    this.#store = store;
    this.#senders = new Set([...allowedUsers, self]);
    this.#stale = new Map(store.cryptoNotes.staleUsers().map((user) => [user, 0]));
  }

  /** Opens the device's crypto, and creates it if the store doesn't hold it. */
  static async open(options: CryptoMachineOptions): Promise<CryptoMachine> {
    await initAsync();
    const handle = await StoreHandle.openWithKey(CRYPTO_NAME, options.store.cryptoKey);
    const olm = await OlmMachine.initFromStore(new UserId(options.self), new DeviceId(options.deviceId), handle);
    olm.roomKeyRequestsEnabled = false;
    const machine = new CryptoMachine(olm, options);
    await machine.#updateIsSigned();
    return machine;
  }

  /**
   * Passes the crypto's part of a sync response to the crypto, durably. Returns false if there was nothing to pass.
   *
   * Unchanged counts are passed only once a minute, for the crypto's housekeeping: each call reads and writes the
   * crypto's whole account and delays commands.
   *
   * @param token the sync token that the request was sent with
   */
  async receive(sync: Json, token: string | undefined, signal: AbortSignal): Promise<boolean> {
    const deviceLists = object(sync["device_lists"]);
    const [changed, left] = [texts(deviceLists["changed"]), texts(deviceLists["left"])];
    this.#syncs += 1;
    // Users in `left` share no room with us any more, so their later changes aren't reported.
    const stale = [...changed, ...left].filter((user) => this.#senders.has(user));
    this.#store.cryptoNotes.addStale(stale);
    for (const user of stale) this.#stale.set(user, this.#syncs);
    const events = this.#permittedEvents(list(object(sync["to_device"])["events"]));
    const counts = keyCounts(sync["device_one_time_keys_count"]);
    const fallback = sync["device_unused_fallback_key_types"];
    const keys = JSON.stringify([counts, fallback]);
    const hasNews = events.length + changed.length + left.length > 0 || keys !== this.#reportedKeys;
    if (!hasNews && performance.now() < this.#reportAgainAtMs) return false;

    const lists = (): DeviceLists => new DeviceLists(userIds(changed), userIds(left));
    const pass = (batch: readonly Json[], isFirst: boolean): Promise<void> =>
      this.#changes.run(async () => {
        this.#store.megolm.setSender(text(batch[0]?.["sender"]));
        const received = await this.olm.receiveSyncChanges(
          JSON.stringify(batch),
          isFirst ? lists() : new DeviceLists([], []),
          new Map(this.#sparing(counts)),
          fallback === undefined ? undefined : new Set(texts(fallback).filter((type) => text(type) !== undefined)),
          new DecryptionSettings(TrustRequirement.Untrusted),
        );
        this.#learnRooms(received);
        await this.#prune();
      }, signal);
    // The first batch is empty and carries the device lists and counts, because there may be no events.
    const passAll = async (batches: readonly (readonly Json[])[]): Promise<void> => {
      for (const [place, batch] of [[], ...batches].entries()) await pass(batch, place === 0);
    };
    const input = `sync ${token ?? ""}`;
    this.guard.forgetOthers("sync ", input);
    if (this.guard.panics(input) === 0) await this.guard.run(input, () => passAll(bySender(events)), signal);
    else await this.#receiveOneByOne(events, pass, signal);
    this.#reportedKeys = keys;
    this.#reportAgainAtMs = performance.now() + REPORT_AGAIN_AFTER_MS;
    this.#revision += 1;
    return true;
  }

  /**
   * After a batch has made the crypto panic: passes its events one at a time and skips the one that causes the panic.
   */
  async #receiveOneByOne(
    events: readonly Json[],
    handOver: (batch: readonly Json[], isFirst: boolean) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    await handOver([], true);
    for (const event of events) {
      const input = inputName("to-device", event);
      if (this.guard.panics(input) === 0) await this.guard.run(input, () => handOver([event], false), signal);
      else {log.error("skipped a to-device event from {sender}: the crypto library panics on it", {
          sender: event["sender"],
        });}
    }
  }

  /**
   * Returns the to-device events that the crypto may see. The crypto decrypts before it checks the sender, stores any
   * key that it is given, and believes the first sender of a key. Therefore only events of allowed users and our own
   * pass, by the sender that the homeserver names.
   */
  #permittedEvents(events: readonly unknown[]): Json[] {
    const dropped = new Map<string, number>();
    const handed = events.map(object).filter((event) => {
      const sender = text(event["sender"]);
      if (
        sender !== undefined && this.#senders.has(sender) && text(event["type"]) !== undefined && isWellFormed(event)
      ) {
        return true;
      }
      dropped.set(sender ?? "", (dropped.get(sender ?? "") ?? 0) + 1);
      return false;
    });
    for (const [sender, count] of dropped) {
      log.debug("dropped {count} to-device events from {sender}: not allowed or malformed", { count, sender });
    }
    return handed;
  }

  #learnRooms(received: readonly ProcessedToDeviceEvent[]): void {
    const events = received.map(({ rawEvent }) => object(JSON.parse(rawEvent)));
    const roomsOf = (type: string): string[] =>
      events.filter((event) => event["type"] === type).map((event) => text(object(event["content"])["room_id"]) ?? "");
    this.#store.megolm.learnRooms("inbound_group_sessions3", roomsOf("m.room_key"));
    this.#store.megolm.learnRooms("withheld_sessions", roomsOf("m.room_key.withheld"));
  }

  /** Deletes the oldest Megolm sessions of a sender who has too many. */
  async #prune(): Promise<void> {
    const excess = this.#store.megolm.excessSessions();
    this.#store.megolm.setSender(undefined);
    if (excess.length === 0) return;
    await this.#store.deleteCryptoRecords(excess);
    log.debug("deleted {count} old Megolm sessions", { count: excess.length });
  }

  /** Deletes the Megolm sessions of a room that we are no longer in. */
  async forgetRoom(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#changes.run(async () => {
      await this.#store.deleteCryptoRecords(this.#store.megolm.ofRoom(roomId));
    }, signal);
  }

  /** Changes whenever the crypto's knowledge may have changed. */
  get revision(): number {
    return this.#revision;
  }

  /** Whether the crypto knows our device to be signed by our own cross-signing identity. */
  get isSigned(): boolean {
    return this.#isSigned;
  }

  /** Sets the function that sends the crypto's room messages, which are in-room verification steps. */
  sendRoomMessagesWith(send: RoomMessageSender): void {
    this.#sendRoomMessage = send;
  }

  /**
   * Sends the crypto's outgoing requests: keys, queries, and claims that repair broken Olm sessions.
   *
   * @throws TransientError if the homeserver didn't accept one of them; the crypto offers it again
   */
  async sendOutgoing(signal: AbortSignal): Promise<void> {
    await this.sendAll(await this.#takeOutgoing(signal), signal);
    const claim = await this.olm.getMissingSessions([]);
    if (claim !== null) await this.sendAll([claim], signal);
  }

  /** Sends outgoing requests except claims and room messages. Safe to call while holding a room's lock. */
  async sendKeys(signal: AbortSignal): Promise<void> {
    await this.#takeOutgoing(signal);
  }

  /** Sends outgoing requests except room messages, and returns those. */
  #takeOutgoing(signal: AbortSignal): Promise<OutgoingRequest[]> {
    return this.#outgoing.run(async () => {
      const all: OutgoingRequest[] = await this.olm.outgoingRequests();
      const messages = all.filter((request) => request.type === RequestType.RoomMessage);
      for (const request of all) if (!messages.includes(request)) await this.#sendOrLog(request, signal);
      return messages;
    }, signal);
  }

  /** Sends requests in order. No other caller may hold the same requests. */
  async sendAll(requests: readonly OutgoingRequest[], signal: AbortSignal): Promise<void> {
    for (const request of requests) {
      if (request.type === RequestType.RoomMessage) await this.#sendInRoom(request, signal);
      else await this.#sendOrLog(request, signal);
    }
  }

  /**
   * Creates the requests that share a room key, and records the session as our own.
   *
   * @throws Error with the crypto's reason
   */
  shareRoomKey(
    roomId: string,
    members: readonly string[],
    settings: EncryptionSettings,
    signal: AbortSignal,
  ): Promise<OutgoingRequest[]> {
    return this.#changes.run(async () => {
      this.#store.megolm.setSender(this.olm.userId.toString());
      const requests = await this.olm.shareRoomKey(new RoomId(roomId), userIds(members), settings);
      for (const sessions of ["outbound_group_sessions", "inbound_group_sessions3"] as const) {
        this.#store.megolm.learnRooms(sessions, [roomId]);
      }
      await this.#prune();
      return requests;
    }, signal);
  }

  /**
   * Sends the requests that share a room key. Without it, nobody could read the message.
   *
   * @throws RejectedError if the homeserver refuses one of the requests; TransientError
   */
  async share(requests: readonly OutgoingRequest[], signal: AbortSignal): Promise<void> {
    for (const request of requests) await this.#send(request, signal);
  }

  async #sendInRoom(message: OutgoingRequest, signal: AbortSignal): Promise<void> {
    const id = message.id ?? "";
    if (this.#sendRoomMessage === undefined || this.#roomMessagesInFlight.has(id)) return;
    this.#roomMessagesInFlight.add(id);
    try {
      const answer = await this.#sendRoomMessage(message, signal);
      await this.#mark(message, parseObject(answer) ?? {}, signal);
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      // We may have left the room, for example. The verification is over and must not block other requests.
      log.warning("failed to send a verification step: {reason}", { reason: error.message });
      await this.#mark(message, {}, signal);
    } finally {
      this.#roomMessagesInFlight.delete(id);
    }
  }

  /**
   * Returns a user's devices as the homeserver last listed them, or undefined if it hasn't since this process started.
   * If a device's keys have changed, the crypto keeps the ones it has seen first.
   */
  listed(userId: string): ReadonlyMap<string, ListedKeys> | undefined {
    return this.#listed.get(userId);
  }

  /** Reports whether the homeserver's last answer held an identity of the user, whatever the crypto believes. */
  hasIdentity(userId: string): boolean {
    return this.#identified.has(userId);
  }

  /**
   * Reports whether the user's devices have changed since the last query. Only tracked for allowed users and ourselves.
   */
  isStale(userId: string): boolean {
    return this.#stale.has(userId);
  }

  /**
   * Queries the homeserver for a user's devices and identity, even if they are known.
   *
   * @returns the parsable part of the homeserver's answer
   * @throws TransientError if the homeserver didn't answer
   */
  query(userId: string, signal: AbortSignal): Promise<Json> {
    return this.#send(this.olm.queryKeysForUsers([new UserId(userId)]), signal);
  }

  /** Tracks the device lists of these users from now on. */
  async track(users: Iterable<string>): Promise<void> {
    await this.olm.updateTrackedUsers(userIds(users));
  }

  /**
   * Sends a request and logs a refusal, which must not block the other requests. The crypto offers the request again.
   */
  async #sendOrLog(request: OutgoingRequest, signal: AbortSignal): Promise<void> {
    try {
      await this.#send(request, signal);
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      log.error("gave up a request of the crypto library: {reason}", { reason: error.message });
    }
  }

  async #send(request: OutgoingRequest, signal: AbortSignal): Promise<Json> {
    const asked = this.#syncs;
    // A verification made this signature. Publishing it would vouch for that person to others.
    if (request.type === RequestType.SignatureUpload) return await this.#mark(request, {}, signal);
    if (request.type === RequestType.KeysUpload) return await this.#uploadKeys(request, signal);
    const { json: answer } = await this.#client.send(endpoint(request), signal);
    const json = await this.#mark(request, answer, signal);
    if (request.type !== RequestType.KeysQuery) return json;
    for (const [user, devices] of Object.entries(object(json["device_keys"]))) {
      if (!this.#senders.has(user)) continue;
      this.#listed.set(user, listedKeys(object(devices)));
      if (object(json["master_keys"])[user] === undefined) this.#identified.delete(user);
      else this.#identified.add(user);
      // A change that was reported during the query may be missing from its answer.
      if ((this.#stale.get(user) ?? Infinity) <= asked) {
        this.#stale.delete(user);
        this.#store.cryptoNotes.deleteStale(user);
      }
    }
    await this.#updateIsSigned();
    this.#revision += 1;
    return json;
  }

  /**
   * Uploads device keys, one-time keys and fallback keys.
   *
   * If the homeserver holds other one-time keys under the same IDs, for example after a volume was restored from a
   * backup, it refuses the upload every time. The rest of the upload is then sent without one-time keys, and the crypto
   * is told that none are left, so that it creates new ones under the next IDs.
   */
  async #uploadKeys(request: OutgoingRequest, signal: AbortSignal): Promise<Json> {
    for (let rounds = 1;; rounds += 1) {
      try {
        const { json } = await this.#client.send(endpoint(request), signal);
        const counts = Object.fromEntries(this.#sparing(keyCounts(json["one_time_key_counts"])));
        return await this.#mark(request, { one_time_key_counts: counts }, signal);
      } catch (error) {
        const { one_time_keys: oneTimeKeys, ...others } = object(JSON.parse(request.body));
        const isConflict = error instanceof RejectedError && error.status === 400 && oneTimeKeys !== undefined;
        if (!isConflict || rounds === MAX_KEY_CONFLICTS) throw error;
        const { json } = await this.#client.send({ ...endpoint(request), body: others }, signal);
        log.warning(
          "replaced the one-time keys, as the homeserver has others with the same IDs: {reason}",
          {
            reason: error.message,
          },
        );
        const none = { ...object(json["one_time_key_counts"]), signed_curve25519: 0 };
        await this.#mark(request, { one_time_key_counts: none }, signal);
      }
      const next = (await this.olm.outgoingRequests()).find(({ type }) => type === RequestType.KeysUpload);
      if (next === undefined) return {};
      request = next;
    }
  }

  /** Counts of our own keys for the crypto, which makes one-time keys for those that are missing. */
  #sparing(counts: [algorithm: string, count: number][]): [algorithm: string, count: number][] {
    const isFull = this.#store.olmAccountSize() > MAX_ACCOUNT_BYTES;
    if (isFull && !this.#isFull) {
      log.warn(
        "made no more one-time keys: others claimed many without using them, the fallback key takes their place",
      );
    }
    this.#isFull = isFull;
    return isFull ? [...counts, ["signed_curve25519", ENOUGH_KEYS]] : counts;
  }

  /** Passes the parsable part of an answer to the crypto. */
  async #mark(request: OutgoingRequest, answer: Json, signal: AbortSignal): Promise<Json> {
    const { id, type } = request;
    const { json, dropped }: CryptoAnswer = cryptoAnswer(request, answer);
    if (dropped.length > 0) {
      log.warn("ignored malformed parts of the answer to {request}: {entries}", {
        request: RequestType[type],
        entries: dropped.slice(0, MAX_NAMED_ENTRIES).join(", "),
      });
    }
    if (id === undefined) return json;
    // Claimed keys differ every time, but the users in an answer don't.
    const input = inputName(
      `answer to ${RequestType[type]} of`,
      Object.keys(object(json["device_keys"] ?? json["one_time_keys"])),
    );
    if (this.guard.isBarred(input)) {
      throw new RejectedError(`Cannot take the answer to ${RequestType[type]}: the crypto panics at it`, 200, "");
    }
    const mark = () => this.olm.markRequestAsSent(id, type, JSON.stringify(json));
    try {
      await this.guard.run(input, () => this.#changes.run(mark, signal), signal);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError || signal.aborted) throw error;
      throw new RejectedError(`Cannot take the answer to ${RequestType[type]}: ${(error as Error).message}`, 200, "");
    }
    return json;
  }

  async #updateIsSigned(): Promise<void> {
    using device = await this.olm.getDevice(this.olm.userId, this.olm.deviceId);
    this.#isSigned = device?.isCrossSignedByOwner() ?? false;
  }

  /** Closes the crypto. */
  [Symbol.dispose](): void {
    this.guard[Symbol.dispose]();
    this.olm.close();
  }
}

/**
 * Groups consecutive events of the same sender, so that the sessions each batch creates can be attributed to its
 * sender.
 */
function bySender(events: readonly Json[]): Json[][] {
  const batches: Json[][] = [];
  for (const event of events) {
    const last = batches.at(-1);
    if (last?.[0]?.["sender"] === event["sender"]) last?.push(event);
    else batches.push([event]);
  }
  return batches;
}

/** Reads the device keys in a query's answer (Matrix spec v1.16, client-server API, 11.12.1, "DeviceKeys"). */
function listedKeys(devices: Json): ReadonlyMap<string, ListedKeys> {
  return new Map(
    Object.entries(devices).map(([deviceId, device]) => {
      const keys = object(object(device)["keys"]);
      return [deviceId, {
        ed25519: text(keys[`ed25519:${deviceId}`]),
        curve25519: text(keys[`curve25519:${deviceId}`]),
      }];
    }),
  );
}
