/**
 * The store's key: configured, read from the key file, or generated on the first start. A key in use is replaced only
 * together with everything encrypted with it (`--rotate-store-key`).
 *
 * @module
 */

import { randomBytes, timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import { StoreError } from "../errors.ts";
import { readFile, removeFile, writeFile } from "./files.ts";

/** Length of the key in bytes. */
const KEY_LENGTH = 32;

/** Name of the key file. */
export const KEY_FILE = "key";
/** Name of the file for the new key while the store is being re-encrypted. */
const NEXT_KEY_FILE = "next_key";

/** Writes the new key beside the key file, if there is one. Call {@linkcode finishKeyChange} afterwards. */
export function beginKeyChange(folder: string, key: Uint8Array): void {
  if (readFile(join(folder, KEY_FILE)) === undefined) return;
  writeFile(join(folder, NEXT_KEY_FILE), Buffer.from(key).toString("base64") + "\n");
}

/**
 * Finishes a change of the key file, also after a crash: the new key replaces the old one if the store is already encrypted
 * with it, and is discarded otherwise.
 *
 * @param fits whether the store is encrypted with this key
 */
export function finishKeyChange(folder: string, fits: (key: Uint8Array) => boolean): void {
  const next = join(folder, NEXT_KEY_FILE);
  const text = readFile(next);
  if (text === undefined) return;
  if (fits(Uint8Array.from(Buffer.from(text.trim(), "base64")))) writeFile(join(folder, KEY_FILE), text);
  removeFile(next);
}

/**
 * Returns the store's key. Call it while holding the store's lock, so that two operators starting at once don't
 * generate two keys.
 *
 * @param path the key file; if there is no key yet, it is created and synced to disk
 * @param given the key of CRYPTO_STORE_KEY
 * @param inUse the store is already encrypted
 * @throws StoreError if the key is missing or unusable, or the given key differs from the one in the file
 */
export function obtainKey(path: string, given: Uint8Array | undefined, inUse: boolean): Uint8Array {
  if (given && given.length !== KEY_LENGTH) {
    throw new StoreError(`Cannot use CRYPTO_STORE_KEY: it has ${given.length} bytes; give ${KEY_LENGTH}`, path);
  }
  const text = readFile(path);
  if (text !== undefined) {
    const stored = Uint8Array.from(Buffer.from(text.trim(), "base64"));
    if (stored.length !== KEY_LENGTH) {
      throw new StoreError(
        `Cannot use the key file ${path}: it does not hold ${KEY_LENGTH} bytes in base64; bring a backup of it back`,
        path,
      );
    }
    if (given && !timingSafeEqual(given, stored)) {
      throw new StoreError(
        `Cannot use CRYPTO_STORE_KEY: it is not the key in ${path}, which is in use; unset it or give that one`,
        path,
      );
    }
    return stored;
  }
  if (given) return Uint8Array.from(given);
  if (inUse) {
    throw new StoreError(
      `Cannot find the key file ${path}: the store is encrypted with it; bring a backup of it back, or give the key as CRYPTO_STORE_KEY`,
      path,
    );
  }
  const made = randomBytes(KEY_LENGTH);
  writeFile(path, made.toString("base64") + "\n");
  return Uint8Array.from(made);
}
