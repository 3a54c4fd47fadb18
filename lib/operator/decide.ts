/**
 * Decides what to do at a target, and when: maps its persisted state, what was observed and the time to effects. A pure
 * function, without clock and I/O. Its table of cases (tests/operator/decide_test.ts) specifies the behaviour.
 *
 * Each decision takes one step. The worker performs it, adds the result to the observation and calls again, until only
 * waiting is left. Each request is acted on once: a later change by kubectl is not reverted.
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
  StopTime,
  TargetPolicy,
  Write,
} from "./decision.ts";
import {
  act,
  cappedWaitMs,
  intentOf,
  isAsBefore,
  lateness,
  releaseHold,
  replicasOfStart,
  upcoming,
  verbOf,
  wait,
} from "./decision.ts";
import { decideIdle, untilIdle } from "./decide_idle.ts";
import { decideSchedule, handled, isOverridden, pendingEdge, untilEdge } from "./decide_schedule.ts";
import { endRollout } from "./rollout_end.ts";
import { beginsWithinMinute, type ScheduleView } from "./schedule.ts";
import type { Intent } from "./target_command.ts";
import type { Rollout, StopTimer, TargetState } from "./target_state.ts";

/** A command is given up after this time (SPEC 3f). */
export const COMMAND_TRIED_FOR_MS = 30_000;
/** If a server hasn't answered for this long, the command's message says so (SPEC 3f). */
export const UNANSWERED_TOLD_AFTER_MS = 5_000;
/**
 * A change is followed for this long: if it is undone meanwhile, its answer says so (SPEC 3i), and a failure counts as
 * a failed start.
 */
const FOLLOWED_FOR_MS = 60_000;
/** If a start takes longer than this, the message that reports it ready mentions people (SPEC 3d). */
const ALERTS_AFTER_MS = 30_000;
/** Provisional problems are shown after this time (SPEC 3d). */
const PROVISIONAL_AFTER_MS = 10_000;
/**
 * After a failure the target must stay ready for this long before it is reported ready: in a crash loop it is ready
 * briefly.
 */
const STEADY_FOR_MS = 30_000;
/** A target that can't be read for this long is reported. Before that it may just be deleted and created again. */
const UNREADABLE_TOLD_AFTER_MS = 10_000;
/** A start is first diagnosed after this time: there can be no pod at once. */
const DIAGNOSED_AFTER_MS = 1_000;
/** Minimum interval between diagnoses, because each one lists pods. */
const DIAGNOSED_EVERY_MS = 2_000;
/** Interval at which a start is read while no watch shows it. */
const READ_EVERY_MS = 1_000;
/** Interval at which a start is read although a watch shows it: a dead connection is noticed only after minutes. */
const WATCHED_READ_EVERY_MS = 10_000;
/** Interval at which a start that is late is read and diagnosed. */
const LATE_EVERY_MS = 10_000;
/** A stop is read at intervals that double from one second to this. */
const MAX_STOP_READ_EVERY_MS = 15_000;
/** A timer is announced this long before it is due (SPEC 3j). */
const WARNED_BEFORE_MS = 10 * 60_000;
/** Number of rooms to remember in which a target was commanded. */
const MAX_ROOMS = 5;
/**
 * Field manager under which the HorizontalPodAutoscaler writes. Its changes between counts above 0 are announced
 * without a notification.
 */
const AUTOSCALER = "kube-controller-manager";

/** Decides the next step at a target. */
export function decide(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): Decision {
  const { command } = state;
  if (command !== undefined) {
    return decideChangeByWatch(state, command, observed, nowMs, policy) ??
      decideCommand(state, command, observed, nowMs, policy);
  }
  return decideSchedule(state, observed, nowMs, policy) ?? decideTimer(state, observed, nowMs) ??
    decideIdle(state, observed, nowMs, policy) ?? decideForeignChange(state, observed, nowMs, policy) ??
    decideRollout(state, observed, nowMs, policy) ?? decideReadiness(state, observed, nowMs) ??
    wait(untilDue(state, observed, nowMs, policy));
}

