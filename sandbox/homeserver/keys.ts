/**
 * Published keys: device keys, one-time and fallback keys, cross-signing identities, signatures, and changes of them.
 * As on Synapse, published keys are not verified, but uploaded signatures are.
 *
 * @module
 */
import { type JsonObject, MatrixError, objectOf, Stream, textsOf } from "./protocol.ts";
import { verify } from "./signatures.ts";

/** Keys that a device has published. */
interface DeviceKeys {
  identity: JsonObject | undefined;
  readonly oneTime: Map<string, unknown>;
  readonly fallback: Map<string, { readonly keyId: string; readonly key: unknown; used: boolean }>;
}

/** Parts of a cross-signing identity, as request bodies name them. */
const parts = ["master_key", "self_signing_key", "user_signing_key"] as const;

/** Published keys of all users. */
export class Keys {
  readonly #stream: Stream;
  readonly #devices = new Map<string, Map<string, DeviceKeys>>();
  readonly #identities = new Map<string, JsonObject>();
  /** By owner and key or device id, then by signing user. */
  readonly #signatures = new Map<string, JsonObject>();
  readonly #changes: { place: number; userId: string; seenBy: string | undefined }[] = [];

  /** @param stream gives changes their positions */
  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /**
   * POST /keys/upload (Matrix spec v1.16, client-server API, 11.12).
   *
   * @throws MatrixError 400 if a one-time key id is reused for another key
   */
  upload(userId: string, deviceId: string, body: JsonObject): JsonObject {
    const device = this.#device(userId, deviceId);
    for (const [keyId, key] of Object.entries(objectOf(body["one_time_keys"]))) {
      const known = device.oneTime.get(keyId);
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(key)) {
        throw new MatrixError(400, "M_UNKNOWN", `One time key ${keyId} already exists.`);
      }
    }
    if (body["device_keys"] !== undefined) this.setDeviceKeys(userId, deviceId, objectOf(body["device_keys"]));
    for (const [keyId, key] of Object.entries(objectOf(body["one_time_keys"]))) device.oneTime.set(keyId, key);
    for (const [keyId, key] of Object.entries(objectOf(body["fallback_keys"]))) {
      device.fallback.set(algorithmOf(keyId), { keyId, key, used: false });
    }
    this.#stream.advance();
    return { one_time_key_counts: this.counts(userId, deviceId) };
  }

  /** Publishes the keys of a device without a permission check. */
  setDeviceKeys(userId: string, deviceId: string, keys: JsonObject): void {
    const device = this.#device(userId, deviceId);
    if (JSON.stringify(device.identity) === JSON.stringify(keys)) return;
    device.identity = keys;
    this.#changed(userId);
  }

  /** Whether these cross-signing keys replace different ones of the user. False if the user has none. */
  replacesIdentity(userId: string, body: JsonObject): boolean {
    const present = this.#identities.get(userId);
    if (present === undefined) return false;
    const differs = (part: string) => JSON.stringify(body[part]) !== JSON.stringify(present[part]);
    return parts.some((part) => body[part] !== undefined && differs(part));
  }

  /** Publishes a cross-signing identity without a permission check. */
  setIdentity(userId: string, body: JsonObject): void {
    const given = parts.filter((part) => body[part] !== undefined).map((part) => [part, body[part]]);
    this.#identities.set(userId, { ...this.#identities.get(userId), ...Object.fromEntries(given) });
    this.#changed(userId);
  }

  /** POST /keys/signatures/upload: signatures of one's own devices and master key, and of other users' master keys. */
  async sign(signer: string, body: JsonObject): Promise<JsonObject> {
    const failures: Record<string, JsonObject> = {};
    for (const [owner, objects] of Object.entries(body)) {
      for (const [id, object] of Object.entries(objectOf(objects))) {
        const master = objectOf(this.#identities.get(owner)?.["master_key"]);
        const device = owner === signer ? this.#devices.get(owner)?.get(id)?.identity : undefined;
        const signed = `ed25519:${id}` in objectOf(master["keys"]) ? master : device;
        const given = objectOf(objectOf(objectOf(object)["signatures"])[signer]);
        const known = objectOf(this.#signatures.get(`${owner}|${id}`));
        const added = Object.entries(given).filter(([keyId]) => !(keyId in objectOf(known[signer])));
        const right = await Promise.all(
          added.map(([keyId, signature]) => verify(this.#signingKey(signer, keyId), signed ?? {}, String(signature))),
        );
        if (signed === undefined || right.includes(false)) {
          const code = signed === undefined ? "M_NOT_FOUND" : "M_INVALID_SIGNATURE";
          failures[owner] = { ...failures[owner], [id]: { errcode: code, error: "Cannot accept signature" } };
          continue;
        }
        const all = { ...known, [signer]: { ...objectOf(known[signer]), ...Object.fromEntries(added) } };
        this.#signatures.set(`${owner}|${id}`, all);
        this.#changed(owner, owner === signer ? undefined : signer);
      }
    }
    return { failures };
  }

  /** Returns the public key with a key id, of a device or of a part of the identity. */
  #signingKey(userId: string, keyId: string): string {
    const device = this.#devices.get(userId)?.get(keyId.slice("ed25519:".length))?.identity;
    const identity = objectOf(this.#identities.get(userId));
    const holders = [device, ...parts.map((part) => identity[part])].map((holder) =>
      objectOf(objectOf(holder)["keys"])
    );
    return String(holders.find((keys) => keyId in keys)?.[keyId] ?? "");
  }

  /** POST /keys/query. */
  query(
    asking: string,
    body: JsonObject,
    nameOf: (userId: string, deviceId: string) => string | undefined,
  ): JsonObject {
    const found: Record<string, JsonObject> = { device_keys: {}, master_keys: {}, self_signing_keys: {} };
    const userSigning: JsonObject = {};
    for (const [userId, wanted] of Object.entries(objectOf(body["device_keys"]))) {
      const devices: JsonObject = {};
      for (const [deviceId, { identity }] of this.#devices.get(userId) ?? []) {
        if (identity === undefined || (textsOf(wanted).length > 0 && !textsOf(wanted).includes(deviceId))) continue;
        const name = nameOf(userId, deviceId);
        const unsigned = name === undefined || name === "" ? {} : { device_display_name: name };
        devices[deviceId] = { ...this.#signed(userId, deviceId, identity, userId), unsigned };
      }
      objectOf(found["device_keys"])[userId] = devices;
      const { master_key, self_signing_key, user_signing_key } = objectOf(this.#identities.get(userId));
      if (master_key !== undefined) {
        const [id] = Object.keys(objectOf(objectOf(master_key)["keys"]));
        objectOf(found["master_keys"])[userId] = this.#signed(
          userId,
          String(id).slice(8),
          objectOf(master_key),
          asking,
        );
      }
      if (self_signing_key !== undefined) objectOf(found["self_signing_keys"])[userId] = self_signing_key;
      if (user_signing_key !== undefined && userId === asking) userSigning[userId] = user_signing_key;
    }
    return { ...found, user_signing_keys: userSigning, failures: {} };
  }

  /** Returns the object with the signatures that this signer has uploaded for it. */
  #signed(owner: string, id: string, object: JsonObject, signer: string): JsonObject {
    const added = objectOf(objectOf(this.#signatures.get(`${owner}|${id}`))[signer]);
    if (Object.keys(added).length === 0) return object;
    const given = objectOf(object["signatures"]);
    return { ...object, signatures: { ...given, [signer]: { ...objectOf(given[signer]), ...added } } };
  }

  /** POST /keys/claim: each one-time key once, then the fallback key. */
  claim(body: JsonObject): JsonObject {
    const claimed: Record<string, JsonObject> = {};
    for (const [userId, devices] of Object.entries(objectOf(body["one_time_keys"]))) {
      for (const [deviceId, algorithm] of Object.entries(objectOf(devices))) {
        const device = this.#devices.get(userId)?.get(deviceId);
        const key = device === undefined ? undefined : this.#take(device, String(algorithm));
        if (key !== undefined) claimed[userId] = { ...claimed[userId], [deviceId]: key };
      }
    }
    return { one_time_keys: claimed, failures: {} };
  }

  #take(device: DeviceKeys, algorithm: string): JsonObject | undefined {
    const keyId = [...device.oneTime.keys()].find((id) => algorithmOf(id) === algorithm);
    if (keyId !== undefined) {
      const key = device.oneTime.get(keyId);
      device.oneTime.delete(keyId);
      this.#stream.advance();
      return { [keyId]: key };
    }
    const fallback = device.fallback.get(algorithm);
    if (fallback === undefined) return undefined;
    fallback.used = true;
    this.#stream.advance();
    return { [fallback.keyId]: fallback.key };
  }

  /** Counts unclaimed one-time keys by algorithm. Always includes signed_curve25519, as on Synapse. */
  counts(userId: string, deviceId: string): Record<string, number> {
    const counts: Record<string, number> = { signed_curve25519: 0 };
    for (const keyId of this.#devices.get(userId)?.get(deviceId)?.oneTime.keys() ?? []) {
      counts[algorithmOf(keyId)] = (counts[algorithmOf(keyId)] ?? 0) + 1;
    }
    return counts;
  }

  /** Returns the algorithms whose fallback key is unused. */
  unusedFallbacks(userId: string, deviceId: string): string[] {
    const fallback = this.#devices.get(userId)?.get(deviceId)?.fallback ?? new Map();
    return [...fallback].filter(([, { used }]) => !used).map(([algorithm]) => algorithm);
  }

  /** Deletes the keys of a device. */
  deleteDevice(userId: string, deviceId: string): void {
    this.#signatures.delete(`${userId}|${deviceId}`);
    if (this.#devices.get(userId)?.delete(deviceId)) this.#changed(userId);
  }

  /** Returns the users whose keys have changed after a position, if the asking user may see that. */
  changedSince(place: number, asking: string): string[] {
    const changes = this.#changes.slice(this.#changes.findLastIndex((change) => change.place <= place) + 1);
    return changes.filter(({ seenBy }) => seenBy === undefined || seenBy === asking).map(({ userId }) => userId);
  }

  #changed(userId: string, seenBy?: string): void {
    this.#changes.push({ place: this.#stream.advance(), userId, seenBy });
  }

  #device(userId: string, deviceId: string): DeviceKeys {
    const devices = this.#devices.get(userId) ?? new Map<string, DeviceKeys>();
    this.#devices.set(userId, devices);
    const device = devices.get(deviceId) ?? { identity: undefined, oneTime: new Map(), fallback: new Map() };
    devices.set(deviceId, device);
    return device;
  }
}

function algorithmOf(keyId: string): string {
  return keyId.split(":")[0] ?? "";
}
