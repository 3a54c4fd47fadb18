/**
 * A real API server as the contract's cases see it: by kubeconfig, in a namespace of their own that is deleted at the
 * end.
 *
 * @module
 */

import { KubeConfig } from "@kubernetes/client-node";
import type { KubernetesUnderTest } from "./kubernetes.ts";

/** A real server as the contract's cases see it. The kubeconfig's user has a token and may do everything. */
export async function realUnderTest(kubeconfig: string): Promise<KubernetesUnderTest & AsyncDisposable> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const cluster = config.getCurrentCluster();
  const adminToken = config.getCurrentUser()?.token;
  if (!cluster?.caData || adminToken === undefined) {
    throw new Error(`Cannot use ${kubeconfig}: no token or no CA in it`);
  }
  const client = Deno.createHttpClient({ caCerts: [atob(cluster.caData)] });
  const namespace = `contract-${crypto.randomUUID().slice(0, 8)}`;

  const make = async (path: string, body: unknown) => {
    const headers = { authorization: `Bearer ${adminToken}`, "content-type": "application/json" };
    const response = await fetch(cluster.server + path, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      client,
    });
    if (!response.ok) throw new Error(`Cannot create ${path}: ${await response.text()}`);
    return await response.json();
  };
  await make("/api/v1/namespaces", { metadata: { name: namespace } });
  return {
    server: "real",
    url: cluster.server,
    client,
    adminToken,
    namespace,
    async makeToken(rules) {
      const name = `user-${crypto.randomUUID().slice(0, 8)}`;
      const roles = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
      const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
      await make(accounts, { metadata: { name } });
      await make(`${roles}/roles`, { metadata: { name }, rules });
      await make(`${roles}/rolebindings`, {
        metadata: { name },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
        subjects: [{ kind: "ServiceAccount", name, namespace }],
      });
      return (await make(`${accounts}/${name}/token`, { spec: {} })).status.token;
    },
    async [Symbol.asyncDispose]() {
      const headers = { authorization: `Bearer ${adminToken}` };
      const path = `/api/v1/namespaces/${namespace}`;
      await (await fetch(cluster.server + path, { method: "DELETE", headers, client })).body?.cancel();
      client.close();
    },
  };
}
