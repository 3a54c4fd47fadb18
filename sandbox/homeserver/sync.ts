/**
 * /sync: returns what has happened since a token, and waits if nothing has.
 *
 * @module
 */
import type { Accounts, Session } from "./accounts.ts";
import { clientEvent, passes, placeOf, type Viewer } from "./events.ts";
import type { Inbox } from "./inbox.ts";
import type { Keys } from "./keys.ts";
import { type JsonObject, MatrixError, objectOf, type Stream, textsOf } from "./protocol.ts";
import type { Room, RoomEvent, Rooms } from "./rooms.ts";

/** Data that syncing reads. */
export interface Sources {
  readonly accounts: Accounts;
  readonly rooms: Rooms;
  readonly keys: Keys;
  readonly inbox: Inbox;
  readonly stream: Stream;
  /** Wall clock, milliseconds since the epoch. */
  readonly now: () => number;
}

/** GET /sync (Matrix spec v1.16, client-server API, 9.4). Waits for news up to `timeout`. */
export async function sync(
  sources: Sources,
  session: Session,
  query: URLSearchParams,
  signal: AbortSignal,
): Promise<JsonObject> {
  const since = query.get("since") ?? undefined;
  const fullState = query.get("full_state") === "true";
  const filter = filterOf(session, query.get("filter"));
  const deadline = performance.now() + Number(query.get("timeout") ?? 0);
  while (true) {
    const { body, news } = look(sources, session, since, fullState, filter);
    if (since === undefined || fullState || news) return body;
    if (!await sources.stream.changed(deadline - performance.now(), signal)) return body;
  }
}

function filterOf(session: Session, given: string | null): JsonObject {
  if (given === null || given.startsWith("{")) return objectOf(JSON.parse(given ?? "{}"));
  const stored = session.user.filters[Number(given)];
  if (stored === undefined) throw new MatrixError(400, "M_INVALID_PARAM", "No such filter");
  return stored;
}

function look(
  { rooms, keys, inbox, stream, now }: Sources,
  { user, deviceId }: Session,
  token: string | undefined,
  fullState: boolean,
  filter: JsonObject,
): { body: JsonObject; news: boolean } {
  const { userId } = user;
  const since = token === undefined ? 0 : placeOf(token);
  const toDevice = inbox.take(userId, deviceId, Number(token?.split("_")[1] ?? 0));
  const viewer: Viewer = { userId, deviceId, nowMs: now() };
  const roomFilter = objectOf(filter["room"]);
  const join: JsonObject = {}, invite: JsonObject = {}, leave: JsonObject = {};
  for (const room of rooms.all()) {
    const membership = room.membership(userId);
    const moved = room.membershipPlace(userId) > since;
    if (membership === "invite") {
      if (moved) invite[room.roomId] = { invite_state: { events: room.invitation(userId) } };
    } else if (membership === "join") {
      const news = roomNews(room, viewer, token === undefined ? undefined : since, fullState, roomFilter);
      if (news !== undefined) join[room.roomId] = news;
    } else if (moved && token !== undefined) {
      leave[room.roomId] = roomNews(room, viewer, since, false, roomFilter);
    }
  }
  const lists = token === undefined ? {} : deviceLists(rooms.all(), keys, userId, since);
  const accountData = [...user.accountData]
    .filter(([type, { place }]) => place > since && passes(objectOf(filter["account_data"]), { type }))
    .map(([type, { content }]) => ({ type, content }));
  const sections = {
    ...present("rooms", { ...present("join", join), ...present("invite", invite), ...present("leave", leave) }),
    ...(toDevice.events.length > 0 ? { to_device: { events: toDevice.events } } : {}),
    ...(accountData.length > 0 ? { account_data: { events: accountData } } : {}),
    ...present("device_lists", lists),
  };
  const body = {
    next_batch: `s${stream.place}_${toDevice.upTo}`,
    device_one_time_keys_count: keys.counts(userId, deviceId),
    device_unused_fallback_key_types: keys.unusedFallbacks(userId, deviceId),
    ...sections,
  };
  return { body, news: Object.keys(sections).length > 0 };
}

