/**
 * Parses up-times in the notation of kube-downscaler: `Mon-Fri 08:00-18:00 Europe/Berlin`.
 *
 * @module
 */

import { InvalidValue, itemsOf, problemWith, splitAlias } from "./values.ts";

/** A range of hours on some days of each week, in a time zone. */
export interface UpTime {
  /** Days on which it begins, by ISO 8601: 1 is Monday. */
  readonly days: readonly number[];
  /** Begin, in minutes after midnight. */
  readonly fromMinute: number;
  /** End, in minutes after that midnight. More than 1440 is on the next day. */
  readonly toMinute: number;
  /** Name in the IANA time zone database. */
  readonly timeZone: string;
  /** The up-time as configured. */
  readonly text: string;
}

/** An up-time and the alias of its target; undefined for the default one. */
export interface UpTimeEntry extends UpTime {
  readonly alias: string | undefined;
}

const DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES = 24 * 60;
const EXAMPLE = "e.g. Mon-Fri 08:00-18:00 Europe/Berlin, Sat 22:00-06:00 Europe/Berlin, or always";

/** Parses comma-separated up-times. An empty text has none. The caller checks that their targets exist. */
export function upTimes(text: string): readonly UpTimeEntry[] {
  if (text === "") return Object.freeze([]);
  const problems: string[] = [];
  const entries: UpTimeEntry[] = [];
  for (const item of itemsOf(text, EXAMPLE)) {
    const { alias, rest } = splitAlias(item);
    const read = upTimeOf(rest);
    if ("problem" in read) problems.push(problemWith(read.problem, item, read.use));
    else entries.push(Object.freeze({ ...read, alias }));
  }
  if (problems.length > 0) throw new InvalidValue(...problems);
  return Object.freeze(entries);
}

function upTimeOf(text: string): UpTime | { readonly problem: string; readonly use: string } {
  if (text.toLowerCase() === "always") {
    return { days: Object.freeze([1, 2, 3, 4, 5, 6, 7]), fromMinute: 0, toMinute: DAY_MINUTES, timeZone: "UTC", text };
  }
  const form = /^([a-z]+)(?:\s*-\s*([a-z]+))?\s+(\d+:\d+)\s*-\s*(\d+:\d+)\s+(\S+)$/i;
  const [, firstDay = "", lastDay = firstDay, from = "", to = "", zone = ""] = form.exec(text) ?? [];
  if (zone === "") return { problem: "not days, hours and a time zone", use: EXAMPLE };
  for (const day of [firstDay, lastDay]) {
    if (dayOf(day) === 0) return { problem: `no such day: ${day}`, use: "Mon, Tue, Wed, Thu, Fri, Sat or Sun" };
  }
  for (const time of [from, to]) {
    if (minuteOf(time) === undefined) return { problem: `no such time: ${time}`, use: "00:00 to 24:00" };
  }
  const [fromMinute = 0, toMinute = 0] = [minuteOf(from), minuteOf(to)];
  if (fromMinute === DAY_MINUTES) return { problem: "nothing begins at 24:00", use: "00:00 of the next day" };
  if (fromMinute === toMinute) return { problem: "begins and ends at once", use: "00:00-24:00 for whole days" };
  const timeZone = timeZoneOf(zone);
  if (timeZone === undefined) {
    return { problem: `unknown time zone: ${zone}`, use: "a name of the IANA database, e.g. Europe/Berlin or UTC" };
  }
  return {
    days: Object.freeze(daysFrom(dayOf(firstDay), dayOf(lastDay))),
    fromMinute,
    toMinute: toMinute < fromMinute ? toMinute + DAY_MINUTES : toMinute,
    timeZone,
    text,
  };
}

/** Returns the number of a day, 1 for Monday; 0 if unknown. */
function dayOf(name: string): number {
  return DAYS.findIndex((day) => day.toLowerCase() === name.toLowerCase()) + 1;
}

/** Returns a range of days, inclusive. `Fri-Mon` wraps around the end of the week. */
function daysFrom(first: number, last: number): number[] {
  return Array.from({ length: (last - first + 7) % 7 + 1 }, (_, index) => (first - 1 + index) % 7 + 1);
}

function minuteOf(time: string): number | undefined {
  const [, hour = "", minute = ""] = /^(\d{1,2}):(\d\d)$/.exec(time) ?? [];
  const minutes = Number(hour) * 60 + Number(minute);
  return minute === "" || Number(minute) > 59 || minutes > DAY_MINUTES ? undefined : minutes;
}

/**
 * Returns the platform's spelling of a time zone; undefined if unknown. Other strings that Temporal accepts as a time
 * zone are rejected.
 */
function timeZoneOf(name: string): string | undefined {
  if (!/^[a-z][\w+/-]*$/i.test(name)) return undefined;
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(name).timeZoneId;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
