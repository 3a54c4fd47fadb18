/**
 * What is said of a target after a command: that it is ready, or why not, who has changed it, and when it stops
 * automatically.
 *
 * @module
 */

import type { Counts, Diagnosis, Problem } from "../scaler/mod.ts";
import { duration, timeLeft } from "./duration.ts";
import { bold, code, joined, type Person, quoted, replicas, type Text, text, user } from "./rich_text.ts";
import { called, type Upcoming, upcoming, upcomingSentence } from "./upcoming.ts";

/** A start whose target is ready, and what happens next. */
export function ready(target: string, afterMs: number, next: Upcoming | undefined): Text {
  return text`${bold(target)} is ready (took ${duration(afterMs)})${upcoming(next)}`;
}

/** A start that is not ready yet, and what it waits for, as far as the cluster tells. */
export function starting(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  problems: readonly Problem[],
): Text {
  const counts = ready === 0 ? replicas(desired) : `${replicas(desired)}, ${ready} ready`;
  const head = text`${bold(target)} is on (${counts}), starting…`;
  return problems.length === 0 ? head : text`${head} ${joined(problems.map(provisional), "; ")}`;
}

const provisionalWords: Readonly<Record<Problem["kind"], string>> = {
  "image": "Image not pulled yet",
  "container-config": "Container not set up yet",
  "crash": "It has crashed",
  "out-of-memory": "It ran out of memory",
  "unschedulable": "Not scheduled yet",
  "quota": "No quota left yet",
  "other": "Not ready yet",
};

function provisional({ kind, reason, message = "" }: Problem): Text {
  return text`${provisionalWords[kind]}: ${message === "" ? code(reason) : quoted(message, 300)}`;
}

/** Says in one line, to whoever waits for it, that a target is ready. */
export function readyAlert(target: string): Text {
  return text`${bold(target)} is ready`;
}

/** Says in one line, to whoever waits for it, that a target isn't ready. */
export function notReadyAlert(target: string, problems: readonly Pick<Problem, "kind">[]): Text {
  const kinds = new Set(problems.map(({ kind }) => kind).filter((kind) => kind !== "other"));
  const reasons = [...kinds].map((kind) => sayings[kind](undefined).plain);
  return reasons.length === 0
    ? text`${bold(target)} still isn't ready`
    : text`${bold(target)} isn't ready: ${reasons.join("; ")}`;
}

/** A start of several replicas, of which some are ready. */
export function partlyReady(target: string, counts: Pick<Counts, "ready" | "desired">): Text {
  return starting(target, counts, []);
}

/** A start of what is being started already, and what happens next. */
export function alreadyStarting(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  next: Upcoming | undefined,
): Text {
  const end = next === undefined ? "" : `.${upcomingSentence(next)}`;
  return text`${bold(target)} is already starting (${ready}/${desired} ready)${end}`;
}

/** A start whose target is not ready: because of something, or in time. */
export function notReady(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  afterMs: number,
  why: Diagnosis,
): Text {
  const counts = `(${ready}/${desired})`;
  if (why.problems.length > 0) return text`${bold(target)} isn't ready ${counts}: ${reasons(why)}. Still watching.`;
  if (why.missingPermission === undefined) {
    return text`${bold(target)} isn't ready after ${
      duration(afterMs)
    } ${counts}, and I can't find out why. Still watching.`;
  }
  const unknown = text`I can't see why: that needs permission to ${why.missingPermission} (see "extended" in the docs)`;
  return text`${bold(target)} isn't ready after ${duration(afterMs)} ${counts}. ${unknown}. Still watching.`;
}

/** What keeps a target from being ready. */
export function reasons({ problems }: Pick<Diagnosis, "problems">): Text {
  return joined(problems.map(described), "; ");
}

const sayings: Readonly<Record<Problem["kind"], (image: string | undefined) => Text>> = {
  "image": (image) =>
    image === undefined ? text`its image can't be pulled` : text`the image ${code(image)} can't be pulled`,
  "container-config": () => text`its container can't be created`,
  "crash": () => text`it keeps crashing`,
  "out-of-memory": () => text`it runs out of memory`,
  "unschedulable": () => text`no node can run it`,
  "quota": () => text`its pods would exceed the namespace's quota`,
  "other": () => text`the cluster reports`,
};

function described({ kind, reason, message, image, exitCode, restarts }: Problem): Text {
  const facts = [
    code(reason),
    ...exitCode === undefined ? [] : [text`exit code ${exitCode}`],
    ...restarts === undefined || restarts === 0 ? [] : [text`${restarts} ${restarts === 1 ? "restart" : "restarts"}`],
  ];
  const details = message === undefined || message === "" ? text`` : text`: ${quoted(message, 300)}`;
  const what = text`${joined(facts, ", ")}${details}`;
  return kind === "other" ? text`${sayings[kind](image)} ${what}` : text`${sayings[kind](image)} (${what})`;
}

