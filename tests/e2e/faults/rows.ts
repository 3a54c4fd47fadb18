/**
 * Running the rows of a table that is tried on real servers. Knows nothing of what the rows do.
 *
 * @module
 */

import type { Ground, Subject } from "./subject.ts";

/** Runs rows, a few at a time; those that must be alone come last, one after the other. */
export async function runAll<Row extends { readonly alone?: boolean }, Outcome>(
  rows: readonly Row[],
  run: (row: Row) => Promise<Outcome>,
  atOnce: number,
): Promise<Outcome[]> {
  const outcomes = new Map<Row, Outcome>();
  const together = rows.filter(({ alone }) => !alone);
  const worker = async () => {
    for (let row = together.shift(); row; row = together.shift()) outcomes.set(row, await run(row));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  for (const row of rows) if (row.alone) outcomes.set(row, await run(row));
  return rows.flatMap((row) => outcomes.get(row) ?? []);
}

/** Runs a row; what its operators have logged is printed if it fails. */
export async function withLog<Result>(
  name: string,
  ground: Ground,
  run: (ground: Ground) => Promise<Result>,
): Promise<Result> {
  const subjects: Subject[] = [];
  try {
    return await run({ ...ground, made: (subject) => void subjects.push(subject) });
  } catch (error) {
    const logs = await Promise.all(subjects.map((subject) => subject.log()));
    console.log(`${name}: the end of the operator's log:\n${logs.join("\n").slice(-6_000)}`);
    throw error;
  }
}
