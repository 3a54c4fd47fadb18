/**
 * How the contract's cases end, and the results of several servers side by side. Knows nothing of what the cases are.
 *
 * @module
 */

/** How a case ended. */
export interface ContractRow {
  /** What is relied on. */
  readonly case: string;
  /** Which server. */
  readonly where: string;
  /** Why it does not hold; empty if it does. */
  readonly why: string;
  /** It need not hold everywhere. */
  readonly optional: boolean;
}

/** Runs every case, and goes on after a failure. */
export async function runCases<Case extends { readonly name: string; readonly synapseOnly?: string }>(
  where: string,
  cases: readonly Case[],
  run: (one: Case) => Promise<void>,
): Promise<ContractRow[]> {
  const rows: ContractRow[] = [];
  for (const one of cases) {
    const why = await run(one).then(() => "", (error) => error instanceof Error ? error.message : String(error));
    rows.push({ case: one.name, where, why, optional: one.synapseOnly !== undefined });
  }
  return rows;
}

/** Results as text: a line for each case, a column for each server, and below it what failed and why. */
export function sideBySide(rows: readonly ContractRow[]): string {
  const servers = [...new Set(rows.map(({ where }) => where))];
  const cases = [...new Set(rows.map((row) => row.case))];
  const width = Math.max(...servers.map(({ length }) => length)) + 2;
  const mark = (name: string, server: string): string => {
    const row = rows.find((each) => each.case === name && each.where === server);
    return (row === undefined ? "–" : row.why === "" ? "✔" : row.optional ? "(✘)" : "✘").padEnd(width);
  };
  return [
    servers.map((server) => server.padEnd(width)).join("") + "case",
    ...cases.map((name) => servers.map((server) => mark(name, server)).join("") + name),
    ...rows.filter(({ why, optional }) => why !== "" && !optional).map((row) =>
      `${row.where}, ${row.case}: ${row.why}`
    ),
  ].join("\n");
}
