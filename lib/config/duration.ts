/**
 * Lengths of time as people write them: `90s`, `5m`, `1h30m`, `7d`.
 *
 * @module
 */

/**
 * Reads a length of time: whole numbers with d, h, m or s, the larger unit first, each at most once.
 *
 * @returns milliseconds; undefined if the text is no such thing, or too long for a safe integer
 */
export function parseDuration(text: string): number | undefined {
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/i.exec(text);
  if (parts === null || text === "") return undefined;
  const [days, hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0));
  const total = (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0);
  return Number.isSafeInteger(total * 1_000) ? total * 1_000 : undefined;
}
