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
import type { Chat } from "./ports.ts";
import type { Invitation } from "../session/mod.ts";
import type { Retrier } from "./retrier.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Requests at once. Joins have permits of their own: no number of strangers' invitations keeps an allowed user waiting. */
const MAX_JOINS = 16;
const MAX_LEAVES = 4;
/** For so long a refused join is tried again: federation and workers refuse what they accept a moment later (SPEC 4b). */
const TRIED_FOR_MS = 60 * 60_000;
const FOR_AN_HOUR = {
  maxMs: 5 * 60_000,
  maxFailures: 1,
  minSpanMs: TRIED_FOR_MS,
  resetAfterMs: Infinity,
};
/** So long rooms are looked at before everything else has its turn. */
const SLICE_MS = 20;

/** What memberships are kept by. */
export interface MembershipsOptions {
  /** Where the rooms are. */
  readonly chat: Pick<Chat, "invitation" | "invitations" | "join" | "joinedRooms" | "leave" | "room" | "self">;
  /** Whose invitations are accepted, and whose rooms are stayed in. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Told of what was declined. */
  readonly audit: Pick<Audit, "declined">;
  /** Runs it in the background. */
  readonly queue: KeyedQueue;
  /** Tries again. */
  readonly retrier: Retrier;
  /** Ends it. */
  readonly stop: AbortSignal;
}

/** Keeps the operator in the right rooms; each invitation and each room on its own. */
export class Memberships {
  readonly #options: MembershipsOptions;
  readonly #joins = new Semaphore(MAX_JOINS);
  /** Invitations that are being answered, and rooms that are being left. */
  readonly #inHand = new Set<string>();
  /** Rooms to be left and invitations to be declined, earliest first: by room, the invitation or membership. */
  readonly #leaving = new Map<string, string>();
  /** How many of those are being left at once. */
  #leavers = 0;
  #isRefusalTold = false;
  /** What the homeserver has refused, joins for an hour: by room, the invitation or membership that it was about. */
  readonly #givenUp = new Map<string, string>();
  #isLookDue = false;

  constructor(options: MembershipsOptions) {
    this.#options = options;
  }

