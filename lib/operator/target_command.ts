/**
 * A command on its way through its targets, and its persisted form.
 *
 * @module
 */

import type { Text } from "../commands/mod.ts";
import type { InboxEvent } from "../session/mod.ts";
import type { Target } from "../config/mod.ts";

/** A trusted command to be carried out at its targets, or a message to their agents that is to wake them. */
export interface TargetCommand {
  /** Event of the command. */
  readonly event: InboxEvent;
  /** Canonical command word; `wake` for a message to agents. */
  readonly word: "start" | "stop" | "extend" | "status" | "wake";
  /** The command as it was typed. Empty for a message to agents. */
  readonly typed: string;
  /** Requested duration, in milliseconds. */
  readonly durationMs: number | undefined;
  /** For a status: earlier commands that are still being carried out, as they were typed. */
  readonly underWay?: readonly string[];
  /** Progress at each target. Keyed by alias until submitted, then by {@linkcode workloadKey}. */
  readonly steps: Map<string, TargetStep>;
}

/** Progress of a command at one of its targets. */
export interface TargetStep {
  /** Alias of the target when the command was given. */
  readonly target: string;
  /** Workload that the alias meant then. The alias may mean another one now. */
  readonly workload?: string;
  /** The change that is about to be made, or may have been made. */
  readonly intent?: Intent;
  /** Result; undefined while the command is going on. */
  readonly end?: StepEnd;
}

/** Result of a command at a target, and what is said about it. */
export interface StepEnd {
  /** Word for log and metrics, such as `done`. */
  readonly outcome: string;
  /** Answer; undefined for none. */
  readonly text?: Required<Text>;
  /** Replicas before; undefined if they were not read. */
  readonly before?: number;
  /** Desired replicas afterwards; undefined if unknown. */
  readonly after?: number;
}

/**
 * A change of a replica count. It is persisted before it is made, so that after a crash, reading the target shows
 * whether it was made.
 */
export interface Intent {
  /** Replicas before. */
  readonly before: number;
  /** Desired replicas. */
  readonly after: number;
  /** The resourceVersion that the PATCH carries. */
  readonly resourceVersion: string;
  /** The target's generation before. */
  readonly generation: number;
  /** When it was decided, milliseconds since the epoch. */
  readonly atMs: number;
}

/** A command in the journal while it is being carried out. */
export interface StoredCommand {
  /** Canonical command word. */
  readonly command: string;
  /** The command as it was typed; undefined if an earlier version has stored it. */
  readonly typed?: string;
  /** Requested duration, in milliseconds. */
  readonly durationMs?: number | undefined;
  /** Progress at each target. */
  readonly parts: readonly TargetStep[];
}

/** Returns a key that identifies a workload in a cluster, such as `deployment/clawdbot/clawdbot`. */
export function workloadKey({ kind, namespace, name }: Omit<Target, "alias">): string {
  return `${kind}/${namespace}/${name}`;
}

/** Converts a command to its persisted form. */
export function storedCommand({ word: command, typed, durationMs, steps }: TargetCommand): StoredCommand {
  return { command, typed, durationMs, parts: [...steps.values()] };
}

const words = ["start", "stop", "extend", "status", "wake"] as const satisfies readonly TargetCommand["word"][];

/** Restores a command that was interrupted. The change that it was about to make may have been made. */
export function resumedCommand(
  event: InboxEvent,
  { command, typed = command, durationMs, parts }: StoredCommand,
): TargetCommand {
  const word = words.find((each) => each === command) ?? "start";
  return {
    event,
    word,
    typed,
    durationMs,
    steps: new Map(parts.map((step) => [step.workload ?? step.target, step])),
  };
}
