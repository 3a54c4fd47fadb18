/**
 * The sync loop: long-polls for as long as the session runs. It chooses how long the homeserver may hold a poll, and
 * its deadline, so that a dead connection is noticed soon and a slow one gets enough time.
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

/** Longest time that the homeserver may hold a poll without news, in milliseconds. */
const HELD_MS = 25_000;
/** Deadline of a held poll. After that, its connection is dead. */
const HELD_DEADLINE_MS = HELD_MS + 5_000;
/** Deadline of a poll that isn't held. Short, because its connection may be dead, too. */
const SHORT_DEADLINE_MS = 10_000;
/** Consecutive failures after which the server or the connection is considered slow. */
const SLOW_FROM = 5;
/** How long responses stay reduced after one was too large. Each one that is too large costs memory before it is refused. */
const REDUCED_FOR_MS = 60_000;
/** Deadline of a poll without a token. Its response holds everything. */
const FIRST_DEADLINE_MS = 120_000;

/**
 * Consecutive refusals after which the homeserver is assumed not to know the token, for example because it was restored
 * from a backup.
 */
const REFUSALS_OF_TOKEN = 5;

/** How a session's loops retry. */
export interface HomeserverRetryOptions {
  /** Backoff policy. Each kind of request has its own backoff. */
  readonly policy: BackoffPolicy;
  /** Called before each wait, with its length in milliseconds. */
  readonly onWait: (waitMs: number) => void;
  /** Replaces real time in tests. */
  readonly sleep?: Clock["sleep"];
}

/** Retries one kind of request until it succeeds or the policy gives up. */
export class HomeserverRetry {
  readonly #backoff: Backoff;
  readonly #retryOptions: HomeserverRetryOptions;
  readonly #isRetryable: (error: unknown) => error is Error;

  /** @param isRetryable errors to retry. Default: all failures of the homeserver */
  constructor(retryOptions: HomeserverRetryOptions, isRetryable = isHomeserverFailure) {
    this.#backoff = new Backoff(retryOptions.policy);
    this.#retryOptions = retryOptions;
    this.#isRetryable = isRetryable;
  }

  /** Runs `work` until it succeeds, with a backoff after each retryable failure. */
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

/** Includes RejectedError, because a proxy may answer while the homeserver restarts. */
function isHomeserverFailure(error: unknown): error is Error {
  return error instanceof TransientError || error instanceof RejectedError;
}

function isTooLarge(error: unknown): error is Error {
  return error instanceof RejectedError && error.code === TOO_LARGE;
}

/**
 * Reports whether a poll failed because of its token: the homeserver refuses it, or no URL that contains it gets
 * through.
 */
function refusesToken(error: unknown): boolean {
  if (error instanceof TransientError) return error.status === 400 || error.status === 413;
  return error instanceof RejectedError && error.code !== TOO_LARGE && [0, 400, 413, 414, 431].includes(error.status);
}

/** The options that a sync filter depends on. */
export interface SyncOptions {
  /** Our own user id. */
  readonly self: string;
  /** User IDs of the agents. Typing notifications are requested for the rooms that they have joined. */
  readonly agents: ReadonlySet<string>;
}

/**
 * Polls until the signal is aborted. If a response is too large, a reduced one is requested, with unlimited retries.
 *
 * @param receive handles a response. The next poll starts when it returns
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
  let reducedUntilMs = 0;
  const polls = new Polls();
  // A server that answers at once, without holding polls, must not cause a busy loop.
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
      const answer = await poll(polling, performance.now() < reducedUntilMs, signal).catch((error) => {
        if (!isTooLarge(error)) throw error;
        reducedUntilMs = performance.now() + REDUCED_FOR_MS;
        log.warning("asking for less: {reason}", { reason: error.message });
        return reducing.run((signal) => poll(polling, true, signal), signal);
      }).catch(failed);
      refusals = 0;
      await receive(answer);
      polls.succeeded();
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

/** Chooses the timing of the next poll from the outcomes of the previous ones. */
export class Polls {
  /** Failures since the last success. The first poll counts as the retry of a failed one. */
  #failures = 1;

  /**
   * Returns the timing of the next poll, in milliseconds. The poll counts as failed until {@linkcode Polls.succeeded} is
   * called.
   */
  next(hasToken: boolean): { readonly heldMs: number; readonly deadlineMs: number } {
    const failures = this.#failures;
    this.#failures += 1;
    // After a failure, the first response confirms recovery, so the server must not hold it.
    const heldMs = failures === 0 ? HELD_MS : 0;
    if (!hasToken) return { heldMs, deadlineMs: FIRST_DEADLINE_MS };
    if (failures === 0) return { heldMs, deadlineMs: HELD_DEADLINE_MS };
    return { heldMs, deadlineMs: failures < SLOW_FROM ? SHORT_DEADLINE_MS : REQUEST_DEADLINE_MS };
  }

  /** Records that the last poll succeeded. */
  succeeded(): void {
    this.#failures = 0;
  }
}
