/**
 * Filling the gaps that limited timelines leave, by reading a room's history backwards. Knows where events are put,
 * not what they mean.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError } from "../errors/mod.ts";
import type { Gap, NewEvent, Store } from "../store/mod.ts";
import { type Chores, type Pace, tireless } from "./chores.ts";
import { type Json, list, object, text } from "./json.ts";
import { path, type Requests } from "./request.ts";
import { timelineEvent, timelineFilter } from "./sync.ts";

const log = getLogger(["openclaw-toggle", "session"]);
const PAGE = 100;
/** No gap brings more events than the journal keeps. */
const MOST_EVENTS = 10_000;

/** Fills the gaps of one account's rooms. */
export class GapFiller {
  readonly #requests: Requests;
  readonly #store: Store;
  readonly #self: string;
  readonly #now: () => number;

  /** `self`: our own user id; `now` in milliseconds since the epoch. */
  constructor(requests: Requests, store: Store, self: string, now: () => number) {
    this.#requests = requests;
    this.#store = store;
    this.#self = self;
    this.#now = now;
  }

  /**
   * Fills gaps beside other work, each room's by itself: one whose history cannot be had must not hold up the others.
   *
   * @param filled told after each gap
   * @returns to be called when there may be gaps
   */
  fillBeside(chores: Chores, pace: () => Pace, filled: () => void): () => void {
    const rooms = new Map<string, { wake(): void }>();
    return () => {
      for (const { roomId } of this.#store.sync.gaps()) {
        let room = rooms.get(roomId);
        if (room === undefined) {
          const fillRoom = async (signal: AbortSignal): Promise<void> => {
            while (await this.#fill(roomId, signal)) filled();
          };
          rooms.set(roomId, room = chores.add(fillRoom, tireless(pace())));
        }
        room.wake();
      }
    };
  }

  /** Fills a room's oldest gap; false if there is none. */
  async #fill(roomId: string, signal: AbortSignal): Promise<boolean> {
    const gap = this.#store.sync.gaps().find((each) => each.roomId === roomId);
    if (gap !== undefined) this.#store.sync.fillGap(gap.id, await this.#missing(gap, signal));
    return gap !== undefined;
  }

  /** The events of a gap, oldest first. */
  async #missing(gap: Gap, signal: AbortSignal): Promise<NewEvent[]> {
    const missing: NewEvent[] = [];
    try {
      for (let from: string | undefined = gap.from; from !== undefined && missing.length < MOST_EVENTS;) {
        const page = await this.#page(gap, from, signal);
        for (const event of list(page["chunk"]).map(object)) {
          if (gap.to === undefined && this.#isOwnJoin(event)) return missing.reverse();
          const made = timelineEvent(gap.roomId, event, this.#self, this.#now());
          if (made !== undefined) missing.push(made);
        }
        const next = text(page["end"]);
        from = next === from ? undefined : next;
      }
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      log.warning("a gap in {room} stays: the homeserver does not show its history: {reason}", {
        room: gap.roomId,
        reason: error.message,
      });
    }
    return missing.reverse();
  }

  async #page(gap: Gap, from: string, signal: AbortSignal): Promise<Json> {
    const { not_senders: _, ...everyone } = timelineFilter(this.#self);
    const { json } = await this.#requests.send({
      method: "GET",
      path: path`/_matrix/client/v3/rooms/${gap.roomId}/messages`,
      query: {
        dir: "b",
        from,
        to: gap.to,
        limit: String(PAGE),
        filter: JSON.stringify(gap.to === undefined ? everyone : timelineFilter(this.#self)),
      },
    }, signal);
    return json;
  }

  /** The event by which we came into the room: what stands before it was not said to us. */
  #isOwnJoin(event: Json): boolean {
    const before = text(object(object(event["unsigned"])["prev_content"])["membership"]);
    return event["type"] === "m.room.member" && event["state_key"] === this.#self &&
      object(event["content"])["membership"] === "join" && before !== "join";
  }
}
