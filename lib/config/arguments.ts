/**
 * Parses the command line, and renders the tables of options and variables for `--help` and the docs.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";
import { quoted } from "./values.ts";
import { GROUPS, type Variable, VARIABLES } from "./variables.ts";

/** What the program is to do: what an option names, or run the operator. */
export type Purpose =
  | "operate"
  | "conntest"
  | "healthcheck"
  | "new-recovery-key"
  | "rotate-recovery-key"
  | "rotate-store-key"
  | "reset-identity"
  | "fresh-device"
  | "version"
  | "help";

type Option = Exclude<Purpose, "operate">;

/** Options. If several are given, the last one in this order wins. */
const OPTIONS: Readonly<Record<Option, string>> = {
  "reset-identity":
    "Make a new cross-signing identity for the operator's account and exit. For when both the volume and " +
    "the recovery key are lost.",
  "rotate-recovery-key":
    "Encrypt the account's secret storage under a new recovery key instead of RECOVERY_KEY, print the new one and exit.",
  "rotate-store-key":
    "Encrypt the store under a new key and exit; the operator must not be running. Goes on as a new device.",
  "fresh-device": "Run, but set the Python operator's store aside instead of taking its device over.",
  "conntest": "Check configuration, homeserver, login, store and cluster, and exit. Changes nothing.",
  "healthcheck": "Ask the operator that runs here whether it is ready, at HTTP_ADDRESS; exit with 0 or 1.",
  "new-recovery-key": "Print a new key for RECOVERY_KEY and exit.",
  "version": "Print the version and exit.",
  "help": "Print this help and exit.",
};

const NAMES = Object.keys(OPTIONS) as Option[];
/** Width of `--help`, in columns. */
const COLUMNS = 100;

/**
 * Parses the arguments.
 *
 * @throws ConfigError if one is unknown
 */
export function readArguments(args: readonly string[]): Purpose {
  const long = args.map((argument) => argument === "-h" ? "--help" : argument);
  const unknown = long.filter((argument) => !NAMES.some((name) => argument === `--${name}`));
  if (unknown.length > 0) {
    throw new ConfigError(unknown.map((argument) => `unknown argument ${quoted(argument)}; see --help`));
  }
  return NAMES.findLast((name) => long.includes(`--${name}`)) ?? "operate";
}

/** Returns the text of `--help`, without a trailing newline. */
export function usage(version: string): string {
  return `openclaw-toggle ${version}: turns Kubernetes workloads on and off from an encrypted Matrix chat

Usage: openclaw-toggle [OPTION]

Without an option, the operator runs until SIGTERM or SIGINT.

Options:
${NAMES.map((name) => entry(name === "help" ? "-h, --help" : `--${name}`, OPTIONS[name])).join("\n")}

Exit codes: 0 ended well, 1 failed, 2 wrong configuration or usage

Environment variables (NAME_FILE: path of a file that holds the value):
${helpTable()}`;
}

/** Returns the variables as plain text for `--help`, without a trailing newline. */
export function helpTable(): string {
  const entryOf = (variable: Variable<unknown>): string => {
    const { name, meaning, permitted } = variable;
    const allowed = permitted === "any text" ? "" : `allowed: ${permitted}`;
    const facts = [defaultOf(variable, "", "default: "), allowed].filter((fact) => fact !== "").join("; ");
    return entry(name, `${meaning}${others(variable, "")}`, facts.charAt(0).toUpperCase() + facts.slice(1));
  };
  return Object.entries(GROUPS)
    .map(([title, keys]) => [`\n${title}:`, ...keys.map((key) => entryOf(VARIABLES[key]))].join("\n"))
    .join("\n");
}

/** Returns the variables as Markdown, one table per group, without a trailing newline. */
export function markdownTables(): string {
  const cellsOf = (variable: Variable<unknown>): string[] => {
    const { name, meaning, permitted } = variable;
    const allowed = permitted === "any text" ? "" : ` Allowed: ${permitted}.`;
    const unset = defaultOf(variable, "`", "").replace(/^required$/, "**required**");
    return [`\`${name}\``, unset, `${meaning}${allowed}${others(variable, "`")}`];
  };
  return Object.entries(GROUPS).map(([title, keys]) =>
    `### ${title}\n\n${markdownTable(["Variable", "Default", "Meaning"], keys.map((key) => cellsOf(VARIABLES[key])))}`
  ).join("\n\n");
}

/** Returns a Markdown table, aligned as `deno fmt` does it. */
function markdownTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const lines = all.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)));
  return lines.toSpliced(1, 0, widths.map((width) => "-".repeat(width)))
    .map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Returns other names of a variable. */
function others({ name, otherName, secret }: Variable<unknown>, quote: string): string {
  if (secret) return ` Or ${quote}${name}_FILE${quote}.`;
  return otherName ? ` ${quote}${otherName}${quote} works, too.` : "";
}

/** Returns a variable's default after a label; empty if the default needs no mention. */
function defaultOf(
  { default: unset, defaultInWords, requiredFor }: Variable<unknown>,
  quote: string,
  label: string,
): string {
  if (unset === undefined) return "required";
  const text = typeof unset === "string" && unset !== "nothing" ? `${quote}${unset}${quote}` : "";
  const otherwise = defaultInWords ?? text;
  if (requiredFor === undefined) return otherwise === "" ? "" : `${label}${otherwise}`;
  return `required for ${requiredFor.join(", ")}${otherwise === "" ? "" : `; otherwise ${otherwise}`}`;
}

/** Returns a name with wrapped paragraphs beside it. */
function entry(name: string, ...paragraphs: readonly string[]): string {
  const indent = 26;
  const lines: string[] = [];
  for (const paragraph of paragraphs.filter((each) => each !== "")) {
    const [first = "", ...words] = paragraph.split(" ");
    lines.push(first);
    for (const word of words) {
      const line = `${lines.at(-1)} ${word}`;
      if (indent + line.length <= COLUMNS) lines.splice(-1, 1, line);
      else lines.push(word);
    }
  }
  return lines.map((line, index) => `${(index === 0 ? `  ${name}` : "").padEnd(indent)}${line}`).join("\n");
}
