/**
 * Input and output of {@linkcode decide}, and what its parts make decisions of.
 *
 * @module
 */

import type { Upcoming, Why } from "../commands/mod.ts";
import type { Config } from "../config/mod.ts";
import type { Diagnosis, Problem, Scale } from "../scaler/mod.ts";
import type { Cause, Outcome, Refusal } from "./audit.ts";
import type { ScheduleView } from "./schedule.ts";
import type { Intent, TargetCommand } from "./target_command.ts";
import type { ChatStop, StopTimer, TargetState } from "./target_state.ts";

/** The part of the configuration that decisions depend on. */
export interface TargetPolicy
  extends Pick<Config, "autoStopMs" | "maxCommandAgeMs" | "startReplicas" | "startTimeoutMs"> {
  /** User ids of the agents that run in the target. Messages to them wake it. */
  readonly agents: readonly string[];
  /**
   * The target is stopped after this time without a message, in milliseconds. Undefined if that is off or the target
   * has no agent.
   */
  readonly idleStopMs: number | undefined;
}

/** Persisted state of a target, and the command whose turn it is. */
export interface State extends TargetState {
  /** The command whose turn it is; undefined if none is waiting. */
  readonly command?: PendingCommand;
}

/** A command whose turn it is. */
export interface PendingCommand {
  /** Position of its event in the journal. */
  readonly seq: number;
  /** Canonical command word; `wake` for a message to the target's agent. */
  readonly word: TargetCommand["word"];
  /** The command as it was typed. */
  readonly typed: string;
  /** Requested duration, in milliseconds. */
  readonly durationMs: number | undefined;
  readonly sender: string;
  readonly roomId: string;
  /** Thread, by the event id of its root. */
  readonly threadId?: string;
  /** Whether the command has no other target. */
  readonly isOnly: boolean;
  /** When we received it, milliseconds since the epoch. */
  readonly receivedAtMs: number;
  /** When it was sent according to the homeserver, milliseconds since the epoch. */
  readonly sentAtMs: number;
  /** When its turn began, milliseconds since the epoch. */
  readonly takenAtMs: number;
  /** A change that was sent and whose outcome is unknown. */
  readonly unconfirmed?: Intent | undefined;
  /** Whether the command's message says that a server isn't answering. */
  readonly unansweredTold: boolean;
}

/** Server that a call goes to. */
export type Party = "Kubernetes API" | "homeserver";

/** Latest activity in the rooms of a target's agents, as seen by this process. */
export interface AgentActivity {
  /** When a user last wrote, milliseconds since the epoch. */
  readonly userAtMs?: number;
  /** Room in which that was. */
  readonly roomId?: string;
  /** When an agent last wrote or typed, milliseconds since the epoch. */
  readonly agentAtMs?: number;
  /** Whether an agent is typing now. */
  readonly isAgentTyping?: boolean;
}

/** What is known in this pass. */
export interface Observed {
  /**
   * Newest counts that the watch has shown; undefined if no watch is running. A watch reports every change, but it may be
   * behind: these counts may be older than our own latest change.
   */
  readonly watched?: Scale | undefined;
  /** Counts that the watch has shown since the last pass. */
  readonly shown?: Scale | undefined;
  /** Counts that were read in this pass. */
  readonly scale?: Scale | undefined;
  /** When it was last read other than for a command, milliseconds since the epoch. */
  readonly readAtMs?: number | undefined;
  /** Whether a change was refused in this pass because the target had changed. */
  readonly hasConflicted?: boolean;
  /** Whether the target has been seen not ready. If not, it is unknown since when it is ready. */
  readonly seenUnready: boolean;
  /** Since when it has been seen ready without interruption, milliseconds since the epoch. */
  readonly seenReadySinceMs?: number | undefined;
  /** Why it isn't ready, and when that was asked, milliseconds since the epoch. */
  readonly diagnosis?: Diagnosis & { readonly atMs: number } | undefined;
  /** Whether the command may still be carried out, checked in this pass. */
  readonly authorization?: { readonly refusal: Refusal | undefined } | undefined;
  /** The change that the API server has accepted in this pass. */
  readonly accepted?: Intent | undefined;
  /** The latest failure, if no call has succeeded since. */
  readonly failure?: Failure | undefined;
  /** The target's schedule; undefined if it has none. */
  readonly schedule?: ScheduleView | undefined;
  /** Whether messages from before the start are still being read. There may be commands among them. */
  readonly isCatchingUp?: boolean;
  /** Latest activity in the rooms of the target's agents. */
  readonly activity?: AgentActivity | undefined;
  /** Number of rooms that both we and an agent of the target have joined; undefined if not determined. */
  readonly agentRooms?: number | undefined;
  /** When a message last failed to wake the target, milliseconds since the epoch. */
  readonly wakeFailedAtMs?: number | undefined;
  /** Server that a call of the command is waiting for. */
  readonly waitingFor?: Party | undefined;
}

