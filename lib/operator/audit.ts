/**
 * Audit trail of what was done and refused: one structured log line each, metrics, and a Kubernetes Event on the
 * target. It never contains message text.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Clock, KeyedQueue } from "../async.ts";
import type { UntrustedReason } from "../authorization/mod.ts";
import type { CommandWord } from "../commands/mod.ts";
import { CredentialError, errorMessage, FORBIDDEN_FOR_MS, isFatal, PermissionError } from "../errors.ts";
import type { InboxEvent, RefusedEvent } from "../session/mod.ts";
import type { Rollouts } from "./ports.ts";
import type { Target } from "../config/mod.ts";

/** Why something was refused. The same words are used in the log and in the metric. */
export type Refusal =
  | UntrustedReason
  | "stranger"
  | "invitation"
  | "unreadable"
  | "repeat"
  | "edit"
  | "reply";

/** Outcome of a command. */
export type Outcome = "done" | "already" | "too-old" | "overtaken" | "failed" | "refused";

/** Audit record of one command. */
export interface CommandRecord {
  /** Canonical command word; `wake` for a message to the target's agent. */
  readonly command: CommandWord | "wake";
  /** Alias of the target. Undefined if the command concerns no target, or if none was named and nothing was done. */
  readonly target: string | undefined;
  /** User id of the sender. */
  readonly sender: string;
  /** Room id. */
  readonly room: string;
  /** Event id. */
  readonly event: string;
  /** Outcome of the command. */
  readonly outcome: Outcome;
  /** Replicas before; undefined if they were not read. */
  readonly before: number | undefined;
  /** Desired replicas afterwards; undefined if unknown. */
  readonly after: number | undefined;
  /** From the start of its turn to its answer, in milliseconds. */
  readonly ms: number;
}

/** Cause of a change of a target's replica count. */
export type Cause = "chat" | "idle" | "message" | "schedule" | "timer";

/** Receives what happens, to count it in metrics. */
export interface Observer {
  /** Something is retried after a failure. */
  retried(): void;
  /** Something was refused. */
  refused(reason: Refusal): void;
  /** A command, or a message that was to wake a target, has been handled. */
  commanded(record: CommandRecord): void;
  /** A message of an allowed user could not be decrypted at first. */
  undecryptable(): void;
  /** A target's replica count was changed. `ms` is how long the API server took to accept that. */
  scaled(target: string, ms: number): void;
  /** A target became ready. `ms` is the time since a command changed its replica count. */
  ready(target: string, ms: number): void;
  /** A target that a message woke became ready. `ms` is the time since that message was sent. */
  woken(target: string, ms: number): void;
  /** A target that was off was started. */
  wokeUp(target: string, cause: Cause): void;
  /** A target's replica counts, as last seen. */
  replicas(target: string, counts: { readonly desired: number; readonly ready: number }): void;
}

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Writes the audit trail. */
export class Audit {
  readonly #observer: Observer;
  readonly #rollouts: Pick<Rollouts, "record">;
  readonly #queue: KeyedQueue;
  readonly #stop: AbortSignal;
  readonly #clock: Clock;
  /** When to try again to record Events on a target, milliseconds since the epoch, where it was forbidden. */
  readonly #forbiddenUntilMs = new Map<string, number>();

  /** @param queue writes the Kubernetes Events in the background */
  constructor(
    observer: Observer,
    rollouts: Pick<Rollouts, "record">,
    queue: KeyedQueue,
    clock: Clock,
    stop: AbortSignal,
  ) {
    this.#observer = observer;
    this.#rollouts = rollouts;
    this.#queue = queue;
    this.#clock = clock;
    this.#stop = stop;
  }

  /** Records that an event was refused. */
  refused({ roomId: room, eventId: event, sender }: RefusedEvent, reason: Refusal): void {
    logger.info("refused {event} from {sender} in {room}: {reason}", { room, event, sender, reason });
    this.#observer.refused(reason);
  }

  /** Records that an invitation was declined. */
  declined(room: string, inviters: readonly string[]): void {
    const reason: Refusal = "invitation";
    logger.warn("declined the {reason} to {room} from {sender}", { room, sender: inviters.join(", "), reason });
    this.#observer.refused(reason);
  }

  /** Records that a stranger asked to verify us. */
  verificationRefused(user: string): void {
    const reason: Refusal = "stranger";
    logger.info("refused verification by {user}: {reason}", { user, reason });
    this.#observer.refused(reason);
  }

  /** Records that a command has ended. */
  commanded(
    { roomId: room, eventId: event, sender }: InboxEvent,
    done: Omit<CommandRecord, "room" | "event" | "sender">,
  ): void {
    const record: CommandRecord = { ...done, room, event, sender };
    logger.info(commandLine(record), definedFields(record));
    this.#observer.commanded(record);
  }

  /**
   * Records that a target was turned on or off, as a Kubernetes Event if that is permitted. Also logs it, except for
   * chat commands and messages that wake the target, which have a log line of their own.
   */
  changed(target: Target, reason: "SwitchedOn" | "SwitchedOff", cause: Cause, message: string): void {
    const { alias } = target;
    const facts = { target: alias, cause, why: message };
    const isLogged = cause === "chat" || cause === "message";
    if (!isLogged && reason === "SwitchedOn") logger.info("turned on {target} ({cause}): {why}", facts);
    if (!isLogged && reason === "SwitchedOff") logger.info("turned off {target} ({cause}): {why}", facts);
    if (reason === "SwitchedOn") this.#observer.wokeUp(alias, cause);
    if (this.#clock.now() < (this.#forbiddenUntilMs.get(alias) ?? 0)) return;
    this.#queue.run(`record ${alias}`, async () => {
      try {
        await this.#rollouts.record(target, { reason, message, type: "Normal" }, this.#stop);
      } catch (error) {
        this.#stop.throwIfAborted();
        // If the cluster refuses our credentials, its next request reads them again. That is not fatal here.
        if (isFatal(error) && !(error instanceof CredentialError)) throw error;
        if (error instanceof PermissionError) {
          const isKnown = this.#forbiddenUntilMs.has(alias);
          this.#forbiddenUntilMs.set(alias, this.#clock.now() + FORBIDDEN_FOR_MS);
          if (isKnown) return;
        }
        const why = errorMessage(error);
        logger.info("failed to record an Event on {target}: {reason}", { target: alias, reason: why });
      }
    });
  }

  /** Records that a message could not be decrypted yet. */
  undecryptable({ roomId: room, eventId: event, sender }: InboxEvent, why: string): void {
    logger.info("failed to decrypt {event} from {sender} in {room} so far: {why}", { room, event, sender, why });
    this.#observer.undecryptable();
  }
}

/** Makes the log template of a command. It omits what is unknown. */
function commandLine({ target, before, after }: CommandRecord): string {
  const on = target === undefined ? "" : " {target}";
  const counts = [...before === undefined ? [] : ["{before}"], ...after === undefined ? [] : ["{after}"]];
  return `{command}${on} by {sender}: {outcome}${counts.length === 0 ? "" : ` (${counts.join(" → ")})`}`;
}

function definedFields(record: CommandRecord): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}
