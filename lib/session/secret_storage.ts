/**
 * Secret storage: secrets in the account data, encrypted under the recovery key (Matrix spec v1.16, client-server API,
 * 11.12.2, "Secrets", `m.secret_storage.v1.aes-hmac-sha2`).
 *
 * @module
 */

import { ConfigError, RejectedError } from "../errors.ts";
import { type Json, list, object, text } from "../json.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

const ALGORITHM = "m.secret_storage.v1.aes-hmac-sha2";
const DEFAULT_KEY = "m.secret_storage.default_key";

/** An account's secret storage, opened with its key. */
export class SecretStorage {
  readonly #data: AccountData;
  readonly #key: Uint8Array<ArrayBuffer>;
  readonly #keyId: string;

  private constructor(data: AccountData, key: Uint8Array<ArrayBuffer>, keyId: string) {
    this.#data = data;
    this.#key = key;
    this.#keyId = keyId;
  }

  /**
   * Opens the account's secret storage, or creates it if the account has none.
   *
   * @throws ConfigError if the account's storage belongs to another key. Nothing is changed then
   */
  static async open(
    client: HomeserverClient,
    self: string,
    key: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<SecretStorage> {
    const data = new AccountData(client, self);
    const known = text((await data.get(DEFAULT_KEY, signal))?.["key"]);
    if (known !== undefined) {
      const description = await data.get(keyType(known), signal);
      if (description?.["algorithm"] !== ALGORITHM || !await matches(key, description)) {
        throw new ConfigError([
          `RECOVERY_KEY: doesn't open the secret storage of ${self}; use the key it was made with (nothing was changed)`,
        ]);
      }
      return new SecretStorage(data, key, known);
    }
    const keyId = crypto.getRandomValues(new Uint8Array(16)).toHex();
    await data.put(keyType(keyId), await describe(key), signal);
    await data.put(DEFAULT_KEY, { key: keyId }, signal);
    return new SecretStorage(data, key, keyId);
  }

  /**
   * Replaces the account's recovery key. Every secret is encrypted under both keys, then the new key becomes the default,
   * then everything under the old key is removed. After an interruption, one of the two keys opens all secrets.
   *
   * @param onWrite called once, before the first change
   * @throws ConfigError if the account has no secret storage or `key` doesn't open it. Nothing is changed then
   */
  static async replaceKey(
    client: HomeserverClient,
    self: string,
    { key, next, onWrite }: {
      readonly key: Uint8Array<ArrayBuffer>;
      readonly next: Uint8Array<ArrayBuffer>;
      readonly onWrite: () => void;
    },
    signal: AbortSignal,
  ): Promise<void> {
    const data = new AccountData(client, self);
    if (text((await data.get(DEFAULT_KEY, signal))?.["key"]) === undefined) {
      throw new ConfigError([`RECOVERY_KEY: ${self} has no secret storage yet; the operator makes one when it starts`]);
    }
    const before = await SecretStorage.open(client, self, key, signal);
    const stored = await data.all(signal);
    const keyId = crypto.getRandomValues(new Uint8Array(16)).toHex();
    onWrite();
    await data.put(keyType(keyId), await describe(next), signal);
    const after = new SecretStorage(data, next, keyId);
    const moved: [name: string, secret: string][] = [];
    for (const [name, content] of stored) {
      const encrypted = object(content["encrypted"]);
      const secret = encrypted[before.#keyId] === undefined ? undefined : await before.get(name, signal);
      if (secret === undefined) continue;
      const sealed = await seal(next, name, new TextEncoder().encode(secret));
      await data.put(name, { encrypted: { ...encrypted, [keyId]: sealed } }, signal);
      moved.push([name, secret]);
    }
    await data.put(DEFAULT_KEY, { key: keyId }, signal);
    for (const [name, secret] of moved) await after.set(name, secret, signal);
    // Account data can't be deleted (client-server API, 11.12.1), only emptied.
    await data.put(keyType(before.#keyId), {}, signal);
  }

  /** Returns a secret, or undefined if it isn't stored under this key or was tampered with. */
  async get(name: string, signal: AbortSignal): Promise<string | undefined> {
    const stored = await this.#data.get(name, signal);
    const sealed = object(object(stored?.["encrypted"])[this.#keyId]);
    const [iv, ciphertext, mac] = [text(sealed["iv"]), text(sealed["ciphertext"]), text(sealed["mac"])];
    if (iv === undefined || ciphertext === undefined || mac === undefined) return undefined;
    return await open(this.#key, name, { iv, ciphertext, mac });
  }

  /** Encrypts and writes a secret. */
  async set(name: string, secret: string, signal: AbortSignal): Promise<void> {
    const sealed = await seal(this.#key, name, new TextEncoder().encode(secret));
    await this.#data.put(name, { encrypted: { [this.#keyId]: sealed } }, signal);
  }
}

interface Sealed {
  readonly iv: string;
  readonly ciphertext: string;
  readonly mac: string;
}

class AccountData {
  readonly #client: HomeserverClient;
  readonly #self: string;

  constructor(client: HomeserverClient, self: string) {
    this.#client = client;
    this.#self = self;
  }

  async get(type: string, signal: AbortSignal): Promise<Json | undefined> {
    try {
      return (await this.#client.send({ method: "GET", path: this.#path(type) }, signal)).json;
    } catch (error) {
      if (error instanceof RejectedError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Returns all account data by type. Only a sync lists it. */
  async all(signal: AbortSignal): Promise<Map<string, Json>> {
    const filter = JSON.stringify({ room: { rooms: [] }, presence: { types: [] } });
    const request = { method: "GET", path: "/_matrix/client/v3/sync", query: { filter, timeout: "0" } } as const;
    const { json } = await this.#client.send(request, signal);
    const events = list(object(json["account_data"])["events"]).map((event) => object(event));
    return new Map(events.map(({ type, content }) => [text(type) ?? "", object(content)]));
  }

  async put(type: string, body: Json, signal: AbortSignal): Promise<void> {
    await this.#client.send({ method: "PUT", path: this.#path(type), body }, signal);
  }

  #path(type: string): string {
    return path`/_matrix/client/v3/user/${this.#self}/account_data/${type}`;
  }
}

function keyType(keyId: string): string {
  return `m.secret_storage.key.${keyId}`;
}

/** Builds the key description, which identifies a key. */
async function describe(key: Uint8Array<ArrayBuffer>): Promise<Json> {
  const { iv, mac } = await seal(key, "", new Uint8Array(32));
  return { algorithm: ALGORITHM, iv, mac };
}

/** Compares a key with a description: by the MAC that the key makes over 32 zero bytes. */
async function matches(key: Uint8Array<ArrayBuffer>, description: Json): Promise<boolean> {
  const [iv, mac] = [text(description["iv"]), text(description["mac"])];
  if (iv === undefined || mac === undefined) return false;
  const check = await seal(key, "", new Uint8Array(32), Uint8Array.fromBase64(iv));
  return unpadded(check.mac) === unpadded(mac);
}

async function seal(
  key: Uint8Array<ArrayBuffer>,
  name: string,
  plain: Uint8Array<ArrayBuffer>,
  iv: Uint8Array<ArrayBuffer> = initialCounter(),
): Promise<Sealed> {
  const { aes, hmac } = await keys(key, name);
  const ciphertext = new Uint8Array(
    await crypto.subtle.encrypt({ name: "AES-CTR", counter: iv, length: 64 }, aes, plain),
  );
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", hmac, ciphertext));
  return { iv: iv.toBase64(), ciphertext: ciphertext.toBase64(), mac: mac.toBase64() };
}

async function open(key: Uint8Array<ArrayBuffer>, name: string, sealed: Sealed): Promise<string | undefined> {
  const { aes, hmac } = await keys(key, name);
  const ciphertext = Uint8Array.fromBase64(sealed.ciphertext);
  if (!await crypto.subtle.verify("HMAC", hmac, Uint8Array.fromBase64(sealed.mac), ciphertext)) return undefined;
  const counter = Uint8Array.fromBase64(sealed.iv);
  const plain = await crypto.subtle.decrypt({ name: "AES-CTR", counter, length: 64 }, aes, ciphertext);
  return new TextDecoder().decode(plain);
}

/** Bit 63 is 0, so that implementations whose counters overflow differently agree. */
function initialCounter(): Uint8Array<ArrayBuffer> {
  const iv = crypto.getRandomValues(new Uint8Array(16));
  iv[8] = (iv[8] ?? 0) & 0x7f;
  return iv;
}

async function keys(key: Uint8Array<ArrayBuffer>, name: string): Promise<{ aes: CryptoKey; hmac: CryptoKey }> {
  const material = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"]);
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: new TextEncoder().encode(name) };
  const bits = await crypto.subtle.deriveBits(hkdf, material, 512);
  return {
    aes: await crypto.subtle.importKey("raw", bits.slice(0, 32), "AES-CTR", false, ["encrypt", "decrypt"]),
    hmac: await crypto.subtle.importKey("raw", bits.slice(32), { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
      "verify",
    ]),
  };
}

function unpadded(base64: string): string {
  return base64.replace(/=+$/, "");
}
