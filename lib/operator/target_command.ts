/**
 * A command on its way through its targets, and how it is written down meanwhile.
 *
 * @module
 */

import type { Text } from "../commands/mod.ts";
import type { InboxEvent } from "../session/mod.ts";
import type { Target } from "../config/mod.ts";

/** A trusted command that is to be carried out at its targets, or a message to their agents, which is to wake them. */
export interface TargetCommand {
  /** The event that it came in. */
  readonly inbox: InboxEvent;
  /** Canonical word; `wake` is typed by nobody. */
  readonly word: "start" | "stop" | "extend" | "status" | "wake";
  /** What was typed; of a message to agents, nothing. */
  readonly typed: string;
  /** The time that was asked for, milliseconds. */
  readonly durationMs: number | undefined;
  /** Of a status: commands before it that are still being carried out, as they were typed. */
  readonly underWay?: readonly string[];
  /** How far it has got at each of its targets; by alias as it was given, by {@linkcode workloadKey} once submitted. */
  readonly steps: Map<string, TargetStep>;
}

/** How far a command has got at one of its targets. */
export interface TargetStep {
  /** Alias of the target when the command was given. */
  readonly target: string;
  /** Which workload that was: the alias may stand for another one by now. */
  readonly workload?: string;
  /** What is about to be done, or was, as far as anybody knows. */
  readonly intent?: Intent;
  /** What came of it; undefined if that is not known yet. */
  readonly end?: StepEnd;
}

/** What came of a command at a target, and what is said of it. */
export interface StepEnd {
  /** A word for the log and for counting, such as `done`. */
  readonly outcome: string;
  /** What is said; undefined: nothing. */
  readonly text?: Required<Text>;
  /** Replicas before; undefined if they were not read. */
  readonly before?: number;
  /** Replicas wanted afterwards; undefined if that is not known. */
  readonly after?: number;
}

/** What is about to be done; written down before it is done, so that after a kill reading the target tells what came of it. */
export interface Intent {
  /** Replicas before. */
  readonly before: number;
  /** Replicas wanted. */
  readonly after: number;
  /** The resourceVersion that the PATCH carries. */
  readonly resourceVersion: string;
  /** The target's generation before. */
  readonly generation: number;
  /** When, milliseconds since the epoch. */
  readonly atMs: number;
}

/** A command as the journal keeps it while it is carried out. */
export interface StoredCommand {
  /** Canonical word. */
  readonly command: string;
  /** What was typed; undefined in what an earlier version has written. */
  readonly typed?: string;
  /** The time that was asked for, milliseconds. */
  readonly durationMs?: number | undefined;
  /** How far it has got at each of its targets. */
  readonly parts: readonly TargetStep[];
}

/** What tells a workload from all others of a cluster, such as `deployment/clawdbot/clawdbot`. */
export function workloadKey({ kind, namespace, name }: Omit<Target, "alias">): string {
  return `${kind}/${namespace}/${name}`;
}

/** A command as it is to be written down. */
export function storedCommand({ word: command, typed, durationMs, steps }: TargetCommand): StoredCommand {
  return { command, typed, durationMs, parts: [...steps.values()] };
}

const words = ["start", "stop", "extend", "status", "wake"] as const satisfies readonly TargetCommand["word"][];

/** A command that was under way when the operator was interrupted: what it was about to do may have been done or not. */
export function resumedCommand(
  inbox: InboxEvent,
  { command, typed = command, durationMs, parts }: StoredCommand,
): TargetCommand {
  const word = words.find((each) => each === command) ?? "start";
  return {
    inbox,
    word,
    typed,
    durationMs,
    steps: new Map(parts.map((step) => [step.workload ?? step.target, step])),
  };
}
