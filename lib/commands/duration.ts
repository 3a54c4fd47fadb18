/**
 * Parses and formats durations.
 *
 * @module
 */

const secondMs = 1_000;
const minuteMs = 60 * secondMs;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** Shortest time for which a target can be turned on, in milliseconds. */
export const shortestMs: number = minuteMs;
/** Longest time for which a target can be turned on, in milliseconds. */
export const longestMs: number = 30 * dayMs;

/**
 * Formats a duration, rounded down to at most two units: `42 s`, `4 min`, `3 h 12 min`, `2 d 4 h`.
 *
 * @param ms milliseconds; negative values count as 0
 */
export function duration(ms: number): string {
  const past = Math.max(0, ms);
  if (past < minuteMs) return `${Math.floor(past / secondMs)} s`;
  if (past < hourMs) return `${Math.floor(past / minuteMs)} min`;
  if (past < dayMs) return pair(past, hourMs, "h", minuteMs, "min");
  return pair(past, dayMs, "d", hourMs, "h");
}

/** Formats a remaining time, rounded to the nearest minute, or in seconds if it is below 90 s. */
export function timeLeft(ms: number): string {
  if (ms < 90 * secondMs) return `${Math.max(0, Math.round(ms / secondMs))} s`;
  return duration(Math.round(ms / minuteMs) * minuteMs);
}

function pair(ms: number, coarseMs: number, coarse: string, fineMs: number, fine: string): string {
  const rest = Math.floor(ms % coarseMs / fineMs);
  return `${Math.floor(ms / coarseMs)} ${coarse}${rest === 0 ? "" : ` ${rest} ${fine}`}`;
}

/**
 * Parses a duration: whole numbers with d, h, m (or min) or s, largest unit first, each at most once.
 *
 * @returns milliseconds; undefined if the text isn't a duration or exceeds the safe integers
 */
export function parseDuration(text: string): number | undefined {
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?$/i.exec(text);
  if (parts === null || text === "") return undefined;
  const [days, hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0));
  const total = (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0);
  return Number.isSafeInteger(total * 1_000) ? total * 1_000 : undefined;
}
