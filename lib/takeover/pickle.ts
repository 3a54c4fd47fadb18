/**
 * Converts matrix-nio's pickles for the Rust crypto. Up to 0.25 they are libolm pickles, which the Rust crypto reads.
 * From 0.26 on they are vodozemac's JSON, which it doesn't read, so they are rewritten in libolm's format. Both are
 * AES-CBC under a well-known key.
 *
 * @module
 */

import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync } from "node:crypto";

/** matrix-nio's default pickle key, which the Python operator uses. */
export const PICKLE_KEY: Uint8Array = new TextEncoder().encode("DEFAULT_KEY");
const VODOZEMAC_KEY = createHash("sha256").update(PICKLE_KEY).digest();
const MAC_LENGTH = 8;

/** Kinds of pickles. */
export type Pickled = "account" | "session" | "group session";

/**
 * Converts a pickle to libolm's format, encrypted with {@linkcode PICKLE_KEY}. A pickle that isn't vodozemac's JSON is
 * returned unchanged, for its reader to judge.
 *
 * @throws Error if it is vodozemac's and contains something that libolm's format can't represent
 */
export function libolmPickle(what: Pickled, pickle: string): string {
  const json = decrypt(Buffer.from(pickle, "base64"));
  if (json === undefined) return pickle;
  const writer = new Writer();
  const content = JSON.parse(json);
  if (what === "account") writeAccount(writer, content);
  else if (content.config.version !== "V1") throw new Error(`it is of version ${content.config.version}`);
  else if (what === "session") writeSession(writer, content);
  else writeGroupSession(writer, content);
  return encrypt(writer.bytes());
}

interface Keys {
  readonly cipher: Uint8Array;
  readonly mac: Uint8Array;
  readonly iv: Uint8Array;
}

function derive(key: Uint8Array): Keys {
  const all = new Uint8Array(hkdfSync("sha256", key, "", "Pickle", 80));
  return { cipher: all.subarray(0, 32), mac: all.subarray(32, 64), iv: all.subarray(64) };
}

/** Decrypts a vodozemac pickle; undefined if it isn't one. */
function decrypt(pickle: Uint8Array): string | undefined {
  const { cipher, mac, iv } = derive(VODOZEMAC_KEY);
  const [text, tag] = [pickle.subarray(0, -MAC_LENGTH), pickle.subarray(-MAC_LENGTH)];
  if (!createHmac("sha256", mac).update(text).digest().subarray(0, MAC_LENGTH).equals(tag)) return undefined;
  const decipher = createDecipheriv("aes-256-cbc", cipher, iv);
  return decipher.update(text, undefined, "utf8") + decipher.final("utf8");
}

function encrypt(bytes: Uint8Array): string {
  const { cipher, mac, iv } = derive(PICKLE_KEY);
  const encipher = createCipheriv("aes-256-cbc", cipher, iv);
  const text = Buffer.concat([encipher.update(bytes), encipher.final()]);
  const tag = createHmac("sha256", mac).update(text).digest().subarray(0, MAC_LENGTH);
  return Buffer.concat([text, tag]).toString("base64").replace(/=+$/, "");
}

type Bytes = readonly number[];

/** Writes libolm's format: numbers are big-endian with four bytes, lists start with their length. */
class Writer {
  readonly #bytes: number[] = [];

  put(...parts: (Bytes | number | boolean)[]): void {
    for (const part of parts) {
      if (typeof part === "boolean") this.#bytes.push(part ? 1 : 0);
      else if (typeof part === "number") this.#bytes.push(part >>> 24, part >>> 16 & 255, part >>> 8 & 255, part & 255);
      else this.#bytes.push(...part);
    }
  }

