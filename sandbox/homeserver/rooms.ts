/**
 * Rooms: timelines, state, members and authorization rules.
 *
 * @module
 */
import { forbidden, type JsonObject, MatrixError, notFound, objectOf, randomId, Stream, textsOf } from "./protocol.ts";

/** A stored event. Names with underscores are those of its JSON form. */
export interface RoomEvent {
  /** Position in the stream. */
  readonly place: number;
  readonly event_id: string;
  readonly type: string;
  readonly sender: string;
  readonly content: JsonObject;
  /** State key; undefined if it isn't a state event. */
  readonly state_key?: string | undefined;
  /** Milliseconds since the epoch, as claimed by the sender's server. */
  readonly origin_server_ts: number;
  /** When this server received it, milliseconds since the epoch. `unsigned.age` counts from here. */
  readonly receivedAtMs: number;
  /** Device and transaction id that it was sent with. */
  readonly transaction?: { readonly userId: string; readonly deviceId: string; readonly id: string };
  /** State event that it replaced. */
  readonly replaces: RoomEvent | undefined;
}

/** Input for a new event; the other fields are generated. `ageMs` is the age that it shall have already. */
export type NewEvent =
  & Pick<RoomEvent, "type" | "sender" | "content">
  & Partial<Pick<RoomEvent, "event_id" | "state_key" | "origin_server_ts" | "transaction">>
  & { readonly ageMs?: number };

const strippedTypes = ["create", "join_rules", "canonical_alias", "avatar", "encryption", "name", "topic"];

export class Room {
  readonly roomId: string;
  /** All events, oldest first. */
  readonly timeline: RoomEvent[] = [];
  /** Made-up stripped state that replaces the real one in a user's invitation. Set by attacks. */
  readonly forgedInvitations = new Map<string, JsonObject[]>();
  /** Stream position of the last change of the typing users. */
  typingPlace = 0;
  readonly #typing = new Set<string>();
  readonly #state = new Map<string, RoomEvent>();
  readonly #memberships = new Map<string, { place: number; membership: string }[]>();
  readonly #stream: Stream;
  readonly #now: () => number;

  /**
   * @param roomId room id
   * @param stream gives events their positions
   * @param now wall clock, milliseconds since the epoch
   */
  constructor(roomId: string, stream: Stream, now: () => number) {
    this.roomId = roomId;
    this.#stream = stream;
    this.#now = now;
  }

