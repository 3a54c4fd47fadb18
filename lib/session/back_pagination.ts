/**
 * Filling the gaps that limited timelines leave, by reading a room's history backwards. Knows where events are put,
 * not what they mean.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError } from "../errors.ts";
import type { Gap, NewEvent } from "../store/mod.ts";
import { type Chores, type Pace, tireless } from "./chores.ts";
import { type Json, list, object, text } from "../json.ts";
import { path } from "./homeserver_client.ts";
import type { SessionParts } from "./session.ts";
import { timelineEvent, timelineFilter } from "./sync_response.ts";

const log = getLogger(["openclaw-toggle", "session"]);
const PAGE = 100;
/** No gap brings more events than the journal keeps. */
const MOST_EVENTS = 10_000;

type Parts = Pick<SessionParts, "requests" | "store" | "self" | "now">;

/**
 * Fills gaps beside other work, each room's by itself: one whose history cannot be had must not hold up the others.
 *
 * @param filled told after each gap
 * @returns to be called when there may be gaps
 */
export function gapFiller(parts: Parts, chores: Chores, pace: () => Pace, filled: () => void): () => void {
  const rooms = new Map<string, { wake(): void }>();
  return () => {
    for (const { roomId } of parts.store.rooms.gaps()) {
      let room = rooms.get(roomId);
      if (room === undefined) {
        const fillRoom = async (signal: AbortSignal): Promise<void> => {
          while (await fillOldest(parts, roomId, signal)) filled();
        };
        rooms.set(roomId, room = chores.add(fillRoom, tireless(pace())));
      }
      room.wake();
    }
  };
}

/** Fills a room's oldest gap; false if there is none. */
async function fillOldest(parts: Parts, roomId: string, signal: AbortSignal): Promise<boolean> {
  const { rooms } = parts.store;
  const gap = rooms.gaps().find((each) => each.roomId === roomId);
  if (gap !== undefined) rooms.fillGap(gap.id, await missing(parts, gap, signal));
  return gap !== undefined;
}

/** The events of a gap, oldest first. */
async function missing(parts: Parts, gap: Gap, signal: AbortSignal): Promise<NewEvent[]> {
  const { self, now } = parts;
  const found: NewEvent[] = [];
  try {
    for (let from: string | undefined = gap.from; from !== undefined && found.length < MOST_EVENTS;) {
      const page = await pageOf(parts, gap, from, signal);
      for (const event of list(page["chunk"]).map(object)) {
        if (gap.to === undefined && isOwnJoin(event, self)) return found.reverse();
        const made = timelineEvent(gap.roomId, event, self, now());
        if (made !== undefined) found.push(made);
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
  return found.reverse();
}

async function pageOf({ requests, self }: Parts, gap: Gap, from: string, signal: AbortSignal): Promise<Json> {
  const { not_senders: _, ...everyone } = timelineFilter(self);
  const { json } = await requests.send({
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

/** The event by which we came into the room: what stands before it was not said to us. */
function isOwnJoin(event: Json, self: string): boolean {
  const before = text(object(object(event["unsigned"])["prev_content"])["membership"]);
  return event["type"] === "m.room.member" && event["state_key"] === self &&
    object(event["content"])["membership"] === "join" && before !== "join";
}
