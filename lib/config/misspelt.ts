/**
 * Finds names that were probably meant to be others.
 *
 * @module
 */

/**
 * Which of the right names, which are in capitals, was probably meant. Long names may be off by two letters, others by
 * one: what somebody else called `ALLOWED_HOSTS` is not ours.
 */
export function meant(given: string, names: readonly string[]): string | undefined {
  const capitals = given.toUpperCase();
  return names.find((name) => isWithin(1, capitals, name)) ??
    names.find((name) => name.length > 10 && isWithin(2, capitals, name));
}

/** Whether so many letters added, left out, replaced or swapped with their neighbours turn one text into the other. */
function isWithin(changes: number, from: string, to: string): boolean {
  if (from === to) return true;
  if (changes === 0 || from === "" || to === "") return Math.max(from.length, to.length) <= changes;
  if (from[0] === to[0]) return isWithin(changes, from.slice(1), to.slice(1));
  return isWithin(changes - 1, from.slice(1), to) ||
    isWithin(changes - 1, from, to.slice(1)) ||
    isWithin(changes - 1, from.slice(1), to.slice(1)) ||
    (from[0] === to[1] && from[1] === to[0] && isWithin(changes - 1, from.slice(2), to.slice(2)));
}
