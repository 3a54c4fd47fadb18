/**
 * Objects that tests create in a cluster: a target workload, what interferes with it, and a ServiceAccount with few
 * permissions. Also reads their state. Works on any control plane.
 *
 * @module
 */

import { join } from "node:path";
import type { ControlPlane } from "./cluster.ts";
import { HttpError } from "./network.ts";

/** A rule of a Role (Kubernetes API, rbac.authorization.k8s.io/v1 PolicyRule). */
export interface Rule {
  /** API groups; "" is the core. */
  readonly apiGroups: readonly string[];
  /** Resources, such as `deployments/scale`. */
  readonly resources: readonly string[];
  /** Names that the rule is limited to. */
  readonly resourceNames?: readonly string[];
  /** Permitted verbs. */
  readonly verbs: readonly string[];
}

/** Plural name of a kind of workload. */
export type WorkloadResource = "deployments" | "statefulsets";

/** The permissions that the operator needs for its target. */
export function baseRules(target: string, resource: WorkloadResource = "deployments"): Rule[] {
  const limits = { apiGroups: ["apps"], resourceNames: [target] };
  return [
    { ...limits, resources: [resource], verbs: ["get"] },
    { ...limits, resources: [`${resource}/scale`], verbs: ["get", "patch"] },
  ];
}

