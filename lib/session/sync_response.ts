/**
 * Applying a sync answer to the store: rooms, members, events, gaps and the token, in one transaction. Knows nothing
 * of keys, which are handed to the crypto before, nor of what the events mean.
 *
 * @module
 */

import type { NewEvent, Store, StoredRoom } from "../store/mod.ts";
import { count, type Json, list, object, objects, text, texts } from "../json.ts";

const STATE_TYPES = ["m.room.member", "m.room.encryption", "m.room.create"];
const TIMELINE_TYPES = [...STATE_TYPES, "m.room.encrypted", "m.room.message", "m.key.verification.*"];
/** What a timeline may bring before the server says `limited` and the rest is fetched. */
const TIMELINE_LIMIT = 50;

/** What we want of timelines, also of those that fill gaps; own messages would only wake us up. */
export function timelineFilter(self: string): Json {
  return { types: TIMELINE_TYPES, not_senders: [self], limit: TIMELINE_LIMIT };
}

/** The filter of every sync (Matrix spec v1.16, client-server API, 6.2). Members are not loaded lazily: keys go to all. */
export function syncFilter(self: string): string {
  const nothing = { not_types: ["*"] };
  return JSON.stringify({
    presence: nothing,
    account_data: nothing,
    room: {
      state: { types: STATE_TYPES },
      timeline: timelineFilter(self),
      ephemeral: nothing,
      account_data: nothing,
    },
  });
}

/** What a sync answer has changed, for those who want to look. */
export interface SyncEffect {
  /** New events may be handled. */
  events: boolean;
  /** Invitations or memberships have changed. */
  rooms: boolean;
  /** Timelines have gaps that are to be filled. */
  gaps: boolean;
  /** Who asks, device to device, to verify us. */
  readonly verifiers: ReadonlySet<string>;
  /** Rooms whose session is not to be used again: a member has left, or the policy has changed. */
  readonly renew: string[];
}

/** Applies sync answers to one account's store. */
export class SyncApplier {
  readonly #store: Store;
  readonly #self: string;
  readonly #now: () => number;

  /** `self`: our own user id; `now` in milliseconds since the epoch. */
  constructor(store: Store, self: string, now: () => number) {
    this.#store = store;
    this.#self = self;
    this.#now = now;
  }

