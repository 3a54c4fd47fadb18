/**
 * Sentences about a target after a command: whether it is ready and why not, who has changed it, and when it stops
 * automatically.
 *
 * @module
 */

import type { Counts, Diagnosis, Problem } from "../scaler/mod.ts";
import { duration, timeLeft } from "./duration.ts";
import { bold, code, joined, type Person, quoted, replicas, type Text, text, user } from "./rich_text.ts";
import { called, type Upcoming, upcoming, upcomingSentence } from "./upcoming.ts";

/** A target that was started is ready. */
export function ready(target: string, afterMs: number, next: Upcoming | undefined): Text {
  return text`${bold(target)} is ready (took ${duration(afterMs)})${upcoming(next)}`;
}

/** A target that was started isn't ready yet. Gives the reasons that the cluster reports. */
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

/** One-line notification that a target is ready. */
export function readyAlert(target: string): Text {
  return text`${bold(target)} is ready`;
}

/** One-line notification that a target isn't ready. */
export function notReadyAlert(target: string, problems: readonly Pick<Problem, "kind">[]): Text {
  const kinds = new Set(problems.map(({ kind }) => kind).filter((kind) => kind !== "other"));
  const reasons = [...kinds].map((kind) => sayings[kind](undefined).plain);
  return reasons.length === 0
    ? text`${bold(target)} still isn't ready`
    : text`${bold(target)} isn't ready: ${reasons.join("; ")}`;
}

/** Some of a target's replicas are ready. */
export function partlyReady(target: string, counts: Pick<Counts, "ready" | "desired">): Text {
  return starting(target, counts, []);
}

/** A start found the target starting. */
export function alreadyStarting(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  next: Upcoming | undefined,
): Text {
  const end = next === undefined ? "" : `.${upcomingSentence(next)}`;
  return text`${bold(target)} is already starting (${ready}/${desired} ready)${end}`;
}

/** A target that was started has failed, or isn't ready in time. */
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

/** Why a target isn't ready. */
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

/** A stop came before a start was complete. */
export function superseded(target: string, who: Person | undefined, afterMs: number): Text {
  const end = `after ${duration(afterMs)}, before it was ready`;
  return who === undefined
    ? text`${bold(target)} was turned off ${end}`
    : text`${user(who)} turned ${bold(target)} off ${end}`;
}

/** A change by somebody else. */
export interface Foreign {
  /** Replicas before. */
  readonly before: number;
  /** Replicas now. */
  readonly now: number;
  /** Field manager that has made the change, if known. */
  readonly manager: string | undefined;
}

/** Somebody else has undone a start or a stop. */
export function undone(target: string, { before, now, manager }: Foreign, afterMs: number): Text {
  const did = before > 0 ? `on (${replicas(before)})` : "off";
  const undid = text`${somebody(manager)} scaled it to ${now} after ${duration(afterMs)}`;
  const again = code(before > 0 ? "start" : "stop");
  const next = manager !== undefined && GITOPS.test(manager)
    ? text`It will do so again until it is told to leave ${code("spec.replicas")} alone.`
    : text`Send ${again} to try again.`;
  return text`${bold(target)} was turned ${did}, but ${undid}. ${next}`;
}

/** Field managers of Argo CD and Flux, which keep applying the state in a repository. */
const GITOPS = /^(argocd-(application-)?controller|kustomize-controller|helm-controller)$/;

/** Somebody else has changed the replica count. */
export function changedByOthers(target: string, { before, now, manager }: Foreign): Text {
  return text`${bold(target)} was scaled from ${before} to ${replicas(now)} by ${somebody(manager)}`;
}

function somebody(manager: string | undefined): Text {
  return manager === undefined ? text`somebody else` : text`somebody else (${code(manager)})`;
}

/** A timer was extended. */
export function extended(target: string, stopsInMs: number): Text {
  return text`Extended: ${bold(target)} now stops automatically in ${timeLeft(stopsInMs)}`;
}

/** A timer can't be extended, because there is none. */
export function stopsNever(target: string): Text {
  return text`${bold(target)} isn't set to stop automatically. Send ${code("start 1h")} to stop it in an hour.`;
}

/** A timer is nearly due. `isNamed`: there are other targets, so the command must name this one. */
export function nearlyOver(target: string, leftMs: number, isNamed: boolean): Text {
  const command = code(isNamed ? `extend ${target} 1h` : "extend 1h");
  return text`${bold(target)} stops automatically in ${timeLeft(leftMs)}. Send ${command} for another hour.`;
}

/** A timer has stopped the target. `lateMs`: delay in milliseconds, if it was late. */
export function stoppedByItself(target: string, lateMs: number | undefined): Text {
  const why = lateMs === undefined
    ? "its time is up"
    : `its time was up ${duration(lateMs)} ago, but I couldn't stop it on time`;
  return text`${bold(target)} is off: ${why}`;
}

/** The schedule has started the target. `lateMs`: delay in milliseconds, if it was late. */
export function startedBySchedule(
  target: string,
  count: number,
  next: Upcoming | undefined,
  lateMs: number | undefined,
): Text {
  return text`${bold(target)} is on (${replicas(count)}), ${scheduled("start", lateMs)}${upcoming(next)}`;
}

/** The schedule has stopped the target. `lateMs`: delay in milliseconds, if it was late. */
export function stoppedBySchedule(target: string, next: Upcoming | undefined, lateMs: number | undefined): Text {
  return text`${bold(target)} is off, ${scheduled("stop", lateMs)}${upcoming(next)}`;
}

function scheduled(what: "start" | "stop", lateMs: number | undefined): string {
  if (lateMs === undefined) return "as scheduled";
  return `scheduled for ${duration(lateMs)} ago, but I couldn't ${what} it on time`;
}

/** A message to an agent starts its target. */
export function waking(target: string): Text {
  return text`${bold(target)} was asleep: starting…`;
}

/** A message to an agent doesn't start its target, because somebody has stopped it. */
export function keptOff(target: string): Text {
  return text`${bold(target)} is off until somebody sends me ${code("start")}: messages don't wake it after a ${
    code("stop")
  }`;
}

/** A target is about to be stopped, because nobody has written. */
export function fallingAsleep(target: string, times: { readonly quietForMs: number; readonly leftMs: number }): Text {
  const { quietForMs, leftMs } = times;
  return text`${bold(target)} goes to sleep in ${timeLeft(leftMs)}: no message for ${duration(quietForMs)}`;
}

/** An announced stop is cancelled. */
export function staysAwake(target: string): Text {
  return text`${bold(target)} stays on`;
}

/** A target was stopped, because nobody has written. */
export function fellAsleep(target: string, idleStopMs: number, agents: readonly string[]): Text {
  return text`${bold(target)} is off: no message for ${duration(idleStopMs)}. Write to ${called(agents)} to wake it.`;
}

/** Puts mentions before a sentence, so that phones ring. */
export function mentioning(people: readonly Person[], words: Text): Required<Text> {
  return text`${joined(people.map(user), ", ")}: ${words}`;
}
