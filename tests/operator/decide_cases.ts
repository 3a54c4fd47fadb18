/**
 * What tables of cases of `decide` are made of, and how they are run: a case gives the persisted state, what was observed
 * and the time; then what is done, and when the next decision is due.
 */

import assert from "node:assert/strict";
import type { Upcoming } from "../../lib/commands/mod.ts";
import { decide } from "../../lib/operator/decide.ts";
import type {
  Decision,
  Effect,
  Failure,
  News,
  Observed,
  PendingCommand,
  State,
  TargetPolicy,
} from "../../lib/operator/decision.ts";
import type { Edge, ScheduleView } from "../../lib/operator/schedule.ts";
import type { Intent } from "../../lib/operator/target_command.ts";
import type { ChatStop, FollowedSchedule, Idle, Rollout, StopTimer } from "../../lib/operator/target_state.ts";
import type { Diagnosis, Problem, Scale } from "../../lib/scaler/mod.ts";

export const alice = "@alice:example.org", room = "!room";
export const second = 1_000, minute = 60 * second, hour = 60 * minute;

/** A case: `given` and `then` are for readers, the rest is checked. */
export interface Case {
  readonly given: string;
  readonly state?: State;
  readonly observed?: Partial<Observed>;
  /** Milliseconds after the command's turn came, the rollout began, or the timer was due. */
  readonly atMs?: number;
  readonly policy?: Partial<TargetPolicy>;
  /** What is done, in short. */
  readonly then: readonly string[];
  /** When it is looked at again; unless given, at once after something was done, else when something happens. */
  readonly again?: string;
}

export const policy: TargetPolicy = {
  startReplicas: 1,
  autoStopMs: undefined,
  startTimeoutMs: 10 * minute,
  maxCommandAgeMs: 5 * minute,
  agents: [],
  idleStopMs: undefined,
};

export const off: Scale = {
  ...{ desired: 0, current: 0, ready: 0, available: 0, settled: true },
  ...{ resourceVersion: "7", generation: 3 },
};
export const starting: Scale = { ...off, desired: 1, current: 1 };
export const ready: Scale = { ...starting, ready: 1, available: 1 };
export const three: Scale = { ...ready, desired: 3, current: 3, ready: 3 };
export const stopping: Scale = { ...off, current: 1 };

/** Counts as they are since the change of {@linkcode begun} or {@linkcode stopped}. */
export function since(scale: Scale): Scale {
  return { ...scale, generation: 4 };
}

export const start: PendingCommand = {
  ...{ word: "start", typed: "start", durationMs: undefined, sender: alice, roomId: room, isOnly: true },
  ...{ seq: 7, receivedAtMs: 0, sentAtMs: 0, takenAtMs: 0, unansweredTold: false },
};
export const stop: PendingCommand = { ...start, word: "stop", typed: "stop" };
export const extend: PendingCommand = { ...start, word: "extend", typed: "extend 1h", durationMs: hour };
export const wake: PendingCommand = { ...start, word: "wake", typed: "" };
export const status: PendingCommand = { ...start, word: "status", typed: "status" };

export const toOne: Intent = { before: 0, after: 1, resourceVersion: "7", generation: 3, atMs: 0 };
export const toNone: Intent = { ...toOne, before: 1, after: 0 };
export const trusted = { authorization: { refusal: undefined } } as const;

export const unanswered: Failure = { party: "Kubernetes API", why: undefined, sinceMs: 0, retryAtMs: 7 * second };
export const forbidden: Failure = {
  ...unanswered,
  why: { kind: "not-permitted", verb: "get", resource: "deployments.apps" },
};

export const begun: Rollout = { before: 0, after: 1, atMs: 0, generation: 4, told: "nothing", late: false };
export const stopped: Rollout = { ...begun, before: 1, after: 0 };
export const image: Problem = { kind: "image", certain: true, reason: "ImagePullBackOff", image: "claw:0" };
export const crash: Problem = { kind: "crash", certain: true, reason: "CrashLoopBackOff" };
export const unschedulable: Problem = {
  kind: "unschedulable",
  certain: false,
  reason: "Unschedulable",
  message: "0/1 nodes",
};
export const failing: Rollout = { ...begun, told: "failing", problems: ["image claw:0"] };

/** Due at 0, so that times read as before and after it. */
export const timer: StopTimer = { dueAtMs: 0, roomId: room, user: alice, warned: true };

/** A watch that has shown nothing since any of the changes, unless the case says what it shows. */
export function watched(cases: readonly Case[]): readonly Case[] {
  const behind = { ...off, generation: 2, resourceVersion: "5" };
  return cases.map((each) => ({ ...each, observed: { watched: behind, ...each.observed } }));
}

