/**
 * The workload controllers: create and delete pods until the current revision has the desired number, within quota, and
 * write the workload's status. `kubelet.ts` decides what happens to a pod.
 *
 * @module
 */

import { nextStep, type PodDurations } from "./kubelet.ts";
import { type KubernetesObject, now, type ObjectStore } from "./objects.ts";
import { deploymentStatus, isReady, statefulSetStatus } from "./statuses.ts";

/** Durations, in milliseconds. May be changed at any time. */
export interface Durations extends PodDurations {
  /** From the deletion of a pod until it is gone. */
  stopMs: number;
  /** From a change until the controller handles it. */
  observeMs: number;
}

/** Plural name of a workload kind. */
export type WorkloadResource = "deployments" | "statefulsets";

/** Workload kinds by plural name. */
export const WORKLOADS: Readonly<Record<WorkloadResource, string>> = {
  deployments: "Deployment",
  statefulsets: "StatefulSet",
};

/** Delay before a controller retries a pod that was refused. */
const REFUSED_MS = 1_000;

/** Reconciles all workloads until disposed of. */
export class Rollouts implements Disposable {
  readonly #store: ObjectStore;
  readonly #durations: Durations;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #due = new Set<string>();
  readonly #listening: Disposable;
  /** Why a workload was refused a pod, by its uid. */
  readonly #refusals = new Map<string, string>();
  readonly #retrying = new Set<string>();

  /** Starts to reconcile the workloads of a store. */
  constructor(store: ObjectStore, durations: Durations) {
    this.#store = store;
    this.#durations = durations;
    this.#listening = store.listen(({ resource, object }) => {
      const { namespace, name } = object.metadata;
      if (resource in WORKLOADS) this.#soon(resource as WorkloadResource, namespace, name);
      if (resource !== "pods") return;
      const owner = ownerOf(object);
      if (owner.kind === "StatefulSet") return this.#soon("statefulsets", namespace, owner.name);
      const set = store.get("replicasets", namespace, owner.name);
      if (set !== undefined) this.#soon("deployments", namespace, ownerOf(set).name);
    });
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    this.#timers.forEach(clearTimeout);
  }

  /** Begins the deletion of a pod. */
  end(pod: KubernetesObject): void {
    if (!isLiving(pod)) return;
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
      const workload = this.#store.get(resource, namespace, name);
      this.#collect(resource, namespace, name, workload?.metadata.uid);
      if (workload === undefined) return;
      if (resource === "deployments") this.#keepDeployment(workload);
      else this.#keepStatefulSet(workload);
    });
  }

  /** Deletes what a deleted workload of that name owned. */
  #collect(resource: WorkloadResource, namespace: string, name: string, uid: string | undefined): void {
    const orphaned = (object: KubernetesObject) => {
      const owner = ownerOf(object);
      return owner.kind === WORKLOADS[resource] && owner.name === name && owner.uid !== uid;
    };
    const endAll = (selects: (pod: KubernetesObject) => boolean) =>
      this.#store.list("pods", namespace, selects).forEach((pod) => this.end(pod));
    endAll(orphaned);
    for (const set of this.#store.list("replicasets", namespace, orphaned)) {
      endAll((pod) => ownerOf(pod).uid === set.metadata.uid);
      this.#store.remove("replicasets", set);
    }
  }

  /**
   * Reconciles a Deployment: creates the desired pods of the current template. Pods of earlier templates are deleted as
   * they are replaced.
   */
  #keepDeployment(workload: KubernetesObject): void {
    const { namespace, name, uid } = workload.metadata;
    const wanted: number = workload.spec?.replicas;
    const set = this.#replicaSet(workload);
    const living = podsOf(this.#store, workload).filter(isLiving);
    const isPresent = (pod: KubernetesObject) => ownerOf(pod).uid === set.metadata.uid;
    const present = living.filter(isPresent);
    // Pods that are not ready are deleted first, then the youngest.
    const order = present.toReversed().sort((a, b) => Number(isReady(a)) - Number(isReady(b)));
    order.slice(0, Math.max(0, present.length - wanted)).forEach((pod) => this.end(pod));
    this.#refusals.delete(uid);
    for (let missing = wanted - present.length; missing > 0; missing -= 1) {
      const hash = set.metadata.labels["pod-template-hash"];
      this.#begin(workload, set, `${set.metadata.name}-${letters()}`, { "pod-template-hash": hash });
    }
    let spare = living.filter(isReady).length - wanted;
    for (const pod of living.filter((pod) => !isPresent(pod))) {
      if (!isReady(pod) || wanted === 0 || spare-- > 0) this.end(pod);
    }
    const pods = podsOf(this.#store, workload);
    const refusal = this.#refusals.get(uid);
    const status = deploymentStatus(workload, pods, { name: set.metadata.name, isPresent, refusal });
    this.#store.put("deployments", { ...workload, status });
    if (refusal === undefined || this.#retrying.has(uid)) return;
    this.#retrying.add(uid);
    this.#after(REFUSED_MS, () => {
      this.#retrying.delete(uid);
      this.#soon("deployments", namespace, name);
    });
  }

  /** Returns the ReplicaSet of the current template, creating it if necessary. */
  #replicaSet(workload: KubernetesObject): KubernetesObject {
    const { namespace, name } = workload.metadata;
    const hash = hashOf(workload.spec?.template);
    const labels = { ...workload.spec?.template?.metadata?.labels, "pod-template-hash": hash };
    const known = this.#store.get("replicasets", namespace, `${name}-${hash}`);
    return known ?? this.#store.put("replicasets", {
      kind: "ReplicaSet",
      apiVersion: "apps/v1",
      metadata: { name: `${name}-${hash}`, namespace, labels, ownerReferences: [ownedBy(workload)] },
    });
  }

  /**
   * Reconciles a StatefulSet, one pod at a time in ordinal order. A pod is created when all before it are ready; the
   * highest is deleted first.
   */
  #keepStatefulSet(workload: KubernetesObject): void {
    const { name } = workload.metadata;
    const revision = `${name}-${hashOf(workload.spec?.template)}`;
    const isPresent = (pod: KubernetesObject) => pod.metadata.labels["controller-revision-hash"] === revision;
    const pods = podsOf(this.#store, workload).toSorted((a, b) => ordinal(a) - ordinal(b));
    const surplus = pods.length - workload.spec?.replicas;
    const last = surplus > 0 ? pods.at(-1) : pods.every(isReady) ? pods.findLast((pod) => !isPresent(pod)) : undefined;
    if (pods.every(isLiving)) {
      if (last !== undefined) this.end(last);
      else if (surplus < 0 && pods.every(isReady)) {
        const free = pods.findIndex((pod, index) => ordinal(pod) !== index);
        const index = `${free === -1 ? pods.length : free}`;
        this.#begin(workload, workload, `${name}-${index}`, {
          "apps.kubernetes.io/pod-index": index,
          "controller-revision-hash": revision,
          "statefulset.kubernetes.io/pod-name": `${name}-${index}`,
        });
      }
    }
    const status = statefulSetStatus(workload, podsOf(this.#store, workload), { revision, isPresent });
    this.#store.put("statefulsets", { ...workload, status });
  }

  #begin(workload: KubernetesObject, owner: KubernetesObject, name: string, labels: Record<string, string>): void {
    const { namespace, uid } = workload.metadata;
    const exceeded = this.#exceededQuota(namespace);
    if (exceeded !== undefined) return void this.#refusals.set(uid, `pods "${name}" is forbidden: ${exceeded}`);
    const { metadata, spec } = workload.spec?.template ?? {};
    const pod: KubernetesObject = {
      kind: "Pod",
      apiVersion: "v1",
      metadata: { name, namespace, labels: { ...metadata?.labels, ...labels }, ownerReferences: [ownedBy(owner)] },
      spec: { ...spec, nodeName: "sandbox" },
    };
    const { status, waitMs } = nextStep(pod, this.#durations);
    const created = this.#store.put("pods", { ...pod, status });
    if (waitMs !== undefined) this.#after(waitMs, () => this.#play(created));
  }

  #play({ metadata: { namespace, name, uid } }: KubernetesObject): void {
    const pod = this.#store.get("pods", namespace, name);
    if (pod === undefined || pod.metadata.uid !== uid || !isLiving(pod)) return;
    const { status, waitMs } = nextStep(pod, this.#durations);
    this.#store.put("pods", { ...pod, status });
    if (waitMs !== undefined) this.#after(waitMs, () => this.#play(pod));
  }

  /** Returns the quota's message if it doesn't allow another pod. */
  #exceededQuota(namespace: string): string | undefined {
    const used = this.#store.list("pods", namespace).length;
    const over = this.#store.list("resourcequotas", namespace).find(({ spec }) => used >= Number(spec?.hard?.pods));
    if (over === undefined) return undefined;
    return `exceeded quota: ${over.metadata.name}, requested: pods=1, used: pods=${used}, ` +
      `limited: pods=${over.spec?.hard.pods}`;
  }
}

