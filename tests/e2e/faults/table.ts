/**
 * The table of faults: what was measured, and what may not be exceeded.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runAll, withLog } from "./rows.ts";
import type { Ground } from "./subject.ts";

/** What was measured of one fault. */
export interface Measured {
  /** How long it lasted, in milliseconds. */
  readonly lastedMs: number;
  /** From the servers' return to the answer to a command; undefined if there is nothing to recover from. */
  readonly recoveredMs?: number | undefined;
  /** Requests that were sent while it lasted. */
  readonly requests: number;
  /** Commands without an effect or an answer that was due. */
  readonly lost: number;
  /** Commands with more than one effect or answer. */
  readonly doubled: number;
  /** How the process ended: what it was asked to do, or what it did by itself. */
  readonly end: string;
}

/** A fault, and how it is measured. */
export interface Row<Surroundings> {
  /** What goes wrong. */
  readonly fault: string;
  /** Others must not run beside it: it stops a server. */
  readonly alone?: boolean;
  /** Only in the long variant. */
  readonly long?: boolean;
  /** Only Synapse has what it is about: why, and what is relied on elsewhere. */
  readonly synapseOnly?: string;
  /** Produces the fault. Throws where something is not as it must be. */
  run(surroundings: Surroundings): Promise<Measured>;
}

/** What came of a row. */
export type Outcome = { readonly fault: string } & ({ readonly measured: Measured } | { readonly error: unknown });

/** The longest wait between two tries; the next one gets through. */
const recoveryLimitMs = 15_000;
/** What a slow machine may need for the rest: logging in, reading, answering. */
const slownessMs = 5_000;
const requestsPerMinuteLimit = 200;

/** Asserts what holds of every row. */
export function judge(outcome: Outcome): void {
  if ("error" in outcome) throw outcome.error;
  const { recoveredMs = 0, lost, doubled } = outcome.measured;
  assert.ok(recoveredMs <= recoveryLimitMs + slownessMs, `recovered after ${recoveredMs.toFixed(0)} ms`);
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 });
  const rate = perMinute(outcome.measured);
  assert.ok(rate < requestsPerMinuteLimit, `${rate.toFixed(0)} requests a minute`);
}

/** What is sent in less than this is a burst, and no rate. */
const leastMs = 20_000;

function perMinute({ requests, lastedMs }: Measured): number {
  return requests / Math.max(lastedMs, leastMs) * 60_000;
}

/** The rows as a table. */
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
