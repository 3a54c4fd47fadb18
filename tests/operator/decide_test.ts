/**
 * What happens at a target, case by case: what lasts of it, what was observed, and the time; then what is done, and when
 * it is looked at again. This is the specification of `decide`.
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
import type { Intent } from "../../lib/operator/target_command.ts";
import type { Edge, ScheduleView } from "../../lib/operator/schedule.ts";
import type {
  ChatStop,
  FollowedSchedule,
  Idle,
  IdleWarning,
  Rollout,
  StopTimer,
} from "../../lib/operator/target_state.ts";
import type { Diagnosis, Problem, Scale } from "../../lib/scaler/mod.ts";

const alice = "@alice:example.org", room = "!room";
const second = 1_000, minute = 60 * second, hour = 60 * minute;

/** A case: `given` and `then` are for readers, the rest is checked. */
interface Case {
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

const policy: TargetPolicy = {
  startReplicas: 1,
  autoStopMs: undefined,
  startTimeoutMs: 10 * minute,
  maxCommandAgeMs: 5 * minute,
  agents: [],
  idleStopMs: undefined,
};

const off: Scale = {
  ...{ desired: 0, current: 0, ready: 0, available: 0, settled: true },
  ...{ resourceVersion: "7", generation: 3 },
};
const starting: Scale = { ...off, desired: 1, current: 1 };
const ready: Scale = { ...starting, ready: 1, available: 1 };
const three: Scale = { ...ready, desired: 3, current: 3, ready: 3 };
const stopping: Scale = { ...off, current: 1 };

const start: PendingCommand = {
  ...{ word: "start", typed: "start", durationMs: undefined, sender: alice, roomId: room, isOnly: true },
  ...{ seq: 7, receivedAtMs: 0, sentAtMs: 0, takenAtMs: 0, unansweredTold: false },
};
const stop: PendingCommand = { ...start, word: "stop", typed: "stop" };
const extend: PendingCommand = { ...start, word: "extend", typed: "extend 1h", durationMs: hour };
const wake: PendingCommand = { ...start, word: "wake", typed: "" };
const status: PendingCommand = { ...start, word: "status", typed: "status" };

const toOne: Intent = { before: 0, after: 1, resourceVersion: "7", generation: 3, atMs: 0 };
const toNone: Intent = { ...toOne, before: 1, after: 0 };
const trusted = { authorization: { refusal: undefined } } as const;

const unanswered: Failure = { party: "Kubernetes API", why: undefined, sinceMs: 0, retryAtMs: 7 * second };
const forbidden: Failure = {
  ...unanswered,
  why: { kind: "not-permitted", verb: "get", resource: "deployments.apps" },
};

const begun: Rollout = { before: 0, after: 1, atMs: 0, told: "nothing", late: false };
const stopped: Rollout = { ...begun, before: 1, after: 0 };
const image: Problem = { kind: "image", certain: true, reason: "ImagePullBackOff", image: "claw:0" };
const crash: Problem = { kind: "crash", certain: true, reason: "CrashLoopBackOff" };
const unschedulable: Problem = { kind: "unschedulable", certain: false, reason: "Unschedulable", message: "0/1 nodes" };
const failing: Rollout = { ...begun, told: "failing", problems: ["image claw:0"] };

/** Due at 0, so that times read as before and after it. */
const timer: StopTimer = { dueAtMs: 0, roomId: room, user: alice, warned: true };

/** Just diagnosed. */
function diagnosed(
  atMs: number,
  ...problems: readonly Problem[]
): { readonly diagnosis: Diagnosis & { atMs: number } } {
  return { diagnosis: { problems, missingPermission: undefined, atMs } };
}

const commands: readonly Case[] = [
  { given: "a start", state: { command: start }, then: ["read"] },
  { given: "a start at 0", state: { command: start }, observed: { scale: off }, then: ["authorize"] },
  {
    given: "a start at 0 that is still its sender's wish",
    state: { command: start },
    observed: { scale: off, ...trusted },
    then: ["scale 0 → 1 at version 7"],
  },
  {
    given: "a start where as many are wanted as before the last stop",
    state: { command: start, replicasBeforeStop: 4 },
    observed: { scale: off, ...trusted },
    policy: { startReplicas: "previous" },
    then: ["scale 0 → 4 at version 7"],
  },
  {
    given: "the same, and no stop is known",
    state: { command: start },
    observed: { scale: off, ...trusted },
    policy: { startReplicas: "previous" },
    then: ["scale 0 → 1 at version 7"],
  },
  {
    given: "a start that is no longer its sender's wish for certain",
    state: { command: start },
    observed: { scale: off, authorization: { refusal: "deleted-device" } },
    then: ["remember rooms, rollout", "answer refused deleted-device: not-authorized"],
  },
  {
    given: "an extend, which changes when it stops",
    state: { command: extend, timer },
    observed: { scale: ready },
    then: ["authorize"],
  },
  {
    given: "an extend that is no longer its sender's wish for certain",
    state: { command: extend, timer },
    observed: { scale: ready, authorization: { refusal: "deleted-device" } },
    then: ["remember rooms, rollout", "answer refused deleted-device: not-authorized"],
  },
  {
    given: "a start that the API server has accepted",
    state: { command: start },
    observed: { accepted: toOne },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "the same for two hours",
    state: { command: { ...start, durationMs: 2 * hour } },
    observed: { accepted: toOne },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer in 120 min",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "the same where starts are for four hours",
    state: { command: start },
    observed: { accepted: toOne },
    policy: { autoStopMs: 4 * hour },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer in 240 min by default",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start of what is ready",
    state: { command: start },
    observed: { scale: ready },
    then: ["remember rooms, rollout, expectedReplicas 1", "answer already 1 → 1: already-on"],
  },
  {
    given: "a start of what is starting: it is followed",
    state: { command: start },
    observed: { scale: starting },
    atMs: second,
    then: [
      "remember rooms, rollout 1 → 1 nothing, expectedReplicas 1",
      "answer already 1 → 1: already-starting, followed",
    ],
  },
  {
    given: "a second start joins the first",
    state: { command: start, rollout: begun, expectedReplicas: 1 },
    observed: { scale: starting },
    atMs: second,
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1",
      "answer already 1 → 1: already-starting, followed",
    ],
  },
  {
    given: "a start for two hours of what is on: a timer is set",
    state: { command: { ...start, durationMs: 2 * hour } },
    observed: { scale: ready, ...trusted },
    then: ["remember rooms, rollout, expectedReplicas 1, timer in 120 min", "answer done 1 → 1: already-on"],
  },
  {
    given: "a start with a count above 0 that somebody else has set: it stands",
    state: { command: start, expectedReplicas: 1 },
    observed: { scale: three },
    then: ["remember rooms, rollout, expectedReplicas 3", "answer already 3 → 3: already-on"],
  },
  {
    given: "a stop at 3",
    state: { command: stop },
    observed: { scale: three, ...trusted },
    then: ["scale 3 → 0 at version 7"],
  },
  {
    given: "a stop that the API server has accepted: the count is remembered, the timer goes",
    state: { command: stop, timer, expectedReplicas: 3 },
    observed: { accepted: { ...toNone, before: 3 } },
    then: [
      "remember rooms, rollout 3 → 0 nothing, expectedReplicas 0, timer, readySinceMs, replicasBeforeStop 3",
      "answer done 3 → 0: switched-off, followed",
      "record SwitchedOff",
    ],
  },
  {
    given: "a stop at 0: the count before the last stop stays",
    state: { command: stop, replicasBeforeStop: 3, timer },
    observed: { scale: off },
    then: ["remember rooms, rollout, expectedReplicas 0, timer, readySinceMs", "answer already 0 → 0: already-off"],
  },
  {
    given: "a stop while it starts supersedes the start, which says so",
    state: { command: stop, rollout: begun },
    observed: { accepted: toNone },
    atMs: 5 * second,
    then: [
      "update superseded by @alice:example.org, last",
      "remember rooms, rollout 1 → 0 nothing, expectedReplicas 0, timer, readySinceMs, replicasBeforeStop 1",
      "answer done 1 → 0: switched-off, followed",
      "record SwitchedOff",
    ],
  },
  {
    given: "a stop when the start has been told to be ready",
    state: { command: stop, rollout: { ...begun, told: "ready" } },
    observed: { accepted: toNone },
    then: [
      "unfollow",
      "remember rooms, rollout 1 → 0 nothing, expectedReplicas 0, timer, readySinceMs, replicasBeforeStop 1",
      "answer done 1 → 0: switched-off, followed",
      "record SwitchedOff",
    ],
  },
  {
    given: "a stop of a start that somebody else has undone unseen",
    state: { command: stop, rollout: begun },
    observed: { scale: off },
    then: [
      "update superseded, last",
      "remember rooms, rollout, expectedReplicas 0, timer, readySinceMs",
      "answer already 0 → 0: already-off",
    ],
  },
  {
    given: "a start of a stop that somebody else has undone unseen",
    state: { command: start, rollout: stopped },
    observed: { scale: ready },
    then: ["unfollow", "remember rooms, rollout, expectedReplicas 1", "answer already 1 → 1: already-on"],
  },
  {
    given: "a start of a start that somebody else has undone unseen",
    state: { command: start, rollout: begun, expectedReplicas: 1 },
    observed: { accepted: { ...toOne, atMs: 20 * second } },
    atMs: 20 * second,
    then: [
      "update superseded, last",
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a command in a sixth room: the latest five are remembered",
    state: { command: start, rooms: ["!2", "!3", "!4", "!5", "!6"] },
    observed: { scale: ready },
    then: ["remember rooms !room !2 !3 !4 !5, rollout, expectedReplicas 1", "answer already 1 → 1: already-on"],
  },
  {
    given: "an extension by somebody else in another room: the timer stays with those who set it",
    state: { command: extend, timer: { ...timer, dueAtMs: 30 * minute, roomId: "!first", user: "@bob" } },
    observed: { scale: ready, ...trusted },
    then: [
      "remember rooms, rollout, expectedReplicas 1, timer in 90 min of @bob in !first",
      "answer done 1 → 1: extended",
    ],
  },
  {
    given: "an extension",
    state: { command: extend, timer: { ...timer, dueAtMs: 30 * minute } },
    observed: { scale: ready, ...trusted },
    then: ["remember rooms, rollout, expectedReplicas 1, timer in 90 min", "answer done 1 → 1: extended"],
  },
  {
    given: "an extension of what is over already, and could not be stopped: from now on",
    state: { command: extend, timer: { ...timer, dueAtMs: -2 * hour } },
    observed: { scale: ready, ...trusted },
    then: ["remember rooms, rollout, expectedReplicas 1, timer in 60 min", "answer done 1 → 1: extended"],
  },
  {
    given: "an extension without a timer",
    state: { command: extend },
    observed: { scale: ready },
    then: ["remember rooms, rollout, expectedReplicas 1", "answer already 1 → 1: no-timer"],
  },
  {
    given: "an extension at 0",
    state: { command: extend },
    observed: { scale: off },
    then: ["remember rooms, rollout, expectedReplicas 0, timer, readySinceMs", "answer already 0 → 0: already-off"],
  },
  {
    given: "a command that has become too old while it waited",
    state: { command: { ...stop, sentAtMs: -6 * minute } },
    observed: { scale: ready },
    then: ["remember rooms, rollout, expectedReplicas 1", "answer too-old 1 → 1: too-old"],
  },
  {
    given: "an old command that finds it as wished",
    state: { command: { ...start, sentAtMs: -6 * minute } },
    observed: { scale: ready },
    then: ["remember rooms, rollout, expectedReplicas 1", "answer already 1 → 1: already-on"],
  },
  { given: "a status", state: { command: status }, then: ["read"] },
  {
    given: "a status of what is ready",
    state: { command: status, readySinceMs: -hour },
    observed: { scale: ready },
    then: ["answer done → 1: status ready for 60 min"],
  },
  { given: "a status of what isn't", state: { command: status }, observed: { scale: starting }, then: ["diagnose"] },
  {
    given: "the same, diagnosed before it was asked",
    state: { command: { ...status, takenAtMs: second } },
    observed: { scale: starting, ...diagnosed(0, image) },
    then: ["diagnose"],
  },
  {
    given: "the same, diagnosed",
    state: { command: status },
    observed: { scale: starting, ...diagnosed(0, image) },
    then: ["answer done → 1: status image"],
  },
];

const interruptions: readonly Case[] = [
  {
    given: "a change may have been made, and was",
    state: { command: { ...start, unconfirmed: toOne, sentAtMs: -hour } },
    observed: { scale: { ...starting, generation: 4 } },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "it was not",
    state: { command: { ...start, unconfirmed: toOne } },
    observed: { scale: { ...off, resourceVersion: "8" }, ...trusted },
    then: ["scale 0 → 1 at version 8"],
  },
  {
    given: "it was not, and the command is too old by now",
    state: { command: { ...start, unconfirmed: toOne, sentAtMs: -hour } },
    observed: { scale: off },
    then: ["remember rooms, rollout, expectedReplicas 0, timer, readySinceMs", "answer too-old 0 → 0: too-old"],
  },
  {
    given: "it was, and somebody else has set it back",
    state: { command: { ...start, unconfirmed: toOne } },
    observed: { scale: { ...off, generation: 5 } },
    then: ["remember rooms, rollout, expectedReplicas 0, timer, readySinceMs", "answer overtaken 0 → 0: overtaken"],
  },
  {
    given: "somebody else has set another count",
    state: { command: { ...start, unconfirmed: toOne } },
    observed: { scale: { ...three, generation: 4 } },
    then: ["remember rooms, rollout, expectedReplicas 3", "answer overtaken 0 → 3: overtaken"],
  },
];

const failures: readonly Case[] = [
  {
    given: "the API server doesn't answer a command: it is tried again",
    state: { command: start },
    observed: { failure: unanswered },
    atMs: 3 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "after 5 s its message says so",
    state: { command: start },
    observed: { failure: unanswered },
    atMs: 5 * second,
    then: ["say-waiting unanswered Kubernetes API"],
  },
  {
    given: "once",
    state: { command: { ...start, unansweredTold: true } },
    observed: { failure: unanswered },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "a call hangs",
    state: { command: start },
    observed: { waitingFor: "homeserver" },
    atMs: 5 * second,
    then: ["say-waiting unanswered homeserver"],
  },
  {
    given: "it is time for the next try",
    state: { command: { ...start, unansweredTold: true } },
    observed: { failure: unanswered },
    atMs: 7 * second,
    then: ["read"],
  },
  {
    given: "a next try would come after 30 s",
    state: { command: { ...start, unansweredTold: true } },
    observed: { failure: { ...unanswered, retryAtMs: hour } },
    atMs: 20 * second,
    then: [],
    again: "in 10 s",
  },
  {
    given: "30 s are over: nothing is done later",
    state: { command: { ...start, unansweredTold: true } },
    observed: { failure: unanswered },
    atMs: 30 * second,
    then: ["remember rooms, rollout", "answer failed: failed unreachable, alert failed-alert"],
  },
  {
    given: "30 s are over, and a change may have been made: whatever is seen next is nobody's doing",
    state: { command: { ...start, unansweredTold: true, unconfirmed: toOne }, expectedReplicas: 0 },
    observed: { failure: unanswered },
    atMs: 30 * second,
    then: [
      "remember rooms, rollout, expectedReplicas",
      "answer failed: failed unreachable (perhaps done), alert failed-alert",
    ],
  },
  {
    given: "the API server refuses a command: it is told at once",
    state: { command: start },
    observed: { failure: forbidden },
    then: ["remember rooms, rollout", "answer failed: failed not-permitted"],
  },
  {
    given: "the API server doesn't answer a look: it is taken again",
    state: { rollout: begun, expectedReplicas: 1 },
    observed: { failure: unanswered },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "and again, for as long as it takes, and nobody is told",
    state: { rollout: begun, expectedReplicas: 1 },
    observed: { failure: { ...unanswered, retryAtMs: hour + second } },
    atMs: hour,
    then: [],
    again: "in 1 s",
  },
  {
    given: "the API server refuses a look: it is taken again",
    state: { rollout: begun, expectedReplicas: 1 },
    observed: { failure: { ...forbidden, retryAtMs: 12 * second } },
    atMs: 9 * second,
    then: [],
    again: "in 3 s",
  },
  {
    given: "it has refused looks for 10 s: that is told",
    state: { rollout: begun, expectedReplicas: 1 },
    observed: { failure: { ...forbidden, retryAtMs: 12 * second } },
    atMs: 10 * second,
    then: ["remember rollout 0 → 1 nothing unreadable", "update unreadable not-permitted, alert unreadable-alert"],
  },
  {
    given: "once, and it is looked at all the same",
    state: { rollout: { ...begun, unreadableTold: true }, expectedReplicas: 1 },
    observed: { failure: { ...forbidden, retryAtMs: 12 * second } },
    atMs: 10 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "it can be looked at again, and is starting",
    state: { rollout: { ...begun, unreadableTold: true }, expectedReplicas: 1 },
    observed: { scale: starting, ...diagnosed(20 * second) },
    atMs: 20 * second,
    then: ["remember rollout 0 → 1 nothing", "update starting"],
  },
  {
    given: "it can be looked at again, and is ready",
    state: { rollout: { ...begun, unreadableTold: true }, expectedReplicas: 1 },
    observed: { scale: ready },
    atMs: 20 * second,
    then: ["remember rollout 0 → 1 ready unreadable, readySinceMs", "update ready, alert ready-alert"],
  },
  {
    given: "it can't be looked at a minute after it was told to be ready",
    state: { rollout: { ...begun, told: "ready" }, expectedReplicas: 1 },
    observed: { failure: { ...forbidden, retryAtMs: hour } },
    atMs: minute,
    then: ["unfollow", "remember rollout"],
  },
];

const timers: readonly Case[] = [
  { given: "a timer that is long from due", state: { timer }, atMs: -hour, then: [], again: "in 30 s" },
  {
    given: "its warning is 3 s away",
    state: { timer: { ...timer, warned: false } },
    atMs: -603_000,
    then: [],
    again: "in 3 s",
  },
  { given: "ten minutes before", state: { timer: { ...timer, warned: false } }, atMs: -10 * minute, then: ["read"] },
  {
    given: "ten minutes before, and it is on: the room is told, once",
    state: { timer: { ...timer, warned: false }, expectedReplicas: 1 },
    observed: { scale: ready },
    atMs: -10 * minute,
    then: ["remember timer in 10 min warned", "announce timer-ending to @alice:example.org in !room"],
  },
  { given: "the time is up", state: { timer }, then: ["read"] },
  {
    given: "the time is up, and it is on",
    state: { timer, expectedReplicas: 3 },
    observed: { scale: three },
    then: ["scale 3 → 0 at version 7"],
  },
  {
    given: "the API server has accepted that",
    state: { timer: { ...timer, intent: { ...toNone, before: 3 } }, expectedReplicas: 3 },
    observed: { accepted: { ...toNone, before: 3 } },
    then: [
      "remember expectedReplicas 0, replicasBeforeStop 3, timer, readySinceMs, rollout",
      "announce timer-stopped to @alice:example.org in !room",
      "record SwitchedOff",
    ],
  },
  {
    given: "it was done before a restart, and nobody was told",
    state: { timer: { ...timer, intent: toNone }, expectedReplicas: 1 },
    observed: { scale: { ...stopping, generation: 4 } },
    atMs: 3 * hour,
    then: [
      "remember expectedReplicas 0, replicasBeforeStop 1, timer, readySinceMs, rollout",
      "announce timer-stopped 180 min late to @alice:example.org in !room",
      "record SwitchedOff",
    ],
  },
  {
    given: "the time is up, and somebody has stopped it",
    state: { timer, expectedReplicas: 1 },
    observed: { scale: off },
    then: ["remember timer"],
  },
  {
    given: "the time is up while a start is still under way",
    state: { timer, rollout: { ...begun, atMs: -minute }, expectedReplicas: 1 },
    observed: { accepted: toNone },
    then: [
      "update superseded, last",
      "remember expectedReplicas 0, replicasBeforeStop 1, timer, readySinceMs, rollout",
      "announce timer-stopped to @alice:example.org in !room",
      "record SwitchedOff",
    ],
  },
  {
    given: "the API server doesn't answer: it is tried again",
    state: { timer },
    observed: { failure: unanswered },
    then: [],
    again: "in 7 s",
  },
  {
    given: "the API server refuses it: that is told, once",
    state: { timer },
    observed: { failure: forbidden },
    then: [
      "remember timer in 0 min warned failure-told",
      "announce failed not-permitted to @alice:example.org in !room",
    ],
  },
  {
    given: "and it is tried again",
    state: { timer: { ...timer, failureTold: true } },
    observed: { failure: forbidden },
    then: [],
    again: "in 7 s",
  },
  {
    given: "the permission has been granted meanwhile",
    state: { timer: { ...timer, failureTold: true }, expectedReplicas: 1 },
    observed: { failure: forbidden, scale: undefined },
    atMs: 7 * second,
    then: ["read"],
  },
];

const begins: Edge = { kind: "begin", atMs: 0, timeZone: "UTC" };
const ends: Edge = { ...begins, kind: "end" };
/** From 08:00 to 18:00 every day, and it is 08:00, */
const morning: ScheduleView = {
  ...{ text: "daily", isUp: true, previous: begins },
  ...{ nextBegin: { ...begins, atMs: 24 * hour }, nextEnd: { ...ends, atMs: 10 * hour } },
};
/** or 18:00. */
const evening: ScheduleView = {
  ...{ text: "daily", isUp: false, previous: ends },
  ...{ nextBegin: { ...begins, atMs: 14 * hour }, nextEnd: { ...ends, atMs: 24 * hour } },
};
/** The edge before it has been dealt with, or this one. */
const due: FollowedSchedule = { text: "daily", edgeAtMs: -10 * hour };
const dealtWith: FollowedSchedule = { text: "daily", edgeAtMs: 0 };

const schedules: readonly Case[] = [
  {
    given: "the first start, in an up-time: nothing is started",
    observed: { schedule: morning },
    atMs: hour,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "the first start, outside of one: nothing is stopped",
    observed: { schedule: evening },
    atMs: hour,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "another schedule than before: none of its edges were missed",
    state: { schedule: { text: "weekly", edgeAtMs: -10 * hour } },
    observed: { schedule: evening },
    atMs: hour,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "nothing to do before the next edge, nor long waits, for the clock may be set",
    state: { schedule: dealtWith },
    observed: { schedule: evening },
    atMs: hour,
    then: [],
    again: "in 30 s",
  },
  {
    given: "the next edge is near",
    state: { schedule: dealtWith },
    observed: { schedule: evening },
    atMs: 14 * hour - 7 * second,
    then: [],
    again: "in 7 s",
  },
  { given: "an up-time begins", state: { schedule: due }, observed: { schedule: morning }, then: ["read"] },
  {
    given: "an up-time begins, and the target is off",
    state: { schedule: due },
    observed: { schedule: morning, scale: off },
    then: ["scale 0 → 1 at version 7"],
  },
  {
    given: "the same where as many are wanted as before the last stop",
    state: { schedule: due, replicasBeforeStop: 4 },
    observed: { schedule: morning, scale: off },
    policy: { startReplicas: "previous" },
    then: ["scale 0 → 4 at version 7"],
  },
  {
    given: "an up-time begins, and the target is on already: nobody is told",
    state: { schedule: due },
    observed: { schedule: morning, scale: three },
    then: ["remember schedule to 0 h"],
  },
  {
    given: "the API server has accepted the start",
    state: { schedule: { ...due, intent: toOne }, rooms: [room, "!second"], startedBy: alice, expectedReplicas: 0 },
    observed: { schedule: morning, accepted: toOne },
    then: [
      "remember expectedReplicas 1, timer, readySinceMs, rollout, startedBy, schedule to 0 h",
      "announce schedule-started, stops-at 10 h in !room, !second, quietly",
      "record SwitchedOn",
    ],
  },
  {
    given: "an up-time ends, and the target is on",
    state: { schedule: due },
    observed: { schedule: evening, scale: three },
    then: ["scale 3 → 0 at version 7"],
  },
  {
    given: "an up-time ends, and the target is off",
    state: { schedule: due },
    observed: { schedule: evening, scale: off },
    then: ["remember schedule to 0 h"],
  },
  {
    given: "the API server has accepted the stop",
    state: { schedule: { ...due, intent: toNone }, rooms: [room], expectedReplicas: 1 },
    observed: { schedule: evening, accepted: toNone },
    then: [
      "remember expectedReplicas 0, timer, readySinceMs, rollout, replicasBeforeStop 1, schedule to 0 h",
      "announce schedule-stopped, starts-at 14 h in !room, quietly",
      "record SwitchedOff",
    ],
  },
  {
    given: "an up-time ends while a start is under way",
    state: { schedule: { ...due, intent: toNone }, rollout: { ...begun, atMs: -minute } },
    observed: { schedule: evening, accepted: toNone },
    then: [
      "update superseded, last",
      "remember expectedReplicas 0, timer, readySinceMs, rollout, replicasBeforeStop 1, schedule to 0 h",
      "announce schedule-stopped, starts-at 14 h in , quietly",
      "record SwitchedOff",
    ],
  },
  {
    given: "an edge was missed, and messages from before the start are still being read",
    state: { schedule: due, expectedReplicas: 1 },
    observed: { schedule: evening, isCatchingUp: true },
    atMs: hour,
    then: [],
    again: "in 1 s",
  },
  {
    given: "an edge was missed, and the target is as it was",
    state: { schedule: due, expectedReplicas: 1 },
    observed: { schedule: evening, scale: ready },
    atMs: hour,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "the same, accepted: it is told to be late",
    state: { schedule: { ...due, intent: toNone }, rooms: [room] },
    observed: { schedule: evening, accepted: toNone },
    atMs: hour,
    then: [
      "remember expectedReplicas 0, timer, readySinceMs, rollout, replicasBeforeStop 1, schedule to 0 h",
      "announce schedule-stopped 60 min late, starts-at 14 h in !room, quietly",
      "record SwitchedOff",
    ],
  },
  {
    given: "an edge was missed, and somebody else has changed the count",
    state: { schedule: due, expectedReplicas: 0 },
    observed: { schedule: evening, scale: ready },
    atMs: hour,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "an edge is on time, and somebody else has changed the count just before: what they did stood until now",
    state: { schedule: due, expectedReplicas: 0 },
    observed: { schedule: evening, scale: ready },
    atMs: 5 * second,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "an edge was missed, and the next one is near: both together would do nothing",
    state: { schedule: due, expectedReplicas: 1 },
    observed: { schedule: evening },
    atMs: 14 * hour - minute,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "the clock was set back behind an edge that was dealt with",
    state: { schedule: { text: "daily", edgeAtMs: 6 * 24 * hour } },
    observed: { schedule: evening },
    then: [],
    again: "in 30 s",
  },
  {
    given: "the clock was set back by more than a week: it was wrong before",
    state: { schedule: { text: "daily", edgeAtMs: 8 * 24 * hour } },
    observed: { schedule: evening },
    then: ["remember schedule to 0 h"],
  },
  {
    given: "killed after the change was made: it is told",
    state: { schedule: { ...due, intent: toNone }, rooms: [room], expectedReplicas: 1 },
    observed: { schedule: evening, scale: { ...off, generation: 4 } },
    atMs: 10 * second,
    then: [
      "remember expectedReplicas 0, timer, readySinceMs, rollout, replicasBeforeStop 1, schedule to 0 h",
      "announce schedule-stopped, starts-at 14 h in !room, quietly",
      "record SwitchedOff",
    ],
  },
  {
    given: "killed before it was made: it is made",
    state: { schedule: { ...due, intent: toNone }, expectedReplicas: 1 },
    observed: { schedule: evening, scale: ready },
    atMs: 10 * second,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "killed, and somebody else has changed it since",
    state: { schedule: { ...due, intent: toNone }, expectedReplicas: 1 },
    observed: { schedule: evening, scale: { ...three, generation: 5 } },
    atMs: 10 * second,
    then: ["remember schedule to 0 h"],
  },
  {
    given: "killed after the change was made, and the next edge has come since",
    state: { schedule: { ...due, intent: toOne }, expectedReplicas: 0 },
    observed: { schedule: evening, scale: { ...ready, generation: 4 } },
    atMs: hour,
    then: ["remember expectedReplicas 1, schedule to -10 h"],
  },
  {
    given: "the API server doesn't answer: it is tried again",
    state: { schedule: due },
    observed: { schedule: evening, failure: unanswered },
    then: [],
    again: "in 7 s",
  },
  {
    given: "the API server refuses it: that is told, once",
    state: { schedule: due, rooms: [room] },
    observed: { schedule: evening, failure: forbidden },
    then: ["remember schedule to -10 h failure-told", "announce failed not-permitted in !room, quietly"],
  },
  {
    given: "and it is tried again",
    state: { schedule: { ...due, failureTold: true } },
    observed: { schedule: evening, failure: forbidden },
    then: [],
    again: "in 7 s",
  },
  {
    given: "an up-time ends, and somebody has asked for a longer time",
    state: { schedule: due, timer: { ...timer, dueAtMs: hour } },
    observed: { schedule: evening },
    then: ["remember schedule to 0 h"],
  },
  {
    given: "an up-time ends, and so does the time that somebody has asked for: it is stopped once",
    state: { schedule: due, timer },
    observed: { schedule: evening, scale: ready },
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "an up-time ends, and a stop by the timer has been begun: that one is brought to its end",
    state: { schedule: due, timer: { ...timer, intent: toNone }, expectedReplicas: 1 },
    observed: { schedule: evening, scale: { ...off, generation: 4 } },
    then: [
      "remember expectedReplicas 0, replicasBeforeStop 1, timer, readySinceMs, rollout",
      "announce timer-stopped to @alice:example.org in !room",
      "record SwitchedOff",
    ],
  },
  {
    given: "a time that was asked for counts in an up-time, too",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: hour } },
    observed: { schedule: morning, scale: ready },
    atMs: hour,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "AUTO_STOP doesn't",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: hour, isDefault: true } },
    observed: { schedule: morning },
    then: ["remember timer"],
  },
  {
    given: "nor a time that was over before the up-time began",
    state: { schedule: dealtWith, timer },
    observed: { schedule: morning },
    atMs: hour,
    then: ["remember timer"],
  },
  {
    given: "nor one that is over within a minute before",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: 14 * hour - minute } },
    observed: { schedule: evening },
    atMs: 13 * hour,
    then: ["remember timer"],
  },
  {
    given: "nor one that is over within a minute after",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: minute - 1 } },
    observed: { schedule: morning },
    atMs: minute,
    then: ["remember timer"],
  },
  {
    given: "but one that is over later",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: minute } },
    observed: { schedule: morning, scale: ready },
    atMs: minute,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "or earlier",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: 14 * hour - minute - 1 } },
    observed: { schedule: evening, scale: ready },
    atMs: 14 * hour - minute - 1,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "a time that was over long ago, and an up-time is about to begin: both together would do nothing",
    state: { schedule: dealtWith, timer: { ...timer, dueAtMs: hour } },
    observed: { schedule: evening, scale: ready },
    atMs: 14 * hour - minute,
    then: ["remember timer"],
  },
  {
    given: "nobody has written for long, and somebody has turned it off: without a watch nobody is told",
    state: { expectedReplicas: 1, idle: { userAtMs: 0 } },
    observed: { isWatched: false, scale: off },
    atMs: hour,
    policy: { idleStopMs: hour, agents: ["@clawd:example.org"] },
    then: ["remember expectedReplicas 0, readySinceMs"],
  },
  {
    given: "nobody has written for long, and an up-time is about to begin",
    state: { schedule: dealtWith, expectedReplicas: 1, idle: { userAtMs: 0 } },
    observed: { schedule: evening, scale: ready },
    atMs: 14 * hour - minute,
    policy: { idleStopMs: hour, agents: ["@clawd:example.org"] },
    then: [],
    again: "in 30 s",
  },
  {
    given: "a start in an up-time: until its end",
    state: { command: start, schedule: dealtWith },
    observed: { schedule: morning, accepted: toOne },
    policy: { autoStopMs: 4 * hour },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, stops-at 10 h, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start outside of up-times: until the end of the next one",
    state: { command: start, schedule: dealtWith },
    observed: { schedule: evening, accepted: toOne },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, stops-at 24 h, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "the same with AUTO_STOP, which is over before the next up-time",
    state: { command: start, schedule: dealtWith },
    observed: { schedule: evening, accepted: toOne },
    policy: { autoStopMs: 4 * hour },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer in 240 min by default",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "the same with AUTO_STOP, which isn't: the up-time is first",
    state: { command: start, schedule: dealtWith },
    observed: { schedule: evening, accepted: toOne },
    policy: { autoStopMs: 15 * hour },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer",
      "answer done 0 → 1: switched-on, stops-at 24 h, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start for a time that ends in the next up-time",
    state: { command: { ...start, durationMs: 15 * hour }, schedule: dealtWith },
    observed: { schedule: evening, accepted: toOne },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer in 900 min",
      "answer done 0 → 1: switched-on, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start of what is on: its answer tells what comes next",
    state: { command: start, schedule: dealtWith },
    observed: { schedule: morning, scale: ready },
    then: ["remember rooms, rollout, expectedReplicas 1", "answer already 1 → 1: already-on, stops-at 10 h"],
  },
  {
    given: "a stop in an up-time: until the next one begins",
    state: { command: stop, schedule: dealtWith },
    observed: { schedule: morning, accepted: toNone },
    then: [
      "remember rooms, rollout 1 → 0 nothing, expectedReplicas 0, timer, readySinceMs, replicasBeforeStop 1",
      "answer done 1 → 0: switched-off, starts-at 24 h, followed",
      "record SwitchedOff",
    ],
  },
  {
    given: "a command while an edge waits to be followed: the edge is over",
    state: { command: stop, schedule: due },
    observed: { schedule: morning, scale: off },
    then: [
      "remember rooms, rollout, expectedReplicas 0, timer, readySinceMs, schedule to 0 h",
      "answer already 0 → 0: already-off, starts-at 24 h",
    ],
  },
  {
    given: "a command that failed leaves it",
    state: { command: stop, schedule: due },
    observed: { schedule: evening, failure: forbidden },
    then: ["remember rooms, rollout", "answer failed: failed not-permitted"],
  },
  {
    given: "an extend in an up-time: beyond its end",
    state: { command: extend, schedule: dealtWith },
    observed: { schedule: morning, scale: ready, ...trusted },
    then: ["remember rooms, rollout, expectedReplicas 1, timer in 660 min", "answer done 1 → 1: extended"],
  },
  {
    given: "an extend of AUTO_STOP: it is asked for from now on",
    state: { command: extend, timer: { ...timer, dueAtMs: hour, isDefault: true } },
    observed: { scale: ready, ...trusted },
    then: ["remember rooms, rollout, expectedReplicas 1, timer in 120 min", "answer done 1 → 1: extended"],
  },
  {
    given: "a status tells what comes next, on",
    state: { command: status, schedule: dealtWith },
    observed: { schedule: evening, scale: ready },
    then: ["answer done → 1: status, stops-at 24 h"],
  },
  {
    given: "and off",
    state: { command: status, schedule: dealtWith },
    observed: { schedule: morning, scale: off },
    then: ["answer done → 0: status, starts-at 24 h"],
  },
];

