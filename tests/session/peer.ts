/**
 * Somebody else's device, as a second OlmMachine in memory, that meets ours without a homeserver between them.
 *
 * @module
 */

import {
  CollectStrategy,
  DeviceId,
  EncryptionSettings,
  initAsync,
  OlmMachine,
  RequestType,
  RoomId,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";

type Json = Record<string, unknown>;

/** What a device publishes: its keys, and one-time keys of which each peer takes one. */
export interface PublishedKeys {
  readonly userId: string;
  readonly deviceId: string;
  readonly deviceKeys: Json;
  readonly oneTimeKeys: [string, unknown][];
}

/** What a device wants to publish, as the homeserver would hold it. */
export async function publishedKeys(olm: OlmMachine): Promise<PublishedKeys> {
  const upload = (await olm.outgoingRequests()).find(({ type }) => type === RequestType.KeysUpload);
  const { device_keys, one_time_keys } = JSON.parse(upload?.body ?? "{}");
  return {
    userId: olm.userId.toString(),
    deviceId: olm.deviceId.toString(),
    deviceKeys: device_keys,
    oneTimeKeys: Object.entries(one_time_keys),
  };
}

/** A device of somebody. */
export class Peer implements Disposable {
  readonly olm: OlmMachine;
  readonly userId: string;
  readonly #ours: PublishedKeys;

  private constructor(olm: OlmMachine, ours: PublishedKeys) {
    this.olm = olm;
    this.userId = olm.userId.toString();
    this.#ours = ours;
  }

  /** A new device that has an Olm session with ours. */
  static async meet(ours: PublishedKeys, userId: string, deviceId = "PEER"): Promise<Peer> {
    await initAsync();
    const olm = await OlmMachine.initialize(new UserId(userId), new DeviceId(deviceId));
    const query = olm.queryKeysForUsers([new UserId(ours.userId)]);
    const device_keys = { [ours.userId]: { [ours.deviceId]: ours.deviceKeys } };
    await olm.markRequestAsSent(query.id, query.type, JSON.stringify({ device_keys }));
    const claim = await olm.getMissingSessions([new UserId(ours.userId)]);
    const [id, key] = ours.oneTimeKeys.pop() ?? [];
    if (claim === null || id === undefined) throw new Error("no session to be made, or no one-time key left");
    const one_time_keys = { [ours.userId]: { [ours.deviceId]: { [id]: key } } };
    await olm.markRequestAsSent(claim.id, claim.type, JSON.stringify({ one_time_keys }));
    return new Peer(olm, ours);
  }

  /** Makes a new Megolm session for a room. Returns the to-device event that hands it over. */
  async roomKey(roomId: string): Promise<Json> {
    await this.olm.invalidateGroupSession(new RoomId(roomId));
    const settings = new EncryptionSettings();
    settings.sharingStrategy = CollectStrategy.allDevices();
    const [request] = await this.olm.shareRoomKey(new RoomId(roomId), [new UserId(this.#ours.userId)], settings);
    if (request === undefined) throw new Error("nothing to be handed over");
    await this.olm.markRequestAsSent(request.id, request.type, "{}");
    const content = JSON.parse(request.body).messages[this.#ours.userId][this.#ours.deviceId];
    return { type: request.event_type, sender: this.userId, content };
  }

  /** Encrypts a text with the session that was handed over last. Returns the room's event. */
  async say(roomId: string, body: string): Promise<Json> {
    const content = JSON.stringify({ msgtype: "m.text", body });
    return {
      type: "m.room.encrypted",
      event_id: `$${crypto.randomUUID()}`,
      sender: this.userId,
      origin_server_ts: Date.now(),
      room_id: roomId,
      content: JSON.parse(await this.olm.encryptRoomEvent(new RoomId(roomId), "m.room.message", content)),
    };
  }

  [Symbol.dispose](): void {
    this.olm.close();
  }
}
