/**
 * The table of faults: measurements and their limits.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runAll, withLog } from "./rows.ts";
import type { Ground } from "./subject.ts";

/** Measurements of one fault. */
export interface Measured {
  /** Duration of the fault, in milliseconds. */
  readonly lastedMs: number;
  /**
   * Time from the servers' recovery to the answer to a command, in milliseconds. Undefined if there is nothing to
   * recover from.
   */
  readonly recoveredMs?: number | undefined;
  /** Requests sent during the fault. */
  readonly requests: number;
  /** Commands without a due effect or answer. */
  readonly lost: number;
  /** Commands with more than one effect or answer. */
  readonly doubled: number;
  /** How the process ended: on request, or by itself. */
  readonly end: string;
}

/** A fault and how to measure it. */
export interface Row<Surroundings> {
  /** Description. */
  readonly fault: string;
  /** Whether the row stops a server, so that no other row may run at the same time. */
  readonly alone?: boolean;
  /** Whether the row only runs in the long variant. */
  readonly long?: boolean;
  /** Why the row needs Synapse, and what the operator relies on elsewhere. */
  readonly synapseOnly?: string;
  /** Causes the fault. Throws if a check fails. */
  run(surroundings: Surroundings): Promise<Measured>;
}

/** Result of a row. */
export type Outcome = { readonly fault: string } & ({ readonly measured: Measured } | { readonly error: unknown });

/** Longest wait between two attempts. The next attempt succeeds. */
const recoveryLimitMs = 15_000;
/** Allowance for a slow machine to log in, read and answer. */
const slownessMs = 5_000;
const requestsPerMinuteLimit = 200;

/** Asserts what must hold for every row. */
export function judge(outcome: Outcome): void {
  if ("error" in outcome) throw outcome.error;
  const { recoveredMs = 0, lost, doubled } = outcome.measured;
  assert.ok(recoveredMs <= recoveryLimitMs + slownessMs, `recovered after ${recoveredMs.toFixed(0)} ms`);
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 });
  const rate = perMinute(outcome.measured);
  assert.ok(rate < requestsPerMinuteLimit, `${rate.toFixed(0)} requests a minute`);
}

/** Shortest period over which a rate is computed. Requests within less are a burst. */
const leastMs = 20_000;

function perMinute({ requests, lastedMs }: Measured): number {
  return requests / Math.max(lastedMs, leastMs) * 60_000;
}

/** Formats the rows as a table. */
export function tableOf(outcomes: readonly Outcome[]): string {
  const head = ["fault", "lasted", "recovered after", "requests", "a minute", "lost", "doubled", "end"];
  const seconds = (ms: number | undefined) => ms === undefined ? "" : `${(ms / 1_000).toFixed(1)} s`;
  const body = outcomes.map((outcome) => {
    if ("error" in outcome) return [outcome.fault, "", "", "", "", "", "", "FAILED, see below"];
    const { lastedMs, recoveredMs, requests, lost, doubled, end } = outcome.measured;
    const rate = perMinute(outcome.measured).toFixed(0);
    return [outcome.fault, seconds(lastedMs), seconds(recoveredMs), requests, rate, lost, doubled, end].map(String);
  });
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((cells) => cells[column]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ").trimEnd();
  return [line(head), widths.map((width) => "-".repeat(width)).join("-|-"), ...body.map(line)].join("\n");
}

/** Runs the rows. */
export async function runRows(rows: readonly Row<Ground>[], ground: Ground, atOnce: number): Promise<Outcome[]> {
  return await runAll(rows, async (row): Promise<Outcome> => {
    const { fault } = row;
    try {
      return { fault, measured: await withLog(fault, ground, (each) => row.run(each)) };
    } catch (error) {
      return { fault, error };
    }
  }, atOnce);
}
