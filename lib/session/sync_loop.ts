/**
 * The sync loop: one long poll after the other, for as long as the session runs; and how long a poll is held by the
 * homeserver and waited for by us, so that a dead connection is noticed soon, and a slow line gets its time.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Backoff, type BackoffPolicy, type Clock, retry, sleep, Throttle } from "../async.ts";
import { RejectedError, TransientError } from "../errors.ts";
import { type Json, text } from "../json.ts";
import type { RoomState } from "../store/mod.ts";
import { type HomeserverClient, REQUEST_DEADLINE_MS } from "./homeserver_client.ts";
import { syncFilter } from "./sync_response.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** How long the homeserver may hold a poll without news, milliseconds. */
const HELD_MS = 25_000;
/** A quiet poll is answered by then, or its connection is dead. */
const HELD_DEADLINE_MS = HELD_MS + 5_000;
/** Of a poll that is not held; it, too, may have gone to a dead connection. */
const SHORT_DEADLINE_MS = 10_000;
/** From so many failures in a row on, the server or the line is taken for slow. */
const SLOW_FROM = 5;
/** Without a token the answer is everything there is. */
const FIRST_DEADLINE_MS = 120_000;

/** A token that was refused so often in a row is unknown to the homeserver: it was restored from a backup, say. */
const REFUSALS_OF_TOKEN = 5;

/** How the loops of a session go on after failures. */
export interface HomeserverRetryOptions {
  /** Each kind of request has a back-off of its own by this policy. */
  readonly policy: BackoffPolicy;
  /** Told of each wait, milliseconds. */
  readonly onWait: (waitMs: number) => void;
  /** Waits; real time unless a test says otherwise. */
  readonly sleep?: Clock["sleep"];
}

/** The requests of one kind: does work until it goes well, and gives up by the policy. */
export class HomeserverRetry {
  readonly #backoff: Backoff;
  readonly #retryOptions: HomeserverRetryOptions;

  constructor(retryOptions: HomeserverRetryOptions) {
    this.#backoff = new Backoff(retryOptions.policy);
    this.#retryOptions = retryOptions;
  }

  /** Does it, again after each failure of the homeserver. */
  run<Value>(work: (signal: AbortSignal) => Promise<Value>, signal: AbortSignal): Promise<Value> {
    return retry(
      async (signal, working) => {
        const value = await work(signal);
        working();
        return value;
      },
      {
        backoff: this.#backoff,
        isRetryable: isHomeserverFailure,
        sleep: this.#retryOptions.sleep ?? sleep,
        onRetry: (error, waitMs) => {
          this.#retryOptions.onWait(waitMs);
          log.warning("trying again in {wait} s: {reason}", {
            reason: error.message,
            wait: Math.ceil(waitMs / 1_000),
          });
        },
      },
      signal,
    );
  }
}

/** Also what looks final may be a proxy in front of a homeserver that is just being restarted. */
function isHomeserverFailure(error: unknown): error is Error {
  return error instanceof TransientError || error instanceof RejectedError;
}

/**
 * Polls until the signal ends it.
 *
 * @param receive handles an answer; the next poll begins when it is through
 */
export async function syncLoop(
  client: HomeserverClient,
  rooms: RoomState,
  self: string,
  receive: (answer: Json) => Promise<void>,
  retryOptions: HomeserverRetryOptions,
  signal: AbortSignal,
): Promise<never> {
  const work = new HomeserverRetry(retryOptions);
  const polls = new Polls();
  // A poll is held until there is news; a server that answers at once, again and again, must not keep us busy.
  const throttle = new Throttle({ burst: 50, everyMs: 100 });
  let refusals = 0;
  const failed = (error: unknown): never => {
    const isOfToken = error instanceof RejectedError && error.status === 400 && rooms.syncToken() !== undefined;
    refusals = isOfToken ? refusals + 1 : 0;
    if (refusals === REFUSALS_OF_TOKEN) {
      rooms.forgetAll();
      log.warning("restarted syncing, so commands sent in between are ignored: {reason}", {
        reason: error instanceof Error ? error.message : error,
      });
    }
    throw error;
  };
  for (;;) {
    await throttle.turn(signal);
    await work.run(async (signal) => {
      const answer = await poll(client, rooms, self, polls, signal).catch(failed);
      refusals = 0;
      await receive(answer);
      polls.wentWell();
    }, signal);
  }
}

async function poll(
  client: HomeserverClient,
  rooms: RoomState,
  self: string,
  polls: Polls,
  signal: AbortSignal,
): Promise<Json> {
  const since = rooms.syncToken();
  const inFull = rooms.tokenIsAdopted();
  const { heldMs, deadlineMs } = polls.next(since !== undefined && !inFull);
  const query = {
    filter: syncFilter(self),
    since,
    timeout: String(heldMs),
    full_state: inFull ? "true" : undefined,
  };
  const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/sync", query, deadlineMs }, signal);
  if (!text(json["next_batch"])) throw new TransientError("Cannot sync: the answer has no next_batch");
  return json;
}

/** Times of the next poll, by how the last ones went. */
export class Polls {
  /** Since one went well; before that, the first one is treated as the next after a failure. */
  #failures = 1;

  /** Of the next poll, which counts as failed until it went well; milliseconds. */
  next(hasToken: boolean): { readonly heldMs: number; readonly deadlineMs: number } {
    const failures = this.#failures;
    this.#failures += 1;
    // The first answer tells that all is well (again): the server must not hold it until there is news.
    const heldMs = failures === 0 ? HELD_MS : 0;
    if (!hasToken) return { heldMs, deadlineMs: FIRST_DEADLINE_MS };
    if (failures === 0) return { heldMs, deadlineMs: HELD_DEADLINE_MS };
    return { heldMs, deadlineMs: failures < SLOW_FROM ? SHORT_DEADLINE_MS : REQUEST_DEADLINE_MS };
  }

  /** The last poll has been answered. */
  wentWell(): void {
    this.#failures = 0;
  }
}
