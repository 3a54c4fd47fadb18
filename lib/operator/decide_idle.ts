/**
 * Decides when a target that has an agent is stopped because nobody has written in its rooms for IDLE_STOP (SPEC 3m).
 * Part of {@linkcode decide}, and a pure function like it.
 *
 * @module
 */

import type { Scale } from "../scaler/mod.ts";
import type { Decision, Effect, News, Observed, State, TargetPolicy, Write } from "./decision.ts";
import { act, cappedWaitMs, intentOf, isAsBefore, wait } from "./decision.ts";
import { endRollout } from "./rollout_end.ts";
import { beginsWithinMinute } from "./schedule.ts";
import type { Idle, IdleWarning } from "./target_state.ts";

/** The room is warned this long before the target is stopped, or a fifth of IDLE_STOP before, if that is shorter. */
const WARNED_BEFORE_MS = 5 * 60_000;
/** Activity is persisted at most this often, so that a message doesn't cost a write of its own. */
const WRITTEN_EVERY_MS = 60_000;
/**
 * The age of a message that is read again is computed anew, so the message may seem slightly newer. Smaller differences
 * are ignored.
 */
const JITTER_MS = 10_000;

/** Idleness at the time of a decision. */
interface Idleness {
  readonly idle: Idle;
  readonly idleStopMs: number;
  /** Start of the quiet period, milliseconds since the epoch. */
  readonly quietSinceMs: number;
}

/** Returns the next step that idleness requires; undefined if none does now. */
export function decideIdle(
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const { idle: stored, expectedReplicas } = state;
  const { scale, failure, accepted } = observed;
  if (policy.idleStopMs === undefined || expectedReplicas === 0) {
    if (stored === undefined) return undefined;
    const { warning } = stored;
    const news: News = expectedReplicas === 0 ? { kind: "switched-off", next: undefined } : { kind: "stays-awake" };
    return act(
      { kind: "remember", changes: { idle: undefined } },
      ...warning === undefined ? [] : [idleNotice(warning, news, true)],
    );
  }
  const isRetrying = failure !== undefined && nowMs < failure.retryAtMs;
  if (expectedReplicas === undefined) {
    return scale !== undefined || isRetrying ? undefined : act({ kind: "read" });
  }
  // Nobody knows since when this target has been running. Its idle time starts now.
  if (stored === undefined) {
    return act({ kind: "remember", changes: { idle: withActivity({ userAtMs: nowMs }, observed) } });
  }
  const idleness = idlenessOf(state, stored, policy.idleStopMs, observed, nowMs);
  const { idle, idleStopMs, quietSinceMs } = idleness;
  const { warning } = idle;
  if (accepted !== undefined && warning !== undefined) {
    return act(...stoppedEffects(state, idle, accepted.before, nowMs, idleStopMs));
  }
  const isAwake = warning !== undefined &&
    (quietSinceMs > warning.quietSinceMs + JITTER_MS || isFromFuture(warning, scale, nowMs) ||
      exemptForMs(state, observed, nowMs, policy) !== undefined);
  if (isAwake) {
    const { warning: _, ...awake } = idle;
    return act({ kind: "remember", changes: { idle: awake } }, idleNotice(warning, { kind: "stays-awake" }, true));
  }
  if (isWorthWriting(stored, idle, nowMs)) return act({ kind: "remember", changes: { idle } });
  if (untilStep(idleness, state, observed, nowMs, policy) !== 0) return undefined;

  if (isRetrying) {
    const { why } = failure;
    if (warning === undefined || why === undefined || warning.failureTold === true) {
      return wait(failure.retryAtMs - nowMs);
    }
    const changes = { idle: { ...idle, warning: { ...warning, failureTold: true } } };
    return act({ kind: "remember", changes }, idleNotice(warning, { kind: "failed", word: "stop", why }, false));
  }
  if (scale === undefined) return act({ kind: "read" });
  if (scale.desired === 0) {
    // We have stopped it and were killed before we could report it; or somebody else has, which is reported elsewhere.
    if (warning?.intent !== undefined) {
      return act(...stoppedEffects(state, idle, warning.intent.before, nowMs, idleStopMs));
    }
    // If nothing else will report the change, it is accepted silently.
    const isTold = observed.watched !== undefined || state.rollout !== undefined;
    return isTold ? undefined : act({ kind: "remember", changes: { expectedReplicas: 0, readySinceMs: undefined } });
  }
  if (warning === undefined) {
    // An overdue stop is announced too, for example after downtime of ours: no target is stopped without a warning.
    const stopsAtMs = Math.max(quietSinceMs + idleStopMs, nowMs + warningLeadMs(idleStopMs));
    const { roomId } = idle;
    const begun = { saidAtMs: nowMs, stopsAtMs, quietSinceMs, ...roomId === undefined ? {} : { roomId } };
    const news: News = { kind: "falling-asleep", quietForMs: nowMs - quietSinceMs, leftMs: stopsAtMs - nowMs };
    return act({ kind: "remember", changes: { idle: { ...idle, warning: begun } } }, idleNotice(begun, news, false));
  }
  if (warning.intent !== undefined && !isAsBefore(warning.intent, scale)) {
    // We may have stopped it and been killed before we could report it. In any case somebody has changed it since.
    const { warning: _, ...awake } = idle;
    const changes = { idle: { ...awake, userAtMs: nowMs } };
    return act({ kind: "remember", changes }, idleNotice(warning, { kind: "stays-awake" }, true));
  }
  return act({ kind: "scale", intent: intentOf(scale, 0, nowMs), for: "idle" });
}

