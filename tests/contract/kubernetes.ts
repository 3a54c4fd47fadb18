/**
 * What the operator relies on from a Kubernetes API server, case by case, over plain HTTP. The same cases run against
 * sandbox/kubernetes and against the real server, so that the one cannot drift from the other. Uses nothing of lib/.
 *
 * @module
 */

import assert from "node:assert/strict";
import { accessCases } from "./kubernetes_access.ts";
import { call, type ContractCase, deployment, type KubernetesUnderTest, workloads } from "./kubernetes_http.ts";
import { rolloutCases } from "./kubernetes_rollout.ts";

export type { ContractCase, ContractRule, KubernetesUnderTest } from "./kubernetes_http.ts";

/** How a case ended. */
export interface ContractRow {
  readonly case: string;
  readonly server: KubernetesUnderTest["server"];
  readonly ok: boolean;
  /** Why it failed; empty if it did not. */
  readonly why: string;
}

/** Runs one case. */
export async function runKubernetesCase(cluster: KubernetesUnderTest, each: ContractCase): Promise<ContractRow> {
  const row = { case: each.name, server: cluster.server };
  try {
    const name = `case-${crypto.randomUUID().slice(0, 8)}`;
    assert.equal(
      (await call(cluster, { method: "POST", path: workloads(cluster), body: deployment(name, 0) })).status,
      201,
    );
    await each.run(cluster, name);
    return { ...row, ok: true, why: "" };
  } catch (error) {
    return { ...row, ok: false, why: error instanceof Error ? error.message : String(error) };
  }
}

/** Runs all cases, one after the other. */
export async function runKubernetesContract(cluster: KubernetesUnderTest): Promise<ContractRow[]> {
  const rows: ContractRow[] = [];
  for (const each of kubernetesCases) rows.push(await runKubernetesCase(cluster, each));
  return rows;
}

/** Everything that the operator relies on. */
export const kubernetesCases: readonly ContractCase[] = [...accessCases, ...rolloutCases];
