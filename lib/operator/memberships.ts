/**
 * Which rooms the operator is in: accepts and declines invitations, leaves rooms that no allowed user is in.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type KeyedQueue, Semaphore, sleep } from "../async.ts";
import { hasAllowedUser, isInvited } from "../authorization/mod.ts";
import { isFatal, TransientError } from "../errors.ts";
import type { Audit } from "./audit.ts";
import type { Chat, Invitation } from "./ports.ts";
import type { Retrying } from "./retrying.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Requests at once. Joins have permits of their own: no number of strangers' invitations keeps an allowed user waiting. */
const MAX_JOINS = 16;
const MAX_LEAVES = 4;
/** For so long a refused join is tried again: federation and workers refuse what they accept a moment later (SPEC 4b). */
const TRIED_FOR_MS = 60 * 60_000;
const FOR_AN_HOUR = {
  longestMs: 5 * 60_000,
  mostFailures: 1,
  leastSpanMs: TRIED_FOR_MS,
  forgivenAfterMs: Infinity,
};
/** So long rooms are looked at before everything else has its turn. */
const SLICE_MS = 20;

/** What memberships are kept by. */
export interface MembershipsParts {
  /** Where the rooms are. */
  readonly chat: Pick<Chat, "invitation" | "invitations" | "join" | "joinedRooms" | "leave" | "room" | "self">;
  /** Whose invitations are accepted, and whose rooms are stayed in. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Told of what was declined. */
  readonly audit: Pick<Audit, "declined">;
  /** Runs it in the background. */
  readonly queue: KeyedQueue;
  /** Tries again. */
  readonly retrying: Retrying;
  /** Ends it. */
  readonly stop: AbortSignal;
}

/** Keeps the operator in the right rooms; each invitation and each room on its own. */
export class Memberships {
  readonly #parts: MembershipsParts;
  readonly #joins = new Semaphore(MAX_JOINS);
  readonly #leaves = new Semaphore(MAX_LEAVES);
  /** Invitations that are being answered, and rooms that are being left. */
  readonly #inHand = new Set<string>();
  /** What the homeserver has refused for an hour: by room, the invitation or the membership that it was about. */
  readonly #givenUp = new Map<string, string>();
  #isLookDue = false;

  constructor(parts: MembershipsParts) {
    this.#parts = parts;
  }

  /** Looks at all invitations and rooms, now or as soon as the look under way is over. */
  look(): void {
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    this.#parts.queue.run("memberships", () => {
      this.#isLookDue = false;
      return this.#lookAtAll();
    });
  }

  async #lookAtAll(): Promise<void> {
    const { chat } = this.#parts;
    const invitations = chat.invitations();
    const rooms = chat.joinedRooms();
    const present = new Map([...rooms.map((room) => [room, "joined"] as const), ...invitations.map(named)]);
    for (const [roomId, what] of this.#givenUp) if (present.get(roomId) !== what) this.#givenUp.delete(roomId);

    for (const invitation of invitations) this.#begin(...named(invitation), () => this.#answer(invitation));
    let sinceMs = performance.now();
    for (const roomId of rooms) {
      if (this.#isAlone(roomId)) this.#begin(roomId, "joined", () => this.#leave(roomId));
      if (performance.now() - sinceMs < SLICE_MS) continue;
      await sleep(0, this.#parts.stop);
      sinceMs = performance.now();
    }
  }

  /** Things may have changed while the room was in hand: another inviter, or everybody has left. */
  #lookAt(roomId: string): void {
    const invitation = this.#parts.chat.invitation(roomId);
    if (invitation !== undefined) this.#begin(...named(invitation), () => this.#answer(invitation));
    else if (this.#isAlone(roomId)) this.#begin(roomId, "joined", () => this.#leave(roomId));
  }

  #begin(roomId: string, what: string, work: () => Promise<void>): void {
    const { queue, stop } = this.#parts;
    if (this.#inHand.has(roomId) || this.#givenUp.get(roomId) === what) return;
    this.#inHand.add(roomId);
    queue.run(`membership ${roomId}`, async () => {
      try {
        const limits = { policy: FOR_AN_HOUR, refusals: true, unknownFailures: Infinity };
        await this.#parts.retrying.run(`join or leave ${roomId}`, work, stop, limits);
      } catch (error) {
        if (stop.aborted || isFatal(error)) throw error;
        // A homeserver that is away for an hour has refused nothing.
        if (!(error instanceof Error && error.cause instanceof TransientError)) this.#givenUp.set(roomId, what);
        logger.warn("Gave {room} up for now: {reason}", { room: roomId, reason: String(error) });
      } finally {
        this.#inHand.delete(roomId);
      }
      this.#lookAt(roomId);
    });
  }

  /** Answers an invitation as it stands at this moment, if it still does. */
  async #answer({ roomId }: Invitation): Promise<void> {
    const { chat, allowedUsers, audit, stop } = this.#parts;
    const isWanted = (): boolean | undefined => {
      const invitation = chat.invitation(roomId);
      return invitation && isInvited(invitation, allowedUsers);
    };
    await (isWanted() ? this.#joins : this.#leaves).run(async () => {
      const { inviters } = chat.invitation(roomId) ?? { inviters: [] };
      switch (isWanted()) {
        case true:
          await chat.join(roomId, stop);
          return logger.info("Joined {room}, invited by {inviters}", { room: roomId, inviters });
        case false:
          await chat.leave(roomId, stop);
          return audit.declined(roomId, inviters);
      }
    }, stop);
  }

  #leave(roomId: string): Promise<void> {
    const { chat, stop } = this.#parts;
    return this.#leaves.run(async () => {
      if (!this.#isAlone(roomId)) return;
      await chat.leave(roomId, stop);
      logger.warn("Left {room}: no allowed user is in it", { room: roomId });
    }, stop);
  }

  /** No allowed user is in a room that we are in. */
  #isAlone(roomId: string): boolean {
    const { chat, allowedUsers } = this.#parts;
    const room = chat.room(roomId);
    // A room whose members are told without us is not told in full.
    return room?.membership === "join" && room.isJoined(chat.self) &&
      !hasAllowedUser(room, allowedUsers, chat.self);
  }
}

function named(invitation: Invitation): [roomId: string, what: string] {
  return [invitation.roomId, `invited by ${invitation.inviters.join(" ")}`];
}
