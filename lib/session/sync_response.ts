/**
 * Applies a sync response to the store in one transaction: rooms, members, events, gaps and the token. Messages of
 * users who aren't allowed are dropped here. The crypto has received its part before.
 *
 * @module
 */

import type { InitialState, NewEvent, Store, StoredEncryption, StoredRoom } from "../store/mod.ts";
import { count, identifier, type Json, list, object, objects, text, texts } from "../json.ts";
import type { RefusedEvent } from "./facts.ts";
import { memberEvents } from "./joined_members.ts";

/** The only algorithm for room encryption (client-server API, 11.12.4.3). */
export const MEGOLM = "m.megolm.v1.aes-sha2";
const STATE_TYPES = ["m.room.member", "m.room.encryption", "m.room.create"];
/** Steps of a verification in a room. Named one by one, because Dendrite on SQLite matches no wildcards. */
const VERIFICATION_TYPES = ["ready", "start", "accept", "key", "mac", "done", "cancel"]
  .map((step) => `m.key.verification.${step}`);
const TIMELINE_TYPES = [...STATE_TYPES, "m.room.encrypted", "m.room.message", ...VERIFICATION_TYPES];
/** Events per timeline. If there are more, the server sets `limited` and the rest is fetched by back pagination. */
const TIMELINE_LIMIT = 50;
/** Open gaps per room. Beyond that, the room's history is cut off. */
const MAX_GAPS = 100;
/** Inviters stored per invitation. */
const MAX_INVITERS = 10;
/** Limit on the rooms for which typing notifications are requested, and on the length of their IDs in the URL. */
export const MAX_TYPING_ROOMS = 50;
const MAX_TYPING_LENGTH = 2_048;
/** Longest display name that Synapse permits. */
const MAX_NAME_LENGTH = 256;
/**
 * Longest token, as encoded in a URL. Servers and proxies accept URLs of 8,192 bytes, and the filter takes some of
 * that.
 */
const MAX_TOKEN_LENGTH = 4_096;

/** Filter for timelines and back pagination. Own messages are left out, because they would only end polls. */
export function timelineFilter(self: string): Json {
  return { types: TIMELINE_TYPES, not_senders: [self], limit: TIMELINE_LIMIT };
}

/**
 * Builds the filter of a sync (Matrix spec v1.16, client-server API, 6.2). Members aren't lazy-loaded, because keys go
 * to all of them.
 *
 * @param typingRooms rooms to request typing notifications for. `reduced` is used when a full response is too large. It
 * requests one event per timeline, and only members who have sent something
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

/** Keeps as many rooms as fit into the URL. */
function fitting(roomIds: readonly string[]): string[] {
  let length = 0;
  return roomIds.filter((roomId) => (length += encodeURIComponent(`"${roomId}",`).length) <= MAX_TYPING_LENGTH);
}

/** Returns the value if it is a token (`next_batch`, `prev_batch`, `end`) that is short enough to send back. */
export function token(value: unknown): string | undefined {
  const found = text(value);
  return found !== undefined && encodeURIComponent(found).length <= MAX_TOKEN_LENGTH ? found : undefined;
}

/** What a sync response has changed. */
export interface SyncEffect {
  /** New events can be processed. */
  events: boolean;
  /** Invitations, our rooms, or an allowed user's membership in one have changed. */
  rooms: boolean;
  /** Timelines have gaps to fill. */
  gaps: boolean;
  /** Our display name in a room has changed. */
  names: boolean;
  /** Messages of users who aren't allowed. */
  readonly refused: RefusedEvent[];
  /** Activity in rooms that agents have joined. */
  readonly activity: { readonly messages: NewEvent[]; readonly typing: Map<string, string[]> };
  /** Users who have requested verification by a to-device message. */
  readonly verifiers: ReadonlySet<string>;
  /** Rooms whose session must be rotated, because a member has left or the encryption settings have changed. */
  readonly rotate: Set<string>;
}

/** Applies sync responses to one account's store. */
export class SyncApplier {
  readonly #store: Store;
  readonly #self: string;
  readonly #allowedUsers: ReadonlySet<string>;
  readonly #agents: ReadonlySet<string>;
  readonly #now: () => number;
  /** Queries for a room's members under way, and the users whose membership a sync response has reported meanwhile. */
  readonly #memberQueries = new Set<{ readonly roomId: string; readonly reported: Set<string> }>();

