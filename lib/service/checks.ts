/**
 * Runs the checks of a connection test one after the other, and prints a line for each. Knows nothing of what they look
 * at.
 *
 * @module
 */

import { sleep } from "./retry.ts";

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
  /** Looks; an error thrown is a failure, its message what was found. */
  run(signal: AbortSignal): Promise<Finding>;
}

/** How to run checks. */
export interface CheckOptions {
  /** Prints a line. */
  readonly print: (line: string) => void;
  /** Colour the marks. */
  readonly colour: boolean;
  /** Longest time for one check, in milliseconds; 15 s if not given. */
  readonly deadlineMs?: number;
  /** Ends everything. */
  readonly signal: AbortSignal;
}

const marks = { passed: ["✔", 32], failed: ["✘", 31], skipped: ["–", 90] } as const;

/**
 * Runs checks in their order. One whose needs were not met is skipped; one that hangs fails at its deadline.
 *
 * @returns whether none failed
 * @throws the signal's reason when aborted
 */
export async function runChecks(checks: readonly Check[], options: CheckOptions): Promise<boolean> {
  const outcomes = new Map<string, keyof typeof marks>();
  for (const check of checks) {
    options.signal.throwIfAborted();
    const unmet = check.needs?.find((name) => outcomes.get(name) !== "passed");
    const { ok, found, cure } = unmet === undefined
      ? await find(check, options)
      : { ok: "skipped", found: `needs ${unmet}` } as Finding;
    const outcome = ok === "skipped" ? ok : ok ? "passed" : "failed";
    outcomes.set(check.name, outcome);
    const [sign, colour] = marks[outcome];
    const mark = options.colour ? `\x1b[${colour}m${sign}\x1b[0m` : sign;
    options.print(
      `${mark} ${check.name}: ${found.replaceAll("\n", "\n    ")}${cure === undefined ? "" : ` → ${cure}`}`,
    );
  }
  return ![...outcomes.values()].includes("failed");
}

/** What a check finds, or what its failure says; it doesn't wait for a check that heeds no signal. */
async function find(check: Check, { signal, deadlineMs = 15_000 }: CheckOptions): Promise<Finding> {
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const deadline = sleep(deadlineMs, either).then(() => ({ ok: false, found: `no end after ${deadlineMs / 1_000} s` }));
  try {
    return await Promise.race([check.run(either), deadline]);
  } catch (error) {
    signal.throwIfAborted();
    return { ok: false, found: error instanceof Error ? error.message : String(error) };
  } finally {
    ended.abort();
    await deadline.catch(() => {});
  }
}
