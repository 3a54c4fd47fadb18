/**
 * The Rust crypto (OlmMachine), opened over the durable store, and the requests that it wants sent. Knows nothing of
 * rooms; events are decrypted in `decryption.ts`, and encrypted in `room_encryption.ts`.
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
  onlyAsked,
  type OutgoingRequest,
  userIds,
} from "./crypto_requests.ts";
import { inputName, PanicGuard } from "./panic_guard.ts";
import type { HomeserverClient } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

const TELL_AGAIN_AFTER_MS = 60_000;
/** So many entries of an answer are named in the log. */
const MAX_TOLD = 5;

/** Uploads of one-time keys in a row that may be refused for their ids; each round has some 50 new ids. */
const MAX_KEY_CONFLICTS = 20;

/** Public keys of a device as the homeserver lists them, unpadded base64; unchecked, so good for doubts alone. */
export interface ListedKeys {
  /** Of signatures. */
  readonly ed25519: string | undefined;
  /** Of encryption. */
  readonly curve25519: string | undefined;
}

/** Sends a message of the crypto into a room; returns the answer's body. */
export type RoomMessageSender = (request: OutgoingRequest, signal: AbortSignal) => Promise<string>;

/** What the crypto of a device is opened with. */
export interface CryptoMachineOptions {
  readonly client: HomeserverClient;
  /** Its crypto database has been opened. */
  readonly store: Store;
  readonly self: string;
  readonly deviceId: string;
  readonly allowedUsers: ReadonlySet<string>;
}

/** The Rust crypto and its requests. */
export class CryptoMachine implements Disposable {
  /** The Rust crypto itself. */
  readonly olm: OlmMachine;
  /** Around calls that others' input goes into. */
  readonly guard: PanicGuard;
  readonly #client: HomeserverClient;
  readonly #store: Store;
  /** Whose to-device events are handed over. */
  readonly #senders: ReadonlySet<string>;
  /** What the crypto wants sent is asked for, sent and marked by one at a time, or it would be sent twice. */
  readonly #outgoing = new Mutex();
  /**
   * Calls by which the crypto changes what it stores, one at a time. No answer is waited for under it: claims, queries and
   * room keys are in flight side by side.
   */
  readonly #changes = new Mutex();
  /** Allowed users, and ourselves, whose devices have changed since a query last told them, with the number of the sync that said so. */
  readonly #stale: Map<string, number>;
  /** Devices of the same by user and device id, as the homeserver has listed them last since we started. */
  readonly #listed = new Map<string, ReadonlyMap<string, ListedKeys>>();
  /** Who of them has an identity by the homeserver's last answer. */
  readonly #identified = new Set<string>();
  #revision = 0;
  #isSigned = false;
  #syncs = 0;
  /** Numbers of our own keys at the homeserver, as the crypto was told last. */
  #toldKeys = "";
  #tellAgainAtMs = 0;
  /** Messages into rooms that are being sent: sending one comes by here again. */
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

  /** Opens the device's crypto. A device that the store does not know is made anew. */
  static async open(options: CryptoMachineOptions): Promise<CryptoMachine> {
    await initAsync();
    const handle = await StoreHandle.openWithKey(CRYPTO_NAME, options.store.cryptoKey);
    const olm = await OlmMachine.initFromStore(new UserId(options.self), new DeviceId(options.deviceId), handle);
    olm.roomKeyRequestsEnabled = false;
    const machine = new CryptoMachine(olm, options);
    await machine.#lookAtOwnDevice();
    return machine;
  }