/** The base permissions, and those that let the operator report more. */
export function extendedRules(target: string, resource: WorkloadResource = "deployments"): Rule[] {
  return [
    ...baseRules(target, resource),
    { apiGroups: ["apps"], resources: [resource], resourceNames: [target], verbs: ["watch"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
    { apiGroups: [""], resources: ["events"], verbs: ["create"] },
  ];
}

/** Options for creating a target workload. */
export interface TargetOptions {
  /** Kind of workload. Default: a Deployment. */
  readonly resource?: WorkloadResource;
  /** Its namespace; created if it doesn't exist. */
  readonly namespace: string;
  /** Its name. */
  readonly name: string;
  /** Image. On our own control plane its name decides how the pods behave (`kubernetes/README.md`). */
  readonly image?: string;
  /** Initial replicas. Default: 0. */
  readonly replicas?: number;
  /** Time until a pod is ready on our own control plane, in milliseconds. */
  readonly startDelayMs?: number;
}

/** State of a workload. */
export interface TargetState {
  /** `spec.replicas`. */
  readonly replicas: number;
  /** Existing pods. */
  readonly current: number;
  /** Ready pods. */
  readonly ready: number;
  /** Increases by one with each change of the spec. */
  readonly generation: number;
}

/** The fields of an Event that tests look at (Kubernetes API, core/v1). */
export interface ClusterEvent {
  /** `Normal` or `Warning`. */
  readonly type: string;
  /** One word. */
  readonly reason: string;
  /** One sentence. */
  readonly message: string;
  /** Time in RFC 3339. */
  readonly eventTime: string;
}

/** A ServiceAccount, in the forms that programs accept. */
export interface ServiceAccount {
  /** Bearer token. */
  readonly token: string;
  /** Kubeconfig that contains only that token. */
  readonly kubeconfig: string;
  /** Folder with `token`, `ca.crt` and `namespace`, as in a pod. */
  readonly folder: string;
}

/** An answered write to a scale. */
export interface ScaleWrite {
  /** User name, such as `system:serviceaccount:namespace:name`. */
  readonly user: string;
  /** HTTP status. */
  readonly status: number;
  /** Requested replicas. */
  readonly replicas: number;
}

/** Creates and reads workloads. On an existing cluster, disposing deletes what was created. */
export class Workloads implements AsyncDisposable {
  readonly #plane: ControlPlane;
  readonly #folder: string;
  readonly #namespaces = new Set<string>();

  /**
   * Creates nothing yet.
   *
   * @param plane the cluster
   * @param folder folder for the credentials of ServiceAccounts
   */
  constructor(plane: ControlPlane, folder: string) {
    this.#plane = plane;
    this.#folder = folder;
  }

  /** Creates a workload, and waits until its controller has observed it. */
  async createTarget(options: TargetOptions): Promise<void> {
    const { namespace, name, resource = "deployments" } = options;
    await this.#createNamespace(namespace);
    const labels = { app: name };
    const annotations = options.startDelayMs === undefined
      ? {}
      : { "kube-testbed/start-delay": `${options.startDelayMs}ms` };
    const containers = [{ name: "agent", image: options.image ?? "registry.k8s.io/pause:3.10" }];
    await this.#plane.request("POST", path(namespace, "", resource), {
      metadata: { name },
      spec: {
        ...(resource === "statefulsets" ? { serviceName: name } : {}),
        replicas: options.replicas ?? 0,
        selector: { matchLabels: labels },
        template: { metadata: { labels, annotations }, spec: { terminationGracePeriodSeconds: 0, containers } },
      },
    });
    await this.until(namespace, name, () => true, 10_000, resource);
  }

  /** State of a workload; undefined while its controller lags behind the spec. */
  async targetState(
    namespace: string,
    name: string,
    resource: WorkloadResource = "deployments",
  ): Promise<TargetState | undefined> {
    const { metadata, spec, status } = await this.#plane.request("GET", path(namespace, name, resource));
    if (status.observedGeneration !== metadata.generation) return undefined;
    return {
      replicas: spec.replicas,
      current: status.replicas ?? 0,
      ready: status.readyReplicas ?? 0,
      generation: metadata.generation,
    };
  }

  /**
   * Waits until a workload is in the wanted state.
   *
   * @param deadlineMs longest wait in milliseconds
   * @throws Error with the last state
   */
  async until(
    namespace: string,
    name: string,
    wanted: (state: TargetState) => boolean,
    deadlineMs: number,
    resource: WorkloadResource = "deployments",
  ): Promise<TargetState> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const state = await this.targetState(namespace, name, resource);
      if (state && wanted(state)) return state;
      if (performance.now() > deadline) {
        throw new Error(`${resource} ${namespace}/${name} after ${deadlineMs} ms: ${JSON.stringify(state)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Changes the image, which decides how new pods behave (`kubernetes/README.md`). */
  async setImage(namespace: string, name: string, image: string): Promise<void> {
    const spec = { template: { spec: { containers: [{ name: "agent", image }] } } };
    await this.#plane.request("PATCH", path(namespace, name), { spec });
  }

  /** Sets a workload's replicas as administrator, with another field manager than the operator's. */
  async scaleTarget(
    namespace: string,
    name: string,
    replicas: number,
    { manager = "kubectl", resource = "deployments" }: { manager?: string; resource?: WorkloadResource } = {},
  ): Promise<void> {
    const scale = `${path(namespace, name, resource)}/scale?fieldManager=${manager}`;
    await this.#plane.request("PATCH", scale, { spec: { replicas } });
  }

  /** Limits the number of pods in a namespace with a ResourceQuota, which is in force on return. */
  async limitPods(namespace: string, pods: number): Promise<void> {
    const quotas = `/api/v1/namespaces/${namespace}/resourcequotas`;
    await this.#plane.request("POST", quotas, { metadata: { name: "compute" }, spec: { hard: { pods: `${pods}` } } });
    await eventually(async () => {
      const { status } = await this.#plane.request("GET", `${quotas}/compute`);
      if (status?.hard === undefined) throw new HttpError(`the quota of ${namespace} is not in force`, 404, "");
    });
  }

  /** Has an autoscaler keep a Deployment at this many replicas. It leaves a Deployment at 0 alone. */
  async autoscale(namespace: string, name: string, replicas: number): Promise<void> {
    const scaleTargetRef = { apiVersion: "apps/v1", kind: "Deployment", name };
    await this.#plane.request("POST", `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers`, {
      metadata: { name },
      spec: { scaleTargetRef, minReplicas: replicas, maxReplicas: replicas },
    });
  }

  /** Waits until an autoscaler has noticed that its Deployment is at 0. */
  async untilAutoscalerRests(namespace: string, name: string): Promise<void> {
    await eventually(async () => {
      const path = `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers/${name}`;
      const { conditions = [] } = (await this.#plane.request("GET", path)).status;
      const rests = conditions.some(({ reason }: { reason: string }) => reason === "ScalingDisabled");
      if (!rests) throw new HttpError(`the autoscaler ${name} has not seen it`, 404, "");
    });
  }

  /** Events on an object written by one component, oldest first. */
  async #events(namespace: string, name: string, component: string): Promise<readonly ClusterEvent[]> {
    const about = `involvedObject.name%3D${name}`;
    const { items } = await this.#plane.request("GET", `/api/v1/namespaces/${namespace}/events?fieldSelector=${about}`);
    const own: ClusterEvent[] = items.filter(({ source }: { source?: { component?: string } }) =>
      source?.component === component
    );
    return own.sort((one, other) => one.eventTime < other.eventTime ? -1 : 1);
  }

  /** Waits until the latest of these Events has the given reason. Events are written asynchronously. */
  async untilEvent(namespace: string, name: string, component: string, reason: string): Promise<ClusterEvent> {
    return await eventually(async () => {
      const latest = (await this.#events(namespace, name, component)).at(-1);
      if (latest?.reason === reason) return latest;
      throw new HttpError(`the latest Event on ${name} is for ${latest?.reason}, not ${reason}`, 404, "");
    });
  }

  /** Writes to a Deployment's scale, oldest first; undefined on an existing cluster. */
  async scaleWrites(namespace: string, name: string): Promise<ScaleWrite[] | undefined> {
    if (!this.#plane.auditLog) return undefined;
    const log = await Deno.readTextFile(this.#plane.auditLog);
    return log.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line)).filter(({ objectRef }) =>
      objectRef.namespace === namespace && objectRef.name === name && objectRef.subresource === "scale"
    ).map(({ user, responseStatus, requestObject }) => ({
      user: user.username,
      status: responseStatus.code,
      replicas: requestObject.spec.replicas,
    }));
  }

  /**
   * Creates a ServiceAccount with its own Role, and waits until the API server applies it.
   *
   * @param rules its permissions in the namespace
   */
  async serviceAccount(namespace: string, name: string, rules: readonly Rule[]): Promise<ServiceAccount> {
    await this.#createNamespace(namespace);
    const { request } = this.#plane;
    const core = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
    const metadata = { name };
    await request("POST", core, { metadata });
    await request("POST", `${rbac}/roles`, { metadata, rules });
    await request("POST", `${rbac}/rolebindings`, {
      metadata,
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", namespace, name }],
    });
    return await this.credentialsOf(namespace, name, rules);
  }

  /**
   * Gets a token of an existing ServiceAccount, once the API server applies its Role.
   *
   * @param rules its permissions in the namespace
   */
  async credentialsOf(namespace: string, name: string, rules: readonly Rule[]): Promise<ServiceAccount> {
    await this.untilAllowed(namespace, `system:serviceaccount:${namespace}:${name}`, rules);
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const { status } = await this.#plane.request("POST", path, { spec: { expirationSeconds: 3_600 } });
    return await this.#writeCredentials(namespace, name, status.token);
  }

  /** Deletes what was created on an existing cluster. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#plane.auditLog) return;
    for (const namespace of this.#namespaces) await this.#plane.request("DELETE", `/api/v1/namespaces/${namespace}`);
  }

  async #createNamespace(name: string): Promise<void> {
    if (this.#namespaces.has(name)) return;
    await this.#plane.request("POST", "/api/v1/namespaces", { metadata: { name } });
    this.#namespaces.add(name);
    // Pods are refused until the namespace has its default ServiceAccount.
    await eventually(() => this.#plane.request("GET", `/api/v1/namespaces/${name}/serviceaccounts/default`));
  }

  /** Waits until the API server applies these rules to a user. */
  async untilAllowed(namespace: string, user: string, rules: readonly Rule[]): Promise<void> {
    for (const { apiGroups, resources, resourceNames, verbs } of rules) {
      const [resource, subresource] = (resources[0] ?? "").split("/");
      const resourceAttributes = {
        ...{ namespace, group: apiGroups[0], resource, subresource, name: resourceNames?.[0], verb: verbs[0] },
      };
      await eventually(async () => {
        const review = { spec: { user, resourceAttributes } };
        const { status } = await this.#plane.request(
          "POST",
          "/apis/authorization.k8s.io/v1/subjectaccessreviews",
          review,
        );
        if (!status.allowed) throw new HttpError(`${user} ${verbs[0]} ${resources[0]}`, 403, status.reason ?? "");
      });
    }
  }

  async #writeCredentials(namespace: string, name: string, token: string): Promise<ServiceAccount> {
    const folder = join(this.#folder, `${namespace}-${name}`);
    await Deno.mkdir(folder, { recursive: true });
    const kubeconfig = join(this.#folder, `${namespace}-${name}.kubeconfig`);
    const { authority, url: server } = this.#plane;
    const cluster = { server, ...(authority ? { "certificate-authority-data": btoa(authority) } : {}) };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "cluster", cluster }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: "cluster", user: name, namespace } }],
      "current-context": name,
    };
    await Deno.writeTextFile(kubeconfig, JSON.stringify(config, null, 2), { mode: 0o600 });
    await Deno.writeTextFile(join(folder, "token"), token, { mode: 0o600 });
    await Deno.writeTextFile(join(folder, "ca.crt"), authority);
    await Deno.writeTextFile(join(folder, "namespace"), namespace);
    return { token, kubeconfig, folder };
  }
}

function path(namespace: string, name: string, resource: WorkloadResource = "deployments"): string {
  return `/apis/apps/v1/namespaces/${namespace}/${resource}/${name}`.replace(/\/$/, "");
}

/** Repeats a request that the API server may not be able to answer yet. */
async function eventually<Result>(request: () => Promise<Result>): Promise<Result> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof HttpError) || performance.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
