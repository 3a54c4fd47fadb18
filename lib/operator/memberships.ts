/**
 * Keeps the operator in the right rooms: accepts and declines invitations, and leaves rooms without an allowed user.
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

/**
 * Concurrent requests. Joins have permits of their own, so that invitations by strangers can't delay those of allowed
 * users.
 */
const MAX_JOINS = 16;
const MAX_LEAVES = 4;
/**
 * A refused join is retried for this long: federation and workers may refuse what they accept a moment later (SPEC 4b).
 */
const JOIN_TRIED_FOR_MS = 60 * 60_000;
const JOIN_BACKOFF = {
  maxMs: 5 * 60_000,
  maxFailures: 1,
  minSpanMs: JOIN_TRIED_FOR_MS,
  resetAfterMs: Infinity,
};
/** Rooms to look at before yielding to the event loop. */
const ROOMS_PER_SLICE = 100;

export interface MembershipsOptions {
  readonly chat: Pick<
    Chat,
    "invitation" | "invitations" | "join" | "joinedRooms" | "leave" | "refreshMembers" | "room" | "self"
  >;
  /** Users whose invitations are accepted. A room is left when none of them is in it. */
  readonly allowedUsers: ReadonlySet<string>;
  readonly audit: Pick<Audit, "declined">;
  readonly queue: KeyedQueue;
  readonly retrier: Retrier;
  readonly stop: AbortSignal;
}

/** Handles each invitation and each room independently. */
export class Memberships {
  readonly #options: MembershipsOptions;
  readonly #joins = new Semaphore(MAX_JOINS);
  /** Rooms whose invitation is being answered, or that are being left. */
  readonly #inProgress = new Set<string>();
  /** Rooms to leave and invitations to decline, oldest first. Maps the room to the invitation or membership. */
  readonly #leaving = new Map<string, string>();
  /** Number of background jobs that leave rooms. */
  #leaveWorkers = 0;
  #isRefusalLogged = false;
  /**
   * Joins and leaves that were given up because the homeserver refused them (joins: for an hour). Maps the room to the
   * invitation or membership.
   */
  readonly #givenUp = new Map<string, string>();
  #isReviewQueued = false;

  constructor(options: MembershipsOptions) {
    this.#options = options;
  }

