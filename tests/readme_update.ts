/**
 * Writes into the README what is made from code: the tables of variables and of metrics. `deno task readme` runs this.
 *
 * @module
 */

import { markdownTable } from "../lib/config/mod.ts";
import { type Metric, METRICS } from "../lib/service/mod.ts";

/** The README. */
export const readme: URL = new URL("../README.md", import.meta.url);

/**
 * A text with the tables, as they are now, between their markers.
 *
 * @throws Error if the markers are not there
 */
export function updated(text: string): string {
  return Object.entries({ configuration: markdownTable(), metrics: metricsTable() }).reduce(between, text);
}

function between(text: string, [name, table]: readonly [string, string]): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Cannot update the README: it lacks ${begin} or ${end}`);
  return `${text.slice(0, from)}${begin}\n\n${table}\n\n${text.slice(to)}`;
}

function metricsTable(): string {
  const metrics = Object.values<Metric>(METRICS).map((
    { name, kind, labels, help },
  ) => [`\`${name}\``, kind, labels.map((label) => `\`${label}\``).join(", "), help.replace(/\.$/, "")]);
  const head = ["Metric", "Kind", "Labels", "What it tells"];
  const widths = head.map((title, column) => Math.max(title.length, ...metrics.map((row) => row[column]?.length ?? 0)));
  const rows = [head, ...metrics].map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)));
  rows.splice(1, 0, widths.map((width) => "-".repeat(width)));
  return rows.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

if (import.meta.main) await Deno.writeTextFile(readme, updated(await Deno.readTextFile(readme)));