  /** `self` is our own user ID. `now` returns milliseconds since the epoch. */
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
   * Applies a response atomically. A response that changes nothing causes no commit.
   *
   * @param isDurable whether the crypto has stored something from this response, so that its token must be durable, too
   */
  apply(answer: Json, isDurable: boolean): SyncEffect {
    const { rooms } = this.#store;
    const before = rooms.syncToken();
    const after = text(answer["next_batch"]) ?? "";
    const effect = noEffect(this.#verifiers(answer));
    rooms.advance(after, isDurable, () => {
      const { invite, leave, join } = object(answer["rooms"]);
      for (const [roomId, room] of roomsIn(invite)) this.#invited(roomId, room, effect);
      for (const [roomId, room] of roomsIn(leave)) this.#left(roomId, room, effect);
      for (const [roomId, room] of roomsIn(join)) this.#joined(roomId, room, before, after, effect);
    });
    return effect;
  }

  /**
   * Asks for the joined members of a room and applies the answer, unless we have left meanwhile. If a sync response has
   * reported a user meanwhile, that report wins: the answer may be older.
   */
  async refreshMembers(roomId: string, ask: () => Promise<ReadonlyMap<string, Json>>): Promise<SyncEffect> {
    const query = { roomId, reported: new Set<string>() };
    this.#memberQueries.add(query);
    try {
      const joined = await ask();
      const { rooms } = this.#store;
      const effect = noEffect();
      this.#store.transaction(() => {
        if (rooms.get(roomId)?.membership !== "join") return;
        const events = memberEvents(rooms.joinedMembers(roomId), joined);
        this.#state(roomId, events.filter(({ state_key: user }) => !query.reported.has(String(user))), effect);
      });
      return effect;
    } finally {
      this.#memberQueries.delete(query);
    }
  }

  #verifiers(answer: Json): Set<string> {
    const requests = list(object(answer["to_device"])["events"]).map(object)
      .filter((event) => event["type"] === "m.key.verification.request");
    return new Set(texts(requests.map((event) => event["sender"])).filter((sender) => sender !== this.#self));
  }

  /**
   * Records an invitation. Stripped state can be forged, so the senders of all member events for us count as inviters.
   * These events may be stripped or complete (MSC4319, "Including `m.room.member` events of the invited user in the
   * `state` of invite rooms").
   */
  #invited(roomId: string, room: Json, effect: SyncEffect): void {
    const known = this.#store.rooms.get(roomId);
    const inviters = ["invite_state", "state", "org.matrix.msc4319.state"]
      .flatMap((where) => list(object(room[where])["events"])).map(object)
      .filter((event) => event["type"] === "m.room.member" && event["state_key"] === this.#self)
      .map((event) => identifier(event["sender"]) ?? "");
    const named = [...new Set(inviters)];
    // "" is not a user ID. It stands for the remaining inviters and keeps the list from being fully allowed.
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
      // The server sends the complete state of a newly joined room. What we have stored may be outdated.
      rooms.forgetMembers(roomId);
      rooms.updateMembers(roomId, [[this.#self, true]]);
      effect.rooms = true;
    }
    this.#state(roomId, stateOf(room), effect);
    this.#typing(roomId, room, effect);

    if (before === undefined) {
      // Messages from before this store existed are not commands to us.
      for (const event of events) this.#addEvent(roomId, event, { state: "settled" }, effect);
      return;
    }
    // An adopted token comes from another program: its timelines continue where that program stopped, even in rooms
    // that are new to us.
    const joinedNow = entered && !rooms.tokenIsAdopted();
    const from = joinedNow ? after : token(timeline["prev_batch"]);
    if (joinedNow && from !== undefined) {
      // The filter drops our own join from this timeline. Back pagination finds it, and what follows it.
      rooms.addGap({ roomId, from, to: undefined });
      effect.gaps = true;
      return;
    }
    if (timeline["limited"] === true) {
      if (from === undefined) rooms.recordCutOffHistory(roomId);
      else this.#leaveGap(roomId, from, before, effect);
    }
    const gap = rooms.openGap(roomId);
    for (const event of events) {
      this.#addEvent(roomId, event, gap === undefined ? { state: "new" } : { state: "held", gap }, effect);
    }
  }

  #leaveGap(roomId: string, from: string, to: string, effect: SyncEffect): void {
    const { rooms } = this.#store;
    effect.gaps = true;
    if (rooms.gapCount(roomId) < MAX_GAPS) rooms.addGap({ roomId, from, to });
    else rooms.recordCutOffHistory(roomId);
  }

  #addEvent(roomId: string, event: Json, initial: InitialState, effect: SyncEffect): void {
    const message = messageOf(roomId, event, this.#self, this.#now());
    if (message === undefined) return;
    const { rooms } = this.#store;
    const isAgents = this.#agents.has(message.sender);
    if (!isAgents && !this.#allowedUsers.has(message.sender)) {
      // Messages from before this store existed were not sent to us, so they are not reported as refused.
      if (initial.state !== "settled") effect.refused.push(refusal(message));
      return;
    }
    if (isWritten(message) && rooms.isAnyJoined(roomId, this.#agents)) effect.activity.messages.push(message);
    if (!isAgents && rooms.addEvent(message, initial) && initial.state === "new") effect.events = true;
  }

  /**
   * Records which agents are typing. `m.typing` lists everyone who is typing in the room (Matrix spec v1.16,
   * client-server API, 11.5).
   */
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
      const stateKey = identifier(event["state_key"]);
      const content = object(event["content"]);
      if (stateKey === undefined) continue;
      if (event["type"] === "m.room.encryption" && stateKey === "") this.#encrypted(roomId, content, effect);
      if (event["type"] !== "m.room.member") continue;
      // Our own membership follows from the section of the response that lists the room. This event may be the
      // invitation.
      if (stateKey !== this.#self) {
        members.push([stateKey, content["membership"] === "join"]);
        if (this.#allowedUsers.has(stateKey)) names.set(stateKey, nameIn(content));
      } else if (content["membership"] === "join") this.#named(roomId, nameIn(content), effect);
    }
    for (const { reported } of [...this.#memberQueries].filter((query) => query.roomId === roomId)) {
      for (const [user] of members) reported.add(user);
    }
    const { rooms } = this.#store;
    effect.rooms ||= members.some(([user, joined]) =>
      this.#allowedUsers.has(user) && rooms.isJoined(roomId, user) !== joined
    );
    if (rooms.updateMembers(roomId, members).length > 0) effect.rotate.add(roomId);
    for (const [user, name] of names) rooms.setMemberName(roomId, user, name);
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
 * Converts an event to a journal entry: a chat message or a verification step.
 *
 * @returns undefined for state events, our own, redacted and malformed ones
 */
export function messageOf(roomId: string, event: Json, self: string, nowMs: number): NewEvent | undefined {
  const eventId = identifier(event["event_id"]);
  const sender = identifier(event["sender"]);
  if (eventId === undefined || sender === undefined || sender === self || "state_key" in event) return undefined;
  const type = text(event["type"]) ?? "";
  if (!["m.room.encrypted", "m.room.message"].includes(type) && !type.startsWith("m.key.verification.")) {
    return undefined;
  }
  if (Object.keys(object(event["content"])).length === 0) return undefined;
  return { roomId, eventId, sender, json: event, receivedAtMs: nowMs, ageMs: count(object(event["unsigned"])["age"]) };
}

/** Reports whether a message is a chat message, as opposed to a verification step. The content doesn't matter. */
export function isWritten({ json: event }: NewEvent): boolean {
  return event["type"] === "m.room.message" || event["type"] === "m.room.encrypted";
}

/** Reduces a message that was dropped to what the listener gets. */
export function refusal({ roomId, eventId, sender }: NewEvent): RefusedEvent {
  return { roomId, eventId, sender };
}

/** Returns the rooms of a section of the response. A longer id is none, and would be stored with all that refers to it. */
function roomsIn(section: unknown): [roomId: string, room: Json][] {
  return objects(section).filter(([roomId]) => identifier(roomId) !== undefined);
}

/** Returns the display name in a member event, cut to the longest that homeservers permit. */
function nameIn(content: Json): string | undefined {
  return text(content["displayname"])?.slice(0, MAX_NAME_LENGTH);
}

/** Returns a room's state events in order: those before the timeline, then those in it. */
function stateOf(room: Json): Json[] {
  return ["state", "timeline"].flatMap((where) => list(object(room[where])["events"])).map(object);
}

function noEffect(verifiers: ReadonlySet<string> = new Set()): SyncEffect {
  return {
    events: false,
    rooms: false,
    gaps: false,
    names: false,
    refused: [],
    activity: { messages: [], typing: new Map() },
    verifiers,
    rotate: new Set(),
  };
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

/**
 * Reads the settings of `m.room.encryption` (client-server API, 11.12.5). Returns undefined if we don't support them.
 */
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