/** Returns the milliseconds until idleness needs a decision; undefined if it never does as things stand. */
export function untilIdle(
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): number | undefined {
  const { idle: stored, expectedReplicas = 0 } = state;
  if (policy.idleStopMs === undefined || stored === undefined || expectedReplicas === 0) return undefined;
  const idleness = idlenessOf(state, stored, policy.idleStopMs, observed, nowMs);
  return untilStep(idleness, state, observed, nowMs, policy);
}

/** Returns the milliseconds until the room is warned or the target is stopped; 0 if that is due. */
function untilStep(
  { idle: { warning }, idleStopMs, quietSinceMs }: Idleness,
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): number {
  const exemptMs = exemptForMs(state, observed, nowMs, policy);
  if (exemptMs !== undefined) return cappedWaitMs(exemptMs);
  const dueAtMs = warning?.stopsAtMs ?? quietSinceMs + idleStopMs - warningLeadMs(idleStopMs);
  return cappedWaitMs(dueAtMs - nowMs);
}

/**
 * Whether the clock was set back behind the warning. Nobody can tell then whether a message came before or after it, so
 * the quiet period begins anew. A stop that has begun is dealt with first, unless it hasn't been done.
 */
function isFromFuture({ saidAtMs, intent }: IdleWarning, scale: Scale | undefined, nowMs: number): boolean {
  return saidAtMs > nowMs + JITTER_MS && (intent === undefined || (scale !== undefined && scale.desired !== 0));
}

/** Whether somebody has talked to the target's agent lately. The end of an up-time doesn't interrupt that. */
export function isInConversation(
  { idle }: State,
  { activity }: Observed,
  nowMs: number,
  { idleStopMs }: TargetPolicy,
): boolean {
  if (idle === undefined || idleStopMs === undefined) return false;
  const { messageAtMs, agentAtMs = messageAtMs } = withActivity(idle, { activity });
  if (messageAtMs === undefined || agentAtMs === undefined || messageAtMs > nowMs) return false;
  const agentMs = activity?.isAgentTyping === true ? nowMs : Math.min(nowMs, agentAtMs);
  return nowMs - Math.max(messageAtMs, Math.min(agentMs, messageAtMs + idleStopMs)) < idleStopMs;
}

function warningLeadMs(idleStopMs: number): number {
  return Math.min(WARNED_BEFORE_MS, idleStopMs / 5);
}

/**
 * Returns the milliseconds for which idleness is ignored, as far as is known; undefined if it counts. Up-times, an up-time that
 * is about to begin and a timer that somebody has set override it. A target that is still starting has had no chance to
 * write.
 */
function exemptForMs(
  { timer, rollout }: State,
  { schedule }: Observed,
  nowMs: number,
  { startTimeoutMs }: TargetPolicy,
): number | undefined {
  if (schedule?.isUp === true) return Math.max(0, (schedule.nextEnd?.atMs ?? Infinity) - nowMs);
  if (schedule !== undefined && beginsWithinMinute(schedule, nowMs)) return Infinity;
  if (timer !== undefined && timer.isDefault !== true) return Math.max(0, timer.dueAtMs - nowMs);
  const isStarting = rollout !== undefined && rollout.after > 0 && rollout.told !== "ready";
  const startsForMs = isStarting ? rollout.atMs + startTimeoutMs - nowMs : 0;
  return startsForMs > 0 ? startsForMs : undefined;
}

