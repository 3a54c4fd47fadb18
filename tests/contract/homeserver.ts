/**
 * What the operator relies on from a homeserver, as one suite for any of them: the sandbox's in the fast tests, a real
 * Synapse end to end. A difference between the two is a fault of the sandbox.
 *
 * @module
 */
import { accountCases } from "./homeserver_account.ts";
import { Client, type ContractCase, type HomeserverUnderTest, World } from "./homeserver_client.ts";
import { keyCases } from "./homeserver_keys.ts";
import { roomCases } from "./homeserver_rooms.ts";
import { syncCases } from "./homeserver_sync.ts";

export { Client, type ContractCase, type HomeserverUnderTest, World };

/** All cases. */
export const homeserverContract: readonly ContractCase[] = [...accountCases, ...roomCases, ...syncCases, ...keyCases];

/** What became of a case. */
export interface ContractRow {
  /** What is relied on. */
  readonly case: string;
  /** Which homeserver. */
  readonly where: string;
  /** It holds. */
  readonly ok: boolean;
  /** Why it does not. */
  readonly why: string;
}

/** Runs every case, and goes on after a failure. */
export async function runHomeserverContract(where: string, server: HomeserverUnderTest): Promise<ContractRow[]> {
  const rows: ContractRow[] = [];
  for (const { name, run } of homeserverContract) {
    try {
      await run(new World(server));
      rows.push({ case: name, where, ok: true, why: "" });
    } catch (error) {
      rows.push({ case: name, where, ok: false, why: error instanceof Error ? error.message : String(error) });
    }
  }
  return rows;
}

/** The results of several homeservers side by side, as text. */
export function contractTable(...results: readonly (readonly ContractRow[])[]): string {
  const width = Math.max(...homeserverContract.map(({ name }) => name.length));
  const head = ["case".padEnd(width), ...results.map((rows) => rows[0]?.where ?? "")].join("  ");
  const lines = homeserverContract.map(({ name }) => {
    const marks = results.map((rows) => {
      const row = rows.find((each) => each.case === name);
      return (row?.ok ? "✔" : "✘").padEnd(row?.where.length ?? 1);
    });
    return [name.padEnd(width), ...marks].join("  ");
  });
  return [head, ...lines].join("\n");
}
