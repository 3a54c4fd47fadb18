/**
 * When a target's up-times begin and end. Days and hours are those of clocks on the wall, by the platform's own time
 * zone data. A begin or an end is at the first moment at which the clock shows its time or a later one: of a time that
 * occurs twice in autumn that is the first one, and of a time that is left out in spring, the moment of the leap.
 *
 * @module
 */

import type { UpTime } from "../config/mod.ts";

/** Where an up-time begins or ends. */
export interface Edge {
  readonly kind: "begin" | "end";
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  /** By whose clock. */
  readonly timeZone: string;
}

/** A schedule as it stands at some time. */
export interface ScheduleView {
  /** What tells the schedule from another one. */
  readonly text: string;
  /** It is up-time. */
  readonly isUp: boolean;
  /** The latest edge that isn't later; undefined: there has been none for weeks. */
  readonly previous: Edge | undefined;
  /** The first begin that is later. */
  readonly nextBegin: Edge | undefined;
  /** The first end that is later. */
  readonly nextEnd: Edge | undefined;
}

interface Interval {
  readonly begin: Edge;
  readonly end: Edge;
}

const DAY_MS = 24 * 3_600_000;
/** In a week without clock changes every edge recurs; one that falls into the leap of spring, in the next one. */
const REACH_DAYS = 16;
/** So many more days are laid out, since what begins on them may join what is within reach. */
const MARGIN_DAYS = 4;

/** What would be undone so soon is not done. */
export const APART_MS = 60_000;

/** An up-time begins so soon that a target which is on had better stay so. */
export function beginsSoon({ isUp, nextBegin }: ScheduleView, nowMs: number): boolean {
  return !isUp && nextBegin !== undefined && nextBegin.atMs - nowMs <= APART_MS;
}

/** The edges of a target's up-times. */
export class Schedule {
  /** What tells it from another one. */
  readonly text: string;
  readonly #upTimes: readonly UpTime[];
  /** The up-times around a day, since they are asked for again and again. */
  #laidOut: { readonly day: number; readonly intervals: readonly Interval[] } | undefined;

  constructor(upTimes: readonly UpTime[]) {
    this.#upTimes = upTimes;
    this.text = upTimes.map(({ text }) => text).join(", ");
  }

  /** The schedule as it stands at a time, milliseconds since the epoch. */
  at(nowMs: number): ScheduleView {
    const intervals = this.#around(nowMs);
    const edges = intervals.flatMap(({ begin, end }) => [begin, end])
      .filter(({ atMs }) => Math.abs(atMs - nowMs) <= REACH_DAYS * DAY_MS);
    const next = (kind: Edge["kind"]) => edges.find((edge) => edge.kind === kind && edge.atMs > nowMs);
    return {
      text: this.text,
      isUp: intervals.some(({ begin, end }) => begin.atMs <= nowMs && nowMs < end.atMs),
      previous: edges.findLast(({ atMs }) => atMs <= nowMs),
      nextBegin: next("begin"),
      nextEnd: next("end"),
    };
  }

  #around(nowMs: number): readonly Interval[] {
    const day = Math.floor(nowMs / DAY_MS);
    if (this.#laidOut?.day !== day) {
      const intervals = this.#upTimes.flatMap((upTime) => intervalsOf(upTime, nowMs));
      this.#laidOut = { day, intervals: joined(intervals) };
    }
    return this.#laidOut.intervals;
  }
}

/** An up-time's intervals around a time. */
function intervalsOf({ days, fromMinute, toMinute, timeZone }: UpTime, nowMs: number): Interval[] {
  const today = Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO(timeZone).toPlainDate();
  const reach = REACH_DAYS + MARGIN_DAYS;
  return Array.from({ length: 2 * reach + 1 }, (_, index) => today.add({ days: index - reach }))
    .filter(({ dayOfWeek }) => days.includes(dayOfWeek))
    .map((date): Interval => ({
      begin: { kind: "begin", atMs: instantOf(date, fromMinute, timeZone), timeZone },
      end: { kind: "end", atMs: instantOf(date, toMinute, timeZone), timeZone },
    }))
    .filter(({ begin, end }) => begin.atMs < end.atMs);
}

/** The first moment at which the clock shows that time or a later one, milliseconds since the epoch. */
function instantOf(date: Temporal.PlainDate, minute: number, timeZone: string): number {
  const wanted = date.toPlainDateTime().add({ minutes: minute });
  const zoned = wanted.toZonedDateTime(timeZone, { disambiguation: "earlier" });
  // What the clock leaves out is taken for a time before the leap.
  const isLeftOut = !zoned.toPlainDateTime().equals(wanted);
  const leap = isLeftOut ? zoned.getTimeZoneTransition("next") : null;
  return (leap ?? zoned).epochMilliseconds;
}

/** Intervals that overlap or adjoin become one; so `00:00-23:59` doesn't stop for a minute at midnight. */
function joined(intervals: readonly Interval[]): Interval[] {
  const all: Interval[] = [];
  for (const next of intervals.toSorted((one, other) => one.begin.atMs - other.begin.atMs)) {
    const last = all.at(-1);
    if (last === undefined || next.begin.atMs - last.end.atMs > APART_MS) all.push(next);
    else if (next.end.atMs > last.end.atMs) all.splice(-1, 1, { begin: last.begin, end: next.end });
  }
  return all;
}
