/**
 * What happens at a target, and when: from what lasts of it, what was observed and the time to effects. A pure function,
 * without clock and I/O; its table of cases (tests/operator/decide_test.ts) is the specification of behaviour.
 *
 * Each decision does one thing. The worker performs it, adds what it has learnt to what was observed, and asks again,
 * until nothing is left to do but to wait. A wish is consumed once: what people do with kubectl stands.
 *
 * @module
 */

import type { Upcoming, Why } from "../commands/mod.ts";
import type { Diagnosis, Problem, Scale } from "../scaler/mod.ts";
import type { Outcome, Refusal } from "./audit.ts";
import type {
  Decision,
  Effect,
  Failure,
  News,
  Observed,
  PendingCommand,
  State,
  TargetPolicy,
  Verb,
  Write,
} from "./decision.ts";
import { decideIdle, isTalkedTo, untilIdle } from "./decide_idle.ts";
import { endedRollout } from "./rollout_end.ts";
import { APART_MS, beginsSoon, type Edge, type ScheduleView } from "./schedule.ts";
import type { Intent } from "./target_command.ts";
import type { ChatStop, FollowedSchedule, Rollout, StopTimer, TargetState } from "./target_state.ts";

/** A command is tried for so long (SPEC 3f). */
export const COMMAND_TRIED_FOR_MS = 30_000;
/** After so long without an answer its message says so (SPEC 3f). */
export const UNANSWERED_TOLD_AFTER_MS = 5_000;
/** So soon after a change its undoing is a part of the answer (SPEC 3i), and a failure a failure of the start. */
const FOLLOWED_FOR_MS = 60_000;
/** Readiness that took longer mentions people (SPEC 3d). */
const ALERTS_AFTER_MS = 30_000;
/** What is provisional is shown after so long (SPEC 3d). */
const PROVISIONAL_AFTER_MS = 10_000;
/** What has failed must be ready for so long before that is told: in a crash loop it is ready for moments. */
const STEADY_FOR_MS = 30_000;
/** A target that can't be looked at for so long is told to be so: it may be deleted only to be created again. */
const UNREADABLE_TOLD_AFTER_MS = 10_000;
/** How often the cluster is asked what keeps a target from being ready: that lists pods. */
const DIAGNOSED_EVERY_MS = 2_000;
/** So long before a timer is due the room is told (SPEC 3j). */
const WARNED_BEFORE_MS = 10 * 60_000;
/** A timer that is later than this is told to be late. */
const PUNCTUAL_MS = 120_000;
/** An edge of a schedule that is later than this was missed: commands and other people's changes may have come since. */
const MISSED_AFTER_MS = 5_000;
/** So long a clock that was set back is waited for; one that was set back further was wrong before. */
const SET_BACK_MS = 7 * 24 * 3_600_000;
/** So often it is looked whether messages from before the start have been read. */
const CATCHING_UP_MS = 1_000;
/** Longest wait for a timer or an edge: the wall clock may be set, and a suspended machine wakes up later. */
const LONGEST_TIMER_WAIT_MS = 30_000;
/** In so many rooms it is remembered that a target was commanded there. */
const MAX_ROOMS = 5;
/** The horizontal autoscaler's own name as a field manager. Between counts above 0 its work is no news that rings. */
const AUTOSCALER = "kube-controller-manager";

/** What is to be done now at a target. */
export function decide(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): Decision {
  const { command } = state;
  if (command !== undefined) return decideCommand(state, command, observed, nowMs, policy);
  return decideSchedule(state, observed, nowMs, policy) ?? decideTimer(state, observed, nowMs) ??
    decideIdle(state, observed, nowMs, policy) ?? decideForeignChange(state, observed, nowMs, policy) ??
    decideRollout(state, observed, nowMs, policy) ?? decideReadiness(state, observed, nowMs) ??
    wait(untilDue(state, observed, nowMs, policy));
}

function now(...effects: readonly Effect[]): Decision {
  return { effects, requeueAfterMs: 0 };
}

function wait(...ms: readonly (number | undefined)[]): Decision {
  const known = ms.filter((each) => each !== undefined);
  return { effects: [], requeueAfterMs: known.length === 0 ? undefined : Math.max(0, Math.min(...known)) };
}

