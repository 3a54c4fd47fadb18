/**
 * Writes into the README what is made from code: the table of variables. `deno task readme` runs this.
 *
 * @module
 */

import { markdownTable } from "../lib/config/mod.ts";

/** The README. */
export const readme: URL = new URL("../README.md", import.meta.url);

/**
 * A text with the table of variables, as it is now, between its markers.
 *
 * @throws Error if the markers are not there
 */
export function updated(text: string): string {
  const [begin, end] = ["<!-- configuration -->", "<!-- /configuration -->"];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Cannot update the README: it lacks ${begin} or ${end}`);
  return `${text.slice(0, from)}${begin}\n\n${markdownTable()}\n\n${text.slice(to)}`;
}

if (import.meta.main) await Deno.writeTextFile(readme, updated(await Deno.readTextFile(readme)));
