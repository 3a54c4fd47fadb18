/**
 * What controllers, scheduler and kubelet do: make and end pods until there are as many as wanted, lead each pod from
 * Pending through Running to ready, and write the workload's status. Pods run nothing. There are no ReplicaSets.
 *
 * @module
 */

import { type KubernetesObject, now, type ObjectStore } from "./objects.ts";

/** How long things take, in milliseconds. May be changed at any time. */
export interface Durations {
  /** From a pod's creation until it is ready; it is Running from the middle of that time. */
  startMs: number;
  /** From the order to end a pod until it is gone. */
  stopMs: number;
  /** From a change until the controller has looked at it. */
  observeMs: number;
}

/** Plural name of a kind of workload. */
export type WorkloadResource = "deployments" | "statefulsets";

/** Kinds of workload by their plural names. */
export const WORKLOADS: Readonly<Record<WorkloadResource, string>> = {
  deployments: "Deployment",
  statefulsets: "StatefulSet",
};

/** Keeps the pods of all workloads as they should be, until it is disposed of. */
export class Rollouts implements Disposable {
  readonly #store: ObjectStore;
  readonly #durations: Durations;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #due = new Set<string>();
  readonly #listening: Disposable;

  /** Begins to look after the workloads of a store. */
  constructor(store: ObjectStore, durations: Durations) {
    this.#store = store;
    this.#durations = durations;
    this.#listening = store.listen(({ resource, object }) => {
      const { namespace, name, ownerReferences } = object.metadata;
      if (resource in WORKLOADS) this.#soon(resource as WorkloadResource, namespace, name);
      if (resource !== "pods") return;
      const { kind, name: owner } = ownerReferences[0];
      this.#soon(kind === "StatefulSet" ? "statefulsets" : "deployments", namespace, owner);
    });
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    this.#timers.forEach(clearTimeout);
  }

  /** Orders a pod to end. */
  end(pod: KubernetesObject): void {
    if (pod.metadata.deletionTimestamp !== undefined) return;
    const ending = { ...pod, metadata: { ...pod.metadata, deletionTimestamp: now(), deletionGracePeriodSeconds: 30 } };
    this.#store.put("pods", ending);
    this.#after(this.#durations.stopMs, () => this.#store.remove("pods", pod));
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  #soon(resource: WorkloadResource, namespace: string, name: string): void {
    const key = `${resource}/${namespace}/${name}`;
    if (this.#due.has(key)) return;
    this.#due.add(key);
    this.#after(this.#durations.observeMs, () => {
      this.#due.delete(key);
      this.#reconcile(resource, namespace, name);
    });
  }

  #reconcile(resource: WorkloadResource, namespace: string, name: string): void {
    const workload = this.#store.get(resource, namespace, name);
    const pods = this.#store.list("pods", namespace).filter((pod) => {
      const owner = pod.metadata.ownerReferences[0];
      return owner.kind === WORKLOADS[resource] && owner.name === name;
    });
    const living = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (workload === undefined) return living.forEach((pod) => this.end(pod));

    const surplus = living.length - workload.spec?.replicas;
    if (resource === "statefulsets") this.#stepStatefulSet(workload, pods, surplus);
    else if (surplus > 0) {
      // Those that are not ready go first, then the youngest.
      const order = living.toReversed().sort((a, b) => Number(isReady(a)) - Number(isReady(b)));
      order.slice(0, surplus).forEach((pod) => this.end(pod));
    } else {
      for (let missing = -surplus; missing > 0; missing -= 1) this.#begin(workload, `${name}-5d4f8c7b9-${letters()}`);
    }
    this.#report(resource, namespace, name);
  }

  /** One pod at a time, by number: the next begins when all before it are ready, and the highest ends first. */
  #stepStatefulSet(workload: KubernetesObject, pods: KubernetesObject[], surplus: number): void {
    if (pods.some((pod) => pod.metadata.deletionTimestamp !== undefined)) return;
    const numbered = pods.toSorted((a, b) => ordinal(a) - ordinal(b));
    const highest = numbered.at(-1);
    if (surplus > 0 && highest !== undefined) return this.end(highest);
    if (surplus === 0 || !pods.every(isReady)) return;
    const free = numbered.findIndex((pod, index) => ordinal(pod) !== index);
    this.#begin(workload, `${workload.metadata.name}-${free === -1 ? pods.length : free}`);
  }

  #begin(workload: KubernetesObject, name: string): void {
    const { namespace, uid } = workload.metadata;
    const created = this.#store.put("pods", {
      kind: "Pod",
      apiVersion: "v1",
      metadata: {
        name,
        namespace,
        labels: { ...workload.spec?.template?.metadata?.labels },
        ownerReferences: [{
          apiVersion: "apps/v1",
          kind: workload.kind,
          name: workload.metadata.name,
          uid,
          controller: true,
        }],
      },
      spec: { ...workload.spec?.template?.spec, nodeName: "sandbox" },
      status: podStatus(workload, "creating"),
    });
    const become = (phase: PodPhase) => () => {
      const pod = this.#store.get("pods", namespace, name);
      if (
        pod === undefined || pod.metadata.uid !== created.metadata.uid || pod.metadata.deletionTimestamp !== undefined
      ) return;
      this.#store.put("pods", { ...pod, status: podStatus(workload, phase) });
    };
    this.#after(this.#durations.startMs / 2, become("running"));
    this.#after(this.#durations.startMs, become("ready"));
  }

  #report(resource: WorkloadResource, namespace: string, name: string): void {
    const workload = this.#store.get(resource, namespace, name);
    if (workload === undefined) return;
    const pods = this.#store.list("pods", namespace).filter((pod) => {
      return pod.metadata.ownerReferences[0].uid === workload.metadata.uid;
    });
    const living = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    const wanted: number = workload.spec?.replicas;
    const ready = living.filter(isReady).length;
    const observed = { observedGeneration: workload.metadata.generation };
    const status = resource === "statefulsets"
      ? {
        ...observed,
        replicas: pods.length,
        ...unlessZero({ readyReplicas: ready, currentReplicas: pods.length, updatedReplicas: pods.length }),
        availableReplicas: ready,
        collisionCount: 0,
      }
      : {
        ...observed,
        ...unlessZero({ replicas: living.length, updatedReplicas: living.length, readyReplicas: ready }),
        ...unlessZero({ availableReplicas: ready, unavailableReplicas: Math.max(0, wanted - ready) }),
        terminatingReplicas: pods.length - living.length,
        conditions: [availability(workload, ready >= wanted)],
      };
    this.#store.put(resource, { ...workload, status });
  }
}

