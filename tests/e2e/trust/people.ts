/** Actions of people with their phones, independent of the client. */

import { bodyOf, editedBy, repliesTo } from "../conversation.ts";
import type { Content, SeenEvent, Watch } from "../../../testbed/mod.ts";

/** A phone that runs matrix-nio or mautrix-go. */
export interface Client {
  readonly userId: string;
  readonly deviceId: string;
  /** Sends a request below `/_matrix/client/v3`. */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any>;
  /** Encrypts for everyone in the room and sends the key immediately. */
  encrypt(roomId: string, type: string, content: Content): Promise<Outgoing>;
  /** Waits until the phone shows all of these users as joined. */
  untilJoined(roomId: string, users: readonly string[]): Promise<void>;
  /** Watches a room from now on. */
  watch(roomId: string): Watch;
}

/** An event to send. */
export interface Outgoing {
  readonly type: string;
  readonly content: Content;
}

/** Creates a room and invites people. Returns its ID. */
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

/** Sends an event as is. Returns its event ID. */
export async function put(client: Pick<Client, "request">, roomId: string, event: Outgoing): Promise<string> {
  const path = `/rooms/${encodeURIComponent(roomId)}/send/${event.type}/${crypto.randomUUID()}`;
  return (await client.request("PUT", path, event.content)).event_id;
}

/** Encrypts an event and sends it. Returns its event ID. */
export async function send(client: Client, roomId: string, type: string, content: Content): Promise<string> {
  return await put(client, roomId, await client.encrypt(roomId, type, content));
}

/** A room as seen by the phone of a member whom the operator obeys. */
export class Room {
  readonly roomId: string;
  /** The phone. */
  readonly owner: Client;
  /** All events seen since the room was created. */
  readonly seen: Watch;
  readonly #operatorId: string;

  private constructor(owner: Client, roomId: string, operatorId: string) {
    this.owner = owner;
    this.roomId = roomId;
    this.seen = owner.watch(roomId);
    this.#operatorId = operatorId;
  }

  /** Creates a room with the operator and others, and waits until all of them have joined. */
  static async create(owner: Client, operatorId: string, others: readonly Client[], encrypted = true): Promise<Room> {
    const users = [operatorId, ...others.map(({ userId }) => userId)];
    const roomId = await createRoom(owner, users, { encrypted });
    const room = new Room(owner, roomId, operatorId);
    await Promise.all(others.map((other) => join(other, roomId)));
    await Promise.all([owner, ...others].map((each) => each.untilJoined(roomId, [...users, owner.userId])));
    return room;
  }

  /** Sends a text as the owner. Returns its event ID. */
  async say(body: string): Promise<string> {
    return await send(this.owner, this.roomId, "m.room.message", { msgtype: "m.text", body });
  }

  /** Sends a text as the owner, and waits for its answer. */
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
   * Waits for a message of the operator that matches.
   *
   * @param since number of seen events to skip
   */
  async told(what: RegExp, since = 0, deadlineMs = 10_000): Promise<SeenEvent> {
    const accept = (event: SeenEvent) => this.saidSince(since).includes(event) && what.test(bodyOf(event));
    return await this.seen.first(String(what), accept, deadlineMs);
  }

  /**
   * Returns all messages of the operator after that.
   *
   * @param since number of seen events to skip
   */
  saidSince(since: number): SeenEvent[] {
    return this.seen.events.slice(since).filter((event) => this.#isSaid(event) && bodyOf(event) !== "");
  }

  #isSaid(event: SeenEvent): boolean {
    return event.sender === this.#operatorId && event.type === "m.room.message" && "body" in event.content;
  }
}
