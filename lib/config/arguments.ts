/**
 * Arguments in, what the program is to do out; and the tables of options and variables as people read them, in `--help`
 * and in the documents.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { ConfigError } from "../errors.ts";
import { ROWS, type Variable } from "./variables.ts";

/** What the program is to do: what an option names, or to run the operator. */
export type Purpose =
  | "operate"
  | "conntest"
  | "new-recovery-key"
  | "reset-identity"
  | "fresh-device"
  | "version"
  | "help";

type Option = Exclude<Purpose, "operate">;

/** Options; of several that are given, the last one counts. */
const OPTIONS: Readonly<Record<Option, string>> = {
  "reset-identity": "make a new cross-signing identity for the operator's account, and exit; for when both the\n" +
    "volume and the recovery key are lost",
  "fresh-device": "run the operator, and leave the device of the Python operator alone: its files are set aside",
  "conntest": "check configuration, homeserver, login and cluster, and exit 0 or 1",
  "new-recovery-key": "print a new recovery key for RECOVERY_KEY, and exit",
  "version": "print the version",
  "help": "print this",
};

const NAMES = Object.keys(OPTIONS) as Option[];

/**
 * Reads the arguments.
 *
 * @throws ConfigError if they are not permitted
 */
export function readArguments(args: readonly string[]): Purpose {
  const options = Object.fromEntries(NAMES.map((name) => [name, { type: "boolean" } as const]));
  try {
    const { values } = parseArgs({ args: [...args], options });
    return NAMES.findLast((name) => values[name]) ?? "operate";
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const permitted = NAMES.map((name) => `--${name}`).join(", ");
    throw new ConfigError([error.message, `permitted: ${permitted}, or nothing`]);
  }
}

/** How the program is used, for `--help`. */
export function usage(version: string): string {
  const options = [["(nothing)", "run the operator"], ...NAMES.map((name) => [`--${name}`, OPTIONS[name]])]
    .map(([name = "", meaning = ""]) => `  ${name.padEnd(18)}  ${meaning.replace("\n", `\n${" ".repeat(22)}`)}`);
  return `openclaw-toggle ${version}: switches a Kubernetes Deployment on and off from an encrypted Matrix chat

usage: openclaw-toggle [${NAMES.map((name) => `--${name}`).join(" | ")}]

${options.join("\n")}

exit codes: 0 ended well, 1 failed, 2 wrong configuration or usage

configuration, from the environment:
${helpTable()}`;
}

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
