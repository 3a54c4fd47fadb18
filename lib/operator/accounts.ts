/**
 * The account of what was done and refused: one structured log line each, and the counters. Never any message text.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { CredentialError, PermissionError, TransientError } from "../errors.ts";
import type { KeyedQueue } from "../async.ts";
import { isRefusal } from "../errors.ts";
import type { InboxEvent, RefusedEvent, Rollouts, Target } from "./ports.ts";
import type { CommandRecord, Observer, Parts, Refusal } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Keeps the account. */
export class Accounts {
  readonly #observer: Observer;
  readonly #rollouts: Rollouts;
  readonly #lanes: KeyedQueue;
  readonly #stop: AbortSignal;
  #isForbidden = false;

  /** Of the parts it needs who counts, and the cluster, which keeps an account as well. */
  constructor({ observer, rollouts }: Pick<Parts, "observer" | "rollouts">, lanes: KeyedQueue, stop: AbortSignal) {
    this.#observer = observer;
    this.#rollouts = rollouts;
    this.#lanes = lanes;
    this.#stop = stop;
  }

  /** An event was refused. */
  refused({ roomId: room, eventId: event, sender }: RefusedEvent, reason: Refusal): void {
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
    logger.info(lineOf(record), { ...record });
    this.#observer.commanded(record);
  }

  /** A target was changed: the cluster is told who did it, where that is permitted. */
  changed(target: Target, reason: string, message: string): void {
    const { alias } = target;
    this.#lanes.run(`record ${alias}`, async () => {
      try {
        await this.#rollouts.record(target, { reason, message, type: "Normal" }, this.#stop);
      } catch (error) {
        if (!(error instanceof TransientError || error instanceof CredentialError) && !isRefusal(error)) throw error;
        if (error instanceof PermissionError && this.#isForbidden) return;
        this.#isForbidden ||= error instanceof PermissionError;
        logger.info("Cannot note on {target} what was done: {reason}", { target: alias, reason: error.message });
      }
    });
  }

  /** A message could not be decrypted yet. */
  undecryptable({ roomId: room, eventId: event, sender }: InboxEvent, why: string): void {
    logger.info("Cannot decrypt {event} of {sender} in {room} yet: {why}", { room, event, sender, why });
    this.#observer.undecryptable();
  }
}

/** The log's line, of what is known. */
function lineOf({ target, before, after }: CommandRecord): string {
  const what = target === undefined ? "{command}" : "{command} {target}";
  const counts = after === undefined ? "" : before === undefined ? " ({after})" : " ({before} → {after})";
  return `${what} by {sender}: {outcome}${counts}`;
}
