/**
 * The table of variables as people read it: in the README and in `--help`.
 *
 * @module
 */

import type { Variable } from "./variable.ts";
import { ROWS } from "./variables.ts";

const HEADINGS = ["Variable", "Required", "Default", "Permitted", "Meaning"];

/** The table in Markdown, its columns aligned as `deno fmt` aligns them, without a newline at its end. */
export function markdownTable(): string {
  const rows = [HEADINGS, ...ROWS.map((variable) => cellsOf(variable, "`"))];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const [head, ...body] = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)));
  const ruler = widths.map((width) => "-".repeat(width));
  return [head ?? [], ruler, ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** The table as plain text, for `--help`, without a newline at its end. */
export function helpTable(): string {
  return ROWS.map((variable) => {
    const [name, required, unset, permitted, meaning] = cellsOf(variable, "");
    const otherwise = required === "yes"
      ? "required"
      : required === "no"
      ? `default: ${unset}`
      : `required ${required}`;
    return `  ${name}\n      ${meaning}\n      permitted: ${permitted}\n      ${otherwise}`;
  }).join("\n");
}

/** One cell for each heading. */
function cellsOf(variable: Variable<unknown>, quote: string): string[] {
  const { name, otherName, secret, default: unset, defaultInWords, requiredFor, permitted, meaning } = variable;
  const code = (text: string) => `${quote}${text}${quote}`;
  const file = secret ? `; or ${code(`${name}_FILE`)}, the path of a file that holds it` : "";
  const other = otherName ? `; ${code(otherName)} is understood too` : "";
  return [
    code(name),
    unset === undefined ? "yes" : requiredFor ? `for ${requiredFor.join(", ")}` : "no",
    defaultInWords ?? (typeof unset === "string" && !requiredFor ? code(unset) : ""),
    permitted,
    `${meaning}${file}${other}`,
  ];
}
