/**
 * Back pagination: fills the gaps that limited timelines leave, by reading the room's history backwards, within limits.
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
/** Events per page. */
const PAGE = 100;
/** Pages per gap, empty ones included. PAGE × MAX_PAGES is as many events as the journal keeps. */
const MAX_PAGES = 100;

/** Concurrent page requests. The server may claim that we are in thousands of rooms. */
const MAX_READERS = 16;

/** Receives what back pagination finds. */
export interface BackPaginationListener {
  /** A gap has been closed. There may be new events and new cut-off histories. */
  filled(): void;
  /** The gap is in a room that an agent has joined. `messages` holds the latest one of each allowed user and agent. */
  agentRoomActive(messages: readonly NewEvent[]): void;
  /** The gap held a message of a user who isn't allowed. */
  refused(event: RefusedEvent): void;
}

/** Dependencies and settings of {@linkcode BackPagination}. */
export interface BackPaginationOptions {
  readonly client: HomeserverClient;
  readonly store: Store;
  readonly self: string;
  readonly allowedUsers: ReadonlySet<string>;
  /** User IDs of the agents. */
  readonly agents: ReadonlySet<string>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Asks the homeserver for the joined members of a room. */
  readonly refreshMembers: (roomId: string, signal: AbortSignal) => Promise<void>;
}

/** Contents of a gap, oldest event first. */
interface Filling {
  readonly events: readonly NewEvent[];
  readonly refused: readonly RefusedEvent[];
  /** The latest message of each allowed user and agent. */
  readonly latest: readonly NewEvent[];
  /** Why earlier events couldn't be fetched. Undefined if the gap is complete. */
  readonly cutOff: string | undefined;
}

/**
 * Fills gaps in the background, each room on its own: a room whose history can't be fetched doesn't block the others.
 */
export class BackPagination {
  readonly #options: BackPaginationOptions;
  readonly #listener: BackPaginationListener;
  readonly #retryOptions: HomeserverRetryOptions;
  readonly #queue: KeyedQueue;
  readonly #stop: AbortSignal;
  readonly #filling = new Set<string>();
  readonly #readers = new Semaphore(MAX_READERS);

  /** @param stop ends back pagination; it must also end `queue` */
  constructor(
    options: BackPaginationOptions,
    listener: BackPaginationListener,
    retryOptions: HomeserverRetryOptions,
    queue: KeyedQueue,
    stop: AbortSignal,
  ) {
    this.#options = options;
    this.#listener = listener;
    // One room's missing history must never end the session. The sync loop detects an unreachable homeserver.
    this.#retryOptions = { ...retryOptions, policy: { ...retryOptions.policy, maxFailures: Infinity } };
    this.#queue = queue;
    this.#stop = stop;
  }

  /** Starts filling all recorded gaps. Call it whenever there may be new ones. */
  fill(): void {
    for (const roomId of this.#options.store.rooms.roomsWithGaps()) {
      if (this.#filling.has(roomId)) continue;
      this.#filling.add(roomId);
      this.#queue.run(`history of ${roomId}`, () => this.#fillRoom(roomId));
    }
  }

  /** Fills the room's gaps, oldest first, until none is left. */
  async #fillRoom(roomId: string): Promise<void> {
    const { rooms } = this.#options.store;
    const [reading, asking] = [new HomeserverRetry(this.#retryOptions), new HomeserverRetry(this.#retryOptions)];
    for (;;) {
      const gap = rooms.oldestGap(roomId);
      if (gap === undefined) return void this.#filling.delete(roomId);
      const hasJoined = gap.to === undefined;
      const [{ events, refused, latest, cutOff }] = await Promise.all([
        reading.run((signal) => this.#read(gap, signal), this.#stop),
        hasJoined ? asking.run((signal) => this.#askMembers(roomId, signal), this.#stop) : undefined,
      ]);
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

  /**
   * Completes the members of a room that we have just joined, so that all of them can read the first answer. Sync may
   * leave some out: Dendrite 0.13.8 may tell of a join before it tells the state of the room.
   */
  async #askMembers(roomId: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#readers.run(() => this.#options.refreshMembers(roomId, signal), signal);
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      log.warning("knowing only those members of {room} that sync has listed: {reason}", {
        room: roomId,
        reason: error.message,
      });
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
    const clock = { now, sleep: this.#retryOptions.sleep ?? sleep };
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

/** Reports whether the event is our own join. Earlier events weren't addressed to us. */
function isOwnJoin(event: Json, self: string): boolean {
  const before = text(object(object(event["unsigned"])["prev_content"])["membership"]);
  return event["type"] === "m.room.member" && event["state_key"] === self &&
    object(event["content"])["membership"] === "join" && before !== "join";
}
