/**
 * What happens to a target next without a command, as parts of sentences.
 *
 * @module
 */

import { duration, timeLeft } from "./duration.ts";

/**
 * What happens to a target next without a command: its time is up, or its schedule says so, or it goes by what is
 * written where its agents are; `rooms`: so many of their rooms are seen.
 */
export type Upcoming =
  | { readonly kind: "stops-in"; readonly ms: number }
  | { readonly kind: "sleeps-after"; readonly ms: number; readonly rooms?: number }
  | { readonly kind: "wakes"; readonly agents: readonly string[]; readonly rooms?: number }
  | { readonly kind: "stops-at" | "starts-at"; readonly when: Moment };

/** A point in time, as it is said now, by the clock of a time zone. */
export interface Moment {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  /** When it is said, milliseconds since the epoch. */
  readonly nowMs: number;
  /** Name in the IANA time zone database. */
  readonly timeZone: string;
}

/** What happens next, behind a semicolon; nothing where nothing does. */
export function upcoming(next: Upcoming | undefined): string {
  return next === undefined ? "" : `; ${foretold(next)}`;
}

/** The same as a sentence of its own. */
export function upcomingSentence(next: Upcoming | undefined): string {
  if (next === undefined) return "";
  const words = foretold(next);
  return ` ${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}

function foretold(next: Upcoming): string {
  if (next.kind === "stops-in") return `stops automatically in ${timeLeft(next.ms)}`;
  if (next.kind === "sleeps-after") return `sleeps after ${duration(next.ms)} without a message${watched(next.rooms)}`;
  if (next.kind === "wakes") return `wakes when you write to ${called(next.agents)}${watched(next.rooms)}`;
  return `${next.kind === "stops-at" ? "stops" : "starts"} ${clockTime(next.when)}`;
}

/** Agents by the short form of their names: by the long one they would be called. */
export function called(agents: readonly string[]): string {
  return agents.map((userId) => userId.split(":", 1)[0]).join(" or ");
}

function watched(rooms: number | undefined): string {
  return rooms === undefined ? "" : ` (${rooms} ${rooms === 1 ? "room" : "rooms"} watched)`;
}

/** `at 18:00`, `on Mon at 08:00`, or `on 7 Dec at 08:00` if that is a week away. */
function clockTime({ atMs, nowMs, timeZone }: Moment): string {
  const [there, here] = [atMs, nowMs].map((ms) =>
    Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone)
  );
  if (there === undefined || here === undefined) throw new TypeError("two times in, two times out");
  const time = there.toPlainTime().toString({ smallestUnit: "minute" });
  const { days } = here.toPlainDate().until(there.toPlainDate());
  if (days === 0) return `at ${time}`;
  if (days === 1 && time === "00:00") return "at 24:00";
  const day = there.toLocaleString(
    "en-GB",
    Math.abs(days) < 7 ? { weekday: "short" } : { day: "numeric", month: "short" },
  );
  return `on ${day} at ${time}`;
}
