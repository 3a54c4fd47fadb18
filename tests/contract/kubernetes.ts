/**
 * What the operator relies on from a Kubernetes API server, case by case, over plain HTTP. The same cases run against
 * sandbox/kubernetes and against the real server, so that the one cannot drift from the other. Uses nothing of lib/.
 *
 * @module
 */

import assert from "node:assert/strict";
import { accessCases } from "./kubernetes_access.ts";
import { failureCases } from "./kubernetes_failures.ts";
import { call, type ContractCase, deployment, type KubernetesUnderTest, workloads } from "./kubernetes_http.ts";
import { rolloutCases } from "./kubernetes_rollout.ts";
import { type ContractRow, runCases } from "./results.ts";

export type { ContractCase, ContractRule, KubernetesUnderTest } from "./kubernetes_http.ts";

/** Runs one case, on a workload of its own. */
export async function runKubernetesCase(cluster: KubernetesUnderTest, { run }: ContractCase): Promise<void> {
  const name = `case-${crypto.randomUUID().slice(0, 8)}`;
  const made = await call(cluster, { method: "POST", path: workloads(cluster), body: deployment(name, 0) });
  assert.equal(made.status, 201);
  await run(cluster, name);
}

/** Runs all cases, one after the other. */
export function runKubernetesContract(cluster: KubernetesUnderTest): Promise<ContractRow[]> {
  return runCases(cluster.server, kubernetesCases, (each) => runKubernetesCase(cluster, each));
}

/** Everything that the operator relies on. */
export const kubernetesCases: readonly ContractCase[] = [...accessCases, ...rolloutCases, ...failureCases];
