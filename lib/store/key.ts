/**
 * The key of the store: given, read from the key file, or made at the first start. A key once in use is never
 * replaced, because what it encrypts could not be read again.
 *
 * @module
 */

import { randomBytes, timingSafeEqual } from "node:crypto";
import { StoreError } from "../errors.ts";
import { readFile, writeFile } from "./files.ts";

/** Length of the key in bytes. */
const KEY_LENGTH = 32;

/**
 * The key. To be called under the store's lock, lest two that start at once make two keys.
 *
 * @param path the key file; made, and on disk, when this returns, if there is no key yet
 * @param given the key of CRYPTO_STORE_KEY
 * @param inUse the store is encrypted already
 * @throws StoreError if a key is missing, unusable, or two differ
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
