/**
 * Filling the gaps that limited timelines leave, by reading a room's history backwards, within bounds.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type KeyedQueue, Semaphore, sleep, Throttle } from "../async.ts";
import { RejectedError } from "../errors.ts";
import { type Json, list, object, text } from "../json.ts";
import type { Gap, NewEvent, Store } from "../store/mod.ts";
import type { RefusedEvent } from "./facts.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";
import { HomeserverRetry, type HomeserverRetryOptions } from "./sync_loop.ts";
import { isWritten, messageOf, refusal, timelineFilter, token } from "./sync_response.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** Events a page. */
const PAGE = 100;
/** Pages a gap: together as many events as the journal keeps; empty pages count. */
const MAX_PAGES = 100;

/** Pages that are asked for at once: a server may say that we are in thousands of rooms. */
const MAX_READERS = 16;

/** Who is told of what back pagination brings. */
export interface BackPaginationListener {
  /** A gap has been filled: there may be new events, and histories that were cut off. */
  filled(): void;
  /** What it held was written in a room where an agent is: the latest message of each allowed user and agent. */
  agentRoomActive(messages: readonly NewEvent[]): void;
  /** A message of a user who is not allowed. */
  refused(event: RefusedEvent): void;
}

/** Whose history is read, and where it goes. */
export interface BackPaginationOptions {
  readonly client: HomeserverClient;
  readonly store: Store;
  readonly self: string;
  readonly allowedUsers: ReadonlySet<string>;
  /** Accounts of agents. */
  readonly agents: ReadonlySet<string>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What a gap held, oldest first. */
interface Filling {
  readonly events: readonly NewEvent[];
  readonly refused: readonly RefusedEvent[];
  /** The latest message of each allowed user and agent. */
  readonly latest: readonly NewEvent[];
  /** Why earlier events could not be had; undefined if the gap is filled in full. */
  readonly cutOff: string | undefined;
}

/** Fills gaps beside other work, each room's by itself: one whose history can't be had must not hold up the others. */
export class BackPagination {
  readonly #options: BackPaginationOptions;
  readonly #listener: BackPaginationListener;
  readonly #retryOptions: HomeserverRetryOptions;
  readonly #queue: KeyedQueue;
  readonly #stop: AbortSignal;
  readonly #filling = new Set<string>();
  readonly #readers = new Semaphore(MAX_READERS);

  /** @param stop ends it; `queue` must end with it, too */
  constructor(
    options: BackPaginationOptions,
    listener: BackPaginationListener,
    retryOptions: HomeserverRetryOptions,
    queue: KeyedQueue,
    stop: AbortSignal,
  ) {
    this.#options = options;
    this.#listener = listener;
    // That one room's history can't be had is no reason to end: whether the homeserver is there, the sync loop finds out.
    this.#retryOptions = { ...retryOptions, policy: { ...retryOptions.policy, maxFailures: Infinity } };
    this.#queue = queue;
    this.#stop = stop;
  }

  /** To be called when there may be gaps. */
  fill(): void {
    for (const roomId of this.#options.store.rooms.roomsWithGaps()) {
      if (this.#filling.has(roomId)) continue;
      this.#filling.add(roomId);
      this.#queue.run(`history of ${roomId}`, () => this.#fillRoom(roomId));
    }
  }

  /** Fills a room's gaps, the oldest first, until there is none. */
  async #fillRoom(roomId: string): Promise<void> {
    const { rooms } = this.#options.store;
    const work = new HomeserverRetry(this.#retryOptions);
    for (;;) {
      const gap = rooms.oldestGap(roomId);
      if (gap === undefined) return void this.#filling.delete(roomId);
      const { events, refused, latest, cutOff } = await work.run((signal) => this.#read(gap, signal), this.#stop);
      rooms.fillGap(gap.id, events, cutOff !== undefined);
      if (cutOff !== undefined) {
        log.warning("missed part of the history of {room}, so older commands may be lost: {reason}", {
          room: roomId,
          reason: cutOff,
        });
      }
      for (const event of refused) this.#listener.refused(event);
      if (rooms.isAnyJoined(roomId, this.#options.agents)) this.#listener.agentRoomActive(latest);
      this.#listener.filled();
    }
  }

  async #read(gap: Gap, signal: AbortSignal): Promise<Filling> {
    const { self, now, allowedUsers, agents } = this.#options;
    const events: NewEvent[] = [];
    const refused: RefusedEvent[] = [];
    const latest = new Map<string, NewEvent>();
    const end = (cutOff?: string): Filling => {
      return { events: events.reverse(), refused: refused.reverse(), latest: [...latest.values()], cutOff };
    };
    const clock = { now: Date.now, sleep: this.#retryOptions.sleep ?? sleep };
    const throttle = new Throttle({ burst: 10, everyMs: 100, clock });
    const seen = new Set<string>();
    for (let from = gap.from; seen.size < MAX_PAGES;) {
      seen.add(from);
      await throttle.turn(signal);
      let page: Json;
      try {
        page = await this.#readers.run(() => this.#page(gap, from, signal), signal);
      } catch (error) {
        if (!(error instanceof RejectedError)) throw error;
        return end(error.message);
      }
      for (const event of list(page["chunk"]).map(object)) {
        if (gap.to === undefined && isOwnJoin(event, self)) return end();
        const message = messageOf(gap.roomId, event, self, now());
        if (message === undefined) continue;
        const { sender } = message;
        const isAgents = agents.has(sender);
        if ((isAgents || allowedUsers.has(sender)) && isWritten(message) && !latest.has(sender)) {
          latest.set(sender, message);
        }
        if (isAgents) continue;
        if (allowedUsers.has(sender)) events.push(message);
        else refused.push(refusal(message));
      }
      const next = text(page["end"]);
      if (next === undefined || next === from) return end();
      if (token(next) === undefined) return end("the homeserver gave a token that is too long to be given back");
      if (seen.has(next)) return end("the homeserver gave a token for the second time");
      from = next;
    }
    return end(`it has more than ${MAX_PAGES} pages`);
  }

  async #page(gap: Gap, from: string, signal: AbortSignal): Promise<Json> {
    const { client, self } = this.#options;
    const { not_senders: _, ...everyone } = timelineFilter(self);
    const { json } = await client.send({
      method: "GET",
      path: path`/_matrix/client/v3/rooms/${gap.roomId}/messages`,
      query: {
        dir: "b",
        from,
        to: gap.to,
        limit: String(PAGE),
        filter: JSON.stringify(gap.to === undefined ? everyone : timelineFilter(self)),
      },
    }, signal);
    return json;
  }
}

/** The event by which we came into the room: what stands before it was not said to us. */
function isOwnJoin(event: Json, self: string): boolean {
  const before = text(object(object(event["unsigned"])["prev_content"])["membership"]);
  return event["type"] === "m.room.member" && event["state_key"] === self &&
    object(event["content"])["membership"] === "join" && before !== "join";
}
