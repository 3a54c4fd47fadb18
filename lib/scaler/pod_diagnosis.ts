/**
 * What keeps a workload from being ready, read from the workload and its pods. Of what a container says of itself
 * nothing is repeated.
 *
 * @module
 */

import { PermissionError } from "../errors.ts";
import { count, type Json, list, object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";
import { getWorkload, namespacedPath, type Workload } from "./workloads.ts";

/** What keeps a workload from being ready. */
export interface Diagnosis {
  /** The most certain first; empty: nothing but time, as far as can be told. */
  readonly problems: readonly Problem[];
  /** The permission that would tell more, such as `list pods in namespace "clawdbot"`; undefined if it is held. */
  readonly missingPermission: string | undefined;
}

/** One thing that keeps a workload from being ready, in the cluster's own words. */
export interface Problem {
  /** What it is about. */
  readonly kind: "image" | "container-config" | "crash" | "out-of-memory" | "unschedulable" | "quota" | "other";
  /** It won't go away by itself. */
  readonly certain: boolean;
  /** The cluster's word, such as `ImagePullBackOff`. */
  readonly reason: string;
  /** The cluster's sentence, cut to a line. */
  readonly message?: string;
  /** The image that cannot be had. */
  readonly image?: string;
  /** What the container last ended with. */
  readonly exitCode?: number;
  /** How often it has been started anew. */
  readonly restarts?: number;
}

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
/** So much of a message is looked at: a registry or a webhook may write as much as it likes. */
const MESSAGE_LENGTH = 4_096;

/**
 * What keeps a workload from being ready; from its pods, too, where they may be listed.
 *
 * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError, of reading the workload
 */
export async function diagnose(api: KubernetesApi, workload: Workload, signal: AbortSignal): Promise<Diagnosis> {
  const read = await getWorkload(api, workload, signal);
  const selector = encodeURIComponent(selectorOf(object(read.spec)));
  const { path, resource } = namespacedPath(workload, "pods");
  const call = { verb: "list", resource, method: "GET", path: `${path}?labelSelector=${selector}` } as const;
  let pods: readonly Json[] = [];
  let missingPermission: string | undefined;
  try {
    pods = list((await api.request(call, signal)).items).map(object);
  } catch (error) {
    if (!(error instanceof PermissionError)) throw error;
    missingPermission = `${error.verb} ${error.resource}`;
  }
  return { problems: problemsOf(workload.kind, read, pods), missingPermission };
}

/** A workload's selector as a query has it (Kubernetes API, label selectors). */
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
 * What is in the way, the most certain first. Only a status that is current counts, and only living pods of the present
 * revision do.
 *
 * @param workload Deployment or StatefulSet
 * @param pods all that its selector selects; none if they may not be read
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

/** Pods that have to be ready: those that are neither over nor going to be replaced. */
function presentPods(kind: Workload["kind"], workload: Json, pods: readonly Json[]): readonly Json[] {
  const living = pods.filter((pod) =>
    !isTerminating(pod) && !["Failed", "Succeeded"].includes(word(object(pod.status).phase))
  );
  return kind === "statefulset" ? podsOfSet(workload, living) : podsOfDeployment(workload, living);
}

/**
 * Each ordinal has one pod. One of an earlier revision is replaced at once only by a rolling update of all at a time that
 * reaches down to it; an update in order waits for it to be ready, which is what has to be explained.
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
 * A Deployment's present ReplicaSet is named in its Progressing condition, unless an earlier one came back while the
 * count was 0: then the condition is out of date, and the newest pod tells. One that is paused replaces no pods.
 */
function podsOfDeployment(workload: Json, living: readonly Json[]): readonly Json[] {
  if (object(workload.spec).paused === true) return living;
  const status = object(workload.status);
  // While an earlier ReplicaSet comes back, the condition is out of date for a moment. None of its pods is counted yet.
  if (!count(status.updatedReplicas)) return [];
  const hash = (pod: Json) => labelOf(pod, "pod-template-hash");
  const progressing = items(status.conditions).find(({ type }) => type === "Progressing");
  const named = /replica ?set "[^"]*?([^"-]+)"/i.exec(word(progressing?.message).slice(0, MESSAGE_LENGTH))?.[1];
  const present = living.filter((pod) => hash(pod) === named);
  if (present.length > 0) return present;
  const born = (pod: Json) => word(object(pod.metadata).creationTimestamp);
  const newest = living.reduce((one, other) => born(other) > born(one) ? other : one, living[0] ?? {});
  return living.filter((pod) => hash(pod) === hash(newest));
}

function labelOf(pod: Json, name: string): string {
  return word(object(object(pod.metadata).labels)[name]);
}

/** A list's objects. */
function items(value: unknown): readonly Json[] {
  return list(value).map(object);
}

/** A text; empty if it is none. */
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
    // The kubelet has given up waiting for something, and tries again.
    const late = /timed out|deadline exceeded/.test(word(waiting.message));
    return [problem(kind, certain && !late, waiting)];
  }
  const ended = object(state.terminated ?? object(status.lastState).terminated);
  if (typeof ended.exitCode === "number") return [crash(ended, reason, state, count(status.restartCount) ?? 0)];
  return reason === "" ? [] : [problem("other", false, waiting)];
}

/** A container is started anew at once after its first end; after the second it is a loop. */
function crash(ended: Json, waitingFor: string, state: Json, restarts: number): Problem {
  const outOfMemory = ended.reason === "OOMKilled";
  const inLoop = waitingFor === "CrashLoopBackOff";
  const reason = inLoop && !outOfMemory ? waitingFor : word(ended.reason);
  // Of these the runtime speaks; of all others it may be the container's own log.
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

/** Conditions of a Deployment (Kubernetes API, apps/v1 DeploymentCondition). A StatefulSet has none. */
function ofCondition(condition: Json, ending: boolean): Problem[] {
  const message = word(condition.message);
  if (condition.type === "ReplicaFailure" && condition.status === "True") {
    // Admission has said no, and will again; but what a pod that ends still holds will soon be free.
    const certain = / is forbidden: /.test(message) && !ending;
    return [problem(/exceeded quota/.test(message) ? "quota" : "other", certain, condition)];
  }
  // It may stem from an earlier rollout, so it is never certain.
  return condition.type === "Progressing" && condition.status === "False" ? [problem("other", false, condition)] : [];
}

function problem(kind: Problem["kind"], certain: boolean, { reason, message }: Json): Problem {
  return { kind, certain, reason: word(reason) || "Unknown", ...known("message", oneLine(word(message))) };
}

function known<Name extends string>(name: Name, value: string): { readonly [_ in Name]?: string } {
  return value === "" ? {} : { [name]: value } as { readonly [_ in Name]: string };
}

/** One line without control characters and without the queries of URLs, which may be signed. */
export function oneLine(message: string): string {
  const line = message.slice(0, MESSAGE_LENGTH).replace(/[\p{C}\s]+/gu, " ").replace(
    /(https?:\/\/[^\s"'?]+)\?[^\s"']*/g,
    "$1",
  ).trim();
  return line.length > LINE_LENGTH ? `${line.slice(0, LINE_LENGTH - 1).toWellFormed()}…` : line;
}