const byOthers: readonly Case[] = [
  { given: "a target whose count nobody has seen yet", then: [] },
  {
    given: "its count is seen for the first time: nobody is told",
    observed: { shown: three },
    then: ["remember expectedReplicas 3, rollout"],
  },
  {
    given: "the watch shows another count: it is read, for that may be older than our own change",
    state: { expectedReplicas: 1, rooms: [room] },
    observed: { shown: three },
    then: ["read"],
  },
  {
    given: "it is as expected",
    state: { expectedReplicas: 1, rooms: [room] },
    observed: { shown: three, scale: ready },
    then: [],
  },
  {
    given: "it is another one: told where it was last commanded",
    state: { expectedReplicas: 1, rooms: [room, "!second"], startedBy: alice },
    observed: { shown: three, scale: { ...three, manager: "kubectl" } },
    then: [
      "announce scaled-by-others 1 → 3 by kubectl to @alice:example.org in !room, !second",
      "remember expectedReplicas 3, rollout",
    ],
  },
  {
    given: "an autoscaler's minimum: told, and no phone rings",
    state: { expectedReplicas: 1, rooms: [room], startedBy: alice, rollout: { ...begun, told: "ready" } },
    observed: { scale: { ...three, manager: "kube-controller-manager" } },
    then: [
      "announce scaled-by-others 1 → 3 by kube-controller-manager in !room, quietly",
      "unfollow",
      "remember expectedReplicas 3, rollout",
    ],
  },
  {
    given: "whoever has the autoscaler's name, and turns it off: phones ring",
    state: { expectedReplicas: 1, rooms: [room], startedBy: alice },
    observed: { scale: { ...off, manager: "kube-controller-manager" } },
    then: [
      "announce scaled-by-others 1 → 0 by kube-controller-manager to @alice:example.org in !room",
      "remember expectedReplicas 0, rollout, timer, readySinceMs",
    ],
  },
  {
    given: "somebody has stopped it: the timer goes",
    state: { expectedReplicas: 1, rooms: [room], timer: { ...timer, dueAtMs: hour } },
    observed: { shown: off, scale: off },
    then: [
      "announce scaled-by-others 1 → 0 in !room",
      "remember expectedReplicas 0, rollout, timer, readySinceMs",
    ],
  },
  {
    given: "a start that somebody has undone: its answer names who did",
    state: { expectedReplicas: 1, rooms: [room, "!second"], startedBy: alice, rollout: begun },
    observed: { scale: { ...off, manager: "keda-operator" } },
    atMs: 12 * second,
    then: [
      "announce scaled-by-others 1 → 0 by keda-operator to @alice:example.org in !room, !second, not where followed",
      "update undone by keda-operator, alert scaled-by-others 1 → 0 by keda-operator, last",
      "remember expectedReplicas 0, rollout, timer, readySinceMs",
    ],
  },
  {
    given: "a stop that somebody has undone within a minute",
    state: { expectedReplicas: 0, rooms: [room], rollout: stopped },
    observed: { scale: three },
    atMs: 50 * second,
    then: [
      "announce scaled-by-others 0 → 3 in !room, not where followed",
      "update undone, alert scaled-by-others 0 → 3, last",
      "remember expectedReplicas 3, rollout",
    ],
  },
  {
    given: "somebody wants more of what is starting: it is followed on",
    state: { expectedReplicas: 1, rooms: [room], startedBy: alice, rollout: begun },
    observed: { scale: { ...three, ready: 0 } },
    then: [
      "announce scaled-by-others 1 → 3 to @alice:example.org in !room",
      "remember expectedReplicas 3, rollout 0 → 3 nothing",
    ],
  },
  {
    given: "a change whose outcome nobody told: it is nobody's doing",
    state: { rooms: [room], rollout: stopped },
    observed: { scale: ready },
    then: ["unfollow", "remember expectedReplicas 1, rollout"],
  },
  {
    given: "without a watch nobody is told of what is seen by chance",
    state: { expectedReplicas: 1, rooms: [room] },
    observed: { scale: three, isWatched: false },
    then: [],
  },
  {
    given: "a read that fails is made again",
    state: { expectedReplicas: 1 },
    observed: { shown: three, failure: unanswered },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
];

const on = { expectedReplicas: 1 } as const;
const rollouts: readonly Case[] = [
  { given: "a start goes on", state: { ...on, rollout: begun }, then: ["read"] },
  {
    given: "it isn't ready",
    state: { ...on, rollout: begun },
    observed: { scale: starting },
    atMs: 5 * second,
    then: ["diagnose"],
  },
  {
    given: "it isn't ready: the status speaks of what was before",
    state: { ...on, rollout: begun },
    observed: { scale: { ...ready, settled: false } },
    atMs: 5 * second,
    then: ["diagnose"],
  },
  {
    given: "it isn't ready, and nothing is wrong",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(5 * second) },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "the same without a watch",
    state: { ...on, rollout: begun },
    observed: { scale: starting, isWatched: false, ...diagnosed(5 * second) },
    atMs: 5 * second,
    then: [],
    again: "in 1 s",
  },
  {
    given: "it was diagnosed 2 s ago",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(3 * second) },
    atMs: 5 * second,
    then: ["diagnose"],
  },
  {
    given: "it was diagnosed before the start",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(-second, image) },
    atMs: 500,
    then: ["diagnose"],
  },
  {
    given: "ready",
    state: { ...on, rollout: begun },
    observed: { scale: ready },
    atMs: 30 * second,
    then: ["remember rollout 0 → 1 ready, readySinceMs", "update ready"],
  },
  {
    given: "ready after more than 30 s: phones ring",
    state: { ...on, rollout: begun },
    observed: { scale: ready },
    atMs: 30_001,
    then: ["remember rollout 0 → 1 ready, readySinceMs", "update ready, alert ready-alert"],
  },
  {
    given: "a provisional problem is not shown before 10 s",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(9 * second, unschedulable) },
    atMs: 9 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "then it is",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(10 * second, unschedulable) },
    atMs: 10 * second,
    then: ["remember rollout 0 → 1 nothing provisional unschedulable", "update starting unschedulable"],
  },
  {
    given: "unless it says only that it isn't ready yet",
    state: { ...on, rollout: begun },
    observed: {
      scale: starting,
      ...diagnosed(
        10 * second,
        { kind: "other", certain: false, reason: "ContainerCreating" },
        { kind: "other", certain: false, reason: "ContainersNotReady", message: "containers with unready status" },
      ),
    },
    atMs: 10 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "what the cluster says otherwise is",
    state: { ...on, rollout: begun },
    observed: {
      scale: starting,
      ...diagnosed(10 * second, { kind: "other", certain: false, reason: "FailedCreate", message: "no such class" }),
    },
    atMs: 10 * second,
    then: ["remember rollout 0 → 1 nothing provisional other", "update starting other"],
  },
  {
    given: "once",
    state: { ...on, rollout: { ...begun, provisional: "unschedulable" } },
    observed: { scale: starting, ...diagnosed(12 * second, unschedulable) },
    atMs: 12 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "until it is gone",
    state: { ...on, rollout: { ...begun, provisional: "unschedulable" } },
    observed: { scale: starting, ...diagnosed(14 * second) },
    atMs: 14 * second,
    then: ["remember rollout 0 → 1 nothing", "update starting"],
  },
  {
    given: "a certain problem: phones ring",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(5 * second, image) },
    atMs: 5 * second,
    then: ["remember rollout 0 → 1 failing image claw:0", "update not-ready image, alert not-ready-alert"],
  },
  {
    given: "a certain problem beside a provisional one: only the certain one is told",
    state: { ...on, rollout: begun },
    observed: { scale: starting, ...diagnosed(5 * second, image, unschedulable) },
    atMs: 5 * second,
    then: ["remember rollout 0 → 1 failing image claw:0", "update not-ready image, alert not-ready-alert"],
  },
  {
    given: "the same problem again",
    state: { ...on, rollout: failing },
    observed: { scale: starting, ...diagnosed(5 * second, image) },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "another one, too: no phone rings again",
    state: { ...on, rollout: failing },
    observed: { scale: starting, ...diagnosed(5 * second, image, crash) },
    atMs: 5 * second,
    then: ["remember rollout 0 → 1 failing image claw:0, crash ", "update not-ready image crash"],
  },
  {
    given: "ready for a moment after a problem",
    state: { ...on, rollout: failing },
    observed: { scale: ready, seenReadySinceMs: 50 * second },
    atMs: minute,
    then: [],
    again: "in 20 s",
  },
  {
    given: "the same without a watch",
    state: { ...on, rollout: failing },
    observed: { scale: ready, isWatched: false, seenReadySinceMs: 50 * second },
    atMs: minute,
    then: [],
    again: "in 1 s",
  },
  {
    given: "ready for 30 s after a problem",
    state: { ...on, rollout: failing },
    observed: { scale: ready, seenReadySinceMs: 30 * second },
    atMs: minute,
    then: ["remember rollout 0 → 1 ready image claw:0, readySinceMs", "update ready, alert ready-alert"],
  },
  {
    given: "the time limit: what is pending is told, and it is followed on",
    state: { ...on, rollout: { ...begun, provisional: "unschedulable" } },
    observed: { scale: starting, ...diagnosed(10 * minute, unschedulable) },
    atMs: 10 * minute,
    then: [
      "remember rollout 0 → 1 failing late provisional unschedulable",
      "update not-ready unschedulable, alert not-ready-alert",
    ],
  },
  {
    given: "the time limit of what was told to be failing",
    state: { ...on, rollout: failing },
    observed: { scale: starting, ...diagnosed(10 * minute, image) },
    atMs: 10 * minute,
    then: ["remember rollout 0 → 1 failing late image claw:0", "update not-ready image"],
  },
  {
    given: "after the time limit it is looked at less often",
    state: { ...on, rollout: { ...failing, late: true } },
    observed: { scale: starting, ...diagnosed(11 * minute, image) },
    atMs: 11 * minute,
    then: [],
    again: "in 10 s",
  },
  {
    given: "less than half of several are ready",
    state: { expectedReplicas: 3, rollout: { ...begun, after: 3 } },
    observed: { scale: { ...three, ready: 1 }, ...diagnosed(5 * second) },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "half of several are ready",
    state: { expectedReplicas: 2, rollout: { ...begun, after: 2 } },
    observed: { scale: { ...ready, desired: 2 }, ...diagnosed(5 * second) },
    atMs: 5 * second,
    then: ["remember rollout 0 → 2 partly", "update partly-ready"],
  },
  {
    given: "told to be ready: it is watched for a minute whether somebody undoes it",
    state: { ...on, rollout: { ...begun, told: "ready" } },
    observed: { scale: ready },
    atMs: 5 * second,
    then: [],
    again: "in 55 s",
  },
  {
    given: "a crash soon after it was told to be ready",
    state: { ...on, rollout: { ...begun, told: "ready" } },
    observed: { scale: starting, ...diagnosed(20 * second, crash) },
    atMs: 20 * second,
    then: ["remember rollout 0 → 1 failing crash ", "update not-ready crash, alert not-ready-alert"],
  },
  {
    given: "the minute is over",
    state: { ...on, rollout: { ...begun, told: "ready" } },
    observed: { scale: ready },
    atMs: minute,
    then: ["unfollow", "remember rollout"],
  },
  {
    given: "a stop goes on, watched",
    state: { expectedReplicas: 0, rollout: stopped },
    observed: { scale: stopping },
    atMs: 5 * second,
    then: [],
    again: "in 55 s",
  },
  {
    given: "a stop goes on, not watched",
    state: { expectedReplicas: 0, rollout: stopped },
    observed: { scale: stopping, isWatched: false },
    atMs: 5 * second,
    then: [],
    again: "in 1 s",
  },
  {
    given: "it is off, not watched",
    state: { expectedReplicas: 0, rollout: stopped },
    observed: { scale: off, isWatched: false },
    atMs: 5 * second,
    then: [],
    again: "in 55 s",
  },
  {
    given: "it has been off for a minute",
    state: { expectedReplicas: 0, rollout: stopped },
    observed: { scale: off },
    atMs: minute,
    then: ["unfollow", "remember rollout"],
  },
];