  /**
   * Hands over what a sync answer has for the crypto, and returns whether that was anything; durable then. What it knows
   * is told again only once a minute, for its housekeeping: it reads and writes its whole account, and a command waits.
   *
   * @param token the sync token that the answer follows
   */
  async receive(sync: Json, token: string | undefined, signal: AbortSignal): Promise<boolean> {
    const deviceLists = object(sync["device_lists"]);
    const [changed, left] = [texts(deviceLists["changed"]), texts(deviceLists["left"])];
    this.#syncs += 1;
    // Of whoever is out of sight, changes are not told.
    const stale = [...changed, ...left].filter((user) => this.#senders.has(user));
    this.#store.cryptoNotes.addStale(stale);
    for (const user of stale) this.#stale.set(user, this.#syncs);
    const events = this.#ofSenders(list(object(sync["to_device"])["events"]));
    const counts = keyCounts(sync["device_one_time_keys_count"]);
    const fallback = sync["device_unused_fallback_key_types"];
    const keys = JSON.stringify([counts, fallback]);
    const isNews = events.length + changed.length + left.length > 0 || keys !== this.#toldKeys;
    if (!isNews && performance.now() < this.#tellAgainAtMs) return false;

    const lists = (): DeviceLists => new DeviceLists(userIds(changed), userIds(left));
    const handOver = (batch: readonly Json[], isFirst: boolean): Promise<void> =>
      this.#changes.run(async () => {
        this.#store.megolm.attribute(text(batch[0]?.["sender"]));
        const received = await this.olm.receiveSyncChanges(
          JSON.stringify(batch),
          isFirst ? lists() : new DeviceLists([], []),
          new Map(counts),
          fallback === undefined ? undefined : new Set(texts(fallback).filter((type) => text(type) !== undefined)),
          new DecryptionSettings(TrustRequirement.Untrusted),
        );
        this.#learnRooms(received);
        await this.#prune();
      }, signal);
    // Device lists and counts are handed over with the first, also if there is no event.
    const handOverAll = async (batches: readonly (readonly Json[])[]): Promise<void> => {
      for (const [place, batch] of [[], ...batches].entries()) await handOver(batch, place === 0);
    };
    const input = `sync ${token ?? ""}`;
    this.guard.forgetOthers("sync ", input);
    if (this.guard.panics(input) === 0) await this.guard.run(input, () => handOverAll(bySender(events)), signal);
    else await this.#receiveOneByOne(events, handOver, signal);
    this.#toldKeys = keys;
    this.#tellAgainAtMs = performance.now() + TELL_AGAIN_AFTER_MS;
    this.#revision += 1;
    return true;
  }

  /** Where a batch has made the crypto panic: hands its events over alone, without the one that does it. */
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
   * To-device events that the crypto may see. It stores whatever key anybody hands it, and believes whoever is first; and
   * it decrypts before it looks. So only allowed users' and our own are handed over, by the sender that the homeserver
   * names.
   */
  #ofSenders(events: readonly unknown[]): Json[] {
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

