/**
 * The table of hostile input: what others can send, what it did before, and what comes of it now. Each row is a test.
 *
 * @module
 */

import { runAll, withLog } from "../faults/rows.ts";
import type { Ground } from "../faults/subject.ts";
import { table } from "../trust/table.ts";

/** One hostile input. */
export interface HostileRow {
  /** Its number in the list of such inputs; letters tell several of one number apart. */
  readonly number: string;
  /** What is sent, in a few words. */
  readonly input: string;
  /** What came of it once. */
  readonly before: string;
  /** Where it is tried: `real`, or why no real server can be made to send it and the sandbox does. */
  readonly where: "real" | `sandbox: ${string}` | `process: ${string}`;
  /** Others must not run beside it. */
  readonly alone?: boolean;
  /** How long it may take, if that is not five minutes. */
  readonly limitMs?: number;
  /** Only Synapse has what it is about: why, and what is relied on elsewhere. */
  readonly synapseOnly?: string;
  /** Sends it. Throws where something is not as it must be; returns what came of it, in a few words. */
  run(ground: Ground): Promise<string>;
}

/** What came of a row. */
export type HostileOutcome = { readonly row: HostileRow } & ({ readonly now: string } | { readonly error: unknown });

/** The table that is printed. */
export function hostileTable(outcomes: readonly HostileOutcome[]): string {
  const rows = outcomes.map((outcome) => {
    const { number, input, before, where } = outcome.row;
    return [number, input, before, "now" in outcome ? outcome.now : "FAILED, see below", where];
  });
  return table(["", "input", "before", "now", "tried on"], rows, 72);
}

/** Runs the rows. */
export async function runHostile(
  rows: readonly HostileRow[],
  ground: Ground,
  atOnce: number,
): Promise<HostileOutcome[]> {
  return await runAll(rows, async (row): Promise<HostileOutcome> => {
    const { promise, reject } = Promise.withResolvers<never>();
    const { limitMs = 300_000 } = row;
    const timer = setTimeout(() => reject(new Error(`not over within ${limitMs / 60_000} min`)), limitMs);
    try {
      const now = withLog(row.number, ground, (each) => row.run(each));
      return { row, now: await Promise.race([now, promise]) };
    } catch (error) {
      return { row, error };
    } finally {
      clearTimeout(timer);
    }
  }, atOnce);
}
