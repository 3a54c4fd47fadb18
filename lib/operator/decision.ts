/**
 * What a decision about a target rests on, and what can come of it: the vocabulary of {@linkcode decide}.
 *
 * @module
 */

import type { Upcoming, Why } from "../commands/mod.ts";
import type { Config } from "../config/mod.ts";
import type { Diagnosis, Problem, Scale } from "../scaler/mod.ts";
import type { Cause, Outcome, Refusal } from "./audit.ts";
import type { ScheduleView } from "./schedule.ts";
import type { Intent, TargetCommand } from "./target_command.ts";
import type { TargetState } from "./target_state.ts";

/** The part of the configuration that decisions about a target rest on. */
export interface TargetPolicy
  extends Pick<Config, "autoStopMs" | "maxCommandAgeMs" | "startReplicas" | "startTimeoutMs"> {
  /** User ids of the agents that run in it: messages to them wake it. */
  readonly agents: readonly string[];
  /** It is stopped after so long without a message, milliseconds; undefined: not for that, or it has no agent. */
  readonly idleStopMs: number | undefined;
}

/** What is to be done at a target: what lasts of it, and the command whose turn it is. */
export interface State extends TargetState {
  /** The command whose turn it is; undefined: none waits. */
  readonly command?: PendingCommand;
}

/** A command whose turn it is. */
export interface PendingCommand {
  /** Place of its event in the inbox: smaller is earlier. */
  readonly seq: number;
  /** Canonical word; `wake`: it is no command, but a message to the target's agent. */
  readonly word: TargetCommand["word"];
  /** What was typed. */
  readonly typed: string;
  /** The time that was asked for, milliseconds. */
  readonly durationMs: number | undefined;
  /** Who sent it. */
  readonly sender: string;
  /** Where. */
  readonly roomId: string;
  /** In which thread, by its root's event id. */
  readonly threadId?: string;
  /** It has no other target. */
  readonly isOnly: boolean;
  /** When it came to us, milliseconds since the epoch. */
  readonly receivedAtMs: number;
  /** When it was sent, as far as the homeserver tells, milliseconds since the epoch. */
  readonly sentAtMs: number;
  /** When its turn came, milliseconds since the epoch. */
  readonly takenAtMs: number;
  /** A change that was sent, and whose outcome nobody has told. */
  readonly unconfirmed?: Intent | undefined;
  /** Its message says that somebody isn't answering. */
  readonly unansweredTold: boolean;
}

/** Whose answer is waited for. */
export type Party = "Kubernetes API" | "homeserver";

/** When something was last written in the rooms of a target's agents, as far as this run has seen. */
export interface Life {
  /** By a user, milliseconds since the epoch. */
  readonly userAtMs?: number;
  /** In which room that was. */
  readonly roomId?: string;
  /** By an agent, milliseconds since the epoch. */
  readonly agentAtMs?: number;
  /** An agent is writing just now. */
  readonly isAgentTyping?: boolean;
}

/** What is known of the world in this round. */
export interface Observed {
  /** A watch stands: it will say when something changes. */
  readonly isWatched: boolean;
  /** The counts as the watch has shown them since the last read; they may be older than our own latest change. */
  readonly shown?: Scale | undefined;
  /** The counts as they were read in this round. */
  readonly scale?: Scale | undefined;
  /** It has been seen not to be ready; otherwise nobody knows since when it is. */
  readonly seenUnready: boolean;
  /** Since when reads have shown it ready without a break, milliseconds since the epoch. */
  readonly seenReadySinceMs?: number | undefined;
  /** What keeps it from being ready, and when that was asked, milliseconds since the epoch. */
  readonly diagnosis?: Diagnosis & { readonly atMs: number } | undefined;
  /** Whether the command may still be carried out, judged in this round. */
  readonly authorization?: { readonly refusal: Refusal | undefined } | undefined;
  /** The change that the API server has accepted in this round. */
  readonly accepted?: Intent | undefined;
  /** The latest call has failed. */
  readonly failure?: Failure | undefined;
  /** The target's schedule; undefined: it has none. */
  readonly schedule?: ScheduleView | undefined;
  /** Messages that came before the start are still being read: there may be commands among them. */
  readonly isCatchingUp?: boolean;
  /** When something was last written in the rooms of the target's agents. */
  readonly life?: Life | undefined;
  /** In how many rooms both an agent of the target and we are; undefined: nobody has asked for that. */
  readonly agentRooms?: number | undefined;
  /** When a message last failed to wake the target, milliseconds since the epoch. */
  readonly wakeFailedAtMs?: number | undefined;
  /** A call to this party is under way, and the command's time for it passes. */
  readonly waitingFor?: Party | undefined;
}

/** A call that has failed. */
export interface Failure {
  /** Whom it was made to. */
  readonly party: Party;
  /** Why the API server has refused it; undefined: there was no proper answer, which may be different next time. */
  readonly why: Why | undefined;
  /** Since when calls have failed in a row, milliseconds since the epoch. */
  readonly sinceMs: number;
  /** When it is time for the next try, milliseconds since the epoch. */
  readonly retryAtMs: number;
}

/** What is to be done. Calls come last, since what they teach is observed before the next decision. */
export type Effect = Call | Write;

/** Something that is asked of the world. */
export type Call =
  | { readonly kind: "read" }
  | { readonly kind: "diagnose" }
  /** The command's sender, device and room are judged again. */
  | { readonly kind: "authorize" }
  /** Written down, then sent. */
  | { readonly kind: "scale"; readonly intent: Intent; readonly for: "command" | "idle" | "timer" | "schedule" };

