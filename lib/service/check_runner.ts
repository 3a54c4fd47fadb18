/**
 * Runs the checks of the connection test one after another, and prints a line for each, followed by a remedy if needed.
 *
 * @module
 */

import { sleep } from "../async.ts";
import { errorMessage } from "../errors.ts";

/** Result of a check. */
export interface Finding {
  /** Whether the check passed; `warning` if it passed but something needs attention; `skipped` if there was nothing to check. */
  readonly ok: boolean | "warning" | "skipped";
  /** What was found, as one line of text. */
  readonly message: string;
  /** How to fix it. */
  readonly remedy?: string;
}

/** One check. */
export interface Check {
  /** Name of the check, unique. */
  readonly name: string;
  /** Names of earlier checks that must have passed. */
  readonly needs?: readonly string[];
  /** How to fix a failure, unless the finding has a remedy of its own. */
  readonly remedy?: string;
  /** The address being tried, if known. Shown if it doesn't answer. */
  address?(): string | undefined;
  /** Runs the check. A thrown error means failure; its message is the finding. */
  run(signal: AbortSignal): Promise<Finding>;
}

/** Options for running checks. */
export interface CheckOptions {
  /** Prints a line. */
  readonly print: (line: string) => void;
  /** Whether to colour the marks. */
  readonly colour: boolean;
  /** Milliseconds after which a check is aborted. Default: 10,000. */
  readonly deadlineMs?: number;
  /** Milliseconds that an aborted check then has for its clean-up. Default: 5,000. */
  readonly graceMs?: number;
  /** Aborts the whole run. */
  readonly signal: AbortSignal;
}

const marks = { passed: ["✔", 32], warned: ["!", 33], failed: ["✘", 31], skipped: ["–", 90] } as const;

/**
 * Runs checks in order. A check whose needs aren't met is skipped. One that hangs fails, after 15 s by default.
 *
 * @returns whether no check failed
 * @throws the signal's reason if it is aborted
 */
export async function runChecks(checks: readonly Check[], options: CheckOptions): Promise<boolean> {
  const outcomes = new Map<string, keyof typeof marks>();
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const check of checks) {
    options.signal.throwIfAborted();
    const unmet = check.needs?.find((name) => !["passed", "warned"].includes(outcomes.get(name) ?? ""));
    const { ok, message, remedy } = unmet === undefined
      ? await runCheck(check, options)
      : { ok: "skipped", message: `needs ${unmet}` } as Finding;
    const outcome = ok === "skipped" ? ok : ok === "warning" ? "warned" : ok ? "passed" : "failed";
    outcomes.set(check.name, outcome);
    const advice = remedy ?? (outcome === "failed" || outcome === "warned" ? check.remedy : undefined);
    const [sign, colour] = marks[outcome];
    const mark = options.colour ? `\x1b[${colour}m${sign}\x1b[0m` : sign;
    const reason = outcome === "skipped" ? `skipped: ${message}` : message;
    options.print(`${mark} ${printable(check.name).padEnd(width)}  ${printable(reason)}`);
    if (advice !== undefined) options.print(`${" ".repeat(width + 4)}${printable(advice)}`);
  }
  return ![...outcomes.values()].includes("failed");
}

/**
 * Makes text from servers safe to print: line breaks become spaces, and other control and bidi characters become
 * U+FFFD, so that a server can't forge or overwrite a line.
 */
function printable(line: string): string {
  return line.replace(/\s+/g, " ").replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}

/** Runs one check and turns an error into a finding. It stops waiting for a check that ignores its signal. */
async function runCheck(
  check: Check,
  { signal, deadlineMs = 10_000, graceMs = 5_000 }: CheckOptions,
): Promise<Finding> {
  const timeout = new AbortController();
  const finished = new AbortController();
  const either = AbortSignal.any([signal, timeout.signal]);
  const timer = setTimeout(() => timeout.abort(), deadlineMs);
  const graceOver = Promise.withResolvers<never>();
  const startGrace = () => sleep(graceMs, finished.signal).then(() => graceOver.reject(either.reason), () => {});
  either.addEventListener("abort", startGrace);
  try {
    return await Promise.race([check.run(either), graceOver.promise]);
  } catch (error) {
    signal.throwIfAborted();
    if (timeout.signal.aborted) {
      const address = check.address?.();
      const from = address === undefined ? "" : ` from ${address}`;
      return { ok: false, message: `no answer${from} within ${deadlineMs / 1_000} s` };
    }
    return { ok: false, message: errorMessage(error) };
  } finally {
    clearTimeout(timer);
    either.removeEventListener("abort", startGrace);
    finished.abort();
  }
}