  /** Looks at all invitations and rooms, now or as soon as the look under way is over. */
  look(): void {
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    this.#options.queue.run("memberships", () => {
      this.#isLookDue = false;
      return this.#lookAtAll();
    });
  }

  async #lookAtAll(): Promise<void> {
    const { chat, stop } = this.#options;
    const invitations = chat.invitations();
    const rooms = chat.joinedRooms();
    const present = new Map([...rooms.map((room) => [room, "joined"] as const), ...invitations.map(named)]);
    for (const [roomId, what] of this.#givenUp) if (present.get(roomId) !== what) this.#givenUp.delete(roomId);

    for (const invitation of invitations) this.#consider(invitation);
    let sinceMs = performance.now();
    for (const roomId of rooms) {
      if (this.#isAlone(roomId)) this.#leave(roomId, "joined");
      if (performance.now() - sinceMs < SLICE_MS) continue;
      await sleep(0, stop);
      sinceMs = performance.now();
    }
  }

  /** Things may have changed while the room was in hand: another inviter, or everybody has left. */
  #lookAt(roomId: string): void {
    const invitation = this.#options.chat.invitation(roomId);
    if (invitation !== undefined) this.#consider(invitation);
    else if (this.#isAlone(roomId)) this.#leave(roomId, "joined");
  }

  #consider(invitation: Invitation): void {
    const [roomId, what] = named(invitation);
    if (isInvited(invitation, this.#options.allowedUsers)) this.#join(roomId, what);
    else this.#leave(roomId, what);
  }

  /** Accepts an invitation, which is judged anew before each try. */
  #join(roomId: string, what: string): void {
    const { chat, allowedUsers, queue, retrier, stop } = this.#options;
    if (this.#inHand.has(roomId) || this.#givenUp.get(roomId) === what) return;
    this.#inHand.add(roomId);
    const join = (): Promise<void> =>
      this.#joins.run(async () => {
        const invitation = chat.invitation(roomId);
        if (invitation === undefined || !isInvited(invitation, allowedUsers)) return;
        await chat.join(roomId, stop);
        logger.info("joined {room}: invited by {inviters}", { room: roomId, inviters: invitation.inviters.join(", ") });
      }, stop);
    queue.run(`join ${roomId}`, async () => {
      try {
        const limits = { policy: FOR_AN_HOUR, refusals: true, unknownFailures: Infinity };
        await retrier.run(`join ${roomId}`, join, stop, limits);
      } catch (error) {
        if (stop.aborted || isFatal(error)) throw error;
        // A homeserver that is away for an hour has refused nothing.
        if (!(error instanceof Error && error.cause instanceof TransientError)) this.#givenUp.set(roomId, what);
        logger.warn("stopped trying to join {room} for now: {reason}", { room: roomId, reason: String(error) });
      } finally {
        this.#inHand.delete(roomId);
      }
      this.#lookAt(roomId);
    });
  }

  /** Declines an invitation, or leaves a room, after those that came before. */
  #leave(roomId: string, what: string): void {
    if (this.#inHand.has(roomId) || this.#givenUp.get(roomId) === what) return;
    this.#leaving.set(roomId, what);
    if (this.#leavers >= Math.min(MAX_LEAVES, this.#leaving.size)) return;
    this.#leavers += 1;
    const { queue, retrier, stop } = this.#options;
    queue.run(`leave ${roomId}`, async () => {
      // No more of them than rooms: one that can't be left for a while is not to be tried by all.
      while (this.#leaving.size >= this.#leavers) await retrier.run("leave a room", () => this.#leaveNext(), stop);
      this.#leavers -= 1;
      if (this.#leavers === 0) this.#isRefusalTold = false;
    });
  }

  /**
   * Leaves the first of the rooms to be left, if it still is. What the homeserver refuses is given up, since nothing
   * depends on it; what time may cure goes to the end of the line, so that no room holds up the others.
   */
  async #leaveNext(): Promise<void> {
    const { chat, allowedUsers, audit, stop } = this.#options;
    const [next] = this.#leaving;
    if (next === undefined) return;
    const [roomId, what] = next;
    this.#leaving.delete(roomId);
    const invitation = chat.invitation(roomId);
    const isDue = invitation === undefined ? this.#isAlone(roomId) : !isInvited(invitation, allowedUsers);
    if (isDue) {
      this.#inHand.add(roomId);
      try {
        await chat.leave(roomId, stop);
        if (invitation !== undefined) audit.declined(roomId, invitation.inviters);
        else logger.warn("left {room}: no allowed user is in it", { room: roomId });
      } catch (error) {
        if (stop.aborted || isFatal(error)) throw error;
        if (error instanceof TransientError) {
          this.#leaving.set(roomId, what);
          throw error;
        }
        this.#givenUp.set(roomId, what);
        this.#tellOfRefusal(roomId, String(error));
      } finally {
        this.#inHand.delete(roomId);
      }
    }
    this.#lookAt(roomId);
  }

  /** Of thousands that are refused in a row, one is worth a warning. */
  #tellOfRefusal(room: string, reason: string): void {
    const level = this.#isRefusalTold ? "debug" : "warn";
    this.#isRefusalTold = true;
    logger[level]("failed to leave {room}: {reason}", { room, reason });
  }

  /** No allowed user is in a room that we are in. */
  #isAlone(roomId: string): boolean {
    const { chat, allowedUsers } = this.#options;
    const room = chat.room(roomId);
    // A room whose members are told without us is not told in full.
    return room?.membership === "join" && room.isJoined(chat.self) &&
      !hasAllowedUser(room, allowedUsers, chat.self);
  }
}

function named(invitation: Invitation): [roomId: string, what: string] {
  return [invitation.roomId, `invited by ${invitation.inviters.join(" ")}`];
}
