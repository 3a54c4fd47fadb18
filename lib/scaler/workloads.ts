/**
 * Deployments and StatefulSets: how the API names them, reading their counts with `get`, and setting the count with
 * `patch` on the scale subresource. The base Role permits this much and no more.
 *
 * @module
 */

import { TransientError } from "../errors.ts";
import { count, type Json, list, object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";

/** A workload that has a scale. */
export interface Workload {
  /** What kind of workload it is. */
  readonly kind: "deployment" | "statefulset";
  /** Its namespace. */
  readonly namespace: string;
  /** Its name. */
  readonly name: string;
}

/** A workload's counts. */
export interface Counts {
  /** Pods wanted (`spec.replicas`). */
  readonly desired: number;
  /** Pods that exist, by a status that is current. */
  readonly current: number;
  /** Pods that are ready. */
  readonly ready: number;
  /** Pods that are available. */
  readonly available: number;
  /** The other counts speak of the pods wanted now (`observedGeneration` has caught up). */
  readonly settled: boolean;
}

/** A workload's counts, with what a change of them rests on. */
export interface Scale extends Counts {
  /** For the PATCH that is to change exactly what was read. */
  readonly resourceVersion: string;
  /** Moves with every change of what is wanted, and with no change of the status (`metadata.generation`). */
  readonly generation: number;
  /** Who last set the count, by the manager of `spec.replicas` in managedFields; undefined where nobody is noted. */
  readonly manager?: string;
}

/** Under which name the API server notes our changes (Kubernetes API, field management). */
export const FIELD_MANAGER = "openclaw-toggle";

/** Plural names in the API group `apps`. */
export const PLURALS: Readonly<Record<Workload["kind"], string>> = {
  deployment: "deployments",
  statefulset: "statefulsets",
};

/** Where something is found on the API server, and what errors call it. */
export interface ResourcePath {
  /** Path on the API server. */
  readonly path: string;
  /** Such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/** Path of a workload, or of its subresource (Kubernetes API, apps/v1). */
export function workloadPath(workload: Workload, subresource?: "scale"): ResourcePath {
  const { kind, namespace, name } = workload;
  const suffix = subresource === undefined ? "" : `/${subresource}`;
  return {
    path: `${collectionPath(workload)}/${encodeURIComponent(name)}${suffix}`,
    resource: `${PLURALS[kind]}.apps${suffix} "${name}" in namespace "${namespace}"`,
  };
}

/** Path of all workloads of a kind in a namespace: one is watched by watching them with a selector of its name. */
export function collectionPath({ kind, namespace }: Pick<Workload, "kind" | "namespace">): string {
  return `/apis/apps/v1/namespaces/${encodeURIComponent(namespace)}/${PLURALS[kind]}`;
}

/** Path of the pods or Events in a workload's namespace (Kubernetes API, core/v1). */
export function namespacedPath({ namespace }: Pick<Workload, "namespace">, plural: "pods" | "events"): ResourcePath {
  return {
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/${plural}`,
    resource: `${plural} in namespace "${namespace}"`,
  };
}

/**
 * Reads a workload as it is.
 *
 * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError
 */
export async function getWorkload(api: KubernetesApi, workload: Workload, signal: AbortSignal): Promise<Json> {
  const { path, resource } = workloadPath(workload);
  const read = await api.request({ verb: "get", resource, method: "GET", path }, signal);
  scaleIn(workload, "get", read);
  return read;
}

/**
 * Sets the count, if the workload is still as it was read.
 *
 * A lost answer may hide that it was done. The same call again ends in a ConflictError then, never in a second change;
 * and Deno's fetch sends a request once more by itself where a connection that had been used before was dropped. So a
 * ConflictError can mean that it was ourselves: read again, and see whether the count is what was wanted.
 *
 * @param resourceVersion of the {@linkcode Scale} that the decision rests on. A merge patch that carries it is refused
 * with 409 if the object has moved on (Kubernetes API, Resource versions)
 * @throws ConflictError if it has changed since; TransientError | CredentialError | PermissionError | NotFoundError |
 * RejectedError
 */
export async function patchScale(
  api: KubernetesApi,
  workload: Workload,
  replicas: number,
  resourceVersion: string,
  signal: AbortSignal,
): Promise<void> {
  const { path, resource } = workloadPath(workload, "scale");
  const body = { metadata: { resourceVersion }, spec: { replicas } };
  const query = `?fieldManager=${FIELD_MANAGER}`;
  await api.request({ verb: "patch", resource, method: "PATCH", path: path + query, body }, signal);
}

/**
 * Counts of a workload as they came over the wire.
 *
 * @param verb by which they came, for the message
 * @throws TransientError if there are none
 */
export function scaleIn(workload: Workload, verb: string, read: Json): Scale {
  const scale = scaleOf(read);
  if (scale !== undefined) return scale;
  throw new TransientError(`Cannot ${verb} ${workloadPath(workload).resource}: what came back is no ${workload.kind}`);
}

/**
 * Counts of a Deployment or StatefulSet as it came over the wire; undefined if it is none. Absent counts of a status
 * are 0; absent `spec.replicas` is 1, the API's default.
 */
export function scaleOf(workload: Json): Scale | undefined {
  const metadata = object(workload.metadata);
  const status = object(workload.status);
  const resourceVersion = text(metadata.resourceVersion) ?? "";
  const desired = count(object(workload.spec).replicas ?? 1);
  const current = count(status.replicas ?? 0);
  const ready = count(status.readyReplicas ?? 0);
  const available = count(status.availableReplicas ?? 0);
  const generation = count(metadata.generation ?? 0);
  const observed = count(status.observedGeneration ?? 0);
  if (resourceVersion === "" || desired === undefined || current === undefined || ready === undefined) return undefined;
  if (available === undefined || generation === undefined || observed === undefined) return undefined;
  const manager = managerIn(metadata.managedFields);
  const counts = { desired, current, ready, available, settled: observed >= generation, resourceVersion, generation };
  return manager === undefined ? counts : { ...counts, manager };
}

/**
 * Who last set `spec.replicas`, directly or through the scale (Kubernetes API, field management). A count of 0 set
 * through the scale erases its owner, and what is set through the scale then is not noted (seen on v1.35): nobody is
 * common, and somebody is never out of date.
 */
function managerIn(managedFields: unknown): string | undefined {
  const owners = list(managedFields).map(object)
    .filter(({ fieldsV1 }) => "f:replicas" in object(object(fieldsV1)["f:spec"]));
  const time = (owner: Json): string => text(owner.time) ?? "";
  const newest = owners.reduce((one, other) => time(other) >= time(one) ? other : one, owners[0] ?? {});
  return text(newest.manager) || undefined;
}
