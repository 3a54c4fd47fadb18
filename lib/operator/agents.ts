/**
 * The agents that run in targets: which rooms they are in, and which of them a message is addressed to.
 *
 * @module
 */

import { isAddressedTo } from "../commands/mod.ts";
import type { Agent } from "../config/mod.ts";
import type { RoomFacts } from "../session/mod.ts";
import type { Message } from "./message.ts";
import type { Chat } from "./ports.ts";

/** Context of a message: its room, its sender and what it replies to. */
export interface MessageContext {
  readonly room: Pick<RoomFacts, "isJoined" | "joinedCount">;
  readonly sender: string;
  /** Sender of the message that it replies to; undefined if it isn't a reply or that sender is unknown. */
  readonly repliedUser: string | undefined;
}

export class Agents {
  readonly #agents: readonly Agent[];
  readonly #chat: Pick<Chat, "joinedRooms" | "room" | "self">;

  constructor(agents: readonly Agent[], chat: Pick<Chat, "joinedRooms" | "room" | "self">) {
    this.#agents = agents;
    this.#chat = chat;
  }

  /** Returns the agents that have joined a room. */
  joinedTo(room: Pick<RoomFacts, "isJoined"> | undefined): readonly Agent[] {
    return room === undefined ? [] : this.#agents.filter(({ userId }) => room.isJoined(userId));
  }

  /** Whether the account belongs to an agent. */
  has(userId: string): boolean {
    return this.#agents.some((agent) => agent.userId === userId);
  }

  /** Returns the user ids of a target's agents. */
  of(alias: string): readonly string[] {
    return this.#agents.filter((agent) => agent.alias === alias).map(({ userId }) => userId);
  }

  /** Whether one of a target's agents has joined a room. */
  isIn(roomId: string, alias: string): boolean {
    const room = this.#chat.room(roomId);
    return this.of(alias).some((agent) => room?.isJoined(agent));
  }

  /** Returns the rooms that both we and an agent of the target have joined. Scans all rooms. */
  roomsOf(alias: string): readonly string[] {
    if (this.of(alias).length === 0) return [];
    return this.#chat.joinedRooms().filter((roomId) => this.isIn(roomId, alias));
  }

  /** Returns the agents that a message names or replies to. */
  named(message: Message, { room, repliedUser }: MessageContext): readonly Agent[] {
    return this.joinedTo(room).filter(({ userId }) => userId === repliedUser || isNamed(message, userId));
  }

  /**
   * Returns the agents that a message is addressed to (SPEC 3m): those that it names. If it names none, all agents of
   * the room, provided that nobody but them, the sender and us has joined it.
   */
  addressed(message: Message, context: MessageContext): readonly Agent[] {
    const named = this.named(message, context);
    if (named.length > 0) return named;
    const present = this.joinedTo(context.room);
    const company = new Set([context.sender, this.#chat.self, ...present.map(({ userId }) => userId)]);
    const isAmongThem = [...company].filter((user) => context.room.isJoined(user)).length === context.room.joinedCount;
    return isAmongThem ? present : [];
  }
}

/**
 * A message names an agent in `m.mentions`, in a matrix.to link (older clients), by user id, or by a name at its start.
 */
function isNamed({ mentions, text, html = "" }: Message, userId: string): boolean {
  if (mentions.includes(userId) || isAddressedTo(text, [userId])) return true;
  const links = [userId, encodeURIComponent(userId)].map((id) => `https://matrix.to/#/${id}`);
  const words = text.split(/\s+/).map((word) => word.replace(/[,.:;!?)]+$/, ""));
  return links.some((link) => html.includes(`"${link}"`)) || words.includes(userId);
}
