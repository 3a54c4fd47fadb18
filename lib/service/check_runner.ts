/**
 * Runs the checks of a connection test one after the other, and prints a line for each, and below it how to mend it. Knows nothing of what they look
 * at.
 *
 * @module
 */

import { sleep } from "../async.ts";
import { errorMessage } from "../errors.ts";

/** What a check found. */
export interface Finding {
  /** All is well; `skipped` if there was nothing to check. */
  readonly ok: boolean | "skipped";
  /** What was found. */
  readonly found: string;
  /** How to mend it. */
  readonly cure?: string;
}

/** One thing to be looked at. */
export interface Check {
  /** Its name, unique among the checks. */
  readonly name: string;
  /** Names of earlier checks without which this one makes no sense. */
  readonly needs?: readonly string[];
  /** How to mend it, where the finding doesn't say. */
  readonly cure?: string;
  /** The address that is tried, as far as it is known: named where there is no answer. */
  address?(): string | undefined;
  /** Looks; an error thrown is a failure, its message what was found. */
  run(signal: AbortSignal): Promise<Finding>;
}

/** How to run checks. */
export interface CheckOptions {
  /** Prints a line. */
  readonly print: (line: string) => void;
  /** Colour the marks. */
  readonly colour: boolean;
  /** When a check is told to end, in milliseconds; after 10 s if not given. */
  readonly deadlineMs?: number;
  /** How long it may then take to leave nothing behind, in milliseconds; 5 s if not given. */
  readonly graceMs?: number;
  /** Ends everything. */
  readonly signal: AbortSignal;
}

const marks = { passed: ["✔", 32], failed: ["✘", 31], skipped: ["–", 90] } as const;

/**
 * Runs checks in their order. One whose needs were not met is skipped; one that hangs fails, after 15 s at the latest.
 *
 * @returns whether none failed
 * @throws the signal's reason when aborted
 */
export async function runChecks(checks: readonly Check[], options: CheckOptions): Promise<boolean> {
  const outcomes = new Map<string, keyof typeof marks>();
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const check of checks) {
    options.signal.throwIfAborted();
    const unmet = check.needs?.find((name) => outcomes.get(name) !== "passed");
    const { ok, found, cure } = unmet === undefined
      ? await find(check, options)
      : { ok: "skipped", found: `needs ${unmet}` } as Finding;
    const outcome = ok === "skipped" ? ok : ok ? "passed" : "failed";
    outcomes.set(check.name, outcome);
    const mend = cure ?? (outcome === "failed" ? check.cure : undefined);
    const [sign, colour] = marks[outcome];
    const mark = options.colour ? `\x1b[${colour}m${sign}\x1b[0m` : sign;
    const reason = outcome === "skipped" ? `skipped: ${found}` : found;
    options.print(`${mark} ${printable(check.name).padEnd(width)}  ${printable(reason)}`);
    if (mend !== undefined) options.print(`${" ".repeat(width + 4)}${printable(mend)}`);
  }
  return ![...outcomes.values()].includes("failed");
}

/**
 * Servers are quoted in what is found: line breaks become spaces, and what else controls a terminal, or turns the
 * direction of writing around, the replacement character, so that no line can be forged or overwritten.
 */
function printable(line: string): string {
  return line.replace(/\s+/g, " ").replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}

/** What a check finds, or what its failure says; it doesn't wait for ever for a check that heeds no signal. */
async function find(check: Check, { signal, deadlineMs = 10_000, graceMs = 5_000 }: CheckOptions): Promise<Finding> {
  const late = new AbortController();
  const over = new AbortController();
  const either = AbortSignal.any([signal, late.signal]);
  const timer = setTimeout(() => late.abort(), deadlineMs);
  const graceOver = Promise.withResolvers<never>();
  const patience = () => sleep(graceMs, over.signal).then(() => graceOver.reject(either.reason), () => {});
  either.addEventListener("abort", patience);
  try {
    return await Promise.race([check.run(either), graceOver.promise]);
  } catch (error) {
    signal.throwIfAborted();
    if (late.signal.aborted) {
      const address = check.address?.();
      const from = address === undefined ? "" : ` from ${address}`;
      return { ok: false, found: `no answer${from} within ${deadlineMs / 1_000} s` };
    }
    return { ok: false, found: errorMessage(error) };
  } finally {
    clearTimeout(timer);
    either.removeEventListener("abort", patience);
    over.abort();
  }
}