/**
 * Computes the quiet period. A user's message counts in full. An agent extends the period by at most IDLE_STOP, so that
 * its own heartbeat doesn't keep it awake. A time in the future was recorded before the clock was set back; it counts
 * as now.
 */
function idlenessOf(
  { readySinceMs = 0 }: State,
  stored: Idle,
  idleStopMs: number,
  { activity }: Observed,
  nowMs: number,
): Idleness {
  const { userAtMs, messageAtMs, agentAtMs, warning, ...rest } = withActivity(stored, { activity });
  const userMs = Math.min(nowMs, userAtMs);
  const agentMs = activity?.isAgentTyping === true ? nowMs : agentAtMs && Math.min(nowMs, agentAtMs);
  const fromMs = readySinceMs > nowMs ? userMs : Math.max(userMs, readySinceMs);
  return {
    idle: {
      ...rest,
      userAtMs: userMs,
      ...messageAtMs === undefined ? {} : { messageAtMs: Math.min(nowMs, messageAtMs) },
      ...agentMs === undefined ? {} : { agentAtMs: agentMs },
      ...warning === undefined ? {} : {
        warning: {
          ...warning,
          quietSinceMs: Math.min(nowMs, warning.quietSinceMs),
          stopsAtMs: Math.min(nowMs + warningLeadMs(idleStopMs), warning.stopsAtMs),
        },
      },
    },
    idleStopMs,
    quietSinceMs: Math.max(fromMs, Math.min(agentMs ?? fromMs, fromMs + idleStopMs)),
  };
}

function withActivity(stored: Idle, { activity = {} }: Pick<Observed, "activity">): Idle {
  const agentAtMs = later(stored.agentAtMs, activity.agentAtMs);
  const messageAtMs = later(stored.messageAtMs, activity.userAtMs);
  const roomId = activity.roomId ?? stored.roomId;
  return {
    ...stored,
    userAtMs: later(stored.userAtMs, activity.userAtMs) ?? stored.userAtMs,
    ...agentAtMs === undefined ? {} : { agentAtMs },
    ...messageAtMs === undefined ? {} : { messageAtMs },
    ...roomId === undefined ? {} : { roomId },
  };
}

function later(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? one ?? other : Math.max(one, other);
}

function isWorthWriting(stored: Idle, idle: Idle, nowMs: number): boolean {
  const newest = ({ userAtMs, messageAtMs = 0, agentAtMs = 0, warning }: Idle): number =>
    Math.max(userAtMs, messageAtMs, agentAtMs, warning?.quietSinceMs ?? 0);
  // A message that isn't newer than a start must be persisted, too, because the end of an up-time depends on whether
  // anybody talks.
  const { messageAtMs = -Infinity } = idle;
  const isUnknown = messageAtMs - (stored.messageAtMs ?? -Infinity) >= WRITTEN_EVERY_MS &&
    nowMs - messageAtMs >= WRITTEN_EVERY_MS;
  return isUnknown || newest(stored) > nowMs || newest(idle) - newest(stored) >= WRITTEN_EVERY_MS;
}

function stoppedEffects(state: State, idle: Idle, before: number, nowMs: number, idleStopMs: number): Effect[] {
  const { warning } = idle;
  const { rollout, effects } = endRollout(state, undefined, true, 0, nowMs);
  return [
    ...effects,
    {
      kind: "remember",
      changes: {
        ...{ expectedReplicas: 0, replicasBeforeStop: before },
        ...{ timer: undefined, readySinceMs: undefined, rollout, idle: undefined },
      },
    },
    ...warning === undefined ? [] : [idleNotice(warning, { kind: "fell-asleep", idleStopMs }, true)],
    {
      kind: "record",
      reason: "SwitchedOff",
      cause: "idle",
      message: `Nobody has written for IDLE_STOP: replicas ${before} → 0`,
    },
  ];
}

/** Everything that is said about one quiet period is a single message, which is edited. */
function idleNotice({ saidAtMs, roomId }: NonNullable<Idle["warning"]>, news: News, isLast: boolean): Write {
  return {
    kind: "notice",
    key: `idle ${saidAtMs}`,
    ...roomId === undefined ? {} : { roomId },
    news,
    isLast,
  };
}
