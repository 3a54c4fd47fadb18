/**
 * Writes into the docs what is made from code: the tables of variables, of metrics and of what only Synapse has.
 * `deno task docs` runs this.
 *
 * @module
 */

import { readArguments } from "../build/arguments.ts";
import { markdownTables } from "../lib/config/mod.ts";
import { type Metric, METRICS } from "../lib/service/mod.ts";
import { homeserverContract } from "./contract/homeserver.ts";

/** A page with a generated table: its path, and the marker that the table stands between. */
interface Generated {
  readonly page: URL;
  readonly marker: string;
  readonly table: () => string;
}

/** All generated tables. */
export const generated: readonly Generated[] = [
  { page: page("configuration"), marker: "configuration", table: markdownTables },
  { page: page("operations"), marker: "metrics", table: metricsTable },
  { page: page("compatibility"), marker: "contract", table: contractTable },
];

function page(name: string): URL {
  return new URL(`../docs/${name}.md`, import.meta.url);
}

/**
 * A page's text with its table as it is now.
 *
 * @throws Error if the markers are not there
 */
export function updated(text: string, { page, marker, table }: Generated): string {
  const [begin, end] = [`<!-- ${marker} -->`, `<!-- /${marker} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Cannot update ${page.pathname}: it lacks ${begin} or ${end}`);
  return `${text.slice(0, from)}${begin}\n\n${table()}\n\n${text.slice(to)}`;
}

function metricsTable(): string {
  const metrics = Object.values<Metric>(METRICS).map((
    { name, kind, labels, help },
  ) => [`\`${name}\``, kind, labels.map((label) => `\`${label}\``).join(", "), help.replace(/\.$/, "")]);
  return markdownTable(["Metric", "Kind", "Labels", "What it tells"], metrics);
}

/** What Synapse has and the operator gets by without. */
function contractTable(): string {
  const rows = homeserverContract.flatMap(({ name, synapseOnly }) =>
    synapseOnly === undefined ? [] : [[name, synapseOnly]]
  );
  return markdownTable(["On Synapse", "The operator elsewhere"], rows);
}

function markdownTable(head: readonly string[], body: readonly string[][]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...body.map((row) => row[column]?.length ?? 0)));
  const rows = [head, ...body].map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)));
  rows.splice(1, 0, widths.map((width) => "-".repeat(width)));
  return rows.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

if (import.meta.main) {
  readArguments({});
  for (const each of generated) {
    await Deno.writeTextFile(each.page, updated(await Deno.readTextFile(each.page), each));
  }
}