/** When something is to be done because of the time, milliseconds from now; undefined: never. */
function untilDue(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): number | undefined {
  const known = [
    untilTimer(state, nowMs),
    untilEdge(observed.schedule, nowMs),
    untilIdle(state, observed, nowMs, policy),
  ].filter((ms) => ms !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** What happens to a target next without a command; with how many rooms its agents' users are heard in, if given. */
function upcoming(
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

/** All pods that are wanted are ready, by a status that is current. */
export function isReady({ desired, ready, settled }: Scale): boolean {
  return desired > 0 && settled && ready >= desired;
}

// ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function decideCommand(
  state: State,
  command: PendingCommand,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision {
  const { scale, failure, waitingFor, accepted, authorization, diagnosis } = observed;
  if (command.word === "wake") {
    const passedOver = decideNotToWake(state, command, observed, nowMs, policy);
    if (passedOver !== undefined) return passedOver;
  }
  const verb = verbOf(command);
  const spentMs = nowMs - command.takenAtMs;
  const party = failure?.party ?? waitingFor;
  if (party !== undefined) {
    if (failure?.why !== undefined) {
      return conclude(state, command, failed(command, failure.why), observed, nowMs, policy);
    }
    if (failure !== undefined && spentMs >= COMMAND_TRIED_FOR_MS) {
      const perhapsDone = command.unconfirmed !== undefined;
      const why: Why = { kind: "unreachable", who: party, triedMs: COMMAND_TRIED_FOR_MS, perhapsDone };
      return conclude(state, command, failed(command, why), observed, nowMs, policy);
    }
    const isTold = command.unansweredTold || (command.word === "wake" && isKnownOn(state));
    if (spentMs >= UNANSWERED_TOLD_AFTER_MS && !isTold) {
      return now({ kind: "say-waiting", news: { kind: "unanswered", word: verb, party } });
    }
    const untilToldMs = isTold ? undefined : UNANSWERED_TOLD_AFTER_MS - spentMs;
    if (failure === undefined) return wait(untilToldMs);
    if (nowMs < failure.retryAtMs) {
      return wait(untilToldMs, failure.retryAtMs - nowMs, COMMAND_TRIED_FOR_MS - spentMs);
    }
  }
  if (accepted !== undefined) {
    return conclude(state, command, done(command, accepted, observed, policy), observed, nowMs, policy);
  }
  if (scale === undefined) return now({ kind: "read" });
  if (command.word === "status") {
    const isDiagnosed = diagnosis !== undefined && diagnosis.atMs >= command.takenAtMs;
    if (scale.desired > 0 && !isReady(scale) && !isDiagnosed) return now({ kind: "diagnose" });
    return conclude(state, command, report(state, command, observed, scale, nowMs, policy), observed, nowMs, policy);
  }
  const ended = afterInterruption(command, scale, observed, policy) ??
    withoutActing(state, command, scale, observed, nowMs, policy);
  if (ended !== undefined) return conclude(state, command, ended, observed, nowMs, policy);
  // Sender, device and room are judged right before acting: they may have changed since the command came.
  if (authorization === undefined) return now({ kind: "authorize" });
  if (authorization.refusal !== undefined) {
    const { refusal } = authorization;
    const result: Result = { outcome: "refused", refusal, news: { kind: "not-authorized", refusal } };
    return conclude(state, command, result, observed, nowMs, policy);
  }
  if (scale.desired > 0 && command.word !== "stop") {
    return conclude(state, command, timed(state, command, scale, observed, nowMs), observed, nowMs, policy);
  }
  const intent = intentOf(scale, verb === "start" ? replicasOfStart(state, policy) : 0, nowMs);
  return now({ kind: "scale", intent, for: "command" });
}

function replicasOfStart({ replicasBeforeStop = 1 }: State, { startReplicas }: TargetPolicy): number {
  return startReplicas === "previous" ? replicasBeforeStop : startReplicas;
}

function intentOf({ desired: before, resourceVersion, generation }: Scale, after: number, atMs: number): Intent {
  return { before, after, resourceVersion, generation, atMs };
}

/** When a target stops automatically, milliseconds since the epoch, and whether that is by AUTO_STOP. */
type StopTime = Pick<StopTimer, "dueAtMs" | "isDefault">;

/** What came of a command. */
interface Result {
  readonly outcome: Outcome;
  readonly refusal?: Refusal;
  readonly news: News;
  readonly alert?: News;
  readonly before?: number;
  readonly after?: number;
  /** Since when the rollout is followed, milliseconds since the epoch; undefined: nothing is to come of it. */
  readonly followedSinceMs?: number;
  /** When the target stops automatically from now on; undefined leaves that as it is. */
  readonly timer?: StopTime | undefined;
}

/** A message to an agent is there to start it. */
function verbOf({ word }: PendingCommand): Verb {
  return word === "wake" ? "start" : word;
}

function failed(command: PendingCommand, why: Why): Result {
  const word = verbOf(command);
  const news: News = { kind: "failed", word, why };
  return { outcome: "failed", news, ...command.unansweredTold ? { alert: { kind: "failed-alert", word } } : {} };
}

/** A status waits for nothing but a read. */
function report(
  { readySinceMs, timer, stopped }: State,
  { isOnly }: PendingCommand,
  { diagnosis, schedule, agentRooms }: Observed,
  scale: Scale,
  nowMs: number,
  policy: TargetPolicy,
): Result {
  const readyForMs = isReady(scale) && readySinceMs !== undefined ? nowMs - readySinceMs : undefined;
  const next = upcoming(scale.desired, timer, stopped?.isHeld === true, schedule, nowMs, policy, agentRooms);
  const problems = isReady(scale) || scale.desired === 0 ? [] : diagnosis?.problems ?? [];
  return {
    outcome: "done",
    news: { kind: "status", scale, readyForMs, next, problems, isOnly },
    after: scale.desired,
  };
}

/**
 * A change whose outcome nobody told was made, or somebody else has made another one, or nothing has happened. The count
 * alone doesn't tell: somebody may have set it back after it was made.
 */
function afterInterruption(
  command: PendingCommand,
  scale: Scale,
  observed: Observed,
  policy: TargetPolicy,
): Result | undefined {
  const { unconfirmed: intent, typed } = command;
  if (intent === undefined || isAsBefore(intent, scale)) return undefined;
  if (scale.desired === intent.after) return done(command, intent, observed, policy);
  const { before } = intent;
  return {
    outcome: "overtaken",
    news: { kind: "overtaken", typed, before, now: scale.desired },
    before,
    after: scale.desired,
  };
}

function isAsBefore({ before, generation }: Intent, scale: Scale): boolean {
  return scale.desired === before && scale.generation === generation;
}

function withoutActing(
  state: State,
  command: PendingCommand,
  scale: Scale,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Result | undefined {
  const { desired } = scale;
  const counts = { before: desired, after: desired };
  const already = alreadySo(state, command, scale, observed, nowMs, policy);
  if (already !== undefined) return { outcome: "already", ...counts, ...already };
  const ageMs = Math.max(0, nowMs - command.sentAtMs);
  if (ageMs <= policy.maxCommandAgeMs) return undefined;
  return { outcome: "too-old", news: { kind: "too-old", typed: command.typed, ageMs }, ...counts };
}

function alreadySo(
  { timer, stopped }: State,
  { word, durationMs }: PendingCommand,
  scale: Scale,
  { schedule }: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Pick<Result, "news" | "followedSinceMs"> | undefined {
  const isHeld = word === "stop" || stopped?.isHeld === true;
  const next = upcoming(scale.desired, timer, isHeld, schedule, nowMs, policy);
  if (scale.desired === 0) {
    return word === "start" || word === "wake" ? undefined : { news: { kind: "already-off", next } };
  }
  if (word === "stop") return undefined;
  if (word === "extend") return next === undefined ? { news: { kind: "no-timer" } } : undefined;
  return durationMs === undefined ? alreadyOn(scale, next, nowMs) : undefined;
}

/** A start of what is on; one that isn't ready is followed. */
function alreadyOn(
  scale: Scale,
  next: Upcoming | undefined,
  nowMs: number,
): Pick<Result, "news" | "followedSinceMs"> {
  if (isReady(scale)) return { news: { kind: "already-on", scale, next } };
  return { news: { kind: "already-starting", scale, next }, followedSinceMs: nowMs };
}

function done(
  { word, durationMs }: PendingCommand,
  { before, after, atMs }: Intent,
  { schedule }: Observed,
  policy: TargetPolicy,
): Result {
  const counts = { before, after, followedSinceMs: atMs };
  const timer = after === 0 ? undefined : stopTime(durationMs, policy.autoStopMs, schedule, atMs);
  const next = upcoming(after, timer, word === "stop", schedule, atMs, policy);
  if (after === 0) return { outcome: "done", news: { kind: "switched-off", next }, ...counts };
  const news: News = word === "wake" ? { kind: "waking" } : { kind: "switched-on", replicas: after, next };
  return { outcome: "done", news, ...counts, timer };
}

/** When a target stops that is started for a time, or without one. */
function stopTime(
  durationMs: number | undefined,
  autoStopMs: number | undefined,
  schedule: ScheduleView | undefined,
  nowMs: number,
): StopTime | undefined {
  const timer: StopTime | undefined = durationMs !== undefined
    ? { dueAtMs: nowMs + durationMs }
    : autoStopMs !== undefined
    ? { dueAtMs: nowMs + autoStopMs, isDefault: true }
    : undefined;
  return timer === undefined || isOverruled(timer, schedule) ? undefined : timer;
}

/**
 * A message to an agent that needs no start, or must not have one: nothing is said then, as it was not said to us.
 * Undefined: it may be tried, or told why not.
 */
function decideNotToWake(
  state: State,
  command: PendingCommand,
  { scale, failure, authorization, accepted, isWatched, wakeFailedAtMs = -Infinity }: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const passOver = (outcome: Outcome, refusal?: Refusal, ...before: readonly Effect[]): Decision =>
    now(...before, { kind: "answer", outcome, refusal, news: undefined, followed: false });
  const { stopped } = state;
  const { unconfirmed, seq, receivedAtMs, sentAtMs } = command;
  if (accepted !== undefined) return undefined;
  if (authorization?.refusal !== undefined) return passOver("refused", authorization.refusal);
  if (failure !== undefined) {
    // What one has waited for in vain isn't tried again for each who has written meanwhile.
    const isOver = failure.why !== undefined || nowMs - command.takenAtMs >= COMMAND_TRIED_FOR_MS;
    const isTold = receivedAtMs <= wakeFailedAtMs;
    return isTold || (isOver && isKnownOn(state)) ? passOver("failed") : undefined;
  }
  if (scale === undefined) return undefined;
  if (unconfirmed !== undefined && !isAsBefore(unconfirmed, scale)) {
    return scale.desired === unconfirmed.after ? undefined : passOver("overtaken");
  }
  if (scale.desired > 0) {
    // Without a watch nobody would know otherwise that somebody else has turned it on.
    const isUnseen = !isWatched && state.rollout === undefined && state.expectedReplicas === 0;
    const seen: Effect = { kind: "remember", changes: { expectedReplicas: scale.desired, ...noLongerHeld(stopped) } };
    return passOver("already", undefined, ...isUnseen ? [seen] : []);
  }
  if (nowMs - sentAtMs > policy.maxCommandAgeMs) return passOver("too-old");
  if (stopped === undefined) return undefined;
  if (seq < stopped.seq) return passOver("overtaken");
  if (!stopped.isHeld) return undefined;
  if (stopped.isTold === true) return passOver("already");
  return now(
    { kind: "remember", changes: { stopped: { ...stopped, isTold: true } } },
    { kind: "answer", outcome: "already", news: { kind: "kept-off" }, followed: false },
  );
}

/** It is on as far as we know: an agent that is awake answers for itself. */
function isKnownOn({ expectedReplicas = 0 }: State): boolean {
  return expectedReplicas > 0;
}

/** A duration for what is on already. */
function timed(
  { timer }: State,
  { word, durationMs = 0 }: PendingCommand,
  scale: Scale,
  { schedule }: Observed,
  nowMs: number,
): Result {
  // A time that is up already could not be acted on: it is extended from now on.
  const fromMs = word === "extend" ? Math.max(nowMs, timer?.dueAtMs ?? schedule?.nextEnd?.atMs ?? nowMs) : nowMs;
  const dueAtMs = fromMs + durationMs;
  const stopsInMs = dueAtMs - nowMs;
  const told = word === "extend"
    ? { news: { kind: "extended", stopsInMs } as const }
    : alreadyOn(scale, { kind: "stops-in", ms: stopsInMs }, nowMs);
  return { outcome: "done", ...told, before: scale.desired, after: scale.desired, timer: { dueAtMs } };
}

/** What a command means for its target from now on, and what is said. */
function conclude(
  state: State,
  command: PendingCommand,
  result: Result,
  { schedule }: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision {
  const { word, sender, roomId } = command;
  const verb = verbOf(command);
  const { outcome, refusal, news, alert, before, after, followedSinceMs, timer: stopTime } = result;
  const answer: Write = {
    ...{ kind: "answer", outcome, refusal, news, before, after, followed: followedSinceMs !== undefined },
    ...alert === undefined ? {} : { alert },
  };
  if (word === "status") return now(answer);
  const isChange = outcome === "done" && before !== after;
  const { rollout, effects } = endedRollout(
    state,
    isChange && word === "stop" ? sender : undefined,
    isChange,
    after,
    nowMs,
  );
  const isNew = rollout === undefined && followedSinceMs !== undefined && before !== undefined && after !== undefined;
  const woken = word === "wake" ? { wokenAtMs: command.sentAtMs } : {};
  const begun: Rollout | undefined = isNew
    ? { before, after, atMs: followedSinceMs, ...woken, told: "nothing", late: false }
    : rollout;
  const { rooms = [], timer: former } = state;
  const timer = stopTime && timerOf(command, stopTime, isChange ? undefined : former, nowMs);
  const missed = isObeyed(outcome) ? pendingEdge(state, schedule) : undefined;
  const changes: TargetState = {
    // A message to an agent doesn't make a room one in which the target is spoken of.
    ...word === "wake" ? {} : { rooms: [roomId, ...rooms.filter((room) => room !== roomId)].slice(0, MAX_ROOMS) },
    rollout: begun,
    ...after === undefined ? {} : { expectedReplicas: after },
    // It was made or not: whatever is seen next is nobody's doing in particular.
    ...outcome === "failed" && command.unconfirmed !== undefined ? { expectedReplicas: undefined } : {},
    ...after === 0 ? { timer: undefined, readySinceMs: undefined } : {},
    ...isChange && word === "stop" ? { replicasBeforeStop: before } : {},
    ...isChange && verb === "start" ? { startedBy: sender } : {},
    ...isChange || timer !== undefined ? { timer } : {},
    ...after === undefined ? {} : lifeAfter(state, command, after, nowMs, policy),
    // What a command says comes after what the schedule has said before.
    ...missed === undefined ? {} : { schedule: followed(missed, schedule) },
  };
  const why = word === "wake" ? "wrote to its agent" : `sent ${word}`;
  const record: Write = {
    kind: "record",
    reason: verb === "start" ? "SwitchedOn" : "SwitchedOff",
    cause: word === "wake" ? "message" : "chat",
    message: `${sender} ${why} in ${roomId}: replicas ${before} → ${after}`,
  };
  return now(...effects, { kind: "remember", changes }, answer, ...isChange ? [record] : []);
}

/** The command was carried out, or there was nothing to do, or somebody else has done something about it. */
function isObeyed(outcome: Outcome): boolean {
  return outcome === "done" || outcome === "already" || outcome === "overtaken";
}

/** A stop holds until the target is turned on again; whoever wants it on has it stay awake from now on. */
function lifeAfter(
  { idle, stopped }: State,
  { seq, word, roomId }: PendingCommand,
  after: number,
  nowMs: number,
  { agents, idleStopMs }: TargetPolicy,
): TargetState {
  if (after === 0) return word === "stop" && agents.length > 0 ? { stopped: { seq, isHeld: true } } : {};
  return {
    ...noLongerHeld(stopped),
    ...idleStopMs === undefined
      ? {}
      : { idle: { ...idle, userAtMs: nowMs, ...word === "wake" ? { messageAtMs: nowMs, roomId } : {} } },
  };
}

/** It is turned on, by whatever it may be. */
function noLongerHeld(stopped: ChatStop | undefined): TargetState {
  return stopped?.isHeld === true ? { stopped: { ...stopped, isHeld: false } } : {};
}

/** A timer that is moved stays with the room and the person that it was set by. */
function timerOf(
  { roomId, threadId, sender }: PendingCommand,
  { dueAtMs, isDefault }: StopTime,
  moved: StopTimer | undefined,
  nowMs: number,
): StopTimer {
  const warned = dueAtMs - nowMs <= WARNED_BEFORE_MS;
  const place = moved ?? { roomId, ...threadId === undefined ? {} : { threadId } };
  const thread = place.threadId === undefined ? {} : { threadId: place.threadId };
  const kind = isDefault === undefined ? {} : { isDefault };
  return { dueAtMs, ...kind, roomId: place.roomId, ...thread, user: moved?.user ?? sender, warned };
}

// ── Schedule ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** When the next up-time begins or ends, milliseconds from now; undefined: none does. */
function untilEdge(schedule: ScheduleView | undefined, nowMs: number): number | undefined {
  const edges = [schedule?.nextBegin, schedule?.nextEnd].filter((edge) => edge !== undefined);
  if (edges.length === 0) return undefined;
  const leftMs = Math.min(...edges.map(({ atMs }) => atMs)) - nowMs;
  return Math.max(0, Math.min(leftMs, LONGEST_TIMER_WAIT_MS));
}

/** The latest edge, if it is yet to be dealt with. */
function pendingEdge({ schedule: state }: State, schedule: ScheduleView | undefined): Edge | undefined {
  if (state === undefined || schedule?.text !== state.text) return undefined;
  return schedule.previous !== undefined && schedule.previous.atMs > state.edgeAtMs ? schedule.previous : undefined;
}

function followed({ atMs }: Edge, schedule: ScheduleView | undefined): FollowedSchedule {
  return { text: schedule?.text ?? "", edgeAtMs: atMs };
}

/**
 * The schedule doesn't let the timer stop the target: AUTO_STOP doesn't count in an up-time, also in one that begins
 * first; and a time that is up when an up-time begins, give or take a minute, has nothing to stop any more.
 */
function isOverruled({ dueAtMs, isDefault }: StopTime, schedule: ScheduleView | undefined): boolean {
  if (schedule === undefined) return false;
  const { isUp, previous, nextBegin } = schedule;
  if (isUp) return isDefault === true || (previous?.kind === "begin" && dueAtMs < previous.atMs + APART_MS);
  if (nextBegin === undefined || dueAtMs < nextBegin.atMs - APART_MS) return false;
  return isDefault === true || dueAtMs < nextBegin.atMs + APART_MS;
}

/** Starts the target where an up-time begins, and stops it where one ends. Only edges act, each once. */
function decideSchedule(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): Decision | undefined {
  const { schedule: known, timer, expectedReplicas } = state;
  const { schedule, scale, failure, accepted, isCatchingUp } = observed;
  if (schedule === undefined) return undefined;
  if (known?.text !== schedule.text || known.edgeAtMs - nowMs > SET_BACK_MS) {
    const { text, previous } = schedule;
    return now({ kind: "remember", changes: { schedule: { text, edgeAtMs: previous?.atMs ?? nowMs } } });
  }
  const edge = pendingEdge(state, schedule);
  // A stop by the timer that has been begun is brought to its end first.
  if (edge === undefined || timer?.intent !== undefined) return undefined;
  const { intent } = known;
  const isBegin = edge.kind === "begin";
  if (accepted !== undefined) return intent && now(...edgeFollowed(state, edge, accepted, schedule, nowMs, policy));
  if (failure !== undefined && nowMs < failure.retryAtMs) {
    const { why } = failure;
    if (why === undefined || known.failureTold === true) {
      return wait(failure.retryAtMs - nowMs, untilEdge(schedule, nowMs));
    }
    const news: News = { kind: "failed", word: isBegin ? "start" : "stop", why };
    const changes = { schedule: { ...known, failureTold: true } };
    return now({ kind: "remember", changes }, saidOfEdge(state, edge, "schedule-failed", news));
  }
  const settled = now({ kind: "remember", changes: { schedule: followed(edge, schedule) } });
  const isMissed = nowMs - edge.atMs > MISSED_AFTER_MS;
  const next = isBegin ? schedule.nextEnd : schedule.nextBegin;
  // Nobody is cut short: it is stopped when it is quiet.
  if (!isBegin && isTalkedTo(state, observed, nowMs, policy)) return settled;
  // Somebody has asked for a longer time.
  if (!isBegin && timer !== undefined && timer.dueAtMs > edge.atMs) return settled;
  if (isMissed && next !== undefined && next.atMs - nowMs <= APART_MS) return settled;
  if (isMissed && isCatchingUp === true) return wait(CATCHING_UP_MS);
  if (scale === undefined) return now({ kind: "read" });
  if (intent !== undefined && !isAsBefore(intent, scale)) {
    // It was made, and we did not live to say so; or somebody else has made another change since.
    const isMade = scale.desired === intent.after;
    if ((intent.after > 0) === isBegin) {
      return isMade ? now(...edgeFollowed(state, edge, intent, schedule, nowMs, policy)) : settled;
    }
    // It was made at an edge before this one.
    const changes = { expectedReplicas: intent.after, schedule: { text: known.text, edgeAtMs: known.edgeAtMs } };
    return now({ kind: "remember", changes });
  }
  if (isMissed && expectedReplicas !== undefined && scale.desired !== expectedReplicas) return settled;
  if ((scale.desired > 0) === isBegin) return settled;
  return now({
    kind: "scale",
    intent: intentOf(scale, isBegin ? replicasOfStart(state, policy) : 0, nowMs),
    for: "schedule",
  });
}

/** What an edge means for its target from now on, and what is said. */
function edgeFollowed(
  state: State,
  edge: Edge,
  { before, after }: Intent,
  schedule: ScheduleView,
  nowMs: number,
  policy: TargetPolicy,
): Effect[] {
  const { rollout, effects } = endedRollout(state, undefined, true, after, nowMs);
  const lateMs = nowMs - edge.atMs > PUNCTUAL_MS ? nowMs - edge.atMs : undefined;
  const next = upcoming(after, undefined, state.stopped?.isHeld === true && after === 0, schedule, nowMs, policy);
  const news: News = after > 0
    ? { kind: "schedule-started", replicas: after, next, lateMs }
    : { kind: "schedule-stopped", next, lateMs };
  return [
    ...effects,
    {
      kind: "remember",
      changes: {
        ...{ expectedReplicas: after, timer: undefined, readySinceMs: undefined, rollout },
        ...after > 0 ? { startedBy: undefined, ...noLongerHeld(state.stopped) } : { replicasBeforeStop: before },
        schedule: followed(edge, schedule),
      },
    },
    saidOfEdge(state, edge, "schedule", news),
    {
      kind: "record",
      reason: after > 0 ? "SwitchedOn" : "SwitchedOff",
      cause: "schedule",
      message: `An up-time of the schedule ${after > 0 ? "begins" : "ends"}: replicas ${before} → ${after}`,
    },
  ];
}

/** Said once for each edge, where the target was last commanded. */
function saidOfEdge({ rooms = [] }: State, { atMs }: Edge, what: string, news: News): Write {
  const key = `${atMs} ${what}`;
  return { kind: "announce", key, rooms, news, mention: undefined, rings: false, notWhereFollowed: false };
}

// ── Timers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** When something is to be done because of the timer, milliseconds from now; undefined: there is none. */
function untilTimer({ timer }: State, nowMs: number): number | undefined {
  if (timer === undefined) return undefined;
  const leftMs = timer.dueAtMs - (timer.warned ? 0 : WARNED_BEFORE_MS) - nowMs;
  return leftMs > 0 ? Math.min(leftMs, LONGEST_TIMER_WAIT_MS) : 0;
}

/** Warns or stops. What fails for now is tried again; what isn't permitted is told once, and tried again as well. */
function decideTimer(state: State, observed: Observed, nowMs: number): Decision | undefined {
  const { timer } = state;
  const { scale, failure, accepted, schedule } = observed;
  if (timer !== undefined && timer.intent === undefined && isOverruled(timer, schedule)) {
    return now({ kind: "remember", changes: { timer: undefined } });
  }
  if (timer === undefined || untilTimer(state, nowMs) !== 0) return undefined;
  const lateMs = nowMs - timer.dueAtMs;
  if (accepted !== undefined) return now(...stopped(state, timer, accepted.before, nowMs));
  if (failure !== undefined && nowMs < failure.retryAtMs) {
    const { why } = failure;
    if (why === undefined || timer.failureTold === true || lateMs < 0) return wait(failure.retryAtMs - nowMs);
    const news: News = { kind: "failed", word: "stop", why };
    const changes = { timer: { ...timer, failureTold: true } };
    return now({ kind: "remember", changes }, saidOf(timer, "stop-failed", news));
  }
  if (scale === undefined) return now({ kind: "read" });
  if (scale.desired === 0) {
    // Somebody has stopped it; or we have, and did not live to say so.
    const { intent } = timer;
    if (intent === undefined) return now({ kind: "remember", changes: { timer: undefined } });
    return now(...stopped(state, timer, intent.before, nowMs));
  }
  const isTooLate = lateMs >= 0 && schedule !== undefined && beginsSoon(schedule, nowMs);
  if (isTooLate || isOverruled(timer, schedule)) return now({ kind: "remember", changes: { timer: undefined } });
  if (lateMs < 0) {
    const changes = { timer: { ...timer, warned: true } };
    return now({ kind: "remember", changes }, saidOf(timer, "warning", { kind: "timer-ending", leftMs: -lateMs }));
  }
  return now({ kind: "scale", intent: intentOf(scale, 0, nowMs), for: "timer" });
}

function stopped(state: State, timer: StopTimer, before: number, nowMs: number): Effect[] {
  const { rollout, effects } = endedRollout(state, undefined, true, 0, nowMs);
  const lateMs = nowMs - timer.dueAtMs;
  return [
    ...effects,
    {
      kind: "remember",
      changes: {
        expectedReplicas: 0,
        replicasBeforeStop: before,
        timer: undefined,
        readySinceMs: undefined,
        rollout,
      },
    },
    saidOf(timer, "stop", { kind: "timer-stopped", lateMs: lateMs > PUNCTUAL_MS ? lateMs : undefined }),
    {
      kind: "record",
      reason: "SwitchedOff",
      cause: "timer",
      message: `The time is over that ${timer.user} has set: replicas ${before} → 0`,
    },
  ];
}

/** Said once for each time that is set. */
function saidOf({ dueAtMs, roomId, threadId, user }: StopTimer, what: string, news: News): Write {
  return {
    kind: "announce",
    key: `${dueAtMs} ${what}`,
    rooms: [roomId],
    ...threadId === undefined ? {} : { threadId },
    news,
    mention: user,
    rings: true,
    notWhereFollowed: false,
  };
}

// ── Changes by others ────────────────────────────────────────────────────────────────────────────────────────────────

/** Takes somebody else's count as given from now on. Those who have to do with the target are told. */
function decideForeignChange(
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const { expectedReplicas: before, rollout, rooms = [], startedBy, stopped } = state;
  const { scale: read, shown, failure, isWatched } = observed;
  // Without a watch nobody is told of what is seen by chance (SPEC 3h).
  if (rollout === undefined && before !== undefined && !isWatched) return undefined;
  // Where nothing is expected, nothing is concluded either: what a watch shows will do.
  const scale = read ?? (before === undefined && rollout === undefined ? shown : undefined);
  if (scale === undefined) {
    const isSuspect = shown !== undefined && shown.desired !== before && rollout === undefined;
    if (!isSuspect) return undefined;
    if (failure !== undefined && nowMs < failure.retryAtMs) {
      return wait(failure.retryAtMs - nowMs, untilDue(state, observed, nowMs, policy));
    }
    return now({ kind: "read" });
  }
  const { desired, manager, resourceVersion } = scale;
  if (desired === before && (rollout === undefined || rollout.after === desired)) return undefined;

  const isNews = before !== undefined && before !== desired;
  const isUndone = rollout !== undefined && (rollout.after > 0) !== (desired > 0);
  const isOver = isUndone || rollout?.told === "ready";
  const effects: Effect[] = [];
  if (isNews) {
    const isAutoscaled = manager === AUTOSCALER && before > 0 && desired > 0;
    effects.push({
      kind: "announce",
      key: `${resourceVersion}`,
      rooms,
      news: { kind: "scaled-by-others", before, now: desired, manager },
      mention: isAutoscaled ? undefined : startedBy,
      rings: !isAutoscaled,
      notWhereFollowed: isUndone,
    });
  }
  if (isUndone && isNews) {
    const { after, atMs } = rollout;
    effects.push({
      kind: "update",
      news: { kind: "undone", before: after, now: desired, manager, afterMs: nowMs - atMs },
      alert: { kind: "scaled-by-others", before, now: desired, manager },
      isLast: true,
    });
  } else if (isOver) effects.push({ kind: "unfollow" });
  const changes: TargetState = {
    expectedReplicas: desired,
    rollout: rollout === undefined || isOver ? undefined : { ...rollout, after: desired },
    ...desired === 0 ? { timer: undefined, readySinceMs: undefined } : noLongerHeld(stopped),
  };
  return now(...effects, { kind: "remember", changes });
}

// ── Rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Tells how a change by chat goes on, until it is ready, or off, and a minute has passed. */
function decideRollout(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): Decision | undefined {
  const { rollout, timer } = state;
  if (rollout === undefined) return undefined;
  const { scale, failure, isWatched, diagnosis, seenReadySinceMs } = observed;
  const afterMs = nowMs - rollout.atMs;
  const leftMs = FOLLOWED_FOR_MS - afterMs;
  const again = (...ms: number[]) => wait(...ms, untilDue(state, observed, nowMs, policy));
  const isDone = rollout.after === 0 || rollout.told === "ready";
  const end = () => now({ kind: "unfollow" }, { kind: "remember", changes: { rollout: undefined } });
  if (failure !== undefined && nowMs < failure.retryAtMs) {
    if (isDone) return leftMs > 0 ? again(leftMs, failure.retryAtMs - nowMs) : end();
    return unreadable(rollout, failure, nowMs) ?? again(failure.retryAtMs - nowMs);
  }
  if (scale === undefined) return now({ kind: "read" });
  if (isDone && leftMs <= 0) return end();
  const pollMs = isWatched ? 2_000 : 1_000;
  if (rollout.after > 0 && !isReady(scale)) {
    const isCurrent = diagnosis !== undefined && diagnosis.atMs >= rollout.atMs;
    if (!isCurrent || nowMs - diagnosis.atMs >= DIAGNOSED_EVERY_MS) return now({ kind: "diagnose" });
    return unready(rollout, scale, diagnosis, nowMs, policy) ??
      again(afterMs < policy.startTimeoutMs ? pollMs : 10_000);
  }
  if (rollout.after > 0 && rollout.told !== "ready") {
    const hasFailed = rollout.problems !== undefined;
    const unsteadyMs = hasFailed ? STEADY_FOR_MS - (nowMs - (seenReadySinceMs ?? nowMs)) : 0;
    if (unsteadyMs > 0) return again(isWatched ? unsteadyMs : Math.min(unsteadyMs, pollMs));
    const isAlert = rollout.told === "failing" || rollout.unreadableTold === true || afterMs > ALERTS_AFTER_MS;
    const next = upcoming(scale.desired, timer, false, observed.schedule, nowMs, policy);
    const { wokenAtMs } = rollout;
    const since = wokenAtMs === undefined ? {} : { afterMessageMs: Math.max(0, nowMs - wokenAtMs) };
    return now(
      { kind: "remember", changes: { rollout: { ...rollout, told: "ready" }, readySinceMs: nowMs } },
      {
        ...{ kind: "update", news: { kind: "ready", afterMs, ...since, next }, isLast: false },
        ...isAlert ? { alert: { kind: "ready-alert" } } : {},
      },
    );
  }
  // All that can come now is that somebody undoes it.
  const isOver = isWatched || rollout.after > 0 || (scale.settled && scale.current === 0);
  return isOver ? again(leftMs) : again(leftMs, pollMs);
}

/** What the API server refuses to show is told once it has lasted; it is looked at all the same. */
function unreadable(rollout: Rollout, { why, sinceMs }: Failure, nowMs: number): Decision | undefined {
  if (why === undefined || rollout.unreadableTold === true || nowMs - sinceMs < UNREADABLE_TOLD_AFTER_MS) {
    return undefined;
  }
  return now(
    { kind: "remember", changes: { rollout: { ...rollout, unreadableTold: true } } },
    { kind: "update", news: { kind: "unreadable", why }, alert: { kind: "unreadable-alert" }, isLast: false },
  );
}

/** What is told of a start that isn't ready; undefined: nothing new. */
function unready(
  rollout: Rollout,
  scale: Scale,
  diagnosis: Diagnosis,
  nowMs: number,
  { startTimeoutMs }: TargetPolicy,
): Decision | undefined {
  const afterMs = nowMs - rollout.atMs;
  const certain = diagnosis.problems.filter((each) => each.certain);
  // Containers that fail in different ways take turns: each way is told once.
  const { problems = [], told } = rollout;
  const untold = certain.map(problemKey).filter((each) => !problems.includes(each));
  const isNew = untold.length > 0;
  const isLate = !rollout.late && told !== "ready" && afterMs >= startTimeoutMs;
  const { unreadableTold, ...readable } = rollout;
  const tell = (changes: Partial<Rollout>, news: News, alert?: News): Decision =>
    now(
      { kind: "remember", changes: { rollout: { ...readable, ...changes } } },
      { ...{ kind: "update", news, isLast: false }, ...alert === undefined ? {} : { alert } },
    );
  if (isNew || isLate) {
    const shown = isLate ? diagnosis : { ...diagnosis, problems: certain };
    const alert: News = { kind: "not-ready-alert", problems: shown.problems };
    return tell(
      {
        told: "failing",
        late: rollout.late || isLate,
        ...isNew ? { problems: [...new Set([...problems, ...untold])] } : {},
      },
      { kind: "not-ready", scale, afterMs, diagnosis: shown },
      told === "failing" ? undefined : alert,
    );
  }
  if (unreadableTold === true) {
    const news: News = told === "failing"
      ? { kind: "not-ready", scale, afterMs, diagnosis }
      : { kind: "starting", scale, problems: diagnosis.problems };
    return tell({}, news);
  }
  if (told === "nothing" && scale.settled && scale.ready * 2 >= scale.desired) {
    return tell({ told: "partly" }, { kind: "partly-ready", scale });
  }
  if ((told !== "nothing" && told !== "partly") || afterMs < PROVISIONAL_AFTER_MS) return undefined;
  const telling = diagnosis.problems.filter(isTelling);
  const provisional = telling.map(({ kind }) => kind).join(" ");
  if (provisional === (rollout.provisional ?? "")) return undefined;
  return tell({ provisional }, { kind: "starting", scale, problems: telling });
}

/** It tells more than that the target isn't ready yet, as every pod does that is being started. */
function isTelling({ kind, reason, message = "" }: Problem): boolean {
  return kind !== "other" || (message !== "" && reason !== "ContainersNotReady");
}

/** What tells problems apart that are told once each. */
function problemKey({ kind, image = "" }: Problem): string {
  return `${kind} ${image}`;
}

// ── Readiness ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Since when a target is ready is known from the watch, where no rollout tells it. */
function decideReadiness(
  { expectedReplicas, rollout, readySinceMs }: State,
  { scale, shown, seenUnready }: Observed,
  nowMs: number,
): Decision | undefined {
  const seen = scale ?? shown;
  if (rollout !== undefined || seen === undefined || seen.desired !== expectedReplicas) return undefined;
  const isNews = isReady(seen) ? readySinceMs === undefined && seenUnready : readySinceMs !== undefined;
  if (!isNews) return undefined;
  return now({ kind: "remember", changes: { readySinceMs: isReady(seen) ? nowMs : undefined } });
}