/** A failed call. */
export interface Failure {
  /** Server that was called. */
  readonly party: Party;
  /** Why the API server refused the call; undefined if there was no proper answer and a retry may succeed. */
  readonly why: Why | undefined;
  /** Start of the current series of failures, milliseconds since the epoch. */
  readonly sinceMs: number;
  /** When to retry, milliseconds since the epoch. */
  readonly retryAtMs: number;
}

/** What to do. Calls come last, because the next decision needs their results. */
export type Effect = Call | Write;

/** A request to the cluster or the homeserver. */
export type Call =
  | { readonly kind: "read" }
  /** Finds out why the target isn't ready, as these counts show. */
  | { readonly kind: "diagnose"; readonly scale: Scale }
  /** Checks the command's sender, device and room again. */
  | { readonly kind: "authorize" }
  /** Persists the intent, then changes the replica count. */
  | { readonly kind: "scale"; readonly intent: Intent; readonly for: "command" | "idle" | "timer" | "schedule" };

/** Something to persist. All writes of a decision are one transaction. */
export type Write =
  | { readonly kind: "remember"; readonly changes: TargetState }
  /** Ends the command at this target. If `followed`, its message keeps reporting the rollout. */
  | {
    readonly kind: "answer";
    readonly outcome: Outcome;
    readonly refusal?: Refusal | undefined;
    /** Undefined if nothing is said. */
    readonly news: News | undefined;
    readonly before?: number | undefined;
    readonly after?: number | undefined;
    readonly followed: boolean;
    /** Also sent in a new message that mentions the sender, because the answer is an edit, and edits don't notify. */
    readonly alert?: News;
  }
  /** Shows the news in the command's message until the command ends. */
  | { readonly kind: "say-waiting"; readonly news: News }
  /**
   * Shows the news in all messages that follow the target. `alert` is also sent in new messages that mention people.
   */
  | { readonly kind: "update"; readonly news: News; readonly alert?: News; readonly isLast: boolean }
  /** Ends all messages that follow the target, as they are. */
  | { readonly kind: "unfollow" }
  /** Sends new messages, once per key. */
  | {
    readonly kind: "announce";
    readonly key: string;
    readonly rooms: readonly string[];
    /** Thread, by the event id of its root. */
    readonly threadId?: string;
    readonly news: News;
    /** User to mention, if joined, so that their phone rings; undefined for nobody. */
    readonly mention: string | undefined;
    readonly rings: boolean;
    /** Skips rooms in which a message that follows the target already says it. */
    readonly notWhereFollowed: boolean;
  }
  /** Sends a message that doesn't notify, or edits the one that was sent under the same key. */
  | {
    readonly kind: "notice";
    readonly key: string;
    /** Room; undefined for one where the target was last commanded, or one that its agent is in. */
    readonly roomId?: string;
    readonly news: News;
    readonly isLast: boolean;
  }
  /** Recorded in the audit trail, including a Kubernetes Event. */
  | {
    readonly kind: "record";
    readonly reason: "SwitchedOn" | "SwitchedOff";
    readonly cause: Cause;
    readonly message: string;
  };

/** When a target stops automatically, and whether that is because of AUTO_STOP. */
export type StopTime = Pick<StopTimer, "dueAtMs" | "isDefault">;

