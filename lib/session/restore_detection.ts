/**
 * Tells a store that was restored from a backup: a counter stands in the store and in the account data of our account,
 * and is raised at each start, once a day and at the end. Where the account's is ahead, the store has gone back, and its
 * one-time keys and ratchets with it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Backoff, Deadline, operatorPolicy, retry, sleep } from "../async.ts";
import { errorMessage, RejectedError } from "../errors.ts";
import { count } from "../json.ts";
import type { Store } from "../store/mod.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** For the request at the end, milliseconds. */
const AT_END_MS = 2_000;

/** The counter of one device, since a new device has a new crypto store. */
export class RestoreDetection {
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #path: string;

  /** By the account data of `userId`, in which each device has an entry of its own. */
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
      log.warning("failed to note the store's age, so a restored backup would go unnoticed: {reason}", {
        reason: error.message,
      });
    }
  }

  /** Raises it once a day, however long the homeserver does not answer, until the signal ends it. */
  async raiseDaily(signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(DAY_MS, signal);
      const backoff = new Backoff({ ...operatorPolicy(Infinity), maxMs: HOUR_MS });
      await retry((signal) => this.raise(signal), { backoff }, signal);
    }
  }

  /** Raises it if that can be done at once, so that a backup of this run is told from one made while nothing runs. */
  async raiseAtEnd(): Promise<void> {
    using deadline = new Deadline(AT_END_MS, new AbortController().signal);
    try {
      await this.raise(deadline.signal);
    } catch (error) {
      log.info("a backup of this run would not be told from one of now: {reason}", { reason: errorMessage(error) });
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
      if (error.status !== 404) log.warning("failed to read the store's age: {reason}", { reason: error.message });
      return 0;
    }
  }
}