/** Returns the pods of a workload, of all revisions, oldest first. */
export function podsOf(store: ObjectStore, { kind, metadata }: KubernetesObject): KubernetesObject[] {
  const sets = store.list("replicasets", metadata.namespace, (set) => ownerOf(set).uid === metadata.uid);
  const owners = kind === "Deployment" ? sets.map((set) => set.metadata.uid) : [metadata.uid];
  return store.list("pods", metadata.namespace, (pod) => owners.includes(ownerOf(pod).uid));
}

function ownerOf(object: KubernetesObject): { kind: string; name: string; uid: string } {
  return object.metadata.ownerReferences[0];
}

function ownedBy({ kind, metadata: { name, uid } }: KubernetesObject): Record<string, unknown> {
  return { apiVersion: "apps/v1", kind, name, uid, controller: true, blockOwnerDeletion: true };
}

function isLiving({ metadata }: KubernetesObject): boolean {
  return metadata.deletionTimestamp === undefined;
}

function ordinal(pod: KubernetesObject): number {
  return Number(pod.metadata.name.slice(pod.metadata.name.lastIndexOf("-") + 1));
}

/** Returns a short hash of a template (FNV-1a). */
function hashOf(template: unknown): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(JSON.stringify(template))) hash = Math.imul(hash ^ byte, 0x01000193);
  return [...`${hash >>> 0}`].map((digit) => "bcdf456789"[Number(digit)]).join("");
}

/** Returns five random letters, as at the end of generated names. */
export function letters(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => "bcdfghjklmnpqrstvwxz"[byte % 20]).join("");
}