/** What a command tries to do at a target. */
export type Verb = Exclude<TargetCommand["word"], "wake">;

/** What is said about a target, as values. `status_messages` turns them into sentences. */
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
    /** Since the message that woke it was sent, in milliseconds. */
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
  /** A message to the agent starts the target. */
  | { readonly kind: "waking" }
  /** A message to the agent doesn't start the target, because it was stopped by a command. */
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

/**
 * Effects, and the delay in milliseconds until the next decision if nothing happens before; undefined to wait for an
 * event.
 */
export interface Decision {
  readonly effects: readonly Effect[];
  readonly requeueAfterMs: number | undefined;
}

/** Carries out the effects and decides again at once. */
export function act(...effects: readonly Effect[]): Decision {
  return { effects, requeueAfterMs: 0 };
}

/** Does nothing until the first of the times is over, or something happens. Undefined ones are left out. */
export function wait(...ms: readonly (number | undefined)[]): Decision {
  const known = ms.filter((each) => each !== undefined);
  return { effects: [], requeueAfterMs: known.length === 0 ? undefined : Math.max(0, Math.min(...known)) };
}

/** A timer or an edge that is handled later than this is reported as late. */
const PUNCTUAL_MS = 120_000;

/** Longest wait for a moment, because the wall clock may be set, and a suspended machine wakes up late. */
const LONGEST_WAIT_MS = 30_000;

/** Returns how long to wait for a moment that is so far away. */
export function cappedWaitMs(leftMs: number): number {
  return Math.max(0, Math.min(leftMs, LONGEST_WAIT_MS));
}

/** Returns the change of a scale, as it is written down before it is made. */
export function intentOf({ desired: before, resourceVersion, generation }: Scale, after: number, atMs: number): Intent {
  return { before, after, resourceVersion, generation, atMs };
}

/** Whether the scale is as it was before the change. */
export function isAsBefore({ before, generation }: Intent, scale: Scale): boolean {
  return scale.desired === before && scale.generation === generation;
}

/** A message to an agent counts as a start. */
export function verbOf({ word }: Pick<TargetCommand, "word">): Verb {
  return word === "wake" ? "start" : word;
}

/** Returns how late something due is handled, in milliseconds; undefined if that isn't worth reporting. */
export function lateness(dueAtMs: number, nowMs: number): number | undefined {
  const lateMs = nowMs - dueAtMs;
  return lateMs > PUNCTUAL_MS ? lateMs : undefined;
}

/** Returns the replica count that a start sets. */
export function replicasOfStart({ replicasBeforeStop = 1 }: State, { startReplicas }: TargetPolicy): number {
  return startReplicas === "previous" ? replicasBeforeStop : startReplicas;
}

/** Clears a held stop, because the target is turned on, whatever the cause. */
export function releaseHold(stopped: ChatStop | undefined): TargetState {
  return stopped?.isHeld === true ? { stopped: { ...stopped, isHeld: false } } : {};
}

/**
 * Returns what happens to a target next without a command. `rooms` is the number of rooms in which its agents' users
 * are heard.
 */
export function upcoming(
  desired: number,
  timer: StopTime | undefined,
  isHeld: boolean,
  schedule: ScheduleView | undefined,
  nowMs: number,
  { agents, idleStopMs }: TargetPolicy,
  rooms?: number,
): Upcoming | undefined {
  const isOn = desired > 0;
  const edge = isOn ? schedule?.nextEnd : schedule?.nextBegin;
  const isByIdleness = isOn && idleStopMs !== undefined && schedule?.isUp !== true &&
    (timer === undefined || timer.isDefault === true);
  const heard = rooms === undefined ? {} : { rooms };
  if (isByIdleness) return { kind: "sleeps-after", ms: idleStopMs, ...heard };
  if (isOn && timer !== undefined) return { kind: "stops-in", ms: timer.dueAtMs - nowMs };
  if (!isOn && agents.length > 0 && !isHeld) return { kind: "wakes", agents, ...heard };
  if (edge === undefined) return undefined;
  const { atMs, timeZone } = edge;
  return { kind: isOn ? "stops-at" : "starts-at", when: { atMs, nowMs, timeZone } };
}
