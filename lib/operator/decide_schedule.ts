/**
 * Decides when a target with up-times is started and stopped. Part of {@linkcode decide}, and a pure function like it.
 *
 * @module
 */

import type { Decision, Effect, News, Observed, State, StopTime, TargetPolicy, Write } from "./decision.ts";
import {
  act,
  cappedWaitMs,
  intentOf,
  isAsBefore,
  lateness,
  releaseHold,
  replicasOfStart,
  upcoming,
  wait,
} from "./decision.ts";
import { isInConversation } from "./decide_idle.ts";
import { endRollout } from "./rollout_end.ts";
import { type Edge, MIN_INTERVAL_MS, type ScheduleView } from "./schedule.ts";
import type { Intent } from "./target_command.ts";
import type { FollowedSchedule } from "./target_state.ts";

/** An edge that is handled later than this was missed: commands and other people's changes may have come since. */
const MISSED_AFTER_MS = 5_000;
/**
 * If the last handled edge is at most this far in the future, the clock was set back, and we wait for it to catch up.
 * If it is further ahead, the clock was wrong before, and the schedule starts over.
 */
const SET_BACK_MS = 7 * 24 * 3_600_000;
/** Polling interval while events from before the start are still being read. */
const CATCHING_UP_MS = 1_000;

/** Returns the milliseconds until the next up-time begins or ends; undefined if none does. */
export function untilEdge(schedule: ScheduleView | undefined, nowMs: number): number | undefined {
  const edges = [schedule?.nextBegin, schedule?.nextEnd].filter((edge) => edge !== undefined);
  if (edges.length === 0) return undefined;
  const leftMs = Math.min(...edges.map(({ atMs }) => atMs)) - nowMs;
  return cappedWaitMs(leftMs);
}

/** Returns the latest edge if it has not been handled. */
export function pendingEdge({ schedule: state }: State, schedule: ScheduleView | undefined): Edge | undefined {
  if (state === undefined || schedule?.text !== state.text) return undefined;
  return schedule.previous !== undefined && schedule.previous.atMs > state.edgeAtMs ? schedule.previous : undefined;
}

export function handled({ atMs }: Edge, schedule: ScheduleView | undefined): FollowedSchedule {
  return { text: schedule?.text ?? "", edgeAtMs: atMs };
}

/**
 * Whether the schedule overrides a timer. AUTO_STOP doesn't apply in an up-time, nor if an up-time begins before it is
 * due. A timer that is due within a minute of the begin of an up-time has no effect.
 */
export function isOverridden({ dueAtMs, isDefault }: StopTime, schedule: ScheduleView | undefined): boolean {
  if (schedule === undefined) return false;
  const { isUp, previous, nextBegin } = schedule;
  if (isUp) return isDefault === true || (previous?.kind === "begin" && dueAtMs < previous.atMs + MIN_INTERVAL_MS);
  if (nextBegin === undefined || dueAtMs < nextBegin.atMs - MIN_INTERVAL_MS) return false;
  return isDefault === true || dueAtMs < nextBegin.atMs + MIN_INTERVAL_MS;
}

/** Starts the target when an up-time begins and stops it when one ends. Only edges act, each one once. */
export function decideSchedule(
  state: State,
  observed: Observed,
  nowMs: number,
  policy: TargetPolicy,
): Decision | undefined {
  const { schedule: known, timer, expectedReplicas } = state;
  const { schedule, scale, failure, accepted, isCatchingUp } = observed;
  if (schedule === undefined) return undefined;
  if (known?.text !== schedule.text || known.edgeAtMs - nowMs > SET_BACK_MS) {
    const { text, previous } = schedule;
    return act({ kind: "remember", changes: { schedule: { text, edgeAtMs: previous?.atMs ?? nowMs } } });
  }
  const edge = pendingEdge(state, schedule);
  // A stop that the timer has begun is completed first.
  if (edge === undefined || timer?.intent !== undefined) return undefined;
  const { intent } = known;
  const isBegin = edge.kind === "begin";
  if (accepted !== undefined) return intent && act(...edgeEffects(state, edge, accepted, schedule, nowMs, policy));
  if (failure !== undefined && nowMs < failure.retryAtMs) {
    const { why } = failure;
    if (why === undefined || known.failureTold === true) {
      return wait(failure.retryAtMs - nowMs, untilEdge(schedule, nowMs));
    }
    const news: News = { kind: "failed", word: isBegin ? "start" : "stop", why };
    const changes = { schedule: { ...known, failureTold: true } };
    return act({ kind: "remember", changes }, announceEdge(state, edge, "schedule-failed", news));
  }
  const settled = act({ kind: "remember", changes: { schedule: handled(edge, schedule) } });
  const isMissed = nowMs - edge.atMs > MISSED_AFTER_MS;
  const next = isBegin ? schedule.nextEnd : schedule.nextBegin;
  // Somebody is talking to the agent. The target is stopped once it is idle.
  if (!isBegin && isInConversation(state, observed, nowMs, policy)) return settled;
  // Somebody has asked for a longer time.
  if (!isBegin && timer !== undefined && timer.dueAtMs > edge.atMs) return settled;
  if (isMissed && next !== undefined && next.atMs - nowMs <= MIN_INTERVAL_MS) return settled;
  if (isMissed && isCatchingUp === true) return wait(CATCHING_UP_MS);
  if (scale === undefined) return act({ kind: "read" });
  if (intent !== undefined && !isAsBefore(intent, scale)) {
    // It was made, but we were killed before we could report it; or somebody else has made another change since.
    const isMade = scale.desired === intent.after;
    if ((intent.after > 0) === isBegin) {
      return isMade ? act(...edgeEffects(state, edge, intent, schedule, nowMs, policy)) : settled;
    }
    // It was made at an earlier edge.
    const changes = { expectedReplicas: intent.after, schedule: { text: known.text, edgeAtMs: known.edgeAtMs } };
    return act({ kind: "remember", changes });
  }
  if (isMissed && expectedReplicas !== undefined && scale.desired !== expectedReplicas) return settled;
  if ((scale.desired > 0) === isBegin) return settled;
  return act({
    kind: "scale",
    intent: intentOf(scale, isBegin ? replicasOfStart(state, policy) : 0, nowMs),
    for: "schedule",
  });
}

/** Updates the target's state for an edge that was carried out, and announces it. */
function edgeEffects(
  state: State,
  edge: Edge,
  { before, after }: Intent,
  schedule: ScheduleView,
  nowMs: number,
  policy: TargetPolicy,
): Effect[] {
  const { rollout, effects } = endRollout(state, undefined, true, after, nowMs);
  const lateMs = lateness(edge.atMs, nowMs);
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
        ...after > 0 ? { startedBy: undefined, ...releaseHold(state.stopped) } : { replicasBeforeStop: before },
        schedule: handled(edge, schedule),
      },
    },
    announceEdge(state, edge, "schedule", news),
    {
      kind: "record",
      reason: after > 0 ? "SwitchedOn" : "SwitchedOff",
      cause: "schedule",
      message: `An up-time of the schedule ${after > 0 ? "begins" : "ends"}: replicas ${before} → ${after}`,
    },
  ];
}

/** Announces something once per edge, in the rooms where the target was last commanded. */
function announceEdge({ rooms = [] }: State, { atMs }: Edge, what: string, news: News): Write {
  const key = `${atMs} ${what}`;
  return { kind: "announce", key, rooms, news, mention: undefined, rings: false, notWhereFollowed: false };
}
