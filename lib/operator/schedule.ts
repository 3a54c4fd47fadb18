/**
 * Computes when a target's up-times begin and end. Days and times are local, by the platform's time zone data. A begin
 * or an end is the first instant at which the clock shows its time or a later one: the first occurrence of a time that
 * is repeated in autumn, and the DST transition itself for a time that is skipped in spring.
 *
 * @module
 */

import type { UpTime } from "../config/mod.ts";

/** Begin or end of an up-time. */
export interface Edge {
  readonly kind: "begin" | "end";
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  /** Time zone of the up-time. */
  readonly timeZone: string;
}

/** A schedule as of a point in time. */
export interface ScheduleView {
  /** Identifies the schedule. */
  readonly text: string;
  /** Whether this is up-time. */
  readonly isUp: boolean;
  /** Latest edge up to now; undefined if there was none for weeks. */
  readonly previous: Edge | undefined;
  /** Next begin. */
  readonly nextBegin: Edge | undefined;
  /** Next end. */
  readonly nextEnd: Edge | undefined;
}

interface Interval {
  readonly begin: Edge;
  readonly end: Edge;
}

const DAY_MS = 24 * 3_600_000;
/** Days to search in each direction. Edges recur every week; one that falls into a DST gap, a week later. */
const REACH_DAYS = 16;
/** Additional days on either side, because an interval that begins there may join one within reach. */
const MARGIN_DAYS = 4;

/** Changes that would be reverted within this time are not made. */
export const MIN_INTERVAL_MS = 60_000;

/** Whether an up-time begins so soon that a running target should be left on. */
export function beginsWithinMinute({ isUp, nextBegin }: ScheduleView, nowMs: number): boolean {
  return !isUp && nextBegin !== undefined && nextBegin.atMs - nowMs <= MIN_INTERVAL_MS;
}

export class Schedule {
  /** Identifies the schedule. */
  readonly text: string;
  readonly #upTimes: readonly UpTime[];
  /** The intervals around a day. Cached, because they are needed for each decision. */
  #cached: { readonly day: number; readonly intervals: readonly Interval[] } | undefined;

  constructor(upTimes: readonly UpTime[]) {
    this.#upTimes = upTimes;
    this.text = upTimes.map(({ text }) => text).join(", ");
  }

  /** Returns the schedule as of a time in milliseconds since the epoch. */
  at(nowMs: number): ScheduleView {
    const intervals = this.#intervals(nowMs);
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

  #intervals(nowMs: number): readonly Interval[] {
    const day = Math.floor(nowMs / DAY_MS);
    if (this.#cached?.day !== day) {
      const intervals = this.#upTimes.flatMap((upTime) => intervalsOf(upTime, nowMs));
      this.#cached = { day, intervals: merged(intervals) };
    }
    return this.#cached.intervals;
  }
}

/** Returns the intervals of an up-time around a time. */
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

/**
 * Returns the first instant, in milliseconds since the epoch, at which the clock shows the given time or a later one.
 */
function instantOf(date: Temporal.PlainDate, minute: number, timeZone: string): number {
  const wanted = date.toPlainDateTime().add({ minutes: minute });
  const zoned = wanted.toZonedDateTime(timeZone, { disambiguation: "earlier" });
  // For a skipped time, `earlier` gives an instant before the gap. The next transition is the gap itself.
  const isLeftOut = !zoned.toPlainDateTime().equals(wanted);
  const leap = isLeftOut ? zoned.getTimeZoneTransition("next") : null;
  return (leap ?? zoned).epochMilliseconds;
}

/** Merges intervals that overlap or are at most a minute apart, so that `00:00-23:59` doesn't stop at midnight. */
function merged(intervals: readonly Interval[]): Interval[] {
  const all: Interval[] = [];
  for (const next of intervals.toSorted((one, other) => one.begin.atMs - other.begin.atMs)) {
    const last = all.at(-1);
    if (last === undefined || next.begin.atMs - last.end.atMs > MIN_INTERVAL_MS) all.push(next);
    else if (next.end.atMs > last.end.atMs) all.splice(-1, 1, { begin: last.begin, end: next.end });
  }
  return all;
}