/** Just diagnosed. */
export function diagnosed(
  atMs: number,
  ...problems: readonly Problem[]
): { readonly diagnosis: Diagnosis & { atMs: number } } {
  return { diagnosis: { problems, missingPermission: undefined, atMs } };
}

export const agent: Partial<TargetPolicy> = { agents: ["@clawd:example.org"], idleStopMs: 30 * minute };

export const begins: Edge = { kind: "begin", atMs: 0, timeZone: "UTC" };
export const ends: Edge = { ...begins, kind: "end" };
/** From 08:00 to 18:00 every day, and it is 08:00, */
export const morning: ScheduleView = {
  ...{ text: "daily", isUp: true, previous: begins },
  ...{ nextBegin: { ...begins, atMs: 24 * hour }, nextEnd: { ...ends, atMs: 10 * hour } },
};
/** or 18:00. */
export const evening: ScheduleView = {
  ...{ text: "daily", isUp: false, previous: ends },
  ...{ nextBegin: { ...begins, atMs: 14 * hour }, nextEnd: { ...ends, atMs: 24 * hour } },
};
/** The edge before it has been dealt with, or this one. */
export const due: FollowedSchedule = { text: "daily", edgeAtMs: -10 * hour };
export const dealtWith: FollowedSchedule = { text: "daily", edgeAtMs: 0 };

/** Runs each table of cases as a test. There is no watch, unless the case says what it has shown. */
export function testCases(sections: Readonly<Record<string, readonly Case[]>>): void {
  for (const [section, cases] of Object.entries(sections)) {
    Deno.test(`decide(): ${section}`, async (t) => {
      for (const { given, state = {}, observed, atMs = 0, policy: changes, then, again } of cases) {
        const seen: Observed = {
          seenUnready: false,
          // Counts of this pass have just been read,
          ...observed?.scale === undefined ? {} : { readAtMs: atMs },
          ...observed,
          // and what has been shown since the last pass is the newest that was shown.
          ...observed?.shown === undefined ? {} : { watched: observed.shown },
        };
        await t.step(`${given}: ${[...then, ...again === undefined ? [] : [again]].join("; ") || "nothing"}`, () => {
          const decision = decide(state, seen, atMs, { ...policy, ...changes });
          assert.deepEqual(decision.effects.map((effect) => inShort(effect, atMs)), then);
          assert.equal(whenAgain(decision), again ?? (then.length > 0 ? "at once" : "when something happens"));
        });
      }
    });
  }
}

function whenAgain({ requeueAfterMs }: Decision): string {
  if (requeueAfterMs === undefined) return "when something happens";
  return requeueAfterMs === 0 ? "at once" : `in ${requeueAfterMs / second} s`;
}

/** An effect in a few words; of what is remembered what it is, or, where it is forgotten, its name alone. */
function inShort(effect: Effect, nowMs: number): string {
  switch (effect.kind) {
    case "scale": {
      const { before, after, resourceVersion } = effect.intent;
      return `scale ${before} → ${after} at version ${resourceVersion}`;
    }
    case "remember":
      return `remember ${Object.entries(effect.changes).map((each) => remembered(each, nowMs)).join(", ")}`;
    case "answer": {
      const { outcome, refusal, before, after, followed, alert } = effect;
      const counts = after === undefined ? "" : ` ${before === undefined ? "" : `${before} `}→ ${after}`;
      const extra = `${followed ? ", followed" : ""}${alert === undefined ? "" : `, alert ${newsInShort(alert)}`}`;
      return `answer ${outcome}${refusal === undefined ? "" : ` ${refusal}`}${counts}: ${
        effect.news === undefined ? "nothing" : newsInShort(effect.news)
      }${extra}`;
    }
    case "say-waiting":
      return `say-waiting ${newsInShort(effect.news)}`;
    case "update": {
      const { news, alert, isLast } = effect;
      return `update ${newsInShort(news)}${alert === undefined ? "" : `, alert ${newsInShort(alert)}`}${
        isLast ? ", last" : ""
      }`;
    }
    case "announce": {
      const { news, rooms, mention, rings, notWhereFollowed } = effect;
      const whom = mention === undefined ? "" : ` to ${mention}`;
      const how = `${rings ? "" : ", quietly"}${notWhereFollowed ? ", not where followed" : ""}`;
      return `announce ${newsInShort(news)}${whom} in ${rooms.join(", ")}${how}`;
    }
    case "notice": {
      const { news, roomId, isLast } = effect;
      return `notice ${newsInShort(news)}${roomId === undefined ? "" : ` in ${roomId}`}${isLast ? ", last" : ""}`;
    }
    case "record":
      return `record ${effect.reason}`;
    default:
      return effect.kind;
  }
}

