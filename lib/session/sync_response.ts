/**
 * Applying a sync response to the store: rooms, members, events, gaps and the token, in one transaction. Messages of
 * users who are not allowed end here. Keys were handed to the crypto before.
 *
 * @module
 */

import type { Entering, NewEvent, Store, StoredEncryption, StoredRoom } from "../store/mod.ts";
import { count, type Json, list, object, objects, text, texts } from "../json.ts";
import type { RefusedEvent } from "./facts.ts";

/** The one algorithm of room encryption (client-server API, 11.12.4.3). */
export const MEGOLM = "m.megolm.v1.aes-sha2";
const STATE_TYPES = ["m.room.member", "m.room.encryption", "m.room.create"];
const TIMELINE_TYPES = [...STATE_TYPES, "m.room.encrypted", "m.room.message", "m.key.verification.*"];
/** What a timeline may bring before the server says `limited` and the rest is fetched. */
const TIMELINE_LIMIT = 50;
/** Gaps of one room that are open at once; a server that leaves out more has cut the history off. */
const MAX_GAPS = 100;
/** Inviters that are kept of one invitation. */
const MAX_INVITERS = 10;
/** Rooms of which we are told who is typing, at most; and their ids as they stand in a URL. */
export const MAX_TYPING_ROOMS = 50;
const MAX_TYPING_LENGTH = 2_048;
/** Of a user id (Matrix spec v1.16, appendices, 4.2.1). */
const MAX_USER_ID_LENGTH = 255;
/** Of a token as it stands in a URL: servers and proxies take URLs of 8,192 bytes, and there is a filter besides. */
const MAX_TOKEN_LENGTH = 4_096;

/** What we want of timelines, also of those that fill gaps; own messages would only wake us up. */
export function timelineFilter(self: string): Json {
  return { types: TIMELINE_TYPES, not_senders: [self], limit: TIMELINE_LIMIT };
}

/**
 * The filter of a sync (Matrix spec v1.16, client-server API, 6.2). Members are not loaded lazily: keys go to all.
 *
 * @param typingRooms rooms in which it is of interest who is typing; `reduced` asks for the least, where all would be too
 * much: an event of each timeline, members only of who speaks
 */
export function syncFilter(self: string, typingRooms: readonly string[] | "reduced"): string {
  const isReduced = typingRooms === "reduced";
  const rooms = isReduced ? [] : fitting(typingRooms);
  const nothing = { not_types: ["*"] };
  const typing = { types: ["m.typing"], rooms };
  return JSON.stringify({
    presence: nothing,
    account_data: nothing,
    room: {
      state: { types: STATE_TYPES, ...(isReduced ? { lazy_load_members: true } : {}) },
      timeline: { ...timelineFilter(self), ...(isReduced ? { limit: 1 } : {}) },
      ephemeral: rooms.length === 0 ? nothing : typing,
      account_data: nothing,
    },
  });
}

/** So many of the rooms as a URL has room for. */
function fitting(roomIds: readonly string[]): string[] {
  let length = 0;
  return roomIds.filter((roomId) => (length += encodeURIComponent(`"${roomId}",`).length) <= MAX_TYPING_LENGTH);
}

/** The value if it is a token (`next_batch`, `prev_batch`, `end`) that the server can be given back. */
export function token(value: unknown): string | undefined {
  const found = text(value);
  return found !== undefined && encodeURIComponent(found).length <= MAX_TOKEN_LENGTH ? found : undefined;
}

/** What a sync response has changed, for those who want to look. */
export interface SyncEffect {
  /** New events may be handled. */
  events: boolean;
  /** Invitations, rooms of ours, or an allowed user's presence in one have changed. */
  rooms: boolean;
  /** Timelines have gaps that are to be filled. */
  gaps: boolean;
  /** Our own name has changed in a room. */
  names: boolean;
  /** Messages of users who are not allowed. */
  readonly refused: RefusedEvent[];
  /** What was written in rooms where agents are. */
  readonly activity: { readonly messages: NewEvent[]; readonly typing: Map<string, string[]> };
  /** Who asks, device to device, to verify us. */
  readonly verifiers: ReadonlySet<string>;
  /** Rooms whose session is not to be used again: a member has left, or the policy has changed. */
  readonly rotate: Set<string>;
}

/** Applies sync responses to one account's store. */
export class SyncApplier {
  readonly #store: Store;
  readonly #self: string;
  readonly #allowedUsers: ReadonlySet<string>;
  readonly #agents: ReadonlySet<string>;
  readonly #now: () => number;

  /** `self`: our own user id; `now` in milliseconds since the epoch. */
  constructor(
    store: Store,
    self: string,
    { allowedUsers, agents }: { readonly allowedUsers: ReadonlySet<string>; readonly agents: ReadonlySet<string> },
    now: () => number,
  ) {
    this.#store = store;
    this.#self = self;
    this.#allowedUsers = allowedUsers;
    this.#agents = agents;
    this.#now = now;
  }

