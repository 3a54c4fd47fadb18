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
  initAsync,
  OlmMachine,
  RequestType,
  StoreHandle,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import { RejectedError } from "../errors.ts";
import { CRYPTO_NAME } from "../store/mod.ts";
import { count, type Json, list, object, text, texts } from "../json.ts";
import { Mutex } from "../async.ts";
import { endpoint, type OutgoingRequest } from "./outgoing.ts";
import type { HomeserverClient } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

const TELL_AGAIN_AFTER_MS = 60_000;

/** Uploads of one-time keys in a row that may be refused for their ids; each round has some 50 new ids. */
const MAX_KEY_CONFLICTS = 20;

/** Public keys of a device as the homeserver lists them, unpadded base64; unchecked, so good for doubts alone. */
export interface ListedKeys {
  /** Of signatures. */
  readonly ed25519: string | undefined;
  /** Of encryption. */
  readonly curve25519: string | undefined;
}

/** Says something in a room for the crypto; returns the answer's body. */
export type RoomSpeaker = (request: OutgoingRequest, signal: AbortSignal) => Promise<string>;

/** The Rust crypto and its requests, one at a time. */
export class Machine implements Disposable {
  /** The Rust crypto itself. */
  readonly olm: OlmMachine;
  readonly #requests: HomeserverClient;
  readonly #outgoing = new Mutex();
  /** Users whose devices have changed since a query last told them, with the number of the sync that said so. */
  readonly #stale = new Map<string, number>();
  /** Devices by user and device id, as the homeserver has listed them last since we started. */
  readonly #listed = new Map<string, ReadonlyMap<string, ListedKeys>>();
  /** Users who have an identity by the homeserver's last answer. */
  readonly #identified = new Set<string>();
  #revision = 0;
  #isSigned = false;
  #syncs = 0;
  /** Numbers of our own keys at the homeserver, as the crypto was told last. */
  #toldKeys = "";
  #tellAgainAtMs = 0;
  /** Messages in rooms that are being said: saying one comes by here again. */
  readonly #speaking = new Set<string>();
  #speak: RoomSpeaker | undefined;

  private constructor(olm: OlmMachine, requests: HomeserverClient) {
    this.olm = olm;
    this.#requests = requests;
  }

  /**
   * Opens the device's crypto; the store's IndexedDB must have been opened. A device that the store does not know is
   * made anew.
   */
  static async open(requests: HomeserverClient, userId: string, deviceId: string, key: Uint8Array): Promise<Machine> {
    await initAsync();
    const handle = await StoreHandle.openWithKey(CRYPTO_NAME, key);
    const olm = await OlmMachine.initFromStore(new UserId(userId), new DeviceId(deviceId), handle);
    olm.roomKeyRequestsEnabled = false;
    const machine = new Machine(olm, requests);
    await machine.#lookAtOwnDevice();
    return machine;
  }

  /**
   * Hands over what a sync answer has for the crypto, and returns whether that was anything; durable then. What it knows
   * is told again only once a minute, for its housekeeping: it reads and writes its whole account, and a command waits.
   */
  async receive(sync: Json): Promise<boolean> {
    const { changed, left } = object(sync["device_lists"]);
    this.#syncs += 1;
    for (const user of texts(changed)) this.#stale.set(user, this.#syncs);
    const events = list(object(sync["to_device"])["events"]);
    const counts = Object.entries(object(sync["device_one_time_keys_count"]))
      .map(([algorithm, value]): [string, number] => [algorithm, count(value) ?? 0]);
    const fallback = sync["device_unused_fallback_key_types"];
    const keys = JSON.stringify([counts, fallback]);
    const isNews = events.length + texts(changed).length + texts(left).length > 0 || keys !== this.#toldKeys;
    if (!isNews && performance.now() < this.#tellAgainAtMs) return false;
    await this.olm.receiveSyncChanges(
      JSON.stringify(events),
      new DeviceLists(userIds(texts(changed)), userIds(texts(left))),
      new Map(counts),
      fallback === undefined ? undefined : new Set(texts(fallback)),
      new DecryptionSettings(TrustRequirement.Untrusted),
    );
    this.#toldKeys = keys;
    this.#tellAgainAtMs = performance.now() + TELL_AGAIN_AFTER_MS;
    this.#revision += 1;
    return true;
  }

  /** Another number each time that what the crypto knows may have changed. */
  get revision(): number {
    return this.#revision;
  }

  /** Our device is signed by our own cross-signing identity, as the crypto knows them. */
  get isSigned(): boolean {
    return this.#isSigned;
  }

  /** Says from now on what the crypto wants said in rooms: its part of verifications. */
  speakThrough(speak: RoomSpeaker): void {
    this.#speak = speak;
  }

  /**
   * Sends what the crypto wants sent: keys, queries, and claims that mend broken Olm sessions.
   *
   * @throws TransientError if the homeserver did not take one of them; the crypto offers it again
   */
  async sendOutgoing(signal: AbortSignal): Promise<void> {
    await this.sendAll(() => this.#wanted(), signal);
  }

  /** The same without what it wants said in rooms: for whoever holds a room's lock, under which that would be said. */
  async sendKeys(signal: AbortSignal): Promise<void> {
    await this.sendAll(
      async () => (await this.#wanted()).filter((request) => request.type !== RequestType.RoomMessage),
      signal,
    );
  }

  async #wanted(): Promise<OutgoingRequest[]> {
    const mend = await this.olm.getMissingSessions([]);
    return [...mend ? [mend] : [], ...await this.olm.outgoingRequests()];
  }

  /** Sends requests of one piece of work, in order, between others. */
  async sendAll(
    requests: readonly OutgoingRequest[] | (() => Promise<readonly OutgoingRequest[]>),
    signal: AbortSignal,
  ): Promise<void> {
    const messages = await this.#outgoing.run(async () => {
      const all = typeof requests === "function" ? await requests() : requests;
      for (const request of all) if (request.type !== RequestType.RoomMessage) await this.#sendOrLog(request, signal);
      return all.filter((request) => request.type === RequestType.RoomMessage);
    }, signal);
    // Saying something encrypts it, and that sends requests in turn: not while others wait for the lock.
    for (const message of messages) await this.#say(message, signal);
  }

