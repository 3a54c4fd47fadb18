/**
 * What keeps a workload from being ready, read from the workload and its pods. Of what a container says of itself
 * nothing is repeated. Knows nothing of requests.
 *
 * @module
 */

import type { Obstacle, Target } from "../operator/mod.ts";
import { count, type Fields, fields, items, text } from "./objects.ts";

/** Reasons for which a container waits (kubelet), what they are about, and whether they stay. */
const WAITING: ReadonlyMap<string, readonly [kind: "image" | "container-config", certain: boolean]> = new Map([
  ["InvalidImageName", ["image", true]],
  ["ImagePullBackOff", ["image", true]],
  ["ErrImageNeverPull", ["image", true]],
  ["ErrImagePull", ["image", false]],
  ["ImageInspectError", ["image", false]],
  ["RegistryUnavailable", ["image", false]],
  ["CreateContainerConfigError", ["container-config", true]],
  ["CreateContainerError", ["container-config", true]],
]);
/** The longest line; also in UTF-8 it is shorter than what an Event may hold. */
const LINE_LENGTH = 300;

/**
 * What is in the way, the most certain first. Only a status that is current counts, and only living pods of the present
 * revision do.
 *
 * @param workload Deployment or StatefulSet
 * @param pods all that its selector selects; none if they may not be read
 */
export function obstaclesOf(kind: Target["kind"], workload: Fields, pods: readonly Fields[]): Obstacle[] {
  const status = fields(workload.status);
  const generation = count(fields(workload.metadata).generation) ?? 0;
  if ((count(status.observedGeneration) ?? 0) < generation || fields(workload.spec).replicas === 0) return [];

  const ending = pods.some(isTerminating) || (count(status.terminatingReplicas) ?? 0) > 0;
  const found = [
    ...presentPods(kind, status, pods).flatMap(ofPod),
    ...items(status.conditions).flatMap((condition) => ofCondition(condition, ending)),
  ];
  const rank = ({ certain, kind }: Obstacle) => (certain ? 0 : 2) + (kind === "other" ? 1 : 0);
  found.sort((one, other) => rank(one) - rank(other) || (other.restarts ?? 0) - (one.restarts ?? 0));
  const same = (one: Obstacle, other: Obstacle) =>
    one.kind === other.kind && one.reason === other.reason && one.image === other.image;
  return found.filter((each, index) => found.findIndex((other) => same(each, other)) === index);
}

/**
 * A Deployment's present ReplicaSet is named in its Progressing condition, unless an earlier one came back while the
 * count was 0: then the condition is out of date, and the newest pod tells.
 */
