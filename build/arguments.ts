/**
 * Command-line arguments of a task.
 *
 * @module
 */

import { parseArgs, type ParseArgsConfig } from "node:util";

/** Parses this process' arguments. Invalid ones are reported in one line, and the process exits with 2. */
export function readArguments<const Options extends NonNullable<ParseArgsConfig["options"]>>(
  options: Options,
): ReturnType<typeof parseArgs<{ options: Options }>>["values"] {
  try {
    return parseArgs({ args: Deno.args, options }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const permitted = Object.entries(options).map(([name, { type }]) => `--${name}${type === "string" ? "=…" : ""}`);
    console.error(`${error.message.split(". ")[0]}; permitted: ${permitted.join(", ") || "no arguments"}`);
    Deno.exit(2);
  }
}