  /** Looks at all invitations and rooms, now or as soon as the current pass is over. */
  review(): void {
    if (this.#isReviewQueued) return;
    this.#isReviewQueued = true;
    this.#options.queue.run("memberships", () => {
      this.#isReviewQueued = false;
      return this.#reviewAll();
    });
  }

  async #reviewAll(): Promise<void> {
    const { chat, stop } = this.#options;
    const invitations = chat.invitations();
    const rooms = chat.joinedRooms();
    const present = new Map([...rooms.map((room) => [room, "joined"] as const), ...invitations.map(entryOf)]);
    for (const [roomId, membership] of this.#givenUp) {
      if (present.get(roomId) !== membership) this.#givenUp.delete(roomId);
    }

    for (const invitation of invitations) this.#answer(invitation);
    for (const [index, roomId] of rooms.entries()) {
      if (index % ROOMS_PER_SLICE === ROOMS_PER_SLICE - 1) await sleep(0, stop);
      if (this.#isAlone(roomId)) this.#leave(roomId, "joined");
    }
  }

  /**
   * Looks at a room again, because things may have changed while it was in hand: another inviter, or everybody has
   * left.
   */
  #reviewRoom(roomId: string): void {
    const invitation = this.#options.chat.invitation(roomId);
    if (invitation !== undefined) this.#answer(invitation);
    else if (this.#isAlone(roomId)) this.#leave(roomId, "joined");
  }

  #answer(invitation: Invitation): void {
    const [roomId, membership] = entryOf(invitation);
    if (isInvited(invitation, this.#options.allowedUsers)) this.#join(roomId, membership);
    else this.#leave(roomId, membership);
  }

  /** Accepts an invitation. It is checked again before each attempt. */
  #join(roomId: string, membership: string): void {
    const { chat, allowedUsers, queue, retrier, stop } = this.#options;
    if (this.#inProgress.has(roomId) || this.#givenUp.get(roomId) === membership) return;
    this.#inProgress.add(roomId);
    const join = (): Promise<void> =>
      this.#joins.run(async () => {
        const invitation = chat.invitation(roomId);
        if (invitation === undefined || !isInvited(invitation, allowedUsers)) return;
        await chat.join(roomId, stop);
        logger.info("joined {room}: invited by {inviters}", { room: roomId, inviters: invitation.inviters.join(", ") });
      }, stop);
    queue.run(`join ${roomId}`, async () => {
      try {
        const limits = { policy: JOIN_BACKOFF, refusals: true, unknownFailures: Infinity };
        await retrier.run(`join ${roomId}`, join, stop, limits);
      } catch (error) {
        if (stop.aborted || isFatal(error)) throw error;
        // A homeserver that was unavailable for an hour has refused nothing.
        if (!(error instanceof Error && error.cause instanceof TransientError)) this.#givenUp.set(roomId, membership);
        logger.warn("stopped trying to join {room} for now: {reason}", { room: roomId, reason: String(error) });
      } finally {
        this.#inProgress.delete(roomId);
      }
      this.#reviewRoom(roomId);
    });
  }

  /** Queues a room to be left, or an invitation to be declined. */
  #leave(roomId: string, membership: string): void {
    if (this.#inProgress.has(roomId) || this.#givenUp.get(roomId) === membership) return;
    this.#leaving.set(roomId, membership);
    if (this.#leaveWorkers >= Math.min(MAX_LEAVES, this.#leaving.size)) return;
    this.#leaveWorkers += 1;
    const { queue, retrier, stop } = this.#options;
    queue.run(`leave ${roomId}`, async () => {
      // Never more jobs than rooms: a room that can't be left for now must not be tried by several at once.
      while (this.#leaving.size >= this.#leaveWorkers) await retrier.run("leave a room", () => this.#leaveNext(), stop);
      this.#leaveWorkers -= 1;
      if (this.#leaveWorkers === 0) this.#isRefusalLogged = false;
    });
  }

  /**
   * Leaves the first queued room, if that is still due. If the homeserver refuses, the room is given up, because
   * nothing depends on it. After a transient failure it goes to the end of the queue, so that it doesn't block the
   * others.
   */
  async #leaveNext(): Promise<void> {
    const { chat, allowedUsers, audit, stop } = this.#options;
    const [next] = this.#leaving;
    if (next === undefined) return;
    const [roomId, membership] = next;
    this.#leaving.delete(roomId);
    const invitation = chat.invitation(roomId);
    const isDue = invitation === undefined ? this.#isAlone(roomId) : !isInvited(invitation, allowedUsers);
    if (isDue) {
      this.#inProgress.add(roomId);
      try {
        if (invitation === undefined) await this.#leaveIfAlone(roomId);
        else {
          await chat.leave(roomId, stop);
          audit.declined(roomId, invitation.inviters);
        }
      } catch (error) {
        if (stop.aborted || isFatal(error)) throw error;
        if (error instanceof TransientError) {
          this.#leaving.set(roomId, membership);
          throw error;
        }
        this.#givenUp.set(roomId, membership);
        this.#logRefusal(roomId, String(error));
      } finally {
        this.#inProgress.delete(roomId);
      }
    }
    this.#reviewRoom(roomId);
  }

  /**
   * Leaves a room that we have joined, if the homeserver's list of its members has no allowed user either. Sync may leave
   * members out: Dendrite 0.13.8 sometimes does when a room has just been joined.
   */
  async #leaveIfAlone(roomId: string): Promise<void> {
    const { chat, stop } = this.#options;
    await chat.refreshMembers(roomId, stop);
    if (!this.#isAlone(roomId)) return;
    await chat.leave(roomId, stop);
    logger.warn("left {room}: no allowed user is in it", { room: roomId });
  }

  /** Logs a warning for the first of a series of refusals only, which may be thousands. */
  #logRefusal(room: string, reason: string): void {
    const level = this.#isRefusalLogged ? "debug" : "warn";
    this.#isRefusalLogged = true;
    logger[level]("failed to leave {room}: {reason}", { room, reason });
  }

  /** Whether we are in the room and no allowed user is. */
  #isAlone(roomId: string): boolean {
    const { chat, allowedUsers } = this.#options;
    const room = chat.room(roomId);
    // If we are not among the members, the list is certainly incomplete.
    return room?.membership === "join" && room.isJoined(chat.self) &&
      !hasAllowedUser(room, allowedUsers, chat.self);
  }
}

function entryOf(invitation: Invitation): [roomId: string, membership: string] {
  return [invitation.roomId, `invited by ${invitation.inviters.join(" ")}`];
}
