/**
 * A person with an encrypted Matrix client: an in-memory OlmMachine behind a small client. Independent of lib/. Works
 * with the sandbox homeserver and any other.
 *
 * @module
 */
import { Api, type JsonObject } from "./api.ts";
import { Conversation, type Message, objectOf } from "./conversation.ts";
import { type CryptoNews, PersonCrypto } from "./crypto.ts";
import { contentOf, type Saying } from "./saying.ts";
import { Waiting } from "./waiting.ts";

export { firstAnswer, withoutAcknowledgement } from "./answer.ts";
export { Api, type JsonObject, Refused } from "./api.ts";
export type { Message } from "./conversation.ts";
export type { Saying } from "./saying.ts";
export { type CryptoNews, PersonCrypto } from "./crypto.ts";

export interface PersonOptions {
  /** Base URL of the homeserver. */
  readonly url: string;
  /** Localpart or user id. */
  readonly user: string;
  readonly password: string;
  /** Device id. Default: a new one. */
  readonly deviceId?: string;
  /** Whether to create a cross-signing identity and sign this device with it. */
  readonly crossSigning?: boolean;
}

interface RoomView {
  readonly members: Map<string, string>;
  encrypted: boolean;
}

/** A person who is logged in and syncing. */
export class Person implements AsyncDisposable {
  readonly userId: string;
  readonly deviceId: string;
  /** The homeserver's API with this person's token, for requests that have no method here. */
  readonly api: Api;
  /** The encryption of this device. */
  readonly crypto: PersonCrypto;
  readonly #conversation = new Conversation();
  readonly #rooms = new Map<string, RoomView>();
  readonly #invitations = new Map<string, JsonObject[]>();
  readonly #unread = new Map<string, { roomId: string; event: JsonObject }>();
  readonly #waiting = new Waiting();
  readonly #end: AbortController;
  #since = "";
  #loop: Promise<void> = Promise.resolve();

  private constructor(userId: string, deviceId: string, api: Api, crypto: PersonCrypto, end: AbortController) {
    this.userId = userId;
    this.deviceId = deviceId;
    this.api = api;
    this.crypto = crypto;
    this.#end = end;
  }

  /** Logs in with a new device, publishes its keys, syncs once and keeps syncing. */
  static async login({ url, user, password, deviceId, crossSigning = false }: PersonOptions): Promise<Person> {
    const end = new AbortController();
    const api = new Api(url, end.signal);
    const identifier = { type: "m.id.user", user };
    const wish = { type: "m.login.password", identifier, password, ...(deviceId && { device_id: deviceId }) };
    const session = await api.request("POST", "/login", { ...wish, initial_device_display_name: "Phone" });
    api.token = String(session["access_token"]);
    const [userId, device] = [String(session["user_id"]), String(session["device_id"])];
    const person = new Person(userId, device, api, await PersonCrypto.create(userId, device, api), end);
    await person.crypto.flush();
    if (crossSigning) await person.crypto.bootstrapIdentity(password);
    await person.#syncOnce(0);
    person.#loop = person.#syncOn();
    return person;
  }

  /** Returns the messages seen so far, with edits applied, of one room or of all. */
  messages(roomId?: string): Message[] {
    return this.#conversation.all(roomId);
  }

  /** Calls a listener for every new or edited message, until disposed of. */
  listen(listener: (message: Message) => void): Disposable {
    return this.#conversation.listen(listener);
  }

  /** Stripped state of pending invitations, by room id. */
  get invitations(): ReadonlyMap<string, readonly JsonObject[]> {
    return this.#invitations;
  }

  /** Returns the users who have one of these memberships in a room. */
  members(roomId: string, ...memberships: string[]): string[] {
    const wanted = memberships.length > 0 ? memberships : ["join"];
    return [...this.#rooms.get(roomId)?.members ?? []].filter(([, is]) => wanted.includes(is)).map(([userId]) =>
      userId
    );
  }