  /** Applies one answer; all of it is on disk when it returns, or nothing. */
  apply(answer: Json): SyncEffect {
    const before = this.#store.rooms.syncToken();
    const verifiers = this.#verifiers(answer);
    const effect: SyncEffect = { events: false, rooms: false, gaps: false, verifiers, renew: [] };
    this.#store.transaction(() => {
      const rooms = object(answer["rooms"]);
      for (const [roomId, room] of objects(rooms["invite"])) this.#invited(roomId, room, effect);
      for (const [roomId, room] of objects(rooms["leave"])) this.#left(roomId, room, effect);
      for (const [roomId, room] of objects(rooms["join"])) {
        this.#joined(roomId, room, before, text(answer["next_batch"]), effect);
      }
      const token = text(answer["next_batch"]);
      if (token !== undefined) this.#store.rooms.setSyncToken(token);
    });
    return effect;
  }

  #verifiers(answer: Json): Set<string> {
    const requests = list(object(answer["to_device"])["events"]).map(object)
      .filter((event) => event["type"] === "m.key.verification.request");
    return new Set(texts(requests.map((event) => event["sender"])).filter((sender) => sender !== this.#self));
  }

  /** Every member event for us counts: the stripped state of an invitation may be forged. */
  #invited(roomId: string, room: Json, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    const inviters = list(object(room["invite_state"])["events"]).map(object)
      .filter((event) => event["type"] === "m.room.member" && event["state_key"] === this.#self)
      .map((event) => text(event["sender"]) ?? "");
    this.#store.rooms.save({ ...blank(roomId), ...known, membership: "invite", inviters });
    effect.rooms = true;
  }

  #left(roomId: string, room: Json, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    if (known === undefined) return;
    this.#state(
      roomId,
      [...list(object(room["state"])["events"]), ...list(object(room["timeline"])["events"])],
      effect,
    );
    this.#store.rooms.forget(roomId);
    effect.rooms = true;
  }

  #joined(roomId: string, room: Json, before: string | undefined, after: string | undefined, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    const entered = known?.membership !== "join";
    const timeline = object(room["timeline"]);
    const events = list(timeline["events"]).map(object);
    if (entered) {
      this.#store.rooms.save({ ...blank(roomId), ...known, membership: "join", inviters: [] });
      // The server sends the whole state of a room that it takes for new to us; what we had may be old.
      this.#store.rooms.replaceMembers(roomId, new Map([[this.#self, "join"]]));
      effect.rooms = true;
    }
    this.#state(roomId, [...list(object(room["state"])["events"]), ...events], effect);

    if (before === undefined) {
      // What was said before this store existed is nobody's command to us.
      for (const event of events) this.#add(roomId, event, { state: "settled" });
      return;
    }
    // With another program's token, a room that is new to us is not new: the timeline begins where that one stopped.
    const joinedNow = entered && !this.#store.rooms.tokenIsAdopted();
    const from = joinedNow ? after : text(timeline["prev_batch"]);
    if (joinedNow && from !== undefined) {
      // Our own join is not in this timeline (it is filtered); what came after it is found by reading backwards.
      this.#store.rooms.addGap({ roomId, from, to: undefined });
      effect.gaps = true;
      return;
    }
    if (timeline["limited"] === true && from !== undefined) {
      this.#store.rooms.addGap({ roomId, from, to: before });
      effect.gaps = true;
    }
    const gap = this.#store.rooms.openGap(roomId);
    for (const event of events) {
      const isNew = this.#add(roomId, event, gap === undefined ? { state: "new" } : { state: "held", gap });
      if (isNew && gap === undefined) effect.events = true;
    }
  }

  #add(roomId: string, event: Json, how: Parameters<Store["rooms"]["addEvent"]>[1]): boolean {
    const made = timelineEvent(roomId, event, this.#self, this.#now());
    return made !== undefined && this.#store.rooms.addEvent(made, how);
  }

  #state(roomId: string, events: readonly unknown[], effect: SyncEffect): void {
    for (const event of events.map(object)) {
      const stateKey = text(event["state_key"]);
      if (stateKey === undefined) continue;
      const content = object(event["content"]);
      if (event["type"] === "m.room.member") {
        // Ours is told by where the room stands in the answer; the event that is shown may be the invitation.
        if (stateKey === this.#self) continue;
        const membership = text(content["membership"]) ?? "leave";
        const was = this.#store.rooms.members(roomId).get(stateKey);
        if (was === membership) continue;
        this.#store.rooms.setMember(roomId, stateKey, membership);
        effect.rooms = true;
        if (was === "join") effect.renew.push(roomId);
      } else if (event["type"] === "m.room.encryption" && stateKey === "") {
        const room = this.#store.rooms.get(roomId) ?? blank(roomId);
        this.#store.rooms.save({ ...room, encryption: encryption(content) });
        effect.renew.push(roomId);
      }
    }
  }
}

/**
 * An event for the inbox.
 *
 * @returns undefined for what nobody could have meant as a message: state, our own, malformed
 */
export function timelineEvent(roomId: string, event: Json, self: string, nowMs: number): NewEvent | undefined {
  const eventId = text(event["event_id"]);
  const sender = text(event["sender"]);
  if (eventId === undefined || sender === undefined || sender === self || "state_key" in event) return undefined;
  const type = text(event["type"]) ?? "";
  if (!["m.room.encrypted", "m.room.message"].includes(type) && !type.startsWith("m.key.verification.")) {
    return undefined;
  }
  return { roomId, eventId, sender, event, receivedAtMs: nowMs, ageMs: count(object(event["unsigned"])["age"]) };
}

function blank(roomId: string): StoredRoom {
  return { roomId, membership: "leave", encryption: undefined, inviters: [] };
}

function encryption(content: Json): NonNullable<StoredRoom["encryption"]> {
  const periodMs = count(content["rotation_period_ms"]);
  const messages = count(content["rotation_period_msgs"]);
  return {
    algorithm: text(content["algorithm"]) ?? "",
    ...(periodMs === undefined ? {} : { rotationPeriodMs: periodMs }),
    ...(messages === undefined ? {} : { rotationPeriodMessages: messages }),
  };
}
