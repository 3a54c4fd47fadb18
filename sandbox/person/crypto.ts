/**
 * The person's end-to-end encryption: an in-memory OlmMachine and the requests that it needs.
 *
 * @module
 */
import {
  CollectStrategy,
  DecryptionSettings,
  DeviceId,
  DeviceLists,
  EncryptionSettings,
  initAsync,
  OlmMachine,
  RequestType,
  RoomId,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { type Api, type JsonObject, Refused } from "./api.ts";

/** A request that the machine wants to send. */
interface Wanted {
  readonly id: string | undefined;
  readonly type: RequestType;
  readonly body: string;
  readonly event_type?: string;
  readonly txn_id?: string;
}

/** The parts of a sync that the machine needs. */
export interface CryptoNews {
  /** To-device messages. */
  readonly toDevice: unknown[];
  /** Users whose devices have changed. */
  readonly changed: string[];
  /** Users who no longer share an encrypted room with the person. */
  readonly left: string[];
  /** Unclaimed one-time keys by algorithm. */
  readonly counts: Record<string, number>;
  /** Algorithms with an unused fallback key. */
  readonly fallbacks: string[];
}

/** An OlmMachine in memory. */
export class PersonCrypto implements Disposable {
  readonly #machine: OlmMachine;
  readonly #api: Api;
  #last: Promise<unknown> = Promise.resolve();
  /** Counts of one-time and fallback keys that the machine knows, as JSON. */
  #knownCounts = "";

  private constructor(machine: OlmMachine, api: Api) {
    this.#machine = machine;
    this.#api = api;
  }

  /** Creates a machine for a new device. */
  static async create(userId: string, deviceId: string, api: Api): Promise<PersonCrypto> {
    await initAsync();
    return new PersonCrypto(await OlmMachine.initialize(new UserId(userId), new DeviceId(deviceId)), api);
  }

  /** The device's public keys, in unpadded base64. */
  get keys(): { readonly ed25519: string; readonly curve25519: string } {
    const { ed25519, curve25519 } = this.#machine.identityKeys;
    return { ed25519: ed25519.toBase64(), curve25519: curve25519.toBase64() };
  }

  /** Serializes calls, because the machine's requests must be answered in order. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act, act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /**
   * Passes a sync to the machine and sends the requests that result. Does nothing if there is nothing new in it: the
   * machine would work out the public halves of all its one-time keys.
   */
  receive(news: CryptoNews): Promise<void> {
    return this.#inTurn(async () => {
      const counts = JSON.stringify([news.counts, news.fallbacks]);
      if (counts === this.#knownCounts && news.toDevice.length + news.changed.length + news.left.length === 0) return;
      const lists = new DeviceLists(news.changed.map((id) => new UserId(id)), news.left.map((id) => new UserId(id)));
      await this.#machine.receiveSyncChanges(
        JSON.stringify(news.toDevice),
        lists,
        new Map(Object.entries(news.counts)),
        new Set(news.fallbacks),
        new DecryptionSettings(TrustRequirement.Untrusted),
      );
      this.#knownCounts = counts;
      await this.#flush();
    });
  }

  /** Sends the machine's pending requests. */
  flush(): Promise<void> {
    return this.#inTurn(() => this.#flush());
  }

  async #flush(): Promise<void> {
    for (const request of await this.#machine.outgoingRequests()) await this.#make(request as Wanted);
  }

  async #make(request: Wanted): Promise<void> {
    const [method, path] = endpointOf(request);
    const answer = await this.#api.request(method, path, request.body);
    if (request.id !== undefined) {
      await this.#machine.markRequestAsSent(request.id, request.type, JSON.stringify(answer));
    }
  }

  /** Encrypts a message for all devices of the members. */
  encrypt(roomId: string, members: string[], type: string, content: JsonObject): Promise<JsonObject> {
    return this.#inTurn(async () => {
      const users = () => members.map((id) => new UserId(id));
      await this.#machine.updateTrackedUsers(users());
      await this.#flush();
      const claim = await this.#machine.getMissingSessions(users());
      if (claim) await this.#make(claim);
      const settings = new EncryptionSettings();
      settings.sharingStrategy = CollectStrategy.allDevices();
      for (const share of await this.#machine.shareRoomKey(new RoomId(roomId), users(), settings)) {
        await this.#make(share);
      }
      return JSON.parse(await this.#machine.encryptRoomEvent(new RoomId(roomId), type, JSON.stringify(content)));
    });
  }

  /** Makes the next message in the room use a new Megolm session. */
  forgetSession(roomId: string): Promise<unknown> {
    return this.#inTurn(() => this.#machine.invalidateGroupSession(new RoomId(roomId)));
  }

  /** Decrypts an event. Returns type and content, or undefined if it can't be decrypted yet. */
  async decrypt(roomId: string, event: JsonObject): Promise<{ type: string; content: JsonObject } | undefined> {
    try {
      const settings = new DecryptionSettings(TrustRequirement.Untrusted);
      const { event: json } = await this.#machine.decryptRoomEvent(JSON.stringify(event), new RoomId(roomId), settings);
      return JSON.parse(json);
    } catch (error) {
      if (error instanceof Error && error.name === "RuntimeError") throw error;
      return undefined;
    }
  }

  /** Creates a cross-signing identity, replacing an older one, and signs this device with it. */
  bootstrapIdentity(password: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#flush();
      const requests = await this.#machine.bootstrapCrossSigning(true);
      if (requests.uploadKeysRequest) await this.#make(requests.uploadKeysRequest);
      const body = JSON.parse(requests.uploadSigningKeysRequest.body);
      const upload = (auth: JsonObject) =>
        this.#api.request("POST", "/keys/device_signing/upload", { ...body, ...auth });
      try {
        await upload({});
      } catch (error) {
        if (!(error instanceof Refused) || error.body["session"] === undefined) throw error;
        const identifier = { type: "m.id.user", user: this.#machine.userId.toString() };
        await upload({ auth: { type: "m.login.password", session: error.body["session"], identifier, password } });
      }
      await this.#make(requests.uploadSignaturesRequest);
    });
  }

  /** Returns the public master key of the person's identity; undefined if there is none. */
  async masterKey(): Promise<string | undefined> {
    const identity = await this.#machine.getIdentity(this.#machine.userId);
    return identity && Object.values<string>(JSON.parse(identity.masterKey).keys)[0];
  }

  /** Frees the machine and its keys. */
  [Symbol.dispose](): void {
    this.#machine.close();
  }
}

function endpointOf({ type, event_type = "", txn_id = "" }: Wanted): [method: string, path: string] {
  switch (type) {
    case RequestType.KeysUpload:
      return ["POST", "/keys/upload"];
    case RequestType.KeysQuery:
      return ["POST", "/keys/query"];
    case RequestType.KeysClaim:
      return ["POST", "/keys/claim"];
    case RequestType.ToDevice:
      return ["PUT", `/sendToDevice/${encodeURIComponent(event_type)}/${encodeURIComponent(txn_id)}`];
    case RequestType.SignatureUpload:
      return ["POST", "/keys/signatures/upload"];
    default:
      throw new Error(`Cannot make a request of type ${type}: a person has no use for it`);
  }
}