function remembered([name, value]: [string, unknown], nowMs: number): string {
  if (value === undefined || ["startedBy", "readySinceMs"].includes(name)) return name;
  if (name === "rooms") {
    const rooms = value as readonly string[];
    return rooms.length === 1 ? name : `rooms ${rooms.join(" ")}`;
  }
  if (name === "rollout") {
    const { before, after, generation, told, late, problems, provisional, unreadableTold } = value as Rollout;
    const more = `${generation === 4 ? "" : ` from generation ${generation}`}${late ? " late" : ""}${
      unreadableTold ? " unreadable" : ""
    }${provisional ? ` provisional ${provisional}` : ""}`;
    return `rollout ${before} → ${after} ${told}${more}${problems === undefined ? "" : ` ${problems.join(", ")}`}`;
  }
  if (name === "timer") {
    const { dueAtMs, warned, failureTold, isDefault, user, roomId } = value as StopTimer;
    const isSoon = dueAtMs - nowMs <= 10 * minute;
    return `timer in ${(dueAtMs - nowMs) / minute} min${isSoon && warned ? " warned" : ""}${
      failureTold ? " failure-told" : ""
    }${isDefault ? " by default" : ""}${user === alice && roomId === room ? "" : ` of ${user} in ${roomId}`}`;
  }
  if (name === "schedule") {
    const { edgeAtMs, failureTold } = value as FollowedSchedule;
    return `schedule to ${edgeAtMs / hour} h${failureTold ? " failure-told" : ""}`;
  }
  if (name === "stopped") {
    const { seq, isHeld, isTold = false } = value as ChatStop;
    return `stopped at ${seq}${isHeld ? " held" : ""}${isTold ? " told" : ""}`;
  }
  if (name === "idle") {
    const { userAtMs, agentAtMs, roomId, warning } = value as Idle;
    const whenIs = (atMs: number) => `${(atMs - nowMs) / minute} min`;
    return `idle: user ${whenIs(userAtMs)}${roomId === undefined ? "" : ` in ${roomId}`}${
      agentAtMs === undefined ? "" : ` agent ${whenIs(agentAtMs)}`
    }${
      warning === undefined
        ? ""
        : ` warned, stops ${whenIs(warning.stopsAtMs)}${warning.failureTold === true ? " failure-told" : ""}`
    }`;
  }
  return `${name} ${value}`;
}

/** What the schedule does next. */
function nextInShort(next: Upcoming | undefined): string {
  if (next === undefined || next.kind === "stops-in") return "";
  return "when" in next ? `, ${next.kind} ${next.when.atMs / hour} h` : `, ${next.kind}`;
}

function newsInShort(news: News): string {
  const { kind } = news;
  const kinds = (problems: readonly Problem[]) => problems.map((each) => ` ${each.kind}`).join("");
  switch (kind) {
    case "failed":
      return `failed ${news.why.kind}${
        news.why.kind === "unreachable" && news.why.perhapsDone ? " (perhaps done)" : ""
      }`;
    case "ready":
      return news.afterMessageMs === undefined ? kind : `ready ${news.afterMessageMs / second} s after the message`;
    case "unreadable":
      return `unreadable ${news.why.kind}`;
    case "unanswered":
      return `unanswered ${news.party}`;
    case "status":
      return `status${news.readyForMs === undefined ? "" : ` ready for ${news.readyForMs / minute} min`}${
        kinds(news.problems)
      }${nextInShort(news.next)}`;
    case "starting":
      return `starting${kinds(news.problems)}`;
    case "not-ready":
      return `not-ready${kinds(news.diagnosis.problems)}`;
    case "superseded":
      return `superseded${news.by === undefined ? "" : ` by ${news.by}`}`;
    case "undone":
      return `undone${news.manager === undefined ? "" : ` by ${news.manager}`}`;
    case "scaled-by-others":
      return `scaled-by-others ${news.before} → ${news.now}${news.manager === undefined ? "" : ` by ${news.manager}`}`;
    case "falling-asleep":
      return `falling-asleep in ${news.leftMs / minute} min, quiet for ${news.quietForMs / minute} min`;
    case "timer-stopped":
      return `timer-stopped${news.lateMs === undefined ? "" : ` ${news.lateMs / minute} min late`}`;
    case "schedule-started":
    case "schedule-stopped":
      return `${kind}${news.lateMs === undefined ? "" : ` ${news.lateMs / minute} min late`}${nextInShort(news.next)}`;
    default:
      return `${kind}${"next" in news ? nextInShort(news.next) : ""}`;
  }
}