const readiness: readonly Case[] = [
  { given: "the watch shows it ready, as it may have been for long", state: on, observed: { shown: ready }, then: [] },
  {
    given: "the watch shows it ready, and has shown it unready before",
    state: on,
    observed: { shown: ready, seenUnready: true },
    then: ["remember readySinceMs"],
  },
  { given: "as before", state: { ...on, readySinceMs: 0 }, observed: { shown: ready, seenUnready: true }, then: [] },
  {
    given: "the watch shows it unready",
    state: { ...on, readySinceMs: 0 },
    observed: { shown: starting, seenUnready: true },
    then: ["remember readySinceMs"],
  },
];

const agent: Partial<TargetPolicy> = { agents: ["@clawd:example.org"], idleStopMs: 30 * minute };

const waking: readonly Case[] = ([
  { given: "a message to an agent", state: { command: wake }, then: ["read"] },
  {
    given: "a message to an agent whose target somebody else has turned on, which nobody has seen without a watch",
    state: { command: wake, expectedReplicas: 0 },
    observed: { scale: ready, isWatched: false },
    policy: { agents: ["@clawd:example.org"] },
    then: ["remember expectedReplicas 1", "answer already: nothing"],
  },
  {
    given: "a message to an agent that is awake: nothing is said",
    state: { command: wake, expectedReplicas: 1 },
    observed: { scale: ready },
    then: ["answer already: nothing"],
  },
  {
    given: "the same, and somebody else has turned it on, which nobody could see",
    state: { command: wake, expectedReplicas: 0, stopped: { seq: 6, isHeld: true } },
    observed: { scale: ready, isWatched: false },
    then: ["remember expectedReplicas 1, stopped at 6", "answer already: nothing"],
  },
  {
    given: "a message to an agent that is starting: the first one is told of that",
    state: { command: wake, expectedReplicas: 1, rollout: begun },
    observed: { scale: starting },
    then: ["answer already: nothing"],
  },
  { given: "a message to an agent at 0", state: { command: wake }, observed: { scale: off }, then: ["authorize"] },
  {
    given: "a message to an agent at 0 that is its sender's for certain",
    state: { command: wake },
    observed: { scale: off, ...trusted },
    then: ["scale 0 → 1 at version 7"],
  },
  {
    given: "the same where as many are wanted as before the last stop",
    state: { command: wake, replicasBeforeStop: 4 },
    observed: { scale: off, ...trusted },
    policy: { startReplicas: "previous" },
    then: ["scale 0 → 4 at version 7"],
  },
  {
    given: "a message that is no longer its sender's for certain: nothing is said",
    state: { command: wake },
    observed: { scale: off, authorization: { refusal: "deleted-device" } },
    then: ["answer refused deleted-device: nothing"],
  },
  {
    given: "a start for a message that the API server has accepted: the room isn't one of commands by that",
    state: { command: wake, rooms: ["!other"] },
    observed: { accepted: toOne },
    then: [
      "remember rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer, idle: user 0 min in !room",
      "answer done 0 → 1: waking, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "the same where starts are for four hours",
    state: { command: wake },
    observed: { accepted: toOne },
    policy: { autoStopMs: 4 * hour },
    then: [
      "remember rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer in 240 min by default, idle: user 0 min in !room",
      "answer done 0 → 1: waking, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start for a message that was made before we were killed",
    state: { command: { ...wake, unconfirmed: toOne } },
    observed: { scale: { ...starting, generation: 4 } },
    then: [
      "remember rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer, idle: user 0 min in !room",
      "answer done 0 → 1: waking, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "a start for a message that wasn't made before we were killed",
    state: { command: { ...wake, unconfirmed: toOne } },
    observed: { scale: off },
    then: ["authorize"],
  },
  {
    given: "a start for a message before we were killed, and somebody has stopped it since",
    state: { command: { ...wake, unconfirmed: toOne } },
    observed: { scale: { ...off, generation: 5 } },
    then: ["answer overtaken: nothing"],
  },
  {
    given: "a message that is too old",
    state: { command: wake },
    observed: { scale: off, ...trusted },
    atMs: 6 * minute,
    then: ["answer too-old: nothing"],
  },
  {
    given: "a message after a stop: that is told",
    state: { command: wake, stopped: { seq: 6, isHeld: true } },
    observed: { scale: off },
    then: ["remember stopped at 6 held told", "answer already: kept-off"],
  },
  {
    given: "another message after the same stop",
    state: { command: wake, stopped: { seq: 6, isHeld: true, isTold: true } },
    observed: { scale: off },
    then: ["answer already: nothing"],
  },
  {
    given: "a message before a stop, whose key has come later",
    state: { command: wake, stopped: { seq: 8, isHeld: true } },
    observed: { scale: off, ...trusted },
    then: ["answer overtaken: nothing"],
  },
  {
    given: "the same, and it was started and has fallen asleep since",
    state: { command: wake, stopped: { seq: 8, isHeld: false } },
    observed: { scale: off, ...trusted },
    then: ["answer overtaken: nothing"],
  },
  {
    given: "a message after a stop that a start has ended, and it has fallen asleep since",
    state: { command: wake, stopped: { seq: 6, isHeld: false } },
    observed: { scale: off, ...trusted },
    then: ["scale 0 → 1 at version 7"],
  },
  {
    given: "a stop: it holds",
    state: { command: stop },
    observed: { accepted: toNone },
    then: [
      "remember rooms, rollout 1 → 0 nothing, expectedReplicas 0, timer, readySinceMs, replicasBeforeStop 1, " +
      "stopped at 7 held",
      "answer done 1 → 0: switched-off, followed",
      "record SwitchedOff",
    ],
  },
  {
    given: "a stop of what is asleep: it holds, too",
    state: { command: stop, expectedReplicas: 0 },
    observed: { scale: off },
    then: [
      "remember rooms, rollout, expectedReplicas 0, timer, readySinceMs, stopped at 7 held",
      "answer already 0 → 0: already-off",
    ],
  },
  {
    given: "a start: a stop holds no longer",
    state: { command: start, stopped: { seq: 6, isHeld: true, isTold: true } },
    observed: { accepted: toOne },
    then: [
      "remember rooms, rollout 0 → 1 nothing, expectedReplicas 1, startedBy, timer, stopped at 6 told, idle: user 0 min",
      "answer done 0 → 1: switched-on, sleeps-after, followed",
      "record SwitchedOn",
    ],
  },
  {
    given: "somebody else turns it on: a stop holds no longer",
    state: { expectedReplicas: 0, stopped: { seq: 6, isHeld: true } },
    observed: { scale: ready },
    then: [
      "announce scaled-by-others 0 → 1 in ",
      "remember expectedReplicas 1, rollout, stopped at 6",
    ],
  },
  {
    given: "an up-time begins: a stop holds no longer",
    state: { schedule: { ...due, intent: toOne }, expectedReplicas: 0, stopped: { seq: 6, isHeld: true } },
    observed: { schedule: morning, accepted: toOne },
    then: [
      "remember expectedReplicas 1, timer, readySinceMs, rollout, startedBy, stopped at 6, schedule to 0 h",
      "announce schedule-started, stops-at 10 h in , quietly",
      "record SwitchedOn",
    ],
  },
  {
    given: "a status of what sleeps",
    state: { command: status },
    observed: { scale: off, agentRooms: 2 },
    then: ["answer done → 0: status, wakes"],
  },
  {
    given: "a status of what a stop holds",
    state: { command: status, stopped: { seq: 6, isHeld: true } },
    observed: { scale: off, agentRooms: 2 },
    then: ["answer done → 0: status"],
  },
  {
    given: "a status of what is awake",
    state: { command: status },
    observed: { scale: ready, agentRooms: 2 },
    then: ["answer done → 1: status, sleeps-after"],
  },
  {
    given: "a status of what is on for a time",
    state: { command: status, timer },
    observed: { scale: ready },
    then: ["answer done → 1: status"],
  },
  {
    given: "a message to an agent that is off, and nobody answers",
    state: { command: wake, expectedReplicas: 0 },
    observed: { failure: unanswered },
    atMs: 5 * second,
    then: ["say-waiting unanswered Kubernetes API"],
  },
  {
    given: "the same for 30 s",
    state: { command: { ...wake, unansweredTold: true }, expectedReplicas: 0 },
    observed: { failure: { ...unanswered, retryAtMs: 31 * second } },
    atMs: 30 * second,
    then: [
      "remember rollout",
      "answer failed: failed unreachable, alert failed-alert",
    ],
  },
  {
    given: "the same, and it is awake: it answers for itself",
    state: { command: wake, expectedReplicas: 1 },
    observed: { failure: { ...unanswered, retryAtMs: 31 * second } },
    atMs: 30 * second,
    then: ["answer failed: nothing"],
  },
  {
    given: "nobody answers about an agent that is awake",
    state: { command: wake, expectedReplicas: 1 },
    observed: { failure: unanswered },
    atMs: 5 * second,
    then: [],
    again: "in 2 s",
  },
  {
    given: "a message that came while another one was tried in vain",
    state: { command: wake, expectedReplicas: 0 },
    observed: { failure: unanswered, wakeFailedAtMs: second },
    atMs: second,
    then: ["answer failed: nothing"],
  },
  {
    given: "a start for a message is ready: how long that took is counted from the message",
    state: { expectedReplicas: 1, rollout: { ...begun, wokenAtMs: -2 * second }, idle: { userAtMs: 0 } },
    observed: { scale: ready },
    atMs: 10 * second,
    then: ["remember rollout 0 → 1 ready, readySinceMs", "update ready 12 s after the message"],
  },
] satisfies Case[]).map((each) => ({ ...each, policy: { ...agent, ...each.policy } }));

const quiet: Idle = { userAtMs: 0, roomId: room };
const warning: IdleWarning = { saidAtMs: 25 * minute, stopsAtMs: 30 * minute, quietSinceMs: 0, roomId: room };
const warned: Idle = { ...quiet, warning };

/** It is on, and a user has written last at 0. */
const idleness: readonly Case[] = ([
  {
    given: "a target of which nothing is known yet",
    state: {},
    then: ["read"],
  },
  {
    given: "a target that runs already: counted from now on",
    state: { expectedReplicas: 1 },
    atMs: 7 * minute,
    then: ["remember idle: user 0 min"],
  },
  {
    given: "the same, and somebody has just written",
    state: { expectedReplicas: 1 },
    observed: { life: { userAtMs: 8 * minute, roomId: "!other" } },
    atMs: 8 * minute,
    then: ["remember idle: user 0 min in !other"],
  },
  {
    given: "nothing is due yet",
    state: { expectedReplicas: 1, idle: quiet },
    atMs: 24 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "a warning is soon due",
    state: { expectedReplicas: 1, idle: quiet },
    atMs: 25 * minute - 7 * second,
    then: [],
    again: "in 7 s",
  },
  { given: "a warning is due", state: { expectedReplicas: 1, idle: quiet }, atMs: 25 * minute, then: ["read"] },
  {
    given: "a warning is due, and it is on",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { scale: ready },
    atMs: 25 * minute,
    then: [
      "remember idle: user -25 min in !room warned, stops 5 min",
      "notice falling-asleep in 5 min, quiet for 25 min in !room",
    ],
  },
  {
    given: "the same where a fifth of the time is shorter",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { scale: ready },
    policy: { idleStopMs: 5 * minute },
    atMs: 4 * minute,
    then: [
      "remember idle: user -4 min in !room warned, stops 1 min",
      "notice falling-asleep in 1 min, quiet for 4 min in !room",
    ],
  },
  {
    given: "it was due while we were down: it is told all the same",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { scale: ready },
    atMs: 4 * hour,
    then: [
      "remember idle: user -240 min in !room warned, stops 5 min",
      "notice falling-asleep in 5 min, quiet for 240 min in !room",
    ],
  },
  {
    given: "it was told, and time passes",
    state: { expectedReplicas: 1, idle: warned },
    atMs: 29 * minute + 50 * second,
    then: [],
    again: "in 10 s",
  },
  { given: "the time is up", state: { expectedReplicas: 1, idle: warned }, atMs: 30 * minute, then: ["read"] },
  {
    given: "the time is up, and it is on",
    state: { expectedReplicas: 1, idle: warned },
    observed: { scale: three },
    atMs: 30 * minute,
    then: ["scale 3 → 0 at version 7"],
  },
  {
    given: "the stop was accepted",
    state: { expectedReplicas: 1, idle: warned, timer },
    observed: { accepted: toNone },
    atMs: -hour + 30 * minute,
    then: [
      "remember expectedReplicas 0, replicasBeforeStop 1, timer, readySinceMs, rollout, idle",
      "notice fell-asleep in !room, last",
      "record SwitchedOff",
    ],
  },
  {
    given: "the stop was made, and we were killed before we said so",
    state: { expectedReplicas: 1, idle: { ...warned, warning: { ...warning, intent: toNone } } },
    observed: { scale: { ...stopping, generation: 4 } },
    atMs: 30 * minute,
    then: [
      "remember expectedReplicas 0, replicasBeforeStop 1, timer, readySinceMs, rollout, idle",
      "notice fell-asleep in !room, last",
      "record SwitchedOff",
    ],
  },
  {
    given: "the stop was begun, and it was not made before we were killed",
    state: { expectedReplicas: 1, idle: { ...warned, warning: { ...warning, intent: toNone } } },
    observed: { scale: ready },
    atMs: 31 * minute,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "the stop was begun, and somebody else has turned it on since",
    state: { expectedReplicas: 1, idle: { ...warned, warning: { ...warning, intent: toNone } } },
    observed: { scale: { ...ready, generation: 5 } },
    atMs: 31 * minute,
    then: ["remember idle: user 0 min in !room", "notice stays-awake in !room, last"],
  },
  {
    given: "somebody writes after it was told",
    state: { expectedReplicas: 1, idle: warned },
    observed: { life: { userAtMs: 26 * minute, roomId: room } },
    atMs: 26 * minute,
    then: ["remember idle: user 0 min in !room", "notice stays-awake in !room, last"],
  },
  {
    given: "a user has written right after it was turned on: after a minute that is written, too",
    state: { expectedReplicas: 1, idle: { userAtMs: 0 } },
    observed: { life: { userAtMs: 9 * second } },
    atMs: minute + 9 * second,
    then: ["remember idle: user -1 min"],
  },
  {
    given: "the last message is read once more after a restart, and seems to be a little younger",
    state: { expectedReplicas: 1, idle: { ...warned, messageAtMs: 0 } },
    observed: { life: { userAtMs: 9 * second, roomId: room } },
    atMs: 26 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "the agent writes after it was told",
    state: { expectedReplicas: 1, idle: warned },
    observed: { life: { agentAtMs: 26 * minute } },
    atMs: 26 * minute,
    then: ["remember idle: user -26 min in !room agent 0 min", "notice stays-awake in !room, last"],
  },
  {
    given: "the agent is typing when it would be told",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { life: { isAgentTyping: true } },
    atMs: 25 * minute,
    then: ["remember idle: user -25 min in !room agent 0 min"],
  },
  {
    given: "the agent has a heartbeat: it extends the time once",
    state: { expectedReplicas: 1, idle: { ...quiet, agentAtMs: 50 * minute } },
    observed: { scale: ready },
    atMs: 55 * minute,
    then: [
      "remember idle: user -55 min in !room agent -5 min warned, stops 5 min",
      "notice falling-asleep in 5 min, quiet for 25 min in !room",
    ],
  },
  {
    given: "its heartbeat after it was told, when it has extended the time already",
    state: {
      expectedReplicas: 1,
      idle: { ...quiet, agentAtMs: 50 * minute, warning: { ...warning, stopsAtMs: hour, quietSinceMs: 30 * minute } },
    },
    observed: { life: { agentAtMs: 59 * minute + 30 * second } },
    atMs: 59 * minute + 55 * second,
    then: [
      "remember idle: user -59.916666666666664 min in !room agent -0.4166666666666667 min warned, stops 0.08333333333333333 min",
    ],
  },
  {
    given: "the same, a moment later: it goes to sleep all the same",
    state: {
      expectedReplicas: 1,
      idle: {
        ...quiet,
        agentAtMs: 59 * minute + 30 * second,
        warning: { ...warning, stopsAtMs: hour, quietSinceMs: 30 * minute },
      },
    },
    observed: { scale: ready, life: { agentAtMs: 59 * minute + 30 * second } },
    atMs: hour,
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "a user writes within a minute of the last one that was written down: nothing is written",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { life: { userAtMs: 59 * second, roomId: room } },
    atMs: 59 * second,
    then: [],
    again: "in 30 s",
  },
  {
    given: "a user writes a minute after that",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { life: { userAtMs: minute, roomId: room } },
    atMs: minute,
    then: ["remember idle: user 0 min in !room"],
  },
  {
    given: "a time that somebody asked for: it is not told",
    state: { expectedReplicas: 1, idle: quiet, timer: { ...timer, dueAtMs: 3 * hour, warned: false } },
    atMs: 40 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "such a time is asked for after it was told",
    state: { expectedReplicas: 1, idle: warned, timer: { ...timer, dueAtMs: 3 * hour, warned: false } },
    atMs: 26 * minute,
    then: ["remember idle: user -26 min in !room", "notice stays-awake in !room, last"],
  },
  {
    given: "a time that nobody asked for doesn't count",
    state: { expectedReplicas: 1, idle: quiet, timer: { ...timer, dueAtMs: 3 * hour, isDefault: true, warned: false } },
    atMs: 25 * minute,
    then: ["read"],
  },
  {
    given: "it is up-time: it is not told",
    state: { expectedReplicas: 1, idle: quiet, schedule: dealtWith },
    observed: { schedule: { ...morning, nextEnd: { kind: "end", atMs: 2 * hour, timeZone: "UTC" } } },
    atMs: 40 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "an up-time ends while somebody talks to the agent: it stays on, until it is quiet",
    state: { expectedReplicas: 1, idle: { ...quiet, messageAtMs: -20 * minute }, schedule: due },
    observed: { schedule: evening },
    then: ["remember schedule to 0 h"],
  },
  {
    given: "an up-time ends, and nobody has talked to the agent for long",
    state: { expectedReplicas: 1, idle: { ...quiet, messageAtMs: -40 * minute }, schedule: due },
    observed: { schedule: evening, scale: ready },
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "an up-time ends, and nobody has talked to the agent since it was started",
    state: { expectedReplicas: 1, idle: quiet, schedule: due },
    observed: { schedule: evening, scale: ready },
    then: ["scale 1 → 0 at version 7"],
  },
  {
    given: "it has only just become ready: counted from then",
    state: { expectedReplicas: 1, idle: quiet, readySinceMs: 10 * minute },
    atMs: 25 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "it is still starting",
    state: { expectedReplicas: 1, idle: quiet, rollout: { ...begun, told: "failing" } },
    observed: { failure: { ...unanswered, retryAtMs: hour } },
    policy: { startTimeoutMs: hour },
    atMs: 25 * minute,
    then: [],
    again: "in 30 s",
  },
  {
    given: "somebody stops it after it was told",
    state: { expectedReplicas: 0, idle: warned },
    atMs: 26 * minute,
    then: ["remember idle", "notice switched-off in !room, last"],
  },
  {
    given: "somebody else stops it when it would be told",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { scale: off },
    atMs: 25 * minute,
    then: ["announce scaled-by-others 1 → 0 in ", "remember expectedReplicas 0, rollout, timer, readySinceMs"],
  },
  {
    given: "idleness no longer counts, after it was told",
    state: { expectedReplicas: 1, idle: warned },
    policy: { idleStopMs: undefined },
    atMs: 26 * minute,
    then: ["remember idle", "notice stays-awake in !room, last"],
  },
  {
    given: "idleness no longer counts",
    state: { expectedReplicas: 1, idle: quiet },
    policy: { idleStopMs: undefined },
    then: ["remember idle"],
  },
  {
    given: "the stop fails",
    state: { expectedReplicas: 1, idle: warned },
    observed: { failure: { ...unanswered, retryAtMs: 30 * minute + 3 * second } },
    atMs: 30 * minute,
    then: [],
    again: "in 3 s",
  },
  {
    given: "the stop isn't permitted: that is told",
    state: { expectedReplicas: 1, idle: warned },
    observed: { failure: { ...forbidden, retryAtMs: 30 * minute + 3 * second } },
    atMs: 30 * minute,
    then: [
      "remember idle: user -30 min in !room warned, stops 0 min failure-told",
      "notice failed not-permitted in !room",
    ],
  },
  {
    given: "that was told",
    state: { expectedReplicas: 1, idle: { ...warned, warning: { ...warning, failureTold: true } } },
    observed: { failure: { ...forbidden, retryAtMs: 30 * minute + 3 * second } },
    atMs: 30 * minute,
    then: [],
    again: "in 3 s",
  },
  {
    given: "the clock is set back by a day: counted from now on",
    state: { expectedReplicas: 1, idle: quiet },
    atMs: -24 * hour,
    then: ["remember idle: user 0 min in !room"],
  },
  {
    given: "the clock is set back by a day after it was told: no more time is left than was told",
    state: { expectedReplicas: 1, idle: warned },
    atMs: -24 * hour,
    then: ["remember idle: user 0 min in !room warned, stops 5 min"],
  },
  {
    given: "the clock is set forward by a day: it is told first",
    state: { expectedReplicas: 1, idle: quiet },
    observed: { scale: ready },
    atMs: 24 * hour,
    then: [
      "remember idle: user -1440 min in !room warned, stops 5 min",
      "notice falling-asleep in 5 min, quiet for 1440 min in !room",
    ],
  },
] satisfies Case[]).map((each) => ({ ...each, policy: { ...agent, ...each.policy } }));

const sections: Readonly<Record<string, readonly Case[]>> = {
  commands,
  "after an interruption": interruptions,
  failures,
  timers,
  schedules,
  waking,
  idleness,
  "changes by others": byOthers,
  rollouts,
  readiness,
};

for (const [section, cases] of Object.entries(sections)) {
  Deno.test(`decide(): ${section}`, async (t) => {
    for (const { given, state = {}, observed, atMs = 0, policy: changes, then, again } of cases) {
      const seen: Observed = { isWatched: true, seenUnready: false, ...observed };
      await t.step(`${given}: ${[...then, ...again === undefined ? [] : [again]].join("; ") || "nothing"}`, () => {
        const decision = decide(state, seen, atMs, { ...policy, ...changes });
        assert.deepEqual(decision.effects.map((effect) => inShort(effect, atMs)), then);
        assert.equal(whenAgain(decision), again ?? (then.length > 0 ? "at once" : "when something happens"));
      });
    }
  });
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
    const { before, after, told, late, problems, provisional, unreadableTold } = value as Rollout;
    const more = `${late ? " late" : ""}${unreadableTold ? " unreadable" : ""}${
      provisional ? ` provisional ${provisional}` : ""
    }`;
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
