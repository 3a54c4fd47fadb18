/**
 * The sync loop: one long poll after the other, for as long as the session runs; and how long a poll is held by the
 * homeserver and waited for by us, so that a dead connection is noticed soon, and a slow line gets its time.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Backoff, type BackoffPolicy, type Clock, retry, sleep, Throttle } from "../async.ts";
import { RejectedError, TransientError } from "../errors.ts";
import { TOO_LARGE } from "../http.ts";
import { type Json, text } from "../json.ts";
import type { RoomState } from "../store/mod.ts";
import { type HomeserverClient, REQUEST_DEADLINE_MS } from "./homeserver_client.ts";
import { withMembers } from "./reduced_sync.ts";
import { MAX_TYPING_ROOMS, syncFilter, token } from "./sync_response.ts";

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
  readonly #isRetryable: (error: unknown) => error is Error;

  /** @param isRetryable failures that are worth another try; all of the homeserver unless said otherwise */
  constructor(retryOptions: HomeserverRetryOptions, isRetryable = isHomeserverFailure) {
    this.#backoff = new Backoff(retryOptions.policy);
    this.#retryOptions = retryOptions;
    this.#isRetryable = isRetryable;
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
        isRetryable: this.#isRetryable,
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

function isTooLarge(error: unknown): error is Error {
  return error instanceof RejectedError && error.code === TOO_LARGE;
}

/** Whether a poll failed for its token: by what the homeserver says of it, or because no URL with it comes through. */
function refusesToken(error: unknown): boolean {
  if (error instanceof TransientError) return error.status === 400 || error.status === 413;
  return error instanceof RejectedError && error.code !== TOO_LARGE && [0, 400, 413, 414, 431].includes(error.status);
}

/** What a sync asks for depends on these. */
export interface SyncOptions {
  /** Our own user id. */
  readonly self: string;
  /** Accounts of agents: where they are, it is of interest who is typing. */
  readonly agents: ReadonlySet<string>;
}

/**
 * Polls until the signal ends it. An answer that is too large is asked for again with less in it, and never given up.
 *
 * @param receive handles an answer; the next poll begins when it is through
 */
export async function syncLoop(
  client: HomeserverClient,
  rooms: RoomState,
  { self, agents }: SyncOptions,
  receive: (answer: Json) => Promise<void>,
  retryOptions: HomeserverRetryOptions,
  signal: AbortSignal,
): Promise<never> {
  const work = new HomeserverRetry(retryOptions);
  const patient = { ...retryOptions, policy: { ...retryOptions.policy, maxFailures: Infinity } };
  const reducing = new HomeserverRetry(patient, isTooLarge);
  const polls = new Polls();
  // A poll is held until there is news; a server that answers at once, again and again, must not keep us busy.
  const throttle = new Throttle({ burst: 50, everyMs: 100 });
  let refusals = 0;
  const failed = (error: unknown): never => {
    refusals = refusesToken(error) && rooms.syncToken() !== undefined ? refusals + 1 : 0;
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
      const polling = { client, rooms, self, agents, polls };
      const answer = await poll(polling, false, signal).catch((error) => {
        if (!isTooLarge(error)) throw error;
        log.warning("asking for less: {reason}", { reason: error.message });
        return reducing.run((signal) => poll(polling, true, signal), signal);
      }).catch(failed);
      refusals = 0;
      await receive(answer);
      polls.wentWell();
    }, signal);
  }
}

interface Polling {
  readonly client: HomeserverClient;
  readonly rooms: RoomState;
  readonly self: string;
  readonly agents: ReadonlySet<string>;
  readonly polls: Polls;
}

async function poll(
  { client, rooms, self, agents, polls }: Polling,
  isReduced: boolean,
  signal: AbortSignal,
): Promise<Json> {
  const since = rooms.syncToken();
  const inFull = rooms.tokenIsAdopted();
  const { heldMs, deadlineMs } = polls.next(since !== undefined && !inFull);
  const query = {
    filter: syncFilter(self, isReduced ? "reduced" : rooms.joinedWith(agents, MAX_TYPING_ROOMS)),
    since,
    timeout: String(heldMs),
    full_state: inFull ? "true" : undefined,
  };
  const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/sync", query, deadlineMs }, signal);
  if (!text(json["next_batch"])) throw new TransientError("Cannot sync: the answer has no next_batch");
  if (!token(json["next_batch"])) {
    throw new TransientError("Cannot sync: the answer's next_batch is too long to be given back");
  }
  return isReduced ? await withMembers(json, { client, rooms }, signal) : json;
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