  /** Deletes the sender's oldest sessions where there are too many. */
  async #prune(): Promise<void> {
    const surplus = this.#store.megolm.surplus();
    this.#store.megolm.attribute(undefined);
    if (surplus.length === 0) return;
    await this.#store.deleteCryptoRecords(surplus);
    log.debug("deleted {count} old Megolm sessions", { count: surplus.length });
  }

  /** Deletes the Megolm sessions of a room that we are no longer in. */
  async forgetRoom(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#changes.run(async () => {
      await this.#store.deleteCryptoRecords(this.#store.megolm.ofRoom(roomId));
    }, signal);
  }

  /** Another number each time that what the crypto knows may have changed. */
  get revision(): number {
    return this.#revision;
  }

  /** Our device is signed by our own cross-signing identity, as the crypto knows them. */
  get isSigned(): boolean {
    return this.#isSigned;
  }

  /** Sends from now on what the crypto wants sent into rooms: its part of verifications. */
  sendRoomMessagesWith(send: RoomMessageSender): void {
    this.#sendRoomMessage = send;
  }

  /**
   * Sends what the crypto wants sent: keys, queries, and claims that mend broken Olm sessions.
   *
   * @throws TransientError if the homeserver did not take one of them; the crypto offers it again
   */
  async sendOutgoing(signal: AbortSignal): Promise<void> {
    await this.sendAll(await this.#takeOutgoing(signal), signal);
    const claim = await this.olm.getMissingSessions([]);
    if (claim !== null) await this.sendAll([claim], signal);
  }

  /** The same without claims, and without what it wants said in rooms: for whoever holds a room's lock. */
  async sendKeys(signal: AbortSignal): Promise<void> {
    await this.#takeOutgoing(signal);
  }

  /** Sends what is no message in a room, and returns the rest. */
  #takeOutgoing(signal: AbortSignal): Promise<OutgoingRequest[]> {
    return this.#outgoing.run(async () => {
      const all: OutgoingRequest[] = await this.olm.outgoingRequests();
      const messages = all.filter((request) => request.type === RequestType.RoomMessage);
      for (const request of all) if (!messages.includes(request)) await this.#sendOrLog(request, signal);
      return messages;
    }, signal);
  }

  /** Sends requests that nobody else has been given, in order. */
  async sendAll(requests: readonly OutgoingRequest[], signal: AbortSignal): Promise<void> {
    for (const request of requests) {
      if (request.type === RequestType.RoomMessage) await this.#sendInRoom(request, signal);
      else await this.#sendOrLog(request, signal);
    }
  }

  /**
   * Makes the requests that hand a room's key over, and notes the session as our own.
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
      this.#store.megolm.attribute(this.olm.userId.toString());
      const requests = await this.olm.shareRoomKey(new RoomId(roomId), userIds(members), settings);
      await this.#prune();
      return requests;
    }, signal);
  }

  /**
   * Hands a room's key over: nobody could read what is said without it.
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
      // We are not in that room any more, say: the verification is over, and must not hold up anything else.
      log.warning("failed to send a verification step: {reason}", { reason: error.message });
      await this.#mark(message, {}, signal);
    } finally {
      this.#roomMessagesInFlight.delete(id);
    }
  }

  /**
   * A user's devices as the homeserver listed them last; undefined if it has not done so since we started. The crypto
   * goes by the keys that it has seen first where those of a device have changed.
   */
  listed(userId: string): ReadonlyMap<string, ListedKeys> | undefined {
    return this.#listed.get(userId);
  }

  /** The homeserver told of an identity of the user when it was asked last, whatever the crypto believes. */
  hasIdentity(userId: string): boolean {
    return this.#identified.has(userId);
  }

  /** The user's devices have changed and have not been queried since. Known of allowed users and ourselves. */
  isStale(userId: string): boolean {
    return this.#stale.has(userId);
  }

  /**
   * Asks the homeserver for a user's devices and identity, whatever we know.
   *
   * @returns what of the homeserver's answer could be parsed
   * @throws TransientError if it was not answered
   */
  query(userId: string, signal: AbortSignal): Promise<Json> {
    return this.#send(this.olm.queryKeysForUsers([new UserId(userId)]), signal);
  }

  /** Follows the device lists of these users from now on. */
  async track(users: Iterable<string>): Promise<void> {
    await this.olm.updateTrackedUsers(userIds(users));
  }

  /** One refused request must not keep the others from being sent; the crypto will offer it again. */
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
    // Made by a verification: our signature would give that person a standing in others' eyes.
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
      // A change that was told while the query was under way may not be in its answer.
      if ((this.#stale.get(user) ?? Infinity) <= asked) {
        this.#stale.delete(user);
        this.#store.cryptoNotes.deleteStale(user);
      }
    }
    await this.#lookAtOwnDevice();
    this.#revision += 1;
    return json;
  }

  /**
   * Uploads device keys, one-time keys and fallback keys. A homeserver that holds others under the ids of our one-time
   * keys refuses all of them, again and again, as after a volume was restored from a backup. Then what else is in the
   * upload goes without them, and the crypto, told that none are left, makes new ones under the ids that follow.
   */
  async #uploadKeys(request: OutgoingRequest, signal: AbortSignal): Promise<Json> {
    for (let rounds = 1;; rounds += 1) {
      try {
        const { json } = await this.#client.send(endpoint(request), signal);
        return await this.#mark(request, json, signal);
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

  /** Hands an answer to the crypto, or what of it can be parsed. */
  async #mark(request: OutgoingRequest, answer: Json, signal: AbortSignal): Promise<Json> {
    const { id, type } = request;
    const { json, dropped }: CryptoAnswer = cryptoAnswer(type, onlyAsked(request, answer));
    if (dropped.length > 0) {
      log.warn("ignored malformed parts of the answer to {request}: {entries}", {
        request: RequestType[type],
        entries: dropped.slice(0, MAX_TOLD).join(", "),
      });
    }
    if (id === undefined) return json;
    // Claimed keys are others each time; who they are of is not.
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

  async #lookAtOwnDevice(): Promise<void> {
    using device = await this.olm.getDevice(this.olm.userId, this.olm.deviceId);
    this.#isSigned = device?.isCrossSignedByOwner() ?? false;
  }

  /** Closes the crypto. */
  [Symbol.dispose](): void {
    this.guard[Symbol.dispose]();
    this.olm.close();
  }
}

/** Runs of events with the same sender, so that it is known who has sent what comes of them. */
function bySender(events: readonly Json[]): Json[][] {
  const batches: Json[][] = [];
  for (const event of events) {
    const last = batches.at(-1);
    if (last?.[0]?.["sender"] === event["sender"]) last?.push(event);
    else batches.push([event]);
  }
  return batches;
}

/** Keys of devices in an answer to a query (Matrix spec v1.16, client-server API, 11.12.1, "DeviceKeys"). */
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
