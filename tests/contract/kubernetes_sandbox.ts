/**
 * sandbox/kubernetes as the contract's cases see it.
 *
 * @module
 */

import type { KubernetesSandbox } from "../../sandbox/kubernetes/mod.ts";
import type { KubernetesUnderTest } from "./kubernetes.ts";

/** The sandbox as the contract's cases see it. */
export function sandboxUnderTest(sandbox: KubernetesSandbox): KubernetesUnderTest {
  const namespace = "contract";
  return {
    server: "sandbox",
    url: sandbox.url,
    adminToken: sandbox.adminToken,
    namespace,
    makeToken: (rules) => {
      const limited = rules.map((rule) => ({ ...rule, namespace }));
      return Promise.resolve(sandbox.token(`system:serviceaccount:${namespace}:tester`, limited));
    },
  };
}
