/**
 * The account of what was done and refused: one structured log line each, and the counters. Never any message text.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { InboxEvent } from "./ports.ts";
import type { CommandRecord, Observer, Refusal } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Keeps the account. */
export class Accounts {
  readonly #observer: Observer;

  /** @param observer who counts */
  constructor(observer: Observer) {
    this.#observer = observer;
  }

  /** An event was refused. */
  refused({ roomId: room, eventId: event, sender }: InboxEvent, reason: Refusal): void {
    logger.info("Refused {event} of {sender} in {room}: {reason}", { room, event, sender, reason });
    this.#observer.refused(reason);
  }

  /** An invitation was declined. */
  declined(room: string, inviters: readonly string[]): void {
    const reason: Refusal = "invitation";
    logger.warn("Declined the {reason} of {sender} to {room}", { room, sender: inviters.join(", "), reason });
    this.#observer.refused(reason);
  }

  /** A stranger has asked to verify us. */
  verificationRefused(user: string): void {
    const reason: Refusal = "stranger";
    logger.info("Refused to be verified by {user}: {reason}", { user, reason });
    this.#observer.refused(reason);
  }

  /** A command is over. */
  commanded(
    { roomId: room, eventId: event, sender }: InboxEvent,
    done: Omit<CommandRecord, "room" | "event" | "sender">,
  ): void {
    const record: CommandRecord = { ...done, room, event, sender };
    logger.info("{command} {target} by {sender}: {outcome} ({before} → {after})", { ...record });
    this.#observer.commanded(record);
  }

  /** A message could not be decrypted yet. */
  undecryptable({ roomId: room, eventId: event, sender }: InboxEvent, why: string): void {
    logger.info("Cannot decrypt {event} of {sender} in {room} yet: {why}", { room, event, sender, why });
    this.#observer.undecryptable();
  }
}