  /**
   * Waits for the next new or edited message that matches. It listens from the moment of the call, so call it before
   * acting.
   *
   * @throws Error at the deadline, listing the messages seen meanwhile; or if syncing has failed
   */
  next(matches: (message: Message) => boolean, deadlineMs = 60_000): Promise<Message> {
    const seen: Message[] = [];
    const listening = this.#conversation.listen((message) => void seen.push(message));
    const found = this.until(
      () => seen.find(matches),
      deadlineMs,
      () => `a message; seen: ${JSON.stringify(seen.map(({ sender, kind, body }) => [sender, kind, body]))}`,
    ).finally(() => listening[Symbol.dispose]());
    // If the caller fails elsewhere first, that error should be reported instead of this one.
    found.catch(() => undefined);
    return found;
  }

  /**
   * Calls `look` now and after every sync until it returns a value.
   *
   * @param what names the value in the error
   * @throws Error at the deadline, or if syncing has failed
   */
  until<T>(look: () => T | undefined, deadlineMs = 60_000, what: () => string = () => "it"): Promise<T> {
    return this.#waiting.until(look, deadlineMs, what);
  }

  /**
   * Creates a room, encrypted by default.
   *
   * @returns room id, once this person's own sync shows the room
   */
  async createRoom(invite: string[], { encrypted = true, ...more }: JsonObject = {}): Promise<string> {
    const content = { algorithm: "m.megolm.v1.aes-sha2" };
    const initial = encrypted ? [{ type: "m.room.encryption", state_key: "", content }] : [];
    const body = { preset: "private_chat", invite, initial_state: initial, ...more };
    const { room_id: roomId } = await this.api.request("POST", "/createRoom", body);
    await this.until(() => this.members(String(roomId)).includes(this.userId) || undefined);
    return String(roomId);
  }

  async invite(roomId: string, userId: string): Promise<void> {
    await this.api.request("POST", `/rooms/${encodeURIComponent(roomId)}/invite`, { user_id: userId });
  }