  /**
   * Hands a room's key over: nobody could read what is said without it.
   *
   * @throws RejectedError if the homeserver refuses one of the requests; TransientError
   */
  async share(requests: readonly OutgoingRequest[], signal: AbortSignal): Promise<void> {
    await this.#outgoing.run(async () => {
      for (const request of requests) await this.#send(request, signal);
    }, signal);
  }

  async #say(message: OutgoingRequest, signal: AbortSignal): Promise<void> {
    const id = message.id ?? "";
    if (this.#speak === undefined || this.#speaking.has(id)) return;
    this.#speaking.add(id);
    try {
      await this.olm.markRequestAsSent(id, message.type, await this.#speak(message, signal));
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      // We are not in that room any more, say: the verification is over, and must not hold up anything else.
      log.warning("a step of a verification could not be said: {reason}", { reason: error.message });
      await this.olm.markRequestAsSent(id, message.type, JSON.stringify({ event_id: "$unsent" }));
    } finally {
      this.#speaking.delete(id);
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

  /** The user's devices have changed and have not been queried since. */
  isStale(userId: string): boolean {
    return this.#stale.has(userId);
  }

  /**
   * Asks the homeserver for a user's devices and identity, whatever we know.
   *
   * @returns the homeserver's answer
   * @throws TransientError if it was not answered
   */
  query(userId: string, signal: AbortSignal): Promise<Json> {
    return this.#outgoing.run(() => this.#send(this.olm.queryKeysForUsers([new UserId(userId)]), signal), signal);
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
      log.error("the homeserver refused a request of the crypto: {reason}", { reason: error.message });
    }
  }

  async #send(request: OutgoingRequest, signal: AbortSignal): Promise<Json> {
    const asked = this.#syncs;
    if (request.type === RequestType.SignatureUpload && request.id !== undefined) {
      // Made by a verification: our signature would give that person a standing in others' eyes.
      await this.olm.markRequestAsSent(request.id, request.type, JSON.stringify({ failures: {} }));
      return {};
    }
    if (request.type === RequestType.KeysUpload) return await this.#uploadKeys(request, signal);
    const { json, body } = await this.#requests.send(endpoint(request), signal);
    if (request.id !== undefined) await this.olm.markRequestAsSent(request.id, request.type, body);
    if (request.type !== RequestType.KeysQuery) return json;
    for (const [user, devices] of Object.entries(object(json["device_keys"]))) {
      this.#listed.set(user, listedKeys(object(devices)));
      if (object(json["master_keys"])[user] === undefined) this.#identified.delete(user);
      else this.#identified.add(user);
      // A change that was told while the query was under way may not be in its answer.
      if ((this.#stale.get(user) ?? 0) <= asked) this.#stale.delete(user);
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
      const id = request.id ?? "";
      try {
        const { json, body } = await this.#requests.send(endpoint(request), signal);
        await this.olm.markRequestAsSent(id, request.type, body);
        return json;
      } catch (error) {
        const { one_time_keys: oneTimeKeys, ...others } = object(JSON.parse(request.body));
        const isConflict = error instanceof RejectedError && error.status === 400 && oneTimeKeys !== undefined;
        if (!isConflict || rounds === MAX_KEY_CONFLICTS) throw error;
        const { json } = await this.#requests.send({ ...endpoint(request), body: others }, signal);
        log.warning(
          "the homeserver refused one-time keys ({reason}), as it holds others of the same ids: making new ones",
          {
            reason: error.message,
          },
        );
        const none = { ...object(json["one_time_key_counts"]), signed_curve25519: 0 };
        await this.olm.markRequestAsSent(id, request.type, JSON.stringify({ one_time_key_counts: none }));
      }
      const next = (await this.olm.outgoingRequests()).find(({ type }) => type === RequestType.KeysUpload);
      if (next === undefined) return {};
      request = next;
    }
  }

  async #lookAtOwnDevice(): Promise<void> {
    using device = await this.olm.getDevice(this.olm.userId, this.olm.deviceId);
    this.#isSigned = device?.isCrossSignedByOwner() ?? false;
  }

  /** Closes the crypto. */
  [Symbol.dispose](): void {
    this.olm.close();
  }
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

/** User ids as the Rust crypto takes them; made anew for each call, because a call consumes them. Invalid ones are left out. */
export function userIds(users: Iterable<string>): UserId[] {
  const valid: UserId[] = [];
  for (const user of users) {
    try {
      valid.push(new UserId(user));
    } catch (error) {
      log.debug("not a user id: {reason}", { reason: String(error) });
    }
  }
  return valid;
}
