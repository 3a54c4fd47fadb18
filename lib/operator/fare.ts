/**
 * Decides what is told of a change that goes on, and when it is to be looked at again: a pure function.
 *
 * @module
 */

import { notReady, partlyReady, ready, stateOf, type Text } from "../commands/mod.ts";
import type { Change } from "./memory.ts";
import type { Diagnosis, Scale } from "./ports.ts";

/** So soon after a change its undoing is a part of the answer (SPEC 3i), and a failure a failure of the start. */
const watchedForMs = 60_000;
/** Readiness that took so long calls people (SPEC 3d). */
const callsAfterMs = 30_000;
/** What has failed must be ready for so long before that is told: in a crash loop it is ready for moments. */
const steadyForMs = 30_000;

/** How things stand. */
export interface Standing {
  /** The target's name. */
  readonly alias: string;
  /** The change. */
  readonly change: Change;
  /** The target, read after the change. */
  readonly scale: Scale;
  /** What is in its way; only asked of a target that {@linkcode isUnready}. */
  readonly diagnosis: Diagnosis;
  /** Time since the change, milliseconds. */
  readonly afterMs: number;
  /** For how long it has been seen to be ready without a break, milliseconds. */
  readonly readyForMs: number;
  /** After which time it stops by itself, milliseconds; undefined: it does not. */
  readonly stopsInMs: number | undefined;
  /** A watch says when something changes. */
  readonly watched: boolean;
  /** After which time a start is reported as not ready, milliseconds. */
  readonly startTimeoutMs: number;
}

/** What is to be done. */
export type Step =
  | { readonly kind: "wait"; readonly forMs: number }
  /** `calls`: people are called. */
  | { readonly kind: "tell"; readonly text: Required<Text>; readonly change: Change; readonly calls: boolean }
  | { readonly kind: "over" };

/** It is to be ready, and is not. */
export function isUnready({ after }: Pick<Change, "after">, scale: Scale): boolean {
  return after > 0 && stateOf(scale) !== "running";
}

/** What is to be done now. */
export function nextStep(standing: Standing): Step {
  const { alias, change, scale, afterMs, readyForMs, stopsInMs, watched, startTimeoutMs } = standing;
  const lookAgainMs = watched ? 2_000 : 1_000;
  const leftMs = watchedForMs - afterMs;
  if (leftMs <= 0 && (change.after === 0 || change.told === "ready")) return { kind: "over" };
  if (isUnready(change, scale)) {
    return hindered(standing) ?? { kind: "wait", forMs: afterMs < startTimeoutMs ? lookAgainMs : 10_000 };
  }
  if (change.after > 0 && change.told !== "ready") {
    const unsteadyMs = change.obstacles === undefined ? 0 : steadyForMs - readyForMs;
    if (unsteadyMs > 0) return { kind: "wait", forMs: Math.min(unsteadyMs, watched ? unsteadyMs : lookAgainMs) };
    const calls = change.told === "failing" || afterMs > callsAfterMs;
    return { kind: "tell", text: ready(alias, afterMs, stopsInMs), change: { ...change, told: "ready" }, calls };
  }
  // All that can come now is that somebody undoes it.
  const isOver = watched || stateOf(scale) !== "stopping";
  return { kind: "wait", forMs: isOver ? leftMs : Math.min(leftMs, lookAgainMs) };
}

function hindered(standing: Standing): Step | undefined {
  const { alias, change, scale, diagnosis, afterMs, startTimeoutMs } = standing;
  const certain = diagnosis.problems.filter((each) => each.certain);
  // Containers that fail in different ways take turns: each way is told once.
  const { obstacles = [] } = change;
  const untold = certain.map(({ kind, image = "" }) => `${kind} ${image}`).filter((each) => !obstacles.includes(each));
  const isNew = untold.length > 0;
  const isLate = !change.late && change.told !== "ready" && afterMs >= startTimeoutMs;
  if (isNew || isLate) {
    const why = isLate ? diagnosis : { ...diagnosis, problems: certain };
    const told: Change = {
      ...change,
      told: "failing",
      late: change.late || isLate,
      ...isNew ? { obstacles: [...new Set([...obstacles, ...untold])] } : {},
    };
    return { kind: "tell", text: notReady(alias, scale, afterMs, why), change: told, calls: change.told !== "failing" };
  }
  const isHalf = change.told === "nothing" && scale.settled && scale.ready * 2 >= scale.desired;
  if (!isHalf) return undefined;
  return { kind: "tell", text: partlyReady(alias, scale), change: { ...change, told: "partly" }, calls: false };
}
