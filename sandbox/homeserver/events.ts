/**
 * The client's view of events: JSON form, filters and pagination.
 *
 * @module
 */
import { type JsonObject, MatrixError, objectOf, textsOf } from "./protocol.ts";
import type { Room, RoomEvent } from "./rooms.ts";

/** The client that an event is shown to, and the time. */
export interface Viewer {
  readonly userId: string;
  /** Device id. Only the sending device sees its transaction ids. */
  readonly deviceId: string;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** Returns an event in client format (Matrix spec v1.16, client-server API, 8.3.1). */
export function clientEvent(room: Room, event: RoomEvent, viewer: Viewer): JsonObject {
  const { type, sender, content, event_id, origin_server_ts, state_key, replaces, transaction } = event;
  const own = transaction?.userId === viewer.userId && transaction.deviceId === viewer.deviceId;
  const unsigned = {
    age: viewer.nowMs - event.receivedAtMs,
    membership: room.membership(viewer.userId, event.place),
    ...(own ? { transaction_id: transaction.id } : {}),
    ...(replaces === undefined ? {} : {
      prev_content: replaces.content,
      prev_sender: replaces.sender,
      replaces_state: replaces.event_id,
    }),
  };
  const state = state_key === undefined ? {} : { state_key };
  return { type, sender, content, event_id, origin_server_ts, ...state, unsigned };
}

/** Whether an event passes a filter (Matrix spec v1.16, client-server API, 6). */
export function passes(filter: JsonObject, event: { readonly type: string; readonly sender?: string }): boolean {
  const matches = (pattern: string) =>
    pattern.endsWith("*") ? event.type.startsWith(pattern.slice(0, -1)) : event.type === pattern;
  const { sender = "" } = event;
  if (textsOf(filter["not_senders"]).includes(sender) || textsOf(filter["not_types"]).some(matches)) return false;
  if (Array.isArray(filter["senders"]) && !textsOf(filter["senders"]).includes(sender)) return false;
  return !Array.isArray(filter["types"]) || textsOf(filter["types"]).some(matches);
}

/**
 * Returns the stream position in a pagination or sync token.
 *
 * @throws MatrixError 400 if the token is invalid
 */
export function placeOf(token: string): number {
  const place = /^[st](\d+)/.exec(token)?.[1];
  if (place === undefined) throw new MatrixError(400, "M_INVALID_PARAM", `Invalid token ${token}`);
  return Number(place);
}

/** GET /rooms/{roomId}/messages (Matrix spec v1.16, client-server API, 8.5). A token points behind its position. */
export function page(room: Room, query: URLSearchParams, viewer: Viewer): JsonObject {
  const backwards = query.get("dir") !== "f";
  const limit = Number(query.get("limit") ?? 10);
  const filter = objectOf(JSON.parse(query.get("filter") ?? "{}"));
  const from = query.has("from") ? placeOf(query.get("from") ?? "") : backwards ? Infinity : 0;
  const to = query.has("to") ? placeOf(query.get("to") ?? "") : backwards ? 0 : Infinity;
  const [low, high] = backwards ? [to, from] : [from, to];
  const within = room.timeline.filter((event) =>
    event.place > low && event.place <= high && room.visible(viewer.userId, event) && passes(filter, event)
  );
  const chunk = (backwards ? within.reverse() : within).slice(0, limit);
  const last = chunk.at(-1);
  const end = last === undefined ? {} : { end: `t${backwards ? last.place - 1 : last.place}` };
  const start = query.get("from") ?? `t${backwards ? room.timeline.at(-1)?.place ?? 0 : 0}`;
  const events = chunk.map((event) => ({ ...clientEvent(room, event, viewer), room_id: room.roomId }));
  return { chunk: events, start, ...end };
}
