/**
 * A scaler at a sandbox of its own, for the tests beside this file.
 *
 * @module
 */

import type { Target } from "../../lib/config/mod.ts";
import { type ApiOptions, type Cluster, KubernetesApi, KubernetesScaler, openCluster } from "../../lib/scaler/mod.ts";
import { KubernetesSandbox, type Rule } from "../../sandbox/kubernetes/mod.ts";

/** The target of these tests: a Deployment, which the sandbox has at 0. */
export const target: Target = { alias: "clawdbot", kind: "deployment", namespace: "agents", name: "clawdbot" };

/** The base Role of deploy/. */
export const baseRole: readonly Rule[] = [
  { namespace: "agents", resources: ["deployments", "statefulsets"], resourceNames: ["clawdbot"], verbs: ["get"] },
  {
    namespace: "agents",
    resources: ["deployments/scale", "statefulsets/scale"],
    resourceNames: ["clawdbot"],
    verbs: ["get", "patch"],
  },
];

/** The base Role, and what tells more. */
export const extendedRole: readonly Rule[] = [
  ...baseRole,
  { namespace: "agents", resources: ["deployments", "statefulsets"], resourceNames: ["clawdbot"], verbs: ["watch"] },
  { namespace: "agents", apiGroups: [""], resources: ["pods"], verbs: ["list"] },
  { namespace: "agents", apiGroups: [""], resources: ["events"], verbs: ["create"] },
];

/** A signal that is never aborted. */
export const patient: AbortSignal = new AbortController().signal;

/** Nothing that names a cluster. */
export const nowhere = {
  kubeconfig: undefined,
  serviceHost: undefined,
  servicePort: undefined,
  serviceAccountFolder: "/nonexistent",
  home: undefined,
};

/** A scaler and what stands around it. */
export interface AtSandbox extends AsyncDisposable {
  readonly sandbox: KubernetesSandbox;
  readonly kubeconfig: string;
  /** The token in the kubeconfig. */
  readonly token: string;
  readonly cluster: Cluster;
  readonly api: KubernetesApi;
  readonly scaler: KubernetesScaler;
}

/** Starts a sandbox and opens it by kubeconfig, with the base Role unless other rules are given. */
export async function atSandbox(options: ApiOptions & { rules?: readonly Rule[] } = {}): Promise<AtSandbox> {
  const stack = new AsyncDisposableStack();
  const sandbox = stack.use(await KubernetesSandbox.start({ startMs: 20, stopMs: 10, observeMs: 2 }));
  sandbox.create({ namespace: "agents", name: "clawdbot" });
  await untilReady(sandbox, 0);
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const kubeconfig = `${folder}/kubeconfig`;
  const token = sandbox.token("system:serviceaccount:agents:operator", options.rules ?? baseRole);
  await sandbox.writeKubeconfig(kubeconfig, token);
  const cluster = stack.use(await openCluster({ ...nowhere, kubeconfig }, patient));
  const api = new KubernetesApi(cluster, options);
  return {
    sandbox,
    kubeconfig,
    token,
    cluster,
    api,
    scaler: new KubernetesScaler(api, options.now),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Resolves when every workload of the sandbox has so many ready pods, no others, and a status that says so. */
export async function untilReady(sandbox: KubernetesSandbox, ready: number): Promise<void> {
  const reached = Promise.withResolvers<void>();
  const look = () => {
    const arrived = sandbox.workloads().every((each) =>
      each.settled && each.ready === ready && each.pods.length === ready
    );
    if (arrived) reached.resolve();
  };
  using _listening = sandbox.onChange(look);
  look();
  await reached.promise;
}
