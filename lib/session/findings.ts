/**
 * What was found in the crypto of users and messages. Looking it up takes milliseconds, so it is kept as long as it is
 * certain to be the same.
 *
 * @module
 */

import type { ListedDevice, Payload, Published } from "../operator/mod.ts";
import type { Json } from "../json.ts";

/** Good until something that the crypto knows may have changed; then it gives way to a new one. */
export class Findings {
  /** Users by id. */
  readonly users = new Map<string, Known>();
  /** Messages that were decrypted, by their events. */
  readonly messages = new WeakMap<Json, Payload>();
}

/** What the crypto knows of a user. */
export interface Known {
  /** Undefined without cross-signing. */
  readonly identity: Published["identity"];
  /** All that are listed, and some that no longer are. */
  readonly devices: readonly KnownDevice[];
}

/** What the crypto knows of a device. */
export interface KnownDevice extends ListedDevice {
  /** Public key of encryption, unpadded base64; undefined if it has none. */
  readonly curve25519: string | undefined;
  /** It is no longer listed. */
  readonly deleted: boolean;
}