/** Returns the milliseconds until a timer, an edge or idleness needs a decision; undefined if none of them does. */
function untilDue(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): number | undefined {
  const known = [
    untilTimer(state, nowMs),
    untilEdge(observed.schedule, nowMs),
    untilIdle(state, observed, nowMs, policy),
  ].filter((ms) => ms !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** Whether all desired pods are ready and the status is current. */
export function isReady({ desired, ready, settled }: Scale): boolean {
  return desired > 0 && settled && ready >= desired;
}

// ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Decides on a command by what the watch has shown, if that leads to a change; undefined if it doesn't. Such a change
 * needs no read before it: it carries the resourceVersion, so it is refused if the watch is behind. Whatever else comes
 * of a command is concluded from a read.
 */
function decideChangeByWatch(
  state: State,
  command: PendingCommand,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const { scale, watched, accepted, hasConflicted } = observed;
  const { word, unconfirmed } = command;
  if (watched === undefined || scale !== undefined || accepted !== undefined || hasConflicted === true) {
    return undefined;
  }
  const isOn = watched.desired > 0;
  const isWanted = isOn ? word === "stop" : word === "start" || word === "wake";
  // What became of a change whose outcome is unknown, only a read tells.
  if (!isWanted || unconfirmed !== undefined) return undefined;
  const decision = decideCommand(state, command, { ...observed, scale: watched }, nowMs, policy);
  return decision.effects.some(({ kind }) => kind === "authorize" || kind === "scale") ? decision : undefined;
}

function decideCommand(
  state: State,
  command: PendingCommand,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision {
  const { scale, failure, waitingFor, accepted, authorization, diagnosis } = observed;
  if (command.word === "wake") {
    const passedOver = skipWake(state, command, observed, nowMs, policy);
    if (passedOver !== undefined) return passedOver;
  }
  const verb = verbOf(command);
  const spentMs = nowMs - command.takenAtMs;
  const party = failure?.party ?? waitingFor;
  if (party !== undefined) {
    if (failure?.why !== undefined) {
      return conclude(state, command, failureOf(command, failure.why), observed, nowMs, policy);
    }
    if (failure !== undefined && spentMs >= COMMAND_TRIED_FOR_MS) {
      const perhapsDone = command.unconfirmed !== undefined;
      const why: Why = { kind: "unreachable", who: party, triedMs: COMMAND_TRIED_FOR_MS, perhapsDone };
      return conclude(state, command, failureOf(command, why), observed, nowMs, policy);
    }
    const isTold = command.unansweredTold || (command.word === "wake" && isKnownOn(state));
    if (spentMs >= UNANSWERED_TOLD_AFTER_MS && !isTold) {
      return act({ kind: "say-waiting", news: { kind: "unanswered", word: verb, party } });
    }
    const untilToldMs = isTold ? undefined : UNANSWERED_TOLD_AFTER_MS - spentMs;
    if (failure === undefined) return wait(untilToldMs);
    if (nowMs < failure.retryAtMs) {
      return wait(untilToldMs, failure.retryAtMs - nowMs, COMMAND_TRIED_FOR_MS - spentMs);
    }
  }
  if (accepted !== undefined) {
    return conclude(state, command, changed(command, accepted, observed, policy), observed, nowMs, policy);
  }
  if (scale === undefined) return act({ kind: "read" });
  if (command.word === "status") {
    const isDiagnosed = diagnosis !== undefined && diagnosis.atMs >= command.takenAtMs;
    if (scale.desired > 0 && !isReady(scale) && !isDiagnosed) return act({ kind: "diagnose", scale });
    return conclude(state, command, statusOf(state, command, observed, scale, nowMs, policy), observed, nowMs, policy);
  }
  const ended = resumeChange(command, scale, observed, policy) ??
    withoutChange(state, command, scale, observed, nowMs, policy);
  if (ended !== undefined) return conclude(state, command, ended, observed, nowMs, policy);
  // Sender, device and room are checked right before acting, because they may have changed since the command arrived.
  if (authorization === undefined) return act({ kind: "authorize" });
  if (authorization.refusal !== undefined) {
    const { refusal } = authorization;
    const result: Result = { outcome: "refused", refusal, news: { kind: "not-authorized", refusal } };
    return conclude(state, command, result, observed, nowMs, policy);
  }
  if (scale.desired > 0 && command.word !== "stop") {
    return conclude(state, command, timerChanged(state, command, scale, observed, nowMs), observed, nowMs, policy);
  }
  const intent = intentOf(scale, verb === "start" ? replicasOfStart(state, policy) : 0, nowMs);
  return act({ kind: "scale", intent, for: "command" });
}

/** Result of a command. */
interface Result {
  readonly outcome: Outcome;
  readonly refusal?: Refusal;
  readonly news: News;
  readonly alert?: News;
  readonly before?: number;
  readonly after?: number;
  /** Start of the rollout that is to be followed; undefined if there is none to follow. */
  readonly follows?: Pick<Rollout, "atMs" | "generation">;
  /** New stop time of the target. Undefined leaves it unchanged, unless the replica count changes: that clears it. */
  readonly timer?: StopTime | undefined;
}

function failureOf(command: PendingCommand, why: Why): Result {
  const word = verbOf(command);
  const news: News = { kind: "failed", word, why };
  return { outcome: "failed", news, ...command.unansweredTold ? { alert: { kind: "failed-alert", word } } : {} };
}

/** A status needs a read, and a diagnosis if the target isn't ready. */
function statusOf(
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
 * Resolves a change whose outcome is unknown. It was made, or somebody else has made another change, or nothing
 * happened. The count alone doesn't tell, because somebody may have set it back afterwards; hence the generation.
 */
function resumeChange(
  command: PendingCommand,
  scale: Scale,
  observed: Observed,
  policy: TargetPolicy,
): Result | undefined {
  const { unconfirmed: intent, typed } = command;
  if (intent === undefined || isAsBefore(intent, scale)) return undefined;
  if (scale.desired === intent.after) return changed(command, intent, observed, policy);
  const { before } = intent;
  return {
    outcome: "overtaken",
    news: { kind: "overtaken", typed, before, now: scale.desired },
    before,
    after: scale.desired,
  };
}

function withoutChange(
  state: State,
  command: PendingCommand,
  scale: Scale,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Result | undefined {
  const { desired } = scale;
  const counts = { before: desired, after: desired };
  const already = alreadyInEffect(state, command, scale, observed, nowMs, policy);
  if (already !== undefined) return { outcome: "already", ...counts, ...already };
  const ageMs = Math.max(0, nowMs - command.sentAtMs);
  if (ageMs <= policy.maxCommandAgeMs) return undefined;
  return { outcome: "too-old", news: { kind: "too-old", typed: command.typed, ageMs }, ...counts };
}

function alreadyInEffect(
  { timer, stopped }: State,
  { word, durationMs }: PendingCommand,
  scale: Scale,
  { schedule }: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Pick<Result, "news" | "follows"> | undefined {
  const isHeld = word === "stop" || stopped?.isHeld === true;
  const next = upcoming(scale.desired, timer, isHeld, schedule, nowMs, policy);
  if (scale.desired === 0) {
    return word === "start" || word === "wake" ? undefined : { news: { kind: "already-off", next } };
  }
  if (word === "stop") return undefined;
  if (word === "extend") return next === undefined ? { news: { kind: "no-timer" } } : undefined;
  return durationMs === undefined ? alreadyOn(scale, next, nowMs) : undefined;
}

/** Answers a start of a target that is on. If it isn't ready yet, its rollout is followed. */
function alreadyOn(
  scale: Scale,
  next: Upcoming | undefined,
  nowMs: number,
): Pick<Result, "news" | "follows"> {
  if (isReady(scale)) return { news: { kind: "already-on", scale, next } };
  return { news: { kind: "already-starting", scale, next }, follows: { atMs: nowMs, generation: scale.generation } };
}

function changed(
  { word, durationMs }: PendingCommand,
  { before, after, atMs, generation }: Intent,
  { schedule }: Observed,
  policy: TargetPolicy,
): Result {
  const counts = { before, after, follows: { atMs, generation: generation + 1 } };
  const timer = after === 0 ? undefined : stopTime(durationMs, policy.autoStopMs, schedule, atMs);
  const next = upcoming(after, timer, word === "stop", schedule, atMs, policy);
  if (after === 0) return { outcome: "done", news: { kind: "switched-off", next }, ...counts };
  const news: News = word === "wake" ? { kind: "waking" } : { kind: "switched-on", replicas: after, next };
  return { outcome: "done", news, ...counts, timer };
}

/** Returns when a target that is being started stops: after the given duration, or else after AUTO_STOP. */
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
  return timer === undefined || isOverridden(timer, schedule) ? undefined : timer;
}

/**
 * Handles a message to an agent that needs no start, or must not cause one. That is silent, because the message wasn't
 * addressed to us. Returns undefined if the start may be tried, or its failure reported.
 */
function skipWake(
  state: State,
  command: PendingCommand,
  { scale, failure, authorization, accepted, watched, wakeFailedAtMs = -Infinity }: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const passOver = (outcome: Outcome, refusal?: Refusal, ...before: readonly Effect[]): Decision =>
    act(...before, { kind: "answer", outcome, refusal, news: undefined, followed: false });
  const { stopped } = state;
  const { unconfirmed, seq, receivedAtMs, sentAtMs } = command;
  if (accepted !== undefined) return undefined;
  if (authorization?.refusal !== undefined) return passOver("refused", authorization.refusal);
  if (failure !== undefined) {
    // If a wake-up fails, messages that arrived meanwhile don't repeat the wait.
    const isOver = failure.why !== undefined || nowMs - command.takenAtMs >= COMMAND_TRIED_FOR_MS;
    const isTold = receivedAtMs <= wakeFailedAtMs;
    return isTold || (isOver && isKnownOn(state)) ? passOver("failed") : undefined;
  }
  if (scale === undefined) return undefined;
  if (unconfirmed !== undefined && !isAsBefore(unconfirmed, scale)) {
    return scale.desired === unconfirmed.after ? undefined : passOver("overtaken");
  }
  if (scale.desired > 0) {
    // Without a watch we would otherwise not learn that somebody else has turned the target on.
    const isUnseen = watched === undefined && state.rollout === undefined && state.expectedReplicas === 0;
    const seen: Effect = { kind: "remember", changes: { expectedReplicas: scale.desired, ...releaseHold(stopped) } };
    return passOver("already", undefined, ...isUnseen ? [seen] : []);
  }
  if (nowMs - sentAtMs > policy.maxCommandAgeMs) return passOver("too-old");
  if (stopped === undefined) return undefined;
  if (seq < stopped.seq) return passOver("overtaken");
  if (!stopped.isHeld) return undefined;
  if (stopped.isTold === true) return passOver("already");
  return act(
    { kind: "remember", changes: { stopped: { ...stopped, isTold: true } } },
    { kind: "answer", outcome: "already", news: { kind: "kept-off" }, followed: false },
  );
}

/** Whether the target is on as far as we know. An agent that is awake answers by itself. */
function isKnownOn({ expectedReplicas = 0 }: State): boolean {
  return expectedReplicas > 0;
}

/** Sets or extends the timer of a target that is on. */
function timerChanged(
  { timer }: State,
  { word, durationMs = 0 }: PendingCommand,
  scale: Scale,
  { schedule }: Observed,
  nowMs: number,
): Result {
  // A timer that is overdue could not stop the target; it is extended from now on.
  const fromMs = word === "extend" ? Math.max(nowMs, timer?.dueAtMs ?? schedule?.nextEnd?.atMs ?? nowMs) : nowMs;
  const dueAtMs = fromMs + durationMs;
  const stopsInMs = dueAtMs - nowMs;
  const told = word === "extend"
    ? { news: { kind: "extended", stopsInMs } as const }
    : alreadyOn(scale, { kind: "stops-in", ms: stopsInMs }, nowMs);
  return { outcome: "done", ...told, before: scale.desired, after: scale.desired, timer: { dueAtMs } };
}

/** Updates the target's state for the result of a command, and answers it. */
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
  const { outcome, refusal, news, alert, before, after, follows, timer: stopTime } = result;
  const answer: Write = {
    ...{ kind: "answer", outcome, refusal, news, before, after, followed: follows !== undefined },
    ...alert === undefined ? {} : { alert },
  };
  if (word === "status") return act(answer);
  const isChange = outcome === "done" && before !== after;
  // A target that was ready and is no longer is followed anew. The earlier rollout has been reported.
  const isAnew = follows !== undefined && state.rollout?.told === "ready";
  const { rollout, effects } = endRollout(
    state,
    isChange && word === "stop" ? sender : undefined,
    isChange || isAnew,
    after,
    nowMs,
  );
  const isNew = rollout === undefined && follows !== undefined && before !== undefined && after !== undefined;
  const woken = word === "wake" ? { wokenAtMs: command.sentAtMs } : {};
  const begun: Rollout | undefined = isNew
    ? { before, after, ...follows, ...woken, told: "nothing", late: false }
    : rollout;
  const { rooms = [], timer: former } = state;
  const timer = stopTime && timerOf(command, stopTime, isChange ? undefined : former, nowMs);
  const missed = isConclusive(outcome) ? pendingEdge(state, schedule) : undefined;
  const changes: TargetState = {
    // A message to an agent doesn't add its room to those in which the target's news is announced.
    ...word === "wake" ? {} : { rooms: [roomId, ...rooms.filter((room) => room !== roomId)].slice(0, MAX_ROOMS) },
    rollout: begun,
    ...after === undefined ? {} : { expectedReplicas: after },
    // Whether the change was made is unknown. The next count that is seen must not be attributed to anybody.
    ...outcome === "failed" && command.unconfirmed !== undefined ? { expectedReplicas: undefined } : {},
    ...after === 0 ? { timer: undefined, readySinceMs: undefined } : {},
    ...isChange && word === "stop" ? { replicasBeforeStop: before } : {},
    ...isChange && verb === "start" ? { startedBy: sender } : {},
    ...isChange || timer !== undefined ? { timer } : {},
    ...after === undefined ? {} : idleAfter(state, command, after, nowMs, policy),
    // A successful command overrides an edge before it that is still pending.
    ...missed === undefined ? {} : { schedule: handled(missed, schedule) },
  };
  const why = word === "wake" ? "wrote to its agent" : `sent ${word}`;
  const record: Write = {
    kind: "record",
    reason: verb === "start" ? "SwitchedOn" : "SwitchedOff",
    cause: word === "wake" ? "message" : "chat",
    message: `${sender} ${why} in ${roomId}: replicas ${before} → ${after}`,
  };
  return act(...effects, { kind: "remember", changes }, answer, ...isChange ? [record] : []);
}

/** Whether the command was carried out, had nothing to do, or was overtaken by somebody else's change. */
function isConclusive(outcome: Outcome): boolean {
  return outcome === "done" || outcome === "already" || outcome === "overtaken";
}

/** A stop is held until the target is turned on again. Whoever turns it on, or wants it on, restarts its idle time. */
function idleAfter(
  { idle, stopped }: State,
  { seq, word, roomId }: PendingCommand,
  after: number,
  nowMs: number,
  { agents, idleStopMs }: TargetPolicy,
): TargetState {
  if (after === 0) return word === "stop" && agents.length > 0 ? { stopped: { seq, isHeld: true } } : {};
  return {
    ...releaseHold(stopped),
    ...idleStopMs === undefined
      ? {}
      : { idle: { ...idle, userAtMs: nowMs, ...word === "wake" ? { messageAtMs: nowMs, roomId } : {} } },
  };
}

/** A timer that is moved keeps the room and the user that it was set by. */
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

// ── Timers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Returns the milliseconds until the timer needs a decision; undefined if there is no timer. */
function untilTimer({ timer }: State, nowMs: number): number | undefined {
  if (timer === undefined) return undefined;
  const leftMs = timer.dueAtMs - (timer.warned ? 0 : WARNED_BEFORE_MS) - nowMs;
  return cappedWaitMs(leftMs);
}

/**
 * Warns before the timer is due and stops the target when it is. Failures are retried. A failure whose reason is known,
 * such as a missing permission, is also announced once.
 */
function decideTimer(state: State, observed: Observed, nowMs: number): Decision | undefined {
  const { timer } = state;
  const { scale, failure, accepted, schedule } = observed;
  if (timer !== undefined && timer.intent === undefined && isOverridden(timer, schedule)) {
    return act({ kind: "remember", changes: { timer: undefined } });
  }
  if (timer === undefined || untilTimer(state, nowMs) !== 0) return undefined;
  const lateMs = nowMs - timer.dueAtMs;
  if (accepted !== undefined) return act(...timerEffects(state, timer, accepted.before, nowMs));
  if (failure !== undefined && nowMs < failure.retryAtMs) {
    const { why } = failure;
    if (why === undefined || timer.failureTold === true || lateMs < 0) return wait(failure.retryAtMs - nowMs);
    const news: News = { kind: "failed", word: "stop", why };
    const changes = { timer: { ...timer, failureTold: true } };
    return act({ kind: "remember", changes }, announceTimer(timer, "stop-failed", news));
  }
  if (scale === undefined) return act({ kind: "read" });
  if (scale.desired === 0) {
    // Somebody else has stopped it; or we have, and were killed before we could report it.
    const { intent } = timer;
    if (intent === undefined) return act({ kind: "remember", changes: { timer: undefined } });
    return act(...timerEffects(state, timer, intent.before, nowMs));
  }
  const isTooLate = lateMs >= 0 && schedule !== undefined && beginsWithinMinute(schedule, nowMs);
  if (isTooLate || isOverridden(timer, schedule)) return act({ kind: "remember", changes: { timer: undefined } });
  if (lateMs < 0) {
    const changes = { timer: { ...timer, warned: true } };
    return act(
      { kind: "remember", changes },
      announceTimer(timer, "warning", { kind: "timer-ending", leftMs: -lateMs }),
    );
  }
  return act({ kind: "scale", intent: intentOf(scale, 0, nowMs), for: "timer" });
}

function timerEffects(state: State, timer: StopTimer, before: number, nowMs: number): Effect[] {
  const { rollout, effects } = endRollout(state, undefined, true, 0, nowMs);
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
    announceTimer(timer, "stop", { kind: "timer-stopped", lateMs: lateness(timer.dueAtMs, nowMs) }),
    {
      kind: "record",
      reason: "SwitchedOff",
      cause: "timer",
      message: `The time is over that ${timer.user} has set: replicas ${before} → 0`,
    },
  ];
}

/** Announces something once per timer, in the room where it was set. */
function announceTimer({ dueAtMs, roomId, threadId, user }: StopTimer, what: string, news: News): Write {
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

/** Accepts a replica count that somebody else has set as the expected one, and announces it to those concerned. */
function decideForeignChange(
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const { expectedReplicas: before, rollout, rooms = [], startedBy, stopped } = state;
  const { scale: read, shown, failure, watched } = observed;
  // Without a watch, changes that are seen by chance are not announced (SPEC 3h).
  if (rollout === undefined && before !== undefined && watched === undefined) return undefined;
  // If no count is expected, nothing is concluded from it, so a count from the watch suffices.
  const scale = read ?? (before === undefined && rollout === undefined ? shown : undefined);
  if (scale === undefined) {
    const isSuspect = shown !== undefined && shown.desired !== before && rollout === undefined;
    if (!isSuspect) return undefined;
    if (failure !== undefined && nowMs < failure.retryAtMs) {
      return wait(failure.retryAtMs - nowMs, untilDue(state, observed, nowMs, policy));
    }
    return act({ kind: "read" });
  }
  const { desired, manager, resourceVersion, generation } = scale;
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
    rollout: rollout === undefined || isOver ? undefined : { ...rollout, after: desired, generation },
    ...desired === 0 ? { timer: undefined, readySinceMs: undefined } : releaseHold(stopped),
  };
  return act(...effects, { kind: "remember", changes });
}

// ── Rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Reports the progress of a followed change, until the target is ready or off and a minute has passed. It is seen by
 * the watch if one is running, else by reads.
 */
function decideRollout(state: State, observed: Observed, nowMs: number, policy: TargetPolicy): Decision | undefined {
  const { expectedReplicas, rollout, timer } = state;
  if (rollout === undefined) return undefined;
  const { scale, watched, failure, diagnosis, seenReadySinceMs } = observed;
  const afterMs = nowMs - rollout.atMs;
  const leftMs = FOLLOWED_FOR_MS - afterMs;
  const again = (...ms: number[]) => wait(...ms, untilDue(state, observed, nowMs, policy));
  const isDone = rollout.after === 0 || rollout.told === "ready";
  const end = () => act({ kind: "unfollow" }, { kind: "remember", changes: { rollout: undefined } });
  const isOtherCount = watched !== undefined && watched.desired !== expectedReplicas;
  const isSince = watched !== undefined && watched.generation >= (rollout.generation ?? 0);
  const seen = scale ?? (isSince && !isOtherCount ? watched : undefined);
  const isRetrying = failure !== undefined && nowMs < failure.retryAtMs;
  if (isRetrying && seen === undefined) {
    if (isDone) return leftMs > 0 ? again(leftMs, failure.retryAtMs - nowMs) : end();
    return decideUnreadable(rollout, failure, nowMs) ?? again(failure.retryAtMs - nowMs);
  }
  const untilReadMs = isRetrying ? failure.retryAtMs - nowMs : untilRead(rollout, observed, nowMs, policy);
  // Somebody else's change is confirmed by a read. At the end, that includes one to an object that has replaced ours.
  const isSuspect = isOtherCount && (isSince || leftMs <= 0);
  if (scale === undefined && !isRetrying && (isSuspect || untilReadMs <= 0)) return act({ kind: "read" });
  if (isDone && leftMs <= 0) return end();
  if (seen === undefined) return isDone ? again(leftMs, untilReadMs) : again(untilReadMs);
  if (rollout.after > 0 && !isReady(seen)) {
    const isLate = afterMs >= policy.startTimeoutMs;
    // If the clock was set back behind the start, the diagnosis is nevertheless of this start.
    const isCurrent = diagnosis !== undefined && diagnosis.atMs >= Math.min(rollout.atMs, nowMs);
    const untilDiagnosisMs = isCurrent
      ? untilAgain(diagnosis.atMs, isLate ? LATE_EVERY_MS : DIAGNOSED_EVERY_MS, nowMs)
      : untilAgain(rollout.atMs, DIAGNOSED_AFTER_MS, nowMs);
    if (untilDiagnosisMs <= 0) return act({ kind: "diagnose", scale: seen });
    const reported = isCurrent ? decideUnready(rollout, seen, diagnosis, nowMs, policy) : undefined;
    if (reported !== undefined) return reported;
    const marks = [PROVISIONAL_AFTER_MS, policy.startTimeoutMs].map((ms) => ms - afterMs).filter((ms) => ms > 0);
    return again(untilDiagnosisMs, untilReadMs, ...marks);
  }
  if (rollout.after > 0 && rollout.told !== "ready") {
    // A start that was under way before the command may have been ready before that, and the watch may be behind.
    if (scale === undefined && rollout.before === rollout.after) {
      return isRetrying ? again(untilReadMs) : act({ kind: "read" });
    }
    const hasFailed = rollout.problems !== undefined;
    const unsteadyMs = hasFailed ? STEADY_FOR_MS - (nowMs - (seenReadySinceMs ?? nowMs)) : 0;
    if (unsteadyMs > 0) return again(unsteadyMs, untilReadMs);
    const isAlert = rollout.told === "failing" || rollout.unreadableTold === true || afterMs > ALERTS_AFTER_MS;
    const next = upcoming(seen.desired, timer, false, observed.schedule, nowMs, policy);
    const { wokenAtMs } = rollout;
    const since = wokenAtMs === undefined ? {} : { afterMessageMs: Math.max(0, nowMs - wokenAtMs) };
    return act(
      { kind: "remember", changes: { rollout: { ...rollout, told: "ready" }, readySinceMs: nowMs } },
      {
        ...{ kind: "update", news: { kind: "ready", afterMs, ...since, next }, isLast: false },
        ...isAlert ? { alert: { kind: "ready-alert" } } : {},
      },
    );
  }
  // The only thing left to report is that somebody undoes the change.
  const isGone = seen.settled && seen.current === 0;
  return rollout.after > 0 || isGone ? again(leftMs) : again(leftMs, untilReadMs);
}

/** Returns the milliseconds until a rollout must be read; Infinity if the watch suffices. */
function untilRead(
  { after, told, atMs }: Rollout,
  { watched, readAtMs = -Infinity }: Observed,
  nowMs: number,
  { startTimeoutMs }: TargetPolicy,
): number {
  const leftMs = atMs + FOLLOWED_FOR_MS - nowMs;
  // The change itself counts as a read. If the clock was set back behind it, a read is nevertheless later.
  const lastMs = readAtMs >= Math.min(atMs, nowMs) ? readAtMs : atMs;
  if (after === 0 || told === "ready") {
    if (watched !== undefined) return Infinity;
    if (after > 0) return leftMs;
    // It is read 1 s after the change, then after 3 s, 7 s and so on.
    const everyMs = Math.min(Math.max(0, lastMs - atMs) + READ_EVERY_MS, MAX_STOP_READ_EVERY_MS);
    return Math.min(leftMs, untilAgain(lastMs, everyMs, nowMs));
  }
  if (lastMs - atMs >= startTimeoutMs) return untilAgain(lastMs, LATE_EVERY_MS, nowMs);
  return untilAgain(lastMs, watched === undefined ? READ_EVERY_MS : WATCHED_READ_EVERY_MS, nowMs);
}

/** Returns the milliseconds until something is due again; 0 if the clock was set back behind the last time. */
function untilAgain(lastMs: number, everyMs: number, nowMs: number): number {
  return lastMs > nowMs ? 0 : Math.max(0, lastMs + everyMs - nowMs);
}

/** Reports that the API server refuses to show the target, once this has lasted a while. Reads continue. */
function decideUnreadable(rollout: Rollout, { why, sinceMs }: Failure, nowMs: number): Decision | undefined {
  if (why === undefined || rollout.unreadableTold === true || nowMs - sinceMs < UNREADABLE_TOLD_AFTER_MS) {
    return undefined;
  }
  return act(
    { kind: "remember", changes: { rollout: { ...rollout, unreadableTold: true } } },
    { kind: "update", news: { kind: "unreadable", why }, alert: { kind: "unreadable-alert" }, isLast: false },
  );
}

/** Reports the state of a start that isn't ready; undefined if nothing is new. */
function decideUnready(
  rollout: Rollout,
  scale: Scale,
  diagnosis: Diagnosis,
  nowMs: number,
  { startTimeoutMs }: TargetPolicy,
): Decision | undefined {
  const afterMs = nowMs - rollout.atMs;
  const certain = diagnosis.problems.filter((each) => each.certain);
  // Containers that fail in different ways may alternate. Each problem is reported once.
  const { problems = [], told } = rollout;
  const untold = certain.map(problemKey).filter((each) => !problems.includes(each));
  const isNew = untold.length > 0;
  const isLate = !rollout.late && told !== "ready" && afterMs >= startTimeoutMs;
  const { unreadableTold, ...readable } = rollout;
  const tell = (changes: Partial<Rollout>, news: News, alert?: News): Decision =>
    act(
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
  const telling = diagnosis.problems.filter(isInformative);
  const provisional = telling.map(({ kind }) => kind).join(" ");
  if (provisional === (rollout.provisional ?? "")) return undefined;
  return tell({ provisional }, { kind: "starting", scale, problems: telling });
}

/** Whether a problem says more than that the target isn't ready yet, which is true of every pod that is starting. */
function isInformative({ kind, reason, message = "" }: Problem): boolean {
  return kind !== "other" || (message !== "" && reason !== "ContainersNotReady");
}

/** Key by which each problem is reported once. */
function problemKey({ kind, image = "" }: Problem): string {
  return `${kind} ${image}`;
}

// ── Readiness ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Outside of rollouts, the watch shows since when a target is ready. */
function decideReadiness(
  { expectedReplicas, rollout, readySinceMs }: State,
  { scale, shown, seenUnready }: Observed,
  nowMs: number,
): Decision | undefined {
  const seen = scale ?? shown;
  if (rollout !== undefined || seen === undefined || seen.desired !== expectedReplicas) return undefined;
  const isNews = isReady(seen) ? readySinceMs === undefined && seenUnready : readySinceMs !== undefined;
  if (!isNews) return undefined;
  return act({ kind: "remember", changes: { readySinceMs: isReady(seen) ? nowMs : undefined } });
}
