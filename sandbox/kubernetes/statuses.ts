/**
 * Workload statuses: counts and conditions, with the controllers' own messages.
 *
 * @module
 */

import { type KubernetesObject, now } from "./objects.ts";

/** What a Deployment's status needs besides its pods. */
interface DeploymentFacts {
  /** Name of the current ReplicaSet. */
  readonly name: string;
  /** Whether a pod belongs to the current ReplicaSet. */
  readonly isPresent: (pod: KubernetesObject) => boolean;
  /** Why pods were refused; undefined if none was. */
  readonly refusal: string | undefined;
}

/** A condition (Kubernetes API, apps/v1 DeploymentCondition). */
interface Condition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
  readonly lastUpdateTime: string;
  readonly lastTransitionTime: string;
}

/** Returns the status of a Deployment. */
export function deploymentStatus(
  workload: KubernetesObject,
  pods: KubernetesObject[],
  facts: DeploymentFacts,
): Record<string, unknown> {
  const living = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const updated = living.filter(facts.isPresent).length;
  const ready = living.filter(isReady).length;
  const wanted: number = workload.spec?.replicas;
  return {
    observedGeneration: workload.metadata.generation,
    ...unlessZero({
      replicas: living.length,
      updatedReplicas: updated,
      readyReplicas: ready,
      availableReplicas: ready,
    }),
    ...unlessZero({ unavailableReplicas: Math.max(0, Math.max(wanted, living.length) - ready) }),
    terminatingReplicas: pods.length - living.length,
    conditions: conditionsOf(workload, facts, { living: living.length, updated, ready }),
  };
}

/** Returns the status of a StatefulSet. */
export function statefulSetStatus(
  workload: KubernetesObject,
  pods: KubernetesObject[],
  { revision, isPresent }: { revision: string; isPresent: (pod: KubernetesObject) => boolean },
): Record<string, unknown> {
  const ready = pods.filter((pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined).length;
  const updated = pods.filter(isPresent).length;
  // The former revision stays current until it has no pods left.
  const current = updated === pods.length ? revision : workload.status?.currentRevision ?? revision;
  const currentReplicas = current === revision ? updated : pods.length - updated;
  return {
    observedGeneration: workload.metadata.generation,
    replicas: pods.length,
    ...unlessZero({ readyReplicas: ready, currentReplicas, updatedReplicas: updated }),
    availableReplicas: ready,
    currentRevision: current,
    updateRevision: revision,
    collisionCount: 0,
  };
}

/** Whether a pod is ready. */
export function isReady(pod: KubernetesObject): boolean {
  const conditions: { type: string; status: string }[] = pod.status?.conditions ?? [];
  return conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

function conditionsOf(
  workload: KubernetesObject,
  { name, refusal }: DeploymentFacts,
  { living, updated, ready }: { living: number; updated: number; ready: number },
): Condition[] {
  const wanted: number = workload.spec?.replicas;
  let conditions: Condition[] = workload.status?.conditions ?? [];
  const set = (type: string, status: Condition["status"], reason: string, message: string) => {
    const before = conditions.find((each) => each.type === type);
    if (before?.status === status && before.reason === reason && before.message === message) return;
    const lastTransitionTime = before?.status === status ? before.lastTransitionTime : now();
    const condition = { type, status, lastUpdateTime: now(), lastTransitionTime, reason, message };
    conditions = [...conditions.filter((each) => each !== before), condition];
  };
  const progressing = conditions.find(({ type }) => type === "Progressing");
  const isOfPresent = progressing?.message.includes(`"${name}"`) === true;
  // Once complete, a rollout is reported as complete until the next template, whatever happens to its pods.
  if (updated === wanted && living === wanted && ready === wanted) {
    set("Progressing", "True", "NewReplicaSetAvailable", `ReplicaSet "${name}" has successfully progressed.`);
  } else if (!isOfPresent) set("Progressing", "True", "NewReplicaSetCreated", `Created new replica set "${name}"`);
  else if (progressing.reason !== "NewReplicaSetAvailable" && updated > 0) {
    set("Progressing", "True", "ReplicaSetUpdated", `ReplicaSet "${name}" is progressing.`);
  }
  if (ready >= wanted) set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
  else set("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");
  if (refusal === undefined) return conditions.filter(({ type }) => type !== "ReplicaFailure");
  // The first refusal is kept, although each attempt names another pod.
  if (!conditions.some(({ type }) => type === "ReplicaFailure")) set("ReplicaFailure", "True", "FailedCreate", refusal);
  return conditions;
}

/** Zero counts are omitted from a status. */
function unlessZero(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0));
}