function presentPods(kind: Target["kind"], status: Fields, pods: readonly Fields[]): readonly Fields[] {
  const living = pods.filter((pod) =>
    !isTerminating(pod) && !["Failed", "Succeeded"].includes(text(fields(pod.status).phase))
  );
  const label = (pod: Fields, name: string) => text(fields(fields(pod.metadata).labels)[name]);
  if (kind === "statefulset") {
    return living.filter((pod) => label(pod, "controller-revision-hash") === text(status.updateRevision));
  }
  // While an earlier ReplicaSet comes back, the condition is out of date for a moment. None of its pods is counted yet.
  if (!count(status.updatedReplicas)) return [];
  const hash = (pod: Fields) => label(pod, "pod-template-hash");
  const progressing = items(status.conditions).find(({ type }) => type === "Progressing");
  const named = /replica ?set "[^"]*?([^"-]+)"/i.exec(text(progressing?.message))?.[1];
  const present = living.filter((pod) => hash(pod) === named);
  if (present.length > 0) return present;
  const born = (pod: Fields) => text(fields(pod.metadata).creationTimestamp);
  const newest = living.reduce((one, other) => born(other) > born(one) ? other : one, living[0] ?? {});
  return living.filter((pod) => hash(pod) === hash(newest));
}

function isTerminating(pod: Fields): boolean {
  return text(fields(pod.metadata).deletionTimestamp) !== "";
}

function ofPod(pod: Fields): Obstacle[] {
  const status = fields(pod.status);
  const unmet = (wanted: string) =>
    items(status.conditions).find((each) => each.type === wanted && each.status === "False");
  const scheduled = unmet("PodScheduled");
  if (scheduled !== undefined) return [obstacle("unschedulable", false, scheduled)];
  const containers = [...items(status.initContainerStatuses), ...items(status.containerStatuses)].flatMap(ofContainer);
  const ready = unmet("Ready");
  return containers.length > 0 || ready === undefined ? containers : [obstacle("other", false, ready)];
}

function ofContainer(status: Fields): Obstacle[] {
  if (status.ready === true) return [];
  const state = fields(status.state);
  const waiting = fields(state.waiting);
  const reason = text(waiting.reason);
  const [kind, certain = false] = WAITING.get(reason) ?? [];
  if (kind === "image") return [{ ...obstacle(kind, certain, waiting), ...known("image", text(status.image)) }];
  if (kind !== undefined) {
    // The kubelet has given up waiting for something, and tries again.
    const late = /timed out|deadline exceeded/.test(text(waiting.message));
    return [obstacle(kind, certain && !late, waiting)];
  }
  const ended = fields(state.terminated ?? fields(status.lastState).terminated);
  if (typeof ended.exitCode === "number") return [crash(ended, reason, state, count(status.restartCount) ?? 0)];
  return reason === "" ? [] : [obstacle("other", false, waiting)];
}

/** A container is started anew at once after its first end; after the second it is a loop. */
function crash(ended: Fields, waitingFor: string, state: Fields, restarts: number): Obstacle {
  const outOfMemory = ended.reason === "OOMKilled";
  const inLoop = waitingFor === "CrashLoopBackOff";
  const reason = inLoop && !outOfMemory ? waitingFor : text(ended.reason);
  // Of these the runtime speaks; of all others it may be the container's own log.
  const message = ["StartError", "ContainerCannotRun"].includes(text(ended.reason)) ? ended.message : undefined;
  return {
    ...obstacle(outOfMemory ? "out-of-memory" : "crash", restarts > 0 && (inLoop || Boolean(state.terminated)), {
      reason,
      message,
    }),
    exitCode: Number(ended.exitCode),
    restarts,
  };
}

/** Conditions of a Deployment (Kubernetes API, apps/v1 DeploymentCondition). A StatefulSet has none. */
function ofCondition(condition: Fields, ending: boolean): Obstacle[] {
  const message = text(condition.message);
  if (condition.type === "ReplicaFailure" && condition.status === "True") {
    // Admission has said no, and will again; but what a pod that ends still holds will soon be free.
    const certain = / is forbidden: /.test(message) && !ending;
    return [obstacle(/exceeded quota/.test(message) ? "quota" : "other", certain, condition)];
  }
  // It may stem from an earlier rollout, so it is never certain.
  return condition.type === "Progressing" && condition.status === "False" ? [obstacle("other", false, condition)] : [];
}

function obstacle(kind: Obstacle["kind"], certain: boolean, { reason, message }: Fields): Obstacle {
  return { kind, certain, reason: text(reason) || "Unknown", ...known("message", oneLine(text(message))) };
}

function known<Name extends string>(name: Name, value: string): { readonly [_ in Name]?: string } {
  return value === "" ? {} : { [name]: value } as { readonly [_ in Name]: string };
}

/** One line without control characters and without the queries of URLs, which may be signed. */
export function oneLine(message: string): string {
  const line = message.replace(/[\p{C}\s]+/gu, " ").replace(/(https?:\/\/[^\s"'?]+)\?[^\s"']*/g, "$1").trim();
  return line.length > LINE_LENGTH ? `${line.slice(0, LINE_LENGTH - 1).toWellFormed()}…` : line;
}