/** Returns a section under its name. Omits it if it is empty, as Synapse does. */
function present(name: string, section: JsonObject): JsonObject {
  return Object.keys(section).length > 0 ? { [name]: section } : {};
}

/** Returns a room's section; undefined if nothing is new in it. `since` is undefined in an initial sync. */
function roomNews(
  room: Room,
  viewer: Viewer,
  since: number | undefined,
  fullState: boolean,
  filter: JsonObject,
): JsonObject | undefined {
  const { userId } = viewer;
  const left = room.membership(userId) !== "join";
  const until = left ? room.membershipPlace(userId) : Infinity;
  const newlyJoined = since !== undefined && !left && room.membership(userId, since) !== "join";
  const timelineFilter = objectOf(filter["timeline"]);
  const limit = Number(timelineFilter["limit"] ?? 10);
  const after = since === undefined || newlyJoined ? 0 : since;

  const events: RoomEvent[] = [];
  let more = false;
  for (let index = room.timeline.length - 1; index >= 0 && !more; index--) {
    const event = room.timeline[index];
    if (event === undefined || event.place <= after) break;
    if (event.place > until || !room.visible(userId, event) || !passes(timelineFilter, event)) continue;
    if (events.length === limit) more = true;
    else events.unshift(event);
  }
  const first = events[0]?.place;
  const whole = since === undefined || newlyJoined || fullState;
  const stateUpTo = (first ?? Infinity) - 1;
  const state = whole ? room.stateBetween(0, stateUpTo) : more ? room.stateBetween(after, stateUpTo) : [];
  const stateFilter = objectOf(filter["state"]);
  const isLazy = stateFilter["lazy_load_members"] === true;
  const spoken = new Set([userId, ...events.map(({ sender }) => sender)]);
  const shown = state.filter((event) =>
    passes(stateFilter, event) && !(isLazy && event.type === "m.room.member" && !spoken.has(event.state_key ?? ""))
  );
  const ephemeral = left ? [] : ephemeralOf(room, after, objectOf(filter["ephemeral"]));
  if (events.length === 0 && shown.length === 0 && ephemeral.length === 0 && !whole) return undefined;
  return {
    timeline: {
      events: events.map((event) => clientEvent(room, event, viewer)),
      limited: more || newlyJoined,
      prev_batch: `t${first === undefined ? after : first - 1}`,
    },
    state: { events: shown.map((event) => clientEvent(room, event, viewer)) },
    account_data: { events: [] },
    ...(left ? {} : {
      ephemeral: { events: ephemeral },
      unread_notifications: { notification_count: 0, highlight_count: 0 },
      summary: {},
    }),
  };
}

/** Returns the typing users (Matrix spec v1.16, client-server API, 11.5) if they have changed. */
function ephemeralOf(room: Room, after: number, filter: JsonObject): JsonObject[] {
  const event = { type: "m.typing", content: { user_ids: room.typing } };
  const isWanted = passes(filter, event) &&
    (!Array.isArray(filter["rooms"]) || textsOf(filter["rooms"]).includes(room.roomId));
  return isWanted && room.typingPlace > after ? [event] : [];
}

/**
 * Returns whose devices must be queried again, and who is no longer tracked (Matrix spec v1.16, client-server API,
 * 11.12.3).
 */
function deviceLists(rooms: Room[], keys: Keys, userId: string, since: number): JsonObject {
  const shared = rooms.filter((room) => room.membership(userId) === "join");
  const near = new Set([userId, ...shared.flatMap((room) => room.members("join"))]);
  const changed = new Set(keys.changedSince(since, userId).filter((other) => near.has(other)));
  const left = new Set<string>();
  for (const room of rooms) {
    const before = room.membership(userId, since) === "join";
    const now = room.membership(userId) === "join";
    if (!before && !now) continue;
    for (const other of room.everMembers()) {
      const present = room.membership(other);
      const moved = room.membershipPlace(other) > since && room.membership(other, since) !== present;
      if (now && (moved || !before) && (present === "join" || present === "invite")) changed.add(other);
      if (before && !near.has(other) && room.membership(other, since) === "join") left.add(other);
    }
  }
  return {
    ...(changed.size > 0 ? { changed: [...changed] } : {}),
    ...(left.size > 0 ? { left: [...left] } : {}),
  };
}