/** A start that a stop has overtaken. */
export function superseded(target: string, who: Person | undefined, afterMs: number): Text {
  const end = `after ${duration(afterMs)}, before it was ready`;
  return who === undefined
    ? text`${bold(target)} was turned off ${end}`
    : text`${user(who)} turned ${bold(target)} off ${end}`;
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
  const did = before > 0 ? `on (${replicas(before)})` : "off";
  const undid = text`${somebody(manager)} scaled it to ${now} after ${duration(afterMs)}`;
  const again = code(before > 0 ? "start" : "stop");
  const next = manager !== undefined && GITOPS.test(manager)
    ? text`It will do so again until it is told to leave ${code("spec.replicas")} alone.`
    : text`Send ${again} to try again.`;
  return text`${bold(target)} was turned ${did}, but ${undid}. ${next}`;
}

/** Field managers of Argo CD and Flux, which apply what a repository says, again and again. */
const GITOPS = /^(argocd-(application-)?controller|kustomize-controller|helm-controller)$/;

/** A count that somebody else has changed. */
export function changedByOthers(target: string, { before, now, manager }: Foreign): Text {
  return text`${bold(target)} was scaled from ${before} to ${replicas(now)} by ${somebody(manager)}`;
}

function somebody(manager: string | undefined): Text {
  return manager === undefined ? text`somebody else` : text`somebody else (${code(manager)})`;
}

/** A time that was extended. */
export function extended(target: string, stopsInMs: number): Text {
  return text`Extended: ${bold(target)} now stops automatically in ${timeLeft(stopsInMs)}`;
}

/** A time that was to be extended, and is not set. */
export function stopsNever(target: string): Text {
  return text`${bold(target)} isn't set to stop automatically. Send ${code("start 1h")} to stop it in an hour.`;
}

/** A time that is nearly over; `isNamed`: there are other targets. */
export function nearlyOver(target: string, leftMs: number, isNamed: boolean): Text {
  const command = code(isNamed ? `extend ${target} 1h` : "extend 1h");
  return text`${bold(target)} stops automatically in ${timeLeft(leftMs)}. Send ${command} for another hour.`;
}

/** A time that was over; `lateMs`: so long ago. */
export function stoppedByItself(target: string, lateMs: number | undefined): Text {
  const why = lateMs === undefined
    ? "its time is up"
    : `its time was up ${duration(lateMs)} ago, but I couldn't stop it on time`;
  return text`${bold(target)} is off: ${why}`;
}

/** A target that its schedule has started; `lateMs`: so long after it was to. */
export function startedBySchedule(
  target: string,
  count: number,
  next: Upcoming | undefined,
  lateMs: number | undefined,
): Text {
  return text`${bold(target)} is on (${replicas(count)}), ${scheduled("start", lateMs)}${upcoming(next)}`;
}

/** A target that its schedule has stopped; `lateMs`: so long after it was to. */
export function stoppedBySchedule(target: string, next: Upcoming | undefined, lateMs: number | undefined): Text {
  return text`${bold(target)} is off, ${scheduled("stop", lateMs)}${upcoming(next)}`;
}

function scheduled(what: "start" | "stop", lateMs: number | undefined): string {
  if (lateMs === undefined) return "as scheduled";
  return `scheduled for ${duration(lateMs)} ago, but I couldn't ${what} it on time`;
}

/** A message to an agent that turns its target on. */
export function waking(target: string): Text {
  return text`${bold(target)} was asleep: starting…`;
}

/** A message to an agent that doesn't, because somebody has stopped the target. */
export function keptOff(target: string): Text {
  return text`${bold(target)} is off until somebody sends me ${code("start")}: messages don't wake it after a ${
    code("stop")
  }`;
}

/** A target that is about to be stopped, because nobody has written for so long. */
export function fallingAsleep(target: string, times: { readonly quietForMs: number; readonly leftMs: number }): Text {
  const { quietForMs, leftMs } = times;
  return text`${bold(target)} goes to sleep in ${timeLeft(leftMs)}: no message for ${duration(quietForMs)}`;
}

/** It isn't, because somebody has written meanwhile. */
export function staysAwake(target: string): Text {
  return text`${bold(target)} stays on`;
}

/** A target that was stopped because nobody has written for so long. */
export function fellAsleep(target: string, idleStopMs: number, agents: readonly string[]): Text {
  return text`${bold(target)} is off: no message for ${duration(idleStopMs)}. Write to ${called(agents)} to wake it.`;
}

/** A message that mentions people, so that their phones ring. */
export function mentioning(people: readonly Person[], words: Text): Required<Text> {
  return text`${joined(people.map(user), ", ")}: ${words}`;
}