  /**
   * Applies one response; all of it is on disk when it returns, or nothing. What changes nothing costs no commit.
   *
   * @param isDurable the crypto has written down its part of it
   */
  apply(answer: Json, isDurable: boolean): SyncEffect {
    const { rooms } = this.#store;
    const before = rooms.syncToken();
    const after = text(answer["next_batch"]) ?? "";
    const effect: SyncEffect = {
      events: false,
      rooms: false,
      gaps: false,
      names: false,
      refused: [],
      activity: { messages: [], typing: new Map() },
      verifiers: this.#verifiers(answer),
      rotate: new Set(),
    };
    rooms.advance(after, isDurable, () => {
      const { invite, leave, join } = object(answer["rooms"]);
      for (const [roomId, room] of objects(invite)) this.#invited(roomId, room, effect);
      for (const [roomId, room] of objects(leave)) this.#left(roomId, room, effect);
      for (const [roomId, room] of objects(join)) this.#joined(roomId, room, before, after, effect);
    });
    return effect;
  }

  #verifiers(answer: Json): Set<string> {
    const requests = list(object(answer["to_device"])["events"]).map(object)
      .filter((event) => event["type"] === "m.key.verification.request");
    return new Set(texts(requests.map((event) => event["sender"])).filter((sender) => sender !== this.#self));
  }

  /**
   * Every member event for us counts: the stripped state of an invitation may be forged. It may come stripped, or whole
   * (MSC4319, "Including `m.room.member` events of the invited user in the `state` of invite rooms").
   */
  #invited(roomId: string, room: Json, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    const inviters = ["invite_state", "state", "org.matrix.msc4319.state"]
      .flatMap((where) => list(object(room[where])["events"])).map(object)
      .filter((event) => event["type"] === "m.room.member" && event["state_key"] === this.#self)
      .map((event) => text(event["sender"]) ?? "")
      .map((sender) => sender.length > MAX_USER_ID_LENGTH ? "" : sender);
    const named = [...new Set(inviters)];
    // Of more, all that counts is that they can't all be allowed: "" is nobody's user id.
    if (named.length > MAX_INVITERS) named.splice(MAX_INVITERS, Infinity, "");
    this.#store.rooms.save({ ...blank(roomId), ...known, membership: "invite", inviters: named });
    effect.rooms = true;
  }

  #left(roomId: string, room: Json, effect: SyncEffect): void {
    if (this.#store.rooms.get(roomId) === undefined) return;
    this.#state(roomId, stateOf(room), effect);
    this.#store.rooms.forget(roomId);
    effect.rooms = true;
  }

  #joined(roomId: string, room: Json, before: string | undefined, after: string, effect: SyncEffect): void {
    const { rooms } = this.#store;
    const known = rooms.get(roomId);
    const entered = known?.membership !== "join";
    const timeline = object(room["timeline"]);
    const events = list(timeline["events"]).map(object);
    if (entered) {
      rooms.save({ ...blank(roomId), ...known, membership: "join", inviters: [] });
      // The server sends the whole state of a room that it takes for new to us; what we had may be old.
      rooms.forgetMembers(roomId);
      rooms.updateMembers(roomId, [[this.#self, true]]);
      effect.rooms = true;
    }
    this.#state(roomId, stateOf(room), effect);
    this.#typing(roomId, room, effect);

    if (before === undefined) {
      // What was said before this store existed is nobody's command to us.
      for (const event of events) this.#take(roomId, event, { state: "settled" }, effect);
      return;
    }
    // With another program's token, a room that is new to us is not new: the timeline begins where that one stopped.
    const joinedNow = entered && !rooms.tokenIsAdopted();
    const from = joinedNow ? after : token(timeline["prev_batch"]);
    if (joinedNow && from !== undefined) {
      // Our own join is not in this timeline (it is filtered); what came after it is found by reading backwards.
      rooms.addGap({ roomId, from, to: undefined });
      effect.gaps = true;
      return;
    }
    if (timeline["limited"] === true) {
      if (from === undefined) rooms.cutHistory(roomId);
      else this.#leaveGap(roomId, from, before, effect);
    }
    const gap = rooms.openGap(roomId);
    for (const event of events) {
      this.#take(roomId, event, gap === undefined ? { state: "new" } : { state: "held", gap }, effect);
    }
  }

  #leaveGap(roomId: string, from: string, to: string, effect: SyncEffect): void {
    const { rooms } = this.#store;
    effect.gaps = true;
    if (rooms.gapCount(roomId) < MAX_GAPS) rooms.addGap({ roomId, from, to });
    else rooms.cutHistory(roomId);
  }

  #take(roomId: string, event: Json, how: Entering, effect: SyncEffect): void {
    const message = messageOf(roomId, event, this.#self, this.#now());
    if (message === undefined) return;
    const { rooms } = this.#store;
    const isAgents = this.#agents.has(message.sender);
    if (!isAgents && !this.#allowedUsers.has(message.sender)) {
      // What was said before this store existed was not said to us, and is not refused.
      if (how.state !== "settled") effect.refused.push(refusal(message));
      return;
    }
    if (isWritten(message) && rooms.isAnyJoined(roomId, this.#agents)) effect.activity.messages.push(message);
    if (!isAgents && rooms.addEvent(message, how) && how.state === "new") effect.events = true;
  }

  /** An `m.typing` names all who are typing in the room (Matrix spec v1.16, client-server API, 11.5). */
  #typing(roomId: string, room: Json, effect: SyncEffect): void {
    if (this.#agents.size === 0) return;
    const event = list(object(room["ephemeral"])["events"]).map(object).findLast(({ type }) => type === "m.typing");
    if (event === undefined) return;
    const users = new Set(texts(object(event["content"])["user_ids"]));
    effect.activity.typing.set(roomId, [...this.#agents].filter((agent) => users.has(agent)));
  }

  #state(roomId: string, events: readonly Json[], effect: SyncEffect): void {
    const members: [userId: string, joined: boolean][] = [];
    const names = new Map<string, string | undefined>();
    for (const event of events) {
      const stateKey = text(event["state_key"]);
      const content = object(event["content"]);
      if (stateKey === undefined) continue;
      if (event["type"] === "m.room.encryption" && stateKey === "") this.#encrypted(roomId, content, effect);
      if (event["type"] !== "m.room.member") continue;
      // Whether we are there is told by where the room stands in the response: this event may be the invitation.
      if (stateKey !== this.#self) {
        members.push([stateKey, content["membership"] === "join"]);
        if (this.#allowedUsers.has(stateKey)) names.set(stateKey, text(content["displayname"]));
      } else if (content["membership"] === "join") this.#named(roomId, text(content["displayname"]), effect);
    }
    const { rooms } = this.#store;
    effect.rooms ||= members.some(([user, joined]) =>
      this.#allowedUsers.has(user) && rooms.isJoined(roomId, user) !== joined
    );
    if (rooms.updateMembers(roomId, members).length > 0) effect.rotate.add(roomId);
    for (const [user, name] of names) rooms.nameMember(roomId, user, name);
  }

  #encrypted(roomId: string, content: Json, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    const encryption = usableEncryption(content);
    if (known?.encrypted && (encryption === undefined || isSame(encryption, known.encryption))) return;
    this.#store.rooms.setEncrypted(roomId, encryption);
    effect.rotate.add(roomId);
  }

  #named(roomId: string, ownName: string | undefined, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    if (known === undefined || known.ownName === ownName) return;
    this.#store.rooms.save({ ...known, ownName });
    effect.names = true;
  }
}

/**
 * A message, or a step of a verification, for the inbox.
 *
 * @returns undefined for what nobody could have meant as a message: state, our own, redacted, malformed
 */
export function messageOf(roomId: string, event: Json, self: string, nowMs: number): NewEvent | undefined {
  const eventId = text(event["event_id"]);
  const sender = text(event["sender"]);
  if (eventId === undefined || sender === undefined || sender === self || "state_key" in event) return undefined;
  const type = text(event["type"]) ?? "";
  if (!["m.room.encrypted", "m.room.message"].includes(type) && !type.startsWith("m.key.verification.")) {
    return undefined;
  }
  if (Object.keys(object(event["content"])).length === 0) return undefined;
  return { roomId, eventId, sender, event, receivedAtMs: nowMs, ageMs: count(object(event["unsigned"])["age"]) };
}

/** A message, whatever it says: not a step of a verification. */
export function isWritten({ event }: NewEvent): boolean {
  return event["type"] === "m.room.message" || event["type"] === "m.room.encrypted";
}

/** What is told of a message that is not taken in. */
export function refusal({ roomId, eventId, sender }: NewEvent): RefusedEvent {
  return { roomId, eventId, sender };
}

/** The state events of a room in their order: before the timeline, then in it. */
function stateOf(room: Json): Json[] {
  return ["state", "timeline"].flatMap((where) => list(object(room[where])["events"])).map(object);
}

function blank(roomId: string): StoredRoom {
  return {
    roomId,
    membership: "leave",
    encrypted: false,
    encryption: undefined,
    inviters: [],
    ownName: undefined,
  };
}

/** Settings of `m.room.encryption` (client-server API, 11.12.5); undefined if we cannot encrypt by them. */
function usableEncryption(content: Json): StoredEncryption | undefined {
  const { algorithm, rotation_period_ms: periodMs, rotation_period_msgs: messages } = content;
  if (algorithm !== MEGOLM) return undefined;
  if ([periodMs, messages].some((value) => value !== undefined && count(value) === undefined)) return undefined;
  return {
    algorithm,
    ...(periodMs === undefined ? {} : { rotationPeriodMs: Number(periodMs) }),
    ...(messages === undefined ? {} : { rotationPeriodMessages: Number(messages) }),
  };
}

function isSame(one: StoredEncryption, other: StoredEncryption | undefined): boolean {
  return one.algorithm === other?.algorithm && one.rotationPeriodMs === other.rotationPeriodMs &&
    one.rotationPeriodMessages === other.rotationPeriodMessages;
}