  /** Joins a room. Returns when this person's own sync shows it. */
  async join(roomId: string): Promise<void> {
    await this.api.request("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
    await this.until(() => this.members(roomId).includes(this.userId) || undefined);
  }

  /** Leaves a room, or declines an invitation. */
  async leave(roomId: string): Promise<void> {
    await this.api.request("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {});
  }

  /**
   * Sends a text message.
   *
   * @returns event id
   */
  say(roomId: string, text: string, how: Saying = {}): Promise<string> {
    return this.send(roomId, "m.room.message", contentOf(text, how), how);
  }

  /** Starts or stops typing. */
  async type(roomId: string, typing: boolean): Promise<void> {
    const path = `/rooms/${encodeURIComponent(roomId)}/typing/${encodeURIComponent(this.userId)}`;
    await this.api.request("PUT", path, typing ? { typing, timeout: 30_000 } : { typing });
  }

  /**
   * Sends a reaction to an event, unencrypted, as clients do.
   *
   * @returns event id
   */
  react(roomId: string, eventId: string, key: string): Promise<string> {
    const relation = { rel_type: "m.annotation", event_id: eventId, key };
    return this.send(roomId, "m.reaction", { "m.relates_to": relation }, { clear: true });
  }

  /**
   * Sends any event, encrypted if the room is. `m.relates_to` is then inside and outside the ciphertext.
   *
   * @returns event id
   */
  async send(
    roomId: string,
    type: string,
    content: JsonObject,
    { clear = false, transactionId = crypto.randomUUID() }: Saying = {},
  ): Promise<string> {
    const encrypt = !clear && this.#rooms.get(roomId)?.encrypted === true;
    const relation = content["m.relates_to"] === undefined ? {} : { "m.relates_to": content["m.relates_to"] };
    const sent = encrypt
      ? { ...await this.crypto.encrypt(roomId, this.members(roomId, "join", "invite"), type, content), ...relation }
      : content;
    return await this.sendRaw(roomId, encrypt ? "m.room.encrypted" : type, sent, transactionId);
  }

  /**
   * Sends an event as it is, such as a recorded ciphertext.
   *
   * @returns event id
   */
  async sendRaw(roomId: string, type: string, content: JsonObject, transactionId: string): Promise<string> {
    const path = `/rooms/${encodeURIComponent(roomId)}/send/${type}/${encodeURIComponent(transactionId)}`;
    return String((await this.api.request("PUT", path, content))["event_id"]);
  }

  async #syncOn(): Promise<void> {
    try {
      while (!this.#end.signal.aborted) await this.#syncOnce(25_000);
    } catch (error) {
      this.#waiting.end(error);
    }
  }

  async #syncOnce(timeoutMs: number): Promise<void> {
    const filter = encodeURIComponent(JSON.stringify({ room: { timeline: { limit: 500 } } }));
    const since = this.#since === "" ? "" : `&since=${encodeURIComponent(this.#since)}`;
    const answer = await this.api.request(
      "GET",
      `/sync?timeout=${timeoutMs}&filter=${filter}${since}`,
      undefined,
      timeoutMs + 60_000,
    );
    const lists = objectOf(answer["device_lists"]);
    await this.crypto.receive({
      toDevice: listOf(objectOf(answer["to_device"])["events"]),
      changed: listOf(lists["changed"]) as string[],
      left: listOf(lists["left"]) as string[],
      counts: objectOf(answer["device_one_time_keys_count"]) as CryptoNews["counts"],
      fallbacks: listOf(answer["device_unused_fallback_key_types"]) as string[],
    });
    const rooms = objectOf(answer["rooms"]);
    for (const [roomId, room] of Object.entries(objectOf(rooms["invite"]))) {
      this.#invitations.set(roomId, listOf(objectOf(objectOf(room)["invite_state"])["events"]));
    }
    for (const [roomId, room] of Object.entries({ ...objectOf(rooms["join"]), ...objectOf(rooms["leave"]) })) {
      this.#invitations.delete(roomId);
      for (const event of listOf(objectOf(objectOf(room)["state"])["events"])) this.#seeState(roomId, event);
      for (const event of listOf(objectOf(objectOf(room)["timeline"])["events"])) {
        this.#seeState(roomId, event);
        await this.#read(roomId, event);
      }
    }
    for (const { roomId, event } of [...this.#unread.values()]) await this.#read(roomId, event);
    this.#since = String(answer["next_batch"]);
    this.#waiting.news();
  }

  #seeState(roomId: string, event: JsonObject): void {
    const room = this.#rooms.get(roomId) ?? { members: new Map(), encrypted: false };
    this.#rooms.set(roomId, room);
    if (event["type"] === "m.room.encryption") room.encrypted = true;
    if (event["type"] !== "m.room.member") return;
    room.members.set(String(event["state_key"]), String(objectOf(event["content"])["membership"]));
  }

  async #read(roomId: string, event: JsonObject): Promise<void> {
    if (event["state_key"] !== undefined) return;
    const id = String(event["event_id"]);
    const encrypted = event["type"] === "m.room.encrypted";
    const payload = encrypted ? await this.crypto.decrypt(roomId, event) : undefined;
    const known = this.#unread.has(id);
    if (encrypted && payload === undefined) this.#unread.set(id, { roomId, event });
    else this.#unread.delete(id);
    if (known && payload === undefined) return;
    const { type, content } = payload ?? { type: String(event["type"]), content: objectOf(event["content"]) };
    this.#conversation.add({ roomId, event, type, content, encrypted });
  }

  /** Stops syncing and all waiting. Doesn't log out. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new Error("Cannot wait: the person has gone"));
    this.#waiting.end(this.#end.signal.reason);
    await this.#loop;
    this.crypto[Symbol.dispose]();
  }
}

function listOf(value: unknown): JsonObject[] & string[] {
  return (Array.isArray(value) ? value : []) as JsonObject[] & string[];
}
