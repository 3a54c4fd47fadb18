/**
 * Tells a store that was restored from a backup: a counter stands in the store and in the account data of our account,
 * and is raised at each start, once a day and at the end. Where the account's is ahead, the store has gone back, and its
 * one-time keys and ratchets with it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError } from "../errors.ts";
import { count } from "../json.ts";
import type { Store } from "../store/mod.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** The counter of one device, since a new device has a new crypto store. */
export class RestoreDetection {
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #path: string;

  constructor(client: HomeserverClient, store: Store, userId: string, deviceId: string) {
    this.#client = client;
    this.#store = store;
    const type = `openclaw_toggle.store_counter.${deviceId}`;
    this.#path = path`/_matrix/client/v3/user/${userId}/account_data/${type}`;
  }

  /**
   * Whether the account's counter is ahead of the store's.
   *
   * @throws TransientError if the homeserver did not answer; a refusal counts as no counter
   */
  async isRestored(signal: AbortSignal): Promise<boolean> {
    return await this.#inAccount(signal) > this.#inStore();
  }

  /**
   * Raises both counters, the store's first: it may be ahead, never behind.
   *
   * @throws TransientError if the homeserver did not answer
   */
  async raise(signal: AbortSignal): Promise<void> {
    const counter = this.#inStore() + 1;
    this.#store.counter.save({ counter });
    try {
      await this.#client.send({ method: "PUT", path: this.#path, body: { counter } }, signal);
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      log.warning("Cannot note the store's age, so a restored backup would not be noticed: {reason}", {
        reason: error.message,
      });
    }
  }

  #inStore(): number {
    return this.#store.counter.load()?.counter ?? 0;
  }

  async #inAccount(signal: AbortSignal): Promise<number> {
    try {
      const { json } = await this.#client.send({ method: "GET", path: this.#path }, signal);
      return count(json["counter"]) ?? 0;
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      if (error.status !== 404) log.warning("Cannot read the store's age: {reason}", { reason: error.message });
      return 0;
    }
  }
}
