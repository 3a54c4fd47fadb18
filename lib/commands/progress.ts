/**
 * What is said of how a target fares after a command: that it is ready, or why not, who has changed it, and when it
 * stops by itself.
 *
 * @module
 */

import type { Counts, Diagnosis, Problem } from "../scaler/mod.ts";
import { duration, timeLeft } from "./duration.ts";
import { bold, code, joined, quoted, type Text, text, user } from "./text.ts";

/** A start whose target is ready; `stopsInMs`: only for so long. */
export function ready(target: string, afterMs: number, stopsInMs: number | undefined): Text {
  const end = stopsInMs === undefined ? "" : `; it stops by itself in ${timeLeft(stopsInMs)}`;
  return text`${bold(target)} is ready, after ${duration(afterMs)}${end}`;
}

/** A start that is not ready yet, and what it waits for, as far as the cluster tells. */
export function starting(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  problems: readonly Problem[],
): Text {
  const replicas = desired === 1 ? "1 replica" : `${desired} replicas`;
  const counts = ready === 0 ? replicas : `${replicas}, ${ready} ready`;
  const head = text`${bold(target)} is on (${counts}), starting…`;
  return problems.length === 0 ? head : text`${head} ${joined(problems.map(provisional), "; ")}`;
}

const provisionalWords: Readonly<Record<Problem["kind"], string>> = {
  "image": "image not pulled yet",
  "container-config": "container not set up yet",
  "crash": "it has crashed",
  "out-of-memory": "it ran out of memory",
  "unschedulable": "not scheduled yet",
  "quota": "no more pods permitted yet",
  "other": "not ready yet",
};

function provisional({ kind, reason, message = "" }: Problem): Text {
  return text`${provisionalWords[kind]}: ${message === "" ? code(reason) : quoted(message, 300)}`;
}

/** Says in one line, to whoever waits for it, that a target is ready. */
export function readyAlert(target: string): Text {
  return text`${bold(target)} is ready now`;
}

/** Says in one line, to whoever waits for it, that a target isn't ready. */
export function notReadyAlert(target: string, problems: readonly Pick<Problem, "kind">[]): Text {
  const kinds = new Set(problems.map(({ kind }) => kind).filter((kind) => kind !== "other"));
  const reasons = [...kinds].map((kind) => sayings[kind]);
  return reasons.length === 0
    ? text`${bold(target)} isn't ready yet`
    : text`${bold(target)} isn't ready: ${reasons.join("; ")}`;
}

/** A start of several replicas, of which some are ready. */
export function partlyReady(target: string, counts: Pick<Counts, "ready" | "desired">): Text {
  return text`${bold(target)} is now on (replicas: ${counts.desired}), ${counts.ready} of them ready…`;
}

/** A start of what is being started already; `stopsInMs`: from now on it is only for so long. */
export function alreadyStarting(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  stopsInMs: number | undefined,
): Text {
  return text`${bold(target)} is already starting (${ready}/${desired} ready)…${stopping(stopsInMs)}`;
}

/** A start whose target is not ready: because of something, or in time. */
export function notReady(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  afterMs: number,
  why: Diagnosis,
): Text {
  const head = text`${bold(target)} is not ready after ${duration(afterMs)} (${ready}/${desired} ready)`;
  const unknown = why.missingPermission === undefined
    ? "I see nothing in its way"
    : "what I may look at does not say why";
  const known = why.problems.length === 0 ? text`, and ${unknown}` : text`: ${reasons(why)}`;
  const more = why.missingPermission === undefined
    ? ""
    : `. I could tell more with permission to ${why.missingPermission}`;
  return text`${head}${known}${more}. I keep watching it.`;
}

/** What is in the way. */
export function reasons({ problems }: Pick<Diagnosis, "problems">): Text {
  return joined(problems.map(described), "; ");
}

const sayings: Readonly<Record<Problem["kind"], string>> = {
  "image": "its image cannot be pulled",
  "container-config": "its container cannot be set up",
  "crash": "it crashes",
  "out-of-memory": "it runs out of memory",
  "unschedulable": "no node can take it",
  "quota": "the cluster permits no more pods",
  "other": "the cluster reports",
};

function described({ kind, reason, message, image, exitCode, restarts }: Problem): Text {
  const details = [
    code(reason),
    ...image === undefined ? [] : [text`image ${code(image)}`],
    ...exitCode === undefined ? [] : [text`exit code ${exitCode}`],
    ...restarts === undefined || restarts === 0 ? [] : [text`restarts: ${restarts}`],
    ...message === undefined || message === "" ? [] : [quoted(message, 300)],
  ];
  return text`${sayings[kind]} (${joined(details, ", ")})`;
}

/** A start that a stop has overtaken. */
export function superseded(target: string, who: string | undefined, afterMs: number): Text {
  const by = who === undefined ? "" : text` by ${user(who)}`;
  return text`${bold(target)} was switched off again${by}, after ${duration(afterMs)}, before it was ready`;
}

/** A change by somebody who sends no commands; `manager`: what made it, as far as the cluster knows. */
export interface Foreign {
  /** Replicas before. */
  readonly before: number;
  /** Replicas now. */
  readonly now: number;
  /** The manager of the count. */
  readonly manager: string | undefined;
}

/** A start or a stop that somebody else has undone. */
export function undone(target: string, { before, now, manager }: Foreign, afterMs: number): Text {
  const was = before > 0 ? "on" : "off";
  const did = text`I switched ${bold(target)} ${was} (replicas: ${before})`;
  return text`${did}, but ${somebody(manager)} has set it to ${now} again, after ${duration(afterMs)}`;
}

/** A count that somebody else has changed. */
export function changedByOthers(target: string, { before, now, manager }: Foreign): Text {
  return text`${bold(target)} was scaled from ${before} to ${now} by ${somebody(manager)}`;
}

function somebody(manager: string | undefined): Text {
  return manager === undefined ? text`somebody else` : text`somebody else (${code(manager)})`;
}

/** A time that was extended. */
export function extended(target: string, stopsInMs: number): Text {
  return text`${bold(target)} stops by itself in ${timeLeft(stopsInMs)}`;
}

/** A sentence to be added to what is said of a start. */
export function stopping(inMs: number | undefined): string {
  return inMs === undefined ? "" : ` It stops by itself in ${timeLeft(inMs)}.`;
}

/** A time that was to be extended, and is not set. */
export function stopsNever(target: string): Text {
  return text`${bold(target)} does not stop by itself. Send ${code("start 1h")} to have it stop in an hour.`;
}

/** A time that is nearly over; `isNamed`: there are other targets. */
export function nearlyOver(target: string, leftMs: number, isNamed: boolean): Text {
  const command = code(isNamed ? `extend ${target} 1h` : "extend 1h");
  return text`${bold(target)} stops by itself in ${timeLeft(leftMs)}. Send ${command} to keep it on.`;
}

/** A time that was over; `lateMs`: so long ago. */
export function stoppedByItself(target: string, lateMs: number | undefined): Text {
  const late = lateMs === undefined ? "" : ` It should have been ${duration(lateMs)} ago, while I was away.`;
  return text`${bold(target)} is now off (replicas: 0): its time was over.${late}`;
}

/** A message that calls people. */
export function mentioning(users: readonly string[], words: Text): Required<Text> {
  return text`${joined(users.map(user), ", ")}: ${words}`;
}
