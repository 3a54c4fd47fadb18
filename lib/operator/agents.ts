/**
 * The agents that run in targets: where they are, and which of them a message is for.
 *
 * @module
 */

import { isAddressedTo } from "../commands/mod.ts";
import type { Agent } from "../config/mod.ts";
import type { RoomFacts } from "../session/mod.ts";
import type { Message } from "./message.ts";
import type { Chat } from "./ports.ts";

/** What is known of a message besides itself. */
export interface Around {
  readonly room: Pick<RoomFacts, "isJoined" | "joinedCount">;
  /** Who sent it. */
  readonly sender: string;
  /** Who sent what it replies to; undefined if it is no reply, or nobody knows. */
  readonly repliedUser: string | undefined;
}

/** Agents and their targets. */
export class Agents {
  readonly #agents: readonly Agent[];
  readonly #chat: Pick<Chat, "joinedRooms" | "room" | "self">;

  constructor(agents: readonly Agent[], chat: Pick<Chat, "joinedRooms" | "room" | "self">) {
    this.#agents = agents;
    this.#chat = chat;
  }

  /** Agents that have joined a room. */
  in(room: Pick<RoomFacts, "isJoined"> | undefined): readonly Agent[] {
    return room === undefined ? [] : this.#agents.filter(({ userId }) => room.isJoined(userId));
  }

  /** The account is an agent's. */
  has(userId: string): boolean {
    return this.#agents.some((agent) => agent.userId === userId);
  }

  /** Agents of a target, by user id. */
  of(alias: string): readonly string[] {
    return this.#agents.filter((agent) => agent.alias === alias).map(({ userId }) => userId);
  }

  /** Rooms in which a target's agent and we are. One look at all rooms. */
  roomsOf(alias: string): readonly string[] {
    const agents = this.of(alias);
    if (agents.length === 0) return [];
    return this.#chat.joinedRooms().filter((roomId) => {
      const room = this.#chat.room(roomId);
      return agents.some((agent) => room?.isJoined(agent));
    });
  }

  /** Agents whom a message names, or whose message it answers. */
  named(message: Message, { room, repliedUser }: Around): readonly Agent[] {
    return this.in(room).filter(({ userId }) => userId === repliedUser || isNamed(message, userId));
  }

  /**
   * Agents whom a message is for (SPEC 3m): those it names; without a name, where nobody else is there, all of them.
   */
  addressed(message: Message, around: Around): readonly Agent[] {
    const named = this.named(message, around);
    if (named.length > 0) return named;
    const present = this.in(around.room);
    const company = new Set([around.sender, this.#chat.self, ...present.map(({ userId }) => userId)]);
    const isAmongThem = [...company].filter((user) => around.room.isJoined(user)).length === around.room.joinedCount;
    return isAmongThem ? present : [];
  }
}

/** By `m.mentions`, by a link of older clients, by the user id, or by the name that stands first. */
function isNamed({ mentions, text, html = "" }: Message, userId: string): boolean {
  if (mentions.includes(userId) || isAddressedTo(text, [userId])) return true;
  const links = [userId, encodeURIComponent(userId)].map((id) => `https://matrix.to/#/${id}`);
  const words = text.split(/\s+/).map((word) => word.replace(/[,.:;!?)]+$/, ""));
  return links.some((link) => html.includes(`"${link}"`)) || words.includes(userId);
}