  list<Item>(items: readonly Item[], put: (item: Item) => void): void {
    this.put(items.length);
    items.forEach(put);
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** Stands for the public half of a key pair, which the reader derives from the private half. */
const DERIVED: Bytes = new Array(32).fill(0);

interface FallbackKey {
  readonly key_id: number;
  readonly key: Bytes;
  readonly published: boolean;
}

interface Account {
  readonly signing_key: { readonly Normal?: Bytes; readonly Expanded?: Bytes };
  readonly diffie_hellman_key: Bytes;
  readonly one_time_keys: {
    readonly next_key_id: number;
    readonly public_keys: Readonly<Record<string, Bytes>>;
    readonly private_keys: Readonly<Record<string, Bytes>>;
  };
  readonly fallback_keys: {
    readonly fallback_key: FallbackKey | null;
    readonly previous_fallback_key: FallbackKey | null;
  };
}

function writeAccount(writer: Writer, account: Account): void {
  const { one_time_keys: oneTimeKeys, fallback_keys: fallbackKeys } = account;
  const version = 4;
  writer.put(version, DERIVED, expanded(account.signing_key), DERIVED, account.diffie_hellman_key);
  const keys = Object.entries(oneTimeKeys.private_keys);
  // Keys that still have a public half haven't been uploaded to the homeserver yet.
  writer.list(keys, ([id, key]) => writer.put(Number(id), !(id in oneTimeKeys.public_keys), DERIVED, key));
  const fallbacks = [fallbackKeys.fallback_key, fallbackKeys.previous_fallback_key].filter((key) => key !== null);
  writer.put([fallbacks.length]);
  for (const { key_id, published, key } of fallbacks) writer.put(key_id, published, DERIVED, key);
  writer.put(Math.max(oneTimeKeys.next_key_id, ...keys.map(([id]) => Number(id) + 1)));
}

/** Expands an Ed25519 seed (RFC 8032, 5.1.5). */
function expanded({ Normal: seed, Expanded: key }: Account["signing_key"]): Bytes {
  if (seed === undefined) return key ?? [];
  const hash = [...createHash("sha512").update(Uint8Array.from(seed)).digest()];
  return hash.with(0, (hash[0] ?? 0) & 248).with(31, (hash[31] ?? 0) & 63 | 64);
}

interface ChainKey {
  readonly key: Bytes;
  readonly index: number;
}

interface ReceivingChain {
  readonly ratchet_key: Bytes;
  readonly hkdf_ratchet: ChainKey;
  readonly skipped_message_keys: { readonly inner: readonly ChainKey[] };
}

interface OlmSession {
  readonly session_keys: { readonly identity_key: Bytes; readonly base_key: Bytes; readonly one_time_key: Bytes };
  readonly sending_ratchet: {
    readonly type: "active";
    readonly active_ratchet: { readonly root_key: Bytes; readonly ratchet_key: Bytes };
    readonly symmetric_key_ratchet: ChainKey;
  } | { readonly type: "inactive"; readonly root_key: { readonly key: Bytes }; readonly ratchet_key: Bytes };
  readonly receiving_chains: { readonly inner: readonly ReceivingChain[] };
}

function writeSession(writer: Writer, session: OlmSession): void {
  const { session_keys: keys, sending_ratchet: sending } = session;
  // libolm expects the chain to be answered first. vodozemac has it first or last, depending on the session's origin.
  const answered = sending.type === "inactive" ? String(sending.ratchet_key) : undefined;
  const isAnswered = (chain: ReceivingChain): number => Number(String(chain.ratchet_key) === answered);
  const receiving = session.receiving_chains.inner.toSorted((one, other) => isAnswered(other) - isAnswered(one));
  const version = 1;
  writer.put(version, receiving.length > 0, keys.identity_key, keys.base_key, keys.one_time_key);
  writer.put(sending.type === "active" ? sending.active_ratchet.root_key : sending.root_key.key);
  writer.list(sending.type === "active" ? [sending] : [], ({ active_ratchet, symmetric_key_ratchet: chain }) => {
    writer.put(DERIVED, active_ratchet.ratchet_key, chain.key, chain.index);
  });
  writer.list(receiving, ({ ratchet_key, hkdf_ratchet: chain }) => writer.put(ratchet_key, chain.key, chain.index));
  const skipped = receiving.flatMap(({ ratchet_key, skipped_message_keys }) =>
    skipped_message_keys.inner.map(({ key, index }) => ({ ratchet_key, key, index }))
  );
  writer.list(skipped, ({ ratchet_key, key, index }) => writer.put(ratchet_key, key, index));
}

interface GroupSession {
  readonly initial_ratchet: { readonly inner: Bytes; readonly counter: number };
  readonly signing_key: Bytes;
  readonly signing_key_verified: boolean;
}

function writeGroupSession(writer: Writer, session: GroupSession): void {
  const { inner, counter } = session.initial_ratchet;
  const version = 2;
  // The latest ratchet can be derived from the initial one.
  writer.put(version, inner, counter, inner, counter, session.signing_key, session.signing_key_verified);
}