/** A pod counts as ready. */
export function isReady(pod: KubernetesObject): boolean {
  const conditions: { type: string; status: string }[] = pod.status?.conditions ?? [];
  return conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

type PodPhase = "creating" | "running" | "ready";

function podStatus(workload: KubernetesObject, phase: PodPhase) {
  const state = phase === "creating" ? { waiting: { reason: "ContainerCreating" } } : { running: { startedAt: now() } };
  const ready = phase === "ready";
  const readiness = { status: ready ? "True" : "False", ...(ready ? {} : { reason: "ContainersNotReady" }) };
  const containers: { name: string; image: string }[] = workload.spec?.template?.spec?.containers ?? [];
  return {
    phase: phase === "creating" ? "Pending" : "Running",
    conditions: [
      { type: "PodScheduled", status: "True", lastTransitionTime: now() },
      { type: "ContainersReady", ...readiness, lastTransitionTime: now() },
      { type: "Ready", ...readiness, lastTransitionTime: now() },
    ],
    containerStatuses: containers.map(({ name, image }) => ({
      name,
      image,
      ready,
      restartCount: 0,
      state,
      lastState: {},
    })),
  };
}

function availability(workload: KubernetesObject, available: boolean) {
  const status = available ? "True" : "False";
  const before = workload.status?.conditions?.[0];
  if (before?.status === status) return before;
  const reason = available ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable";
  return { type: "Available", status, reason, lastTransitionTime: now() };
}

/** Zero counts of a status do not go over the wire. */
function unlessZero(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0));
}

function ordinal(pod: KubernetesObject): number {
  return Number(pod.metadata.name.slice(pod.metadata.name.lastIndexOf("-") + 1));
}

/** Five random letters, as generated names end in. */
export function letters(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => "bcdfghjklmnpqrstvwxz"[byte % 20]).join("");
}
