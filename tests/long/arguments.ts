/**
 * Counts given on the command line, such as `--kills=1000`.
 *
 * @module
 */

/** The count given under a name, or else this many. */
export function countOf(name: string, otherwise: number): number {
  const given = Deno.args.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);
  if (given === undefined) return otherwise;
  if (/^\d+$/.test(given)) return Number(given);
  console.error(`--${name}: not a count (got "${given}")`);
  Deno.exit(2);
}
