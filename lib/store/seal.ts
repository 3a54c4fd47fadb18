/**
 * Encrypts values that a copy of the database must not reveal: AES-256-GCM, with a key derived from the store's key. A
 * sealed value is bound to its place, so one row can't be substituted for another.
 *
 * @module
 */

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { StoreError } from "../errors.ts";

const FORMAT = 1;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/** Seals and opens JSON values. */
export class Seal {
  readonly #key: Uint8Array;
  readonly #path: string;

  /** Derives the sealing key from the store's 32-byte key. The path is for messages. */
  constructor(storeKey: Uint8Array, path: string) {
    this.#path = path;
    this.#key = new Uint8Array(hkdfSync("sha256", storeKey, "", "openclaw-toggle seal 1", 32));
  }

  /**
   * Seals a value.
   *
   * @param place what the value belongs to, such as table and row; opening it needs the same place
   */
  close(value: unknown, ...place: string[]): Uint8Array {
    const nonce = randomBytes(NONCE_LENGTH);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce);
    cipher.setAAD(bound(place));
    const sealed = [cipher.update(JSON.stringify(value), "utf8"), cipher.final()];
    return Buffer.concat([Uint8Array.of(FORMAT), nonce, ...sealed, cipher.getAuthTag()]);
  }

  /**
   * Opens a value sealed by {@linkcode close}.
   *
   * @throws StoreError if it was sealed with another key or for another place, or was altered
   */
  open(sealed: unknown, ...place: string[]): unknown {
    try {
      if (!(sealed instanceof Uint8Array) || sealed[0] !== FORMAT) throw new Error("not a sealed value");
      const from = 1 + NONCE_LENGTH;
      const options = { authTagLength: TAG_LENGTH };
      const decipher = createDecipheriv("aes-256-gcm", this.#key, sealed.subarray(1, from), options);
      decipher.setAAD(bound(place));
      decipher.setAuthTag(sealed.subarray(-TAG_LENGTH));
      const text = decipher.update(sealed.subarray(from, -TAG_LENGTH), undefined, "utf8") + decipher.final("utf8");
      return JSON.parse(text);
    } catch (error) {
      throw new StoreError(
        `Cannot read ${
          place.join(" ")
        } in the store ${this.#path}: it was altered or sealed with another key; bring a backup of the whole folder back`,
        this.#path,
        error,
      );
    }
  }
}

function bound(place: string[]): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(place));
}
