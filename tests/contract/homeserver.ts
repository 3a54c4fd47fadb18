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
import { type ContractRow, runCases } from "./results.ts";

export { Client, type ContractCase, type HomeserverUnderTest, World };

/** All cases. */
export const homeserverContract: readonly ContractCase[] = [...accountCases, ...roomCases, ...syncCases, ...keyCases];

/** Runs every case, and goes on after a failure. */
export function runHomeserverContract(where: string, server: HomeserverUnderTest): Promise<ContractRow[]> {
  return runCases(where, homeserverContract, ({ run }) => run(new World(server)));
}
