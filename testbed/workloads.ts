/**
 * Workloads that tests create in a cluster, what interferes with them, and their state. Works on any control plane.
 *
 * @module
 */

import type { ControlPlane } from "./cluster.ts";
import { eventually, type Namespaces } from "./namespaces.ts";
import { HttpError } from "./network.ts";

/** Plural name of a kind of workload. */
export type WorkloadResource = "deployments" | "statefulsets";

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

/** Creates, changes and reads workloads. */
export class Workloads {
  readonly #plane: ControlPlane;
  readonly #namespaces: Namespaces;

  constructor(plane: ControlPlane, namespaces: Namespaces) {
    this.#plane = plane;
    this.#namespaces = namespaces;
  }

  /** Creates a workload, and waits until its controller has observed it. */
  async createTarget(options: TargetOptions): Promise<void> {
    const { namespace, name, resource = "deployments" } = options;
    await this.#namespaces.create(namespace);
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
}

function path(namespace: string, name: string, resource: WorkloadResource = "deployments"): string {
  return `/apis/apps/v1/namespaces/${namespace}/${resource}/${name}`.replace(/\/$/, "");
}
