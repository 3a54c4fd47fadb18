/**
 * Detects a store that was restored from a backup. A counter is kept in the store and in our account data, and is
 * raised at each start, once a day and at the end. If the counter in the account data is higher, the store is outdated,
 * and so are its one-time keys and ratchets.
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
/** Deadline of the request at the end, in milliseconds. */
const AT_END_MS = 2_000;

/** The counter of one device. A new device has a new crypto store and starts a new counter. */
export class RestoreDetection {
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #path: string;

  /** Uses the account data of `userId`. Each device has its own entry there. */
  constructor(client: HomeserverClient, store: Store, userId: string, deviceId: string) {
    this.#client = client;
    this.#store = store;
    const type = `openclaw_toggle.store_counter.${deviceId}`;
    this.#path = path`/_matrix/client/v3/user/${userId}/account_data/${type}`;
  }

  /**
   * Reports whether the counter in the account data is higher than the one in the store.
   *
   * @throws TransientError if the homeserver didn't answer. A refusal counts as no counter
   */
  async isRestored(signal: AbortSignal): Promise<boolean> {
    return await this.#inAccount(signal) > this.#inStore();
  }

  /**
   * Raises both counters, the store's first: the store's may be higher, never lower.
   *
   * @throws TransientError if the homeserver didn't answer
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

  /**
   * Raises the counters once a day until the signal is aborted. Retries without limit while the homeserver doesn't
   * answer.
   */
  async raiseDaily(signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(DAY_MS, signal);
      const backoff = new Backoff({ ...operatorPolicy(Infinity), maxMs: HOUR_MS });
      await retry((signal) => this.raise(signal), { backoff }, signal);
    }
  }

  /** Tries once to raise the counters. Then a backup taken during this run can be told from one taken after it. */
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
