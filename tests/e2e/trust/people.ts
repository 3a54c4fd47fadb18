/** What people do with their phones, whichever program runs them. */

import { bodyOf, editedBy, repliesTo } from "../conversation.ts";
import type { Content, SeenEvent, Watch } from "../../../testbed/mod.ts";

/** A phone: matrix-nio's or mautrix-go's. */
export interface Client {
  /** User id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Sends a request below `/_matrix/client/v3`. */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any>;
  /** Encrypts for everybody in the room; the key goes out at once. */
  encrypt(roomId: string, type: string, content: Content): Promise<Outgoing>;
  /** Waits until the phone shows all of these users as joined. */
  untilJoined(roomId: string, users: readonly string[]): Promise<void>;
  /** Looks at a room from now on. */
  watch(roomId: string): Watch;
}

/** An event as it is sent. */
export interface Outgoing {
  /** Type. */
  readonly type: string;
  /** Content. */
  readonly content: Content;
}

/** Makes a room and invites people. Returns its id. */
export async function createRoom(
  owner: Client,
  invite: readonly string[],
  options: { encrypted?: boolean } = {},
): Promise<string> {
  const encryption = { type: "m.room.encryption", content: { algorithm: "m.megolm.v1.aes-sha2" } };
  const { room_id } = await owner.request("POST", "/createRoom", {
    preset: "private_chat",
    invite,
    initial_state: options.encrypted === false ? [] : [encryption],
  });
  return room_id;
}

/** Joins a room. */
export async function join(client: Client, roomId: string): Promise<void> {
  await client.request("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
}

/** Sends an event as it is. Returns its event id. */
export async function put(client: Pick<Client, "request">, roomId: string, event: Outgoing): Promise<string> {
  const path = `/rooms/${encodeURIComponent(roomId)}/send/${event.type}/${crypto.randomUUID()}`;
  return (await client.request("PUT", path, event.content)).event_id;
}

/** Encrypts an event and sends it. Returns its event id. */
export async function send(client: Client, roomId: string, type: string, content: Content): Promise<string> {
  return await put(client, roomId, await client.encrypt(roomId, type, content));
}

/** A room, seen by one phone in it that the operator obeys. */
export class Room {
  /** Room id. */
  readonly roomId: string;
  /** Whose phone looks. */
  readonly owner: Client;
  /** Everything seen since it was made. */
  readonly seen: Watch;
  readonly #operatorId: string;

  private constructor(owner: Client, roomId: string, operatorId: string) {
    this.owner = owner;
    this.roomId = roomId;
    this.seen = owner.watch(roomId);
    this.#operatorId = operatorId;
  }

  /** Makes a room with the operator and others in it, and waits until all of them are there. */
  static async create(owner: Client, operatorId: string, others: readonly Client[], encrypted = true): Promise<Room> {
    const users = [operatorId, ...others.map(({ userId }) => userId)];
    const roomId = await createRoom(owner, users, { encrypted });
    const room = new Room(owner, roomId, operatorId);
    await Promise.all(others.map((other) => join(other, roomId)));
    await Promise.all([owner, ...others].map((each) => each.untilJoined(roomId, [...users, owner.userId])));
    return room;
  }

  /** The owner sends a text. Returns its event id. */
  async say(body: string): Promise<string> {
    return await send(this.owner, this.roomId, "m.room.message", { msgtype: "m.text", body });
  }

  /** The owner sends a text, and waits for its answer. */
  async ask(body: string): Promise<SeenEvent> {
    const eventId = await this.say(body);
    return await this.answerTo(eventId);
  }

  /** Waits for the answer to a message. */
  async answerTo(eventId: string, deadlineMs = 15_000): Promise<SeenEvent> {
    const accept = (event: SeenEvent) => {
      const original = this.seen.events.find((each) => each.eventId === editedBy(event)) ?? event;
      return this.#isSaid(event) && repliesTo(original) === eventId && bodyOf(event) !== "";
    };
    return await this.seen.first(`answer to ${eventId}`, accept, deadlineMs);
  }

  /**
   * Waits until the operator says something like this.
   *
   * @param since how many events had been seen before that
   */
  async told(what: RegExp, since = 0, deadlineMs = 10_000): Promise<SeenEvent> {
    const accept = (event: SeenEvent) => this.saidSince(since).includes(event) && what.test(bodyOf(event));
    return await this.seen.first(String(what), accept, deadlineMs);
  }

  /**
   * Everything that the operator has said since then.
   *
   * @param since how many events had been seen
   */
  saidSince(since: number): SeenEvent[] {
    return this.seen.events.slice(since).filter((event) => this.#isSaid(event) && bodyOf(event) !== "");
  }

  #isSaid(event: SeenEvent): boolean {
    return event.sender === this.#operatorId && event.type === "m.room.message" && "body" in event.content;
  }
}