/** Something that is written down; all of a decision at once. */
export type Write =
  | { readonly kind: "remember"; readonly changes: TargetState }
  /** The command is over at this target. `followed`: its message goes on with the rollout. */
  | {
    readonly kind: "answer";
    readonly outcome: Outcome;
    readonly refusal?: Refusal | undefined;
    /** Undefined: nothing is said. */
    readonly news: News | undefined;
    readonly before?: number | undefined;
    readonly after?: number | undefined;
    readonly followed: boolean;
    /** Said in a message that mentions the sender, too: the answer itself comes as an edit, which rings no phone. */
    readonly alert?: News;
  }
  /** The command's message says so, until it is over. */
  | { readonly kind: "say-waiting"; readonly news: News }
  /** The messages that follow the target say so. `alert`: said in a message that mentions people, too. */
  | { readonly kind: "update"; readonly news: News; readonly alert?: News; readonly isLast: boolean }
  /** The messages that follow the target stay as they are from now on. */
  | { readonly kind: "unfollow" }
  /** Said once for each key, in messages of their own. */
  | {
    readonly kind: "announce";
    readonly key: string;
    readonly rooms: readonly string[];
    /** In which thread, by its root's event id; undefined: in none. */
    readonly threadId?: string;
    readonly news: News;
    /** Who is mentioned where joined, so that phones ring; undefined: a notice. */
    readonly mention: string | undefined;
    readonly rings: boolean;
    /** Not in rooms where a message that follows the target tells it. */
    readonly notWhereFollowed: boolean;
  }
  /** A message of its own, that rings no phone: said under a new key, edited under one that was said. */
  | {
    readonly kind: "notice";
    readonly key: string;
    /** Where it is said; undefined: where the target was last commanded, or its agent is. */
    readonly roomId?: string;
    readonly news: News;
    readonly isLast: boolean;
  }
  /** Kept account of, also in the cluster. */
  | {
    readonly kind: "record";
    readonly reason: "SwitchedOn" | "SwitchedOff";
    readonly cause: Cause;
    readonly message: string;
  };

/** What is tried at a target. */
export type Verb = Exclude<TargetCommand["word"], "wake">;

/** What is said of a target, as values; the sentences are made by `status_messages`. */
export type News =
  | { readonly kind: "switched-on"; readonly replicas: number; readonly next: Upcoming | undefined }
  | { readonly kind: "switched-off" | "already-off"; readonly next: Upcoming | undefined }
  | { readonly kind: "already-on" | "already-starting"; readonly scale: Scale; readonly next: Upcoming | undefined }
  | { readonly kind: "no-timer" }
  | { readonly kind: "extended"; readonly stopsInMs: number }
  | { readonly kind: "too-old"; readonly typed: string; readonly ageMs: number }
  | { readonly kind: "overtaken"; readonly typed: string; readonly before: number; readonly now: number }
  | { readonly kind: "not-authorized"; readonly refusal: Refusal }
  | { readonly kind: "failed"; readonly word: Verb; readonly why: Why }
  | { readonly kind: "failed-alert"; readonly word: Verb }
  | { readonly kind: "unanswered"; readonly word: Verb; readonly party: Party }
  | {
    readonly kind: "status";
    readonly scale: Scale;
    readonly readyForMs: number | undefined;
    readonly next: Upcoming | undefined;
    readonly problems: readonly Problem[];
    readonly isOnly: boolean;
  }
  | { readonly kind: "starting"; readonly scale: Scale; readonly problems: readonly Problem[] }
  | { readonly kind: "partly-ready"; readonly scale: Scale }
  | {
    readonly kind: "ready";
    readonly afterMs: number;
    /** Since the message was sent that has woken it. */
    readonly afterMessageMs?: number;
    readonly next: Upcoming | undefined;
  }
  | { readonly kind: "ready-alert" }
  | {
    readonly kind: "not-ready";
    readonly scale: Scale;
    readonly afterMs: number;
    readonly diagnosis: Diagnosis;
  }
  | { readonly kind: "not-ready-alert"; readonly problems: readonly Problem[] }
  | { readonly kind: "unreadable"; readonly why: Why }
  | { readonly kind: "unreadable-alert" }
  | { readonly kind: "superseded"; readonly by: string | undefined; readonly afterMs: number }
  | {
    readonly kind: "undone";
    readonly before: number;
    readonly now: number;
    readonly manager: string | undefined;
    readonly afterMs: number;
  }
  | {
    readonly kind: "scaled-by-others";
    readonly before: number;
    readonly now: number;
    readonly manager: string | undefined;
  }
  /** A message to its agent turns it on. */
  | { readonly kind: "waking" }
  /** A message to its agent doesn't, because of a stop. */
  | { readonly kind: "kept-off" }
  | { readonly kind: "falling-asleep"; readonly quietForMs: number; readonly leftMs: number }
  | { readonly kind: "stays-awake" }
  | { readonly kind: "fell-asleep"; readonly idleStopMs: number }
  | { readonly kind: "timer-ending"; readonly leftMs: number }
  | { readonly kind: "timer-stopped"; readonly lateMs: number | undefined }
  | {
    readonly kind: "schedule-started";
    readonly replicas: number;
    readonly next: Upcoming | undefined;
    readonly lateMs: number | undefined;
  }
  | { readonly kind: "schedule-stopped"; readonly next: Upcoming | undefined; readonly lateMs: number | undefined };

/** Effects, and when to look again if nothing happens before, milliseconds; undefined: only when something happens. */
export interface Decision {
  readonly effects: readonly Effect[];
  readonly requeueAfterMs: number | undefined;
}
