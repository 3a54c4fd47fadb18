/**
 * The account of what was done and refused: one structured log line each, the counters, and an Event on the target in
 * the cluster. Never any message text.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { KeyedQueue } from "../async.ts";
import type { UntrustedReason } from "../authorization/mod.ts";
import type { CommandWord } from "../commands/mod.ts";
import { CredentialError, errorMessage, isFatal, PermissionError } from "../errors.ts";
import type { InboxEvent, RefusedEvent } from "../session/mod.ts";
import type { Rollouts } from "./ports.ts";
import type { Target } from "../config/mod.ts";

/** Why something was refused: the words of the log and of the counter. */
export type Refusal =
  | UntrustedReason
  | "stranger"
  | "invitation"
  | "unreadable"
  | "repeat"
  | "edit"
  | "reply";

/** What became of a command. */
export type Outcome = "done" | "already" | "too-old" | "overtaken" | "failed" | "refused";

/** The account of one command. */
export interface CommandRecord {
  /** Canonical word; `wake`: it was a message to the target's agent. */
  readonly command: CommandWord | "wake";
  /** Alias of the target; undefined where none is concerned, or it was not named and nothing was done. */
  readonly target: string | undefined;
  /** Who sent it. */
  readonly sender: string;
  /** Room id. */
  readonly room: string;
  /** Event id. */
  readonly event: string;
  /** What became of it. */
  readonly outcome: Outcome;
  /** Replicas before; undefined if they were not read. */
  readonly before: number | undefined;
  /** Replicas wanted afterwards; undefined if that is not known. */
  readonly after: number | undefined;
  /** From the moment it was taken up to its answer, milliseconds. */
  readonly ms: number;
}

/** Why a target's count was changed. */
export type Cause = "chat" | "idle" | "message" | "schedule" | "timer";

/** Who wants to count what happens. */
export interface Observer {
  /** Something is tried again after a failure. */
  retried(): void;
  /** Something was refused. */
  refused(reason: Refusal): void;
  /** A command, or a message that was to wake a target, has been dealt with. */
  commanded(record: CommandRecord): void;
  /** An allowed user's message could not be decrypted at first. */
  undecryptable(): void;
  /** A target's count was changed; so long the cluster took to accept it. */
  scaled(target: string, ms: number): void;
  /** A target became ready, so long after its count was changed by a command. */
  ready(target: string, ms: number): void;
  /** A target that a message has woken became ready, so long after that was sent. */
  woken(target: string, ms: number): void;
  /** A target that was off was started. */
  wokeUp(target: string, cause: Cause): void;
  /** A target's replicas as they were last seen. */
  replicas(target: string, counts: { readonly desired: number; readonly ready: number }): void;
}

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Keeps the account. */
export class Audit {
  readonly #observer: Observer;
  readonly #rollouts: Pick<Rollouts, "record">;
  readonly #queue: KeyedQueue;
  readonly #stop: AbortSignal;
  #isForbidden = false;

  /** @param queue where Events are written in the background */
  constructor(observer: Observer, rollouts: Pick<Rollouts, "record">, queue: KeyedQueue, stop: AbortSignal) {
    this.#observer = observer;
    this.#rollouts = rollouts;
    this.#queue = queue;
    this.#stop = stop;
  }

  /** An event was refused. */
  refused({ roomId: room, eventId: event, sender }: RefusedEvent, reason: Refusal): void {
    logger.info("refused {event} from {sender} in {room}: {reason}", { room, event, sender, reason });
    this.#observer.refused(reason);
  }

  /** An invitation was declined. */
  declined(room: string, inviters: readonly string[]): void {
    const reason: Refusal = "invitation";
    logger.warn("declined the {reason} to {room} from {sender}", { room, sender: inviters.join(", "), reason });
    this.#observer.refused(reason);
  }

  /** A stranger has asked to verify us. */
  verificationRefused(user: string): void {
    const reason: Refusal = "stranger";
    logger.info("refused verification by {user}: {reason}", { user, reason });
    this.#observer.refused(reason);
  }

  /** A command is over. */
  commanded(
    { roomId: room, eventId: event, sender }: InboxEvent,
    done: Omit<CommandRecord, "room" | "event" | "sender">,
  ): void {
    const record: CommandRecord = { ...done, room, event, sender };
    logger.info(commandLine(record), known(record));
    this.#observer.commanded(record);
  }

  /**
   * A target was turned on or off: the cluster is told why, where that is permitted; so is the log, which has a line
   * about each command, and each message that wakes it, anyway.
   */
  changed(target: Target, reason: "SwitchedOn" | "SwitchedOff", cause: Cause, message: string): void {
    const { alias } = target;
    const facts = { target: alias, cause, why: message };
    const isLogged = cause === "chat" || cause === "message";
    if (!isLogged && reason === "SwitchedOn") logger.info("turned on {target} ({cause}): {why}", facts);
    if (!isLogged && reason === "SwitchedOff") logger.info("turned off {target} ({cause}): {why}", facts);
    if (reason === "SwitchedOn") this.#observer.wokeUp(alias, cause);
    this.#queue.run(`record ${alias}`, async () => {
      try {
        await this.#rollouts.record(target, { reason, message, type: "Normal" }, this.#stop);
      } catch (error) {
        this.#stop.throwIfAborted();
        // Credentials that the cluster refuses are tried again with whatever is asked of it next.
        if (isFatal(error) && !(error instanceof CredentialError)) throw error;
        if (error instanceof PermissionError && this.#isForbidden) return;
        this.#isForbidden ||= error instanceof PermissionError;
        const why = errorMessage(error);
        logger.info("failed to record an Event on {target}: {reason}", { target: alias, reason: why });
      }
    });
  }

  /** A message could not be decrypted yet. */
  undecryptable({ roomId: room, eventId: event, sender }: InboxEvent, why: string): void {
    logger.info("failed to decrypt {event} from {sender} in {room} so far: {why}", { room, event, sender, why });
    this.#observer.undecryptable();
  }
}

/** The line about a command; it speaks of nothing that isn't known. */
function commandLine({ target, before, after }: CommandRecord): string {
  const on = target === undefined ? "" : " {target}";
  const counts = [...before === undefined ? [] : ["{before}"], ...after === undefined ? [] : ["{after}"]];
  return `{command}${on} by {sender}: {outcome}${counts.length === 0 ? "" : ` (${counts.join(" → ")})`}`;
}

function known(record: CommandRecord): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}
