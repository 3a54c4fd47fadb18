/**
 * Durations as people write them.
 *
 * @module
 */

const secondMs = 1_000;
const minuteMs = 60 * secondMs;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/**
 * Writes a duration in one or two units, no finer than anyone would want to know: `42 s`, `4 min 5 s`, `42 min`,
 * `3 h 12 min`, `2 d 3 h`. What is over is cut off.
 *
 * @param ms milliseconds; less than none counts as none
 */
export function duration(ms: number): string {
  const past = Math.max(0, ms);
  if (past < minuteMs) return `${Math.floor(past / secondMs)} s`;
  if (past < 10 * minuteMs) return pair(past, minuteMs, "min", secondMs, "s");
  if (past < hourMs) return `${Math.floor(past / minuteMs)} min`;
  if (past < dayMs) return pair(past, hourMs, "h", minuteMs, "min");
  return pair(past, dayMs, "d", hourMs, "h");
}

function pair(ms: number, coarseMs: number, coarse: string, fineMs: number, fine: string): string {
  const rest = Math.floor(ms % coarseMs / fineMs);
  return `${Math.floor(ms / coarseMs)} ${coarse}${rest === 0 ? "" : ` ${rest} ${fine}`}`;
}
