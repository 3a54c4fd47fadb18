/**
 * Phrases about what happens to a target next without a command.
 *
 * @module
 */

import { duration, timeLeft } from "./duration.ts";

/**
 * What happens to a target next without a command, because of a timer, the schedule, or messages in its agents' rooms.
 * `rooms` is the number of those rooms that we see.
 */
export type Upcoming =
  | { readonly kind: "stops-in"; readonly ms: number }
  | { readonly kind: "sleeps-after"; readonly ms: number; readonly rooms?: number }
  | { readonly kind: "wakes"; readonly agents: readonly string[]; readonly rooms?: number }
  | { readonly kind: "stops-at" | "starts-at"; readonly when: Moment };

/** A point in time, and the time and the time zone in which it is stated. */
export interface Moment {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  /** When it is stated, milliseconds since the epoch. */
  readonly nowMs: number;
  /** Name in the IANA time zone database. */
  readonly timeZone: string;
}

/** Returns the phrase after a semicolon; empty if nothing happens. */
export function upcoming(next: Upcoming | undefined): string {
  return next === undefined ? "" : `; ${foretold(next)}`;
}

/** Returns the phrase as a sentence; empty if nothing happens. */
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

/** Names agents by localpart. A full user id would mention them. */
export function called(agents: readonly string[]): string {
  return agents.map((userId) => userId.split(":", 1)[0]).join(" or ");
}

function watched(rooms: number | undefined): string {
  return rooms === undefined ? "" : ` (${rooms} ${rooms === 1 ? "room" : "rooms"} watched)`;
}

/** `at 18:00`, `on Mon at 08:00`, or `on 7 Dec at 08:00` if that is a week or more away. */
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
