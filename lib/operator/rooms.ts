/**
 * Which rooms the operator is in: accepts and declines invitations, leaves rooms that no allowed user is in. Knows
 * nothing of messages.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { TransientError } from "../errors.ts";
import { hasAllowedUser, isInvited } from "./access.ts";
import { isRefusal } from "../errors.ts";
import { persistently } from "./patience.ts";
import type { Invitation } from "./ports.ts";
import type { Inside } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Keeps the operator in the right rooms. */
export class Rooms {
  readonly #inside: Inside;
  /** Rooms and invitations where the homeserver has refused what we asked, until they are gone. */
  readonly #hopeless = new Set<string>();
  #waiting = false;

  /** Looks at nothing yet. */
  constructor(inside: Inside) {
    this.#inside = inside;
  }

  /** Looks at all invitations and rooms, now or as soon as the look under way is over. */
  tidy(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    const { lanes, stop } = this.#inside;
    lanes.run("rooms", () => {
      this.#waiting = false;
      return persistently("put the rooms in order", () => this.#tidyAll(), this.#inside, stop);
    });
  }

  async #tidyAll(): Promise<void> {
    const { chat } = this.#inside;
    const invitations = chat.invitations();
    const joined = chat.joinedRooms();
    const present = new Set([...invitations.map(({ roomId }) => `invited ${roomId}`), ...joined]);
    for (const at of this.#hopeless) if (!present.has(at)) this.#hopeless.delete(at);

    let last: TransientError | undefined;
    const tryFor = async (at: string, work: () => Promise<void>): Promise<void> => {
      if (this.#hopeless.has(at)) return;
      try {
        await work();
      } catch (error) {
        // One room's trouble must not keep the others waiting.
        if (error instanceof TransientError) last = error;
        else if (isRefusal(error)) this.#giveUp(at, error.message);
        else throw error;
      }
    };
    for (const invitation of invitations) await tryFor(`invited ${invitation.roomId}`, () => this.#answer(invitation));
    for (const roomId of joined) await tryFor(roomId, () => this.#leaveIfAlone(roomId));
    if (last !== undefined) throw last;
  }

  async #answer(invitation: Invitation): Promise<void> {
    const { chat, settings, accounts, stop } = this.#inside;
    const { roomId, inviters } = invitation;
    if (isInvited(invitation, settings.allowedUsers)) {
      await chat.join(roomId, stop);
      logger.info("Joined {room}, invited by {inviters}", { room: roomId, inviters });
      return;
    }
    await chat.leave(roomId, stop);
    accounts.declined(roomId, inviters);
  }

  async #leaveIfAlone(roomId: string): Promise<void> {
    const { chat, settings, stop } = this.#inside;
    const room = chat.room(roomId);
    // A room whose members are told without us is not told in full.
    if (room === undefined || !room.joined.includes(chat.self)) return;
    if (hasAllowedUser(room, settings.allowedUsers, chat.self)) return;
    await chat.leave(roomId, stop);
    logger.warn("Left {room}: no allowed user is in it", { room: roomId });
  }

  #giveUp(at: string, reason: string): void {
    this.#hopeless.add(at);
    logger.warn("Cannot join or leave {room}: {reason}", { room: at, reason });
  }
}
