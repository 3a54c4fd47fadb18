/**
 * Runs the rows of a table on real servers.
 *
 * @module
 */

import type { Ground, Subject } from "./subject.ts";

/** Runs rows, a few at a time. Those that must run alone come last, one by one. */
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

/** Runs a row. If it fails, prints the logs of its operators. */
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
