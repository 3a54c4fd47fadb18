/**
 * Diagnoses why a workload isn't ready, from the workload and its pods. Never repeats text that a container wrote
 * itself.
 *
 * @module
 */

import { PermissionError } from "../errors.ts";
import { count, type Json, list, object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";
import { namespacedPath, type Workload } from "./workloads.ts";

/** Why a workload isn't ready. */
export interface Diagnosis {
  /** Problems, most certain first. Empty if, as far as we can see, it only needs time. */
  readonly problems: readonly Problem[];
  /** The permission that would tell more, such as `list pods in namespace "clawdbot"`; undefined if we have it. */
  readonly missingPermission: string | undefined;
}

/** One problem, in the cluster's own words. */
export interface Problem {
  /** Category of the problem. */
  readonly kind: "image" | "container-config" | "crash" | "out-of-memory" | "unschedulable" | "quota" | "other";
  /** It won't resolve by itself. */
  readonly certain: boolean;
  /** The cluster's reason, such as `ImagePullBackOff`. */
  readonly reason: string;
  /** The cluster's message, cut to one line. */
  readonly message?: string;
  /** The image that can't be pulled. */
  readonly image?: string;
  /** Exit code of the container's last termination. */
  readonly exitCode?: number;
  /** How often the container has been restarted. */
  readonly restarts?: number;
}

/** The kubelet's waiting reasons: their category, and whether they persist. */
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
/** Longest line, in characters. Even in UTF-8 it stays below the limit of an Event's message. */
const LINE_LENGTH = 300;
/** Only this much of a message is processed. A registry or a webhook can write messages of any length. */
const MESSAGE_LENGTH = 4_096;

/**
 * Diagnoses a workload, from its pods too if they may be listed.
 *
 * @param missingPermission is known to be missing, so that pods are not asked for
 * @throws TransientError | RejectedError if the pods can't be listed for another reason
 */
export async function diagnose(
  api: KubernetesApi,
  workload: Workload,
  seen: Json,
  missingPermission: string | undefined,
  signal: AbortSignal,
): Promise<Diagnosis> {
  const unlisted = { pods: [], missingPermission };
  const listed = missingPermission === undefined ? await listPods(api, workload, seen, signal) : unlisted;
  return {
    problems: problemsOf(workload.kind, seen, listed.pods),
    missingPermission: listed.missingPermission,
  };
}

/** Lists the pods that a workload selects; none if that is forbidden. */
async function listPods(
  api: KubernetesApi,
  workload: Workload,
  seen: Json,
  signal: AbortSignal,
): Promise<{ readonly pods: readonly Json[]; readonly missingPermission: string | undefined }> {
  const selector = encodeURIComponent(selectorOf(object(seen.spec)));
  const { path, resource } = namespacedPath(workload, "pods");
  const call = { verb: "list", resource, method: "GET", path: `${path}?labelSelector=${selector}` } as const;
  try {
    const { items } = await api.request(call, signal);
    return { pods: list(items).map(object), missingPermission: undefined };
  } catch (error) {
    if (!(error instanceof PermissionError)) throw error;
    return { pods: [], missingPermission: `${error.verb} ${error.resource}` };
  }
}

/** Formats a workload's selector as a query parameter (Kubernetes API, label selectors). */
function selectorOf({ selector }: Json): string {
  const { matchLabels, matchExpressions } = object(selector);
  const equal = Object.entries(object(matchLabels)).map(([label, value]) => `${label}=${value}`);
  const others = items(matchExpressions).map(({ key, operator, values }) => {
    if (operator === "Exists") return `${key}`;
    return operator === "DoesNotExist" ? `!${key}` : `${key} ${operator === "In" ? "in" : "notin"} (${values})`;
  });
  return [...equal, ...others].join(",");
}

/**
 * Finds a workload's problems, most certain first. A stale status is ignored, and so are pods that are terminating,
 * finished, or of another revision.
 *
 * @param workload Deployment or StatefulSet
 * @param pods all pods that its selector matches; empty if they may not be listed
 */
export function problemsOf(kind: Workload["kind"], workload: Json, pods: readonly Json[]): Problem[] {
  const status = object(workload.status);
  const generation = count(object(workload.metadata).generation) ?? 0;
  if ((count(status.observedGeneration) ?? 0) < generation || object(workload.spec).replicas === 0) return [];

  const ending = pods.some(isTerminating) || (count(status.terminatingReplicas) ?? 0) > 0;
  const found = [
    ...presentPods(kind, workload, pods).flatMap(ofPod),
    ...items(status.conditions).flatMap((condition) => ofCondition(condition, ending)),
  ];
  const rank = ({ certain, kind }: Problem) => (certain ? 0 : 2) + (kind === "other" ? 1 : 0);
  found.sort((one, other) => rank(one) - rank(other) || (other.restarts ?? 0) - (one.restarts ?? 0));
  const same = (one: Problem, other: Problem) =>
    one.kind === other.kind && one.reason === other.reason && one.image === other.image;
  return found.filter((each, index) => found.findIndex((other) => same(each, other)) === index);
}

/** Pods that must become ready: neither finished or terminating nor about to be replaced. */
function presentPods(kind: Workload["kind"], workload: Json, pods: readonly Json[]): readonly Json[] {
  const living = pods.filter((pod) =>
    !isTerminating(pod) && !["Failed", "Succeeded"].includes(word(object(pod.status).phase))
  );
  return kind === "statefulset" ? podsOfSet(workload, living) : podsOfDeployment(workload, living);
}

/**
 * Each ordinal of a StatefulSet has one pod. Only a Parallel rolling update replaces a pod of an old revision at once,
 * and only down to its partition. An ordered update waits for that pod to become ready, so its problems count.
 */
function podsOfSet(workload: Json, living: readonly Json[]): readonly Json[] {
  const { updateStrategy, podManagementPolicy } = object(workload.spec);
  const { type, rollingUpdate } = object(updateStrategy);
  const partition = count(object(rollingUpdate).partition) ?? 0;
  if (type === "OnDelete" || podManagementPolicy !== "Parallel") return living;
  const ordinal = (pod: Json) => Number(/-(\d+)$/.exec(word(object(pod.metadata).name))?.[1] ?? -1);
  const { updateRevision } = object(workload.status);
  return living.filter((pod) =>
    labelOf(pod, "controller-revision-hash") === updateRevision || ordinal(pod) < partition
  );
}

/**
 * The Progressing condition names a Deployment's current ReplicaSet, unless an old one came back while the count was 0.
 * Then the condition is stale and the newest pod decides. A paused Deployment replaces no pods.
 */
function podsOfDeployment(workload: Json, living: readonly Json[]): readonly Json[] {
  if (object(workload.spec).paused === true) return living;
  const status = object(workload.status);
  // While an old ReplicaSet comes back, the condition is stale for a moment. None of its pods is counted as updated
  // yet.
  if (!count(status.updatedReplicas)) return [];
  const hash = (pod: Json) => labelOf(pod, "pod-template-hash");
  const progressing = items(status.conditions).find(({ type }) => type === "Progressing");
  const named = /replica ?set "[^"]*?([^"-]+)"/i.exec(word(progressing?.message).slice(0, MESSAGE_LENGTH))?.[1];
  const present = living.filter((pod) => hash(pod) === named);
  if (present.length > 0) return present;
  const creationTime = (pod: Json) => word(object(pod.metadata).creationTimestamp);
  const newest = living.reduce((one, other) => creationTime(other) > creationTime(one) ? other : one, living[0] ?? {});
  return living.filter((pod) => hash(pod) === hash(newest));
}

function labelOf(pod: Json, name: string): string {
  return word(object(object(pod.metadata).labels)[name]);
}

/** The items of a list, as objects. */
function items(value: unknown): readonly Json[] {
  return list(value).map(object);
}

/** The value if it is a text, else "". */
function word(value: unknown): string {
  return text(value) ?? "";
}

function isTerminating(pod: Json): boolean {
  return word(object(pod.metadata).deletionTimestamp) !== "";
}

function ofPod(pod: Json): Problem[] {
  const status = object(pod.status);
  const unmet = (wanted: string) =>
    items(status.conditions).find((each) => each.type === wanted && each.status === "False");
  const scheduled = unmet("PodScheduled");
  if (scheduled !== undefined) return [problem("unschedulable", false, scheduled)];
  const containers = [...items(status.initContainerStatuses), ...items(status.containerStatuses)].flatMap(ofContainer);
  const ready = unmet("Ready");
  return containers.length > 0 || ready === undefined ? containers : [problem("other", false, ready)];
}

function ofContainer(status: Json): Problem[] {
  if (status.ready === true) return [];
  const state = object(status.state);
  const waiting = object(state.waiting);
  const reason = word(waiting.reason);
  const [kind, certain = false] = WAITING.get(reason) ?? [];
  if (kind === "image") return [{ ...problem(kind, certain, waiting), ...known("image", word(status.image)) }];
  if (kind !== undefined) {
    // A timeout: the kubelet tries again.
    const late = /timed out|deadline exceeded/.test(word(waiting.message));
    return [problem(kind, certain && !late, waiting)];
  }
  const ended = object(state.terminated ?? object(status.lastState).terminated);
  if (typeof ended.exitCode === "number") return [crash(ended, reason, state, count(status.restartCount) ?? 0)];
  return reason === "" ? [] : [problem("other", false, waiting)];
}

/** A container is restarted at once after its first exit. From the second exit on it counts as a crash loop. */
function crash(ended: Json, waitingFor: string, state: Json, restarts: number): Problem {
  const outOfMemory = ended.reason === "OOMKilled";
  const inLoop = waitingFor === "CrashLoopBackOff";
  const reason = inLoop && !outOfMemory ? waitingFor : word(ended.reason);
  // These two messages come from the container runtime. All others may come from the container's own log.
  const message = ["StartError", "ContainerCannotRun"].includes(word(ended.reason)) ? ended.message : undefined;
  return {
    ...problem(outOfMemory ? "out-of-memory" : "crash", restarts > 0 && (inLoop || Boolean(state.terminated)), {
      reason,
      message,
    }),
    exitCode: Number(ended.exitCode),
    restarts,
  };
}

/** Problems in a Deployment's conditions (Kubernetes API, apps/v1 DeploymentCondition). A StatefulSet has none. */
function ofCondition(condition: Json, ending: boolean): Problem[] {
  const message = word(condition.message);
  if (condition.type === "ReplicaFailure" && condition.status === "True") {
    // Admission would deny it again, unless terminating pods are about to free quota.
    const certain = / is forbidden: /.test(message) && !ending;
    return [problem(/exceeded quota/.test(message) ? "quota" : "other", certain, condition)];
  }
  // Never certain: the condition may date from an earlier rollout.
  return condition.type === "Progressing" && condition.status === "False" ? [problem("other", false, condition)] : [];
}

function problem(kind: Problem["kind"], certain: boolean, { reason, message }: Json): Problem {
  return { kind, certain, reason: word(reason) || "Unknown", ...known("message", oneLine(word(message))) };
}

function known<Name extends string>(name: Name, value: string): { readonly [_ in Name]?: string } {
  return value === "" ? {} : { [name]: value } as { readonly [_ in Name]: string };
}

/** Cuts a message to one line, without control characters and without the queries of URLs, which may be signed. */
export function oneLine(message: string): string {
  const line = message.slice(0, MESSAGE_LENGTH).replace(/[\p{C}\s]+/gu, " ").replace(
    /(https?:\/\/[^\s"'?]+)\?[^\s"']*/g,
    "$1",
  ).trim();
  return line.length > LINE_LENGTH ? `${line.slice(0, LINE_LENGTH - 1).toWellFormed()}…` : line;
}
