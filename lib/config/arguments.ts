/**
 * Arguments in, what the program is to do out. One table of options yields parsing and `--help`.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { ConfigError } from "../errors.ts";
import { helpTable } from "./document.ts";

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