  /** Appends an event without authorization. */
  append({ ageMs = 0, ...given }: NewEvent): RoomEvent {
    const { type, state_key: stateKey, content } = given;
    const nowMs = this.#now();
    const replaces = stateKey === undefined ? undefined : this.state(type, stateKey);
    const made = { event_id: `$${randomId(43)}`, origin_server_ts: nowMs, receivedAtMs: nowMs - ageMs, replaces };
    const event: RoomEvent = { ...made, ...given, place: this.#stream.advance() };
    this.timeline.push(event);
    if (stateKey !== undefined) this.#state.set(`${type}\n${stateKey}`, event);
    if (stateKey !== undefined && type === "m.room.member") {
      const change = { place: event.place, membership: String(content["membership"]) };
      this.#memberships.set(stateKey, [...this.#memberships.get(stateKey) ?? [], change]);
    }
    return event;
  }

  /** Returns a current state event. */
  state(type: string, stateKey = ""): RoomEvent | undefined {
    return this.#state.get(`${type}\n${stateKey}`);
  }

  /** Returns the state that a user sees: the current one for a member, the one at leaving for a former member. */
  stateFor(userId: string): RoomEvent[] {
    if (this.membership(userId) === "join") return [...this.#state.values()];
    return this.stateBetween(0, this.membershipPlace(userId));
  }

  /** Whether the user is or was a member. */
  everJoined(userId: string): boolean {
    return this.#memberships.get(userId)?.some(({ membership }) => membership === "join") ?? false;
  }

  /** Returns the state events of the timeline in (after, upTo], the last one per type and key. */
  stateBetween(after: number, upTo: number): RoomEvent[] {
    const last = new Map<string, RoomEvent>();
    for (const event of this.timeline) {
      const within = event.place > after && event.place <= upTo;
      if (within && event.state_key !== undefined) last.set(`${event.type}\n${event.state_key}`, event);
    }
    return [...last.values()];
  }

  /** Returns a user's membership at a stream position, by default the current one. `leave` for unknown users. */
  membership(userId: string, place = Infinity): string {
    return this.#memberships.get(userId)?.findLast((change) => change.place <= place)?.membership ?? "leave";
  }

  /** Returns the stream position of the user's last change of membership. */
  membershipPlace(userId: string): number {
    return this.#memberships.get(userId)?.at(-1)?.place ?? 0;
  }

  /** Returns the users with a membership. */
  members(membership: string): string[] {
    return [...this.#memberships.keys()].filter((userId) => this.membership(userId) === membership);
  }

  /** Returns all present and former members. */
  everMembers(): string[] {
    return [...this.#memberships.keys()];
  }

  /** Whether a user may see an event (Matrix spec v1.16, client-server API, 11.13, by the room's current rule). */
  visible(userId: string, event: RoomEvent): boolean {
    if (event.type === "m.room.member" && event.state_key === userId) return true;
    const then = this.membership(userId, event.place);
    if (then === "join") return true;
    const rule = this.state("m.room.history_visibility")?.content["history_visibility"] ?? "shared";
    if (rule === "joined") return false;
    if (rule === "invited") return then === "invite";
    const history = this.#memberships.get(userId) ?? [];
    return history.some(({ membership }, index) =>
      membership === "join" && (history[index + 1]?.place ?? Infinity) > event.place
    );
  }

  /** Users who are typing. */
  get typing(): readonly string[] {
    return [...this.#typing];
  }

  /**
   * Sets whether a member is typing. The timeout is ignored.
   *
   * @throws MatrixError 403 if the user isn't a member
   */
  setTyping(userId: string, isTyping: boolean): void {
    this.#requireJoined(userId);
    if (this.#typing.has(userId) === isTyping) return;
    if (isTyping) this.#typing.add(userId);
    else this.#typing.delete(userId);
    this.typingPlace = this.#stream.advance();
  }

  /** Returns the stripped state of a user's invitation (Matrix spec v1.16, client-server API, 11.4.3). */
  invitation(userId: string): JsonObject[] {
    const forged = this.forgedInvitations.get(userId);
    if (forged !== undefined) return forged;
    const invite = this.state("m.room.member", userId);
    const shown = strippedTypes.map((type) => this.state(`m.room.${type}`));
    return [...shown, this.state("m.room.member", invite?.sender ?? ""), invite]
      .filter((event) => event !== undefined)
      .map(({ type, state_key, sender, content }) => ({ type, state_key, sender, content }));
  }

  /**
   * Appends an event if its sender may send it.
   *
   * @throws MatrixError 403 if not
   */
  send(event: NewEvent): RoomEvent {
    this.#requireJoined(event.sender);
    const levels = objectOf(this.state("m.room.power_levels")?.content);
    const usual = event.state_key === undefined ? levels["events_default"] ?? 0 : levels["state_default"] ?? 50;
    this.#requirePower(event.sender, Number(objectOf(levels["events"])[event.type] ?? usual));
    return this.append(event);
  }

  /**
   * Changes a membership by the authorization rules (Matrix spec v1.16, room version 12).
   *
   * @throws MatrixError 403 if the sender may not
   */
  setMembership(sender: string, target: string, membership: string, content: JsonObject): RoomEvent {
    const present = this.membership(target);
    const levels = objectOf(this.state("m.room.power_levels")?.content);
    if (membership === "join") {
      const open = this.state("m.room.join_rules")?.content["join_rule"] === "public";
      if (sender !== target) throw forbidden("Cannot force another user to join.");
      if (!open && present !== "invite" && present !== "join") throw forbidden("You are not invited to this room.");
    } else if (membership === "invite") {
      this.#requireJoined(sender);
      if (present === "join") throw forbidden(`${target} is already in the room.`);
      this.#requirePower(sender, Number(levels["invite"] ?? 0));
    } else if (membership === "leave" && sender === target) {
      if (present !== "join" && present !== "invite") throw forbidden(`User ${sender} not in room ${this.roomId}`);
    } else if (membership === "leave") {
      this.#requireJoined(sender);
      this.#requirePower(sender, Number(levels["kick"] ?? 50));
      if (this.#power(sender) <= this.#power(target)) throw forbidden("You cannot kick this user.");
    } else {
      throw new MatrixError(400, "M_BAD_JSON", `Unknown membership ${membership}`);
    }
    this.forgedInvitations.delete(target);
    return this.append({ type: "m.room.member", sender, state_key: target, content: { ...content, membership } });
  }

  #requireJoined(userId: string): void {
    if (this.membership(userId) !== "join") throw forbidden(`User ${userId} not in room ${this.roomId}`);
  }

  #requirePower(userId: string, needed: number): void {
    if (this.#power(userId) < needed) throw forbidden("You don't have permission to do that");
  }

  #power(userId: string): number {
    if (this.state("m.room.create")?.sender === userId) return Infinity;
    const levels = objectOf(this.state("m.room.power_levels")?.content);
    return Number(objectOf(levels["users"])[userId] ?? levels["users_default"] ?? 0);
  }
}

/** All rooms of a homeserver. */
export class Rooms {
  /** Room ids by alias. */
  readonly aliases = new Map<string, string>();
  readonly #rooms = new Map<string, Room>();
  readonly #serverName: string;
  readonly #stream: Stream;
  readonly #now: () => number;

  /**
   * @param serverName domain of aliases
   * @param stream gives events their positions
   * @param now wall clock, milliseconds since the epoch
   */
  constructor(serverName: string, stream: Stream, now: () => number) {
    this.#serverName = serverName;
    this.#stream = stream;
    this.#now = now;
  }

  all(): Room[] {
    return [...this.#rooms.values()];
  }

  /**
   * Returns a room that the user has joined.
   *
   * @param formerly whether former membership suffices
   * @throws MatrixError 403 if the user has not joined, or there is no such room
   */
  of(userId: string, roomId: string, formerly = false): Room {
    const room = this.#rooms.get(roomId);
    const permitted = formerly ? room?.everJoined(userId) : room?.membership(userId) === "join";
    if (room === undefined || !permitted) throw forbidden(`User ${userId} not in room ${roomId}`);
    return room;
  }

  /** POST /createRoom (Matrix spec v1.16, client-server API, 11.1.1), with events in Synapse's order. */
  create(creator: string, body: JsonObject, member: (userId: string) => JsonObject): Room {
    const room = new Room(`!${randomId(43)}`, this.#stream, this.#now);
    const open = body["preset"] === "public_chat";
    const put = (type: string, content: JsonObject, state_key = "") =>
      room.append({ type, sender: creator, content, state_key });
    put("m.room.create", { ...objectOf(body["creation_content"]), room_version: "12" });
    put("m.room.member", { ...member(creator), membership: "join" }, creator);
    put("m.room.power_levels", {
      users: {},
      users_default: 0,
      events_default: 0,
      state_default: 50,
      events: { "m.room.encryption": 100, "m.room.power_levels": 100, "m.room.tombstone": 150 },
      kick: 50,
      invite: open ? 50 : 0,
      ...objectOf(body["power_level_content_override"]),
    });
    if (typeof body["room_alias_name"] === "string") {
      const alias = `#${body["room_alias_name"]}:${this.#serverName}`;
      if (this.aliases.has(alias)) throw new MatrixError(400, "M_ROOM_IN_USE", "Room alias already taken");
      this.aliases.set(alias, room.roomId);
      put("m.room.canonical_alias", { alias });
    }
    put("m.room.join_rules", { join_rule: open ? "public" : "invite" });
    put("m.room.history_visibility", { history_visibility: "shared" });
    for (const state of Array.isArray(body["initial_state"]) ? body["initial_state"].map(objectOf) : []) {
      put(String(state["type"]), objectOf(state["content"]), String(state["state_key"] ?? ""));
    }
    if (body["name"] !== undefined) put("m.room.name", { name: body["name"] });
    if (body["topic"] !== undefined) put("m.room.topic", { topic: body["topic"] });
    this.#rooms.set(room.roomId, room);
    for (const invitee of textsOf(body["invite"])) {
      const direct = body["is_direct"] === true ? { is_direct: true } : {};
      room.setMembership(creator, invitee, "invite", { ...member(invitee), ...direct });
    }
    return room;
  }

  /**
   * Resolves a room id or alias.
   *
   * @throws MatrixError 404 if there is no such room
   */
  resolve(idOrAlias: string): Room {
    const room = this.#rooms.get(this.aliases.get(idOrAlias) ?? idOrAlias);
    if (room === undefined) throw notFound(`Room ${idOrAlias} not found`);
    return room;
  }
}
