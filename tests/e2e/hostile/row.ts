/**
 * The table of hostile input: what others can send, its effect before, and its effect now. Each row is a test.
 *
 * @module
 */

import { runAll, withLog } from "../faults/rows.ts";
import type { Ground } from "../faults/subject.ts";
import { table } from "../trust/table.ts";

/** One hostile input. */
export interface HostileRow {
  /** Number in the list of hostile inputs. Letters distinguish several rows of one number. */
  readonly number: string;
  /** What is sent, in a few words. */
  readonly input: string;
  /** Its effect in the past. */
  readonly before: string;
  /** Where it runs: `real`, or the reason why no real server can be made to send it, so that the sandbox does. */
  readonly where: "real" | `sandbox: ${string}` | `process: ${string}`;
  /** Whether no other row may run at the same time. */
  readonly alone?: boolean;
  /** Time limit, if it isn't five minutes. */
  readonly limitMs?: number;
  /** Why the row needs Synapse, and what the operator relies on elsewhere. */
  readonly synapseOnly?: string;
  /** Sends the input. Throws if a check fails. Returns the effect, in a few words. */
  run(ground: Ground): Promise<string>;
}

/** Result of a row. */
export type HostileOutcome = { readonly row: HostileRow } & ({ readonly now: string } | { readonly error: unknown });

/** Formats the table. */
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
