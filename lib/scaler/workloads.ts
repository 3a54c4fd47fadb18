/**
 * Deployments and StatefulSets: their API paths, reading their replica counts with `get`, and setting the count with
 * `patch` on the scale subresource. The base Role permits exactly this.
 *
 * @module
 */

import { TransientError } from "../errors.ts";
import { count, type Json, list, object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";

/** A workload with a scale subresource. */
export interface Workload {
  /** What kind of workload it is. */
  readonly kind: "deployment" | "statefulset";
  /** Its namespace. */
  readonly namespace: string;
  /** Its name. */
  readonly name: string;
}

/** Replica counts of a workload. */
export interface Counts {
  /** Wanted pods (`spec.replicas`). */
  readonly desired: number;
  /** Existing pods, by the last status. */
  readonly current: number;
  /** Ready pods. */
  readonly ready: number;
  /** Available pods. */
  readonly available: number;
  /** The status is current: `observedGeneration` has caught up with `generation`. */
  readonly settled: boolean;
}

/** Replica counts of a workload, with the version to base a change on. */
export interface Scale extends Counts {
  /** Sent with the PATCH, so that it applies only to the state that these counts are from. */
  readonly resourceVersion: string;
  /** Changes with every change of the spec, but not of the status (`metadata.generation`). */
  readonly generation: number;
  /** Manager that owns `spec.replicas` in managedFields, so who last set the count; undefined if nobody is recorded. */
  readonly manager?: string;
}

/** A workload from the API, with its counts. */
export interface Seen {
  /** The whole workload. */
  readonly object: Json;
  /** Its counts. */
  readonly scale: Scale;
}

/** Name under which the API server records our changes (Kubernetes API, field management). */
export const FIELD_MANAGER = "openclaw-toggle";

/** Plural names of the kinds in the API group `apps`. */
export const PLURALS: Readonly<Record<Workload["kind"], string>> = {
  deployment: "deployments",
  statefulset: "statefulsets",
};

/** Path of a resource on the API server, and its name in errors. */
export interface ResourcePath {
  /** Path on the API server. */
  readonly path: string;
  /** Such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/** Path of a workload or its subresource (Kubernetes API, apps/v1). */
export function workloadPath(workload: Workload, subresource?: "scale"): ResourcePath {
  const { kind, namespace, name } = workload;
  const suffix = subresource === undefined ? "" : `/${subresource}`;
  return {
    path: `${collectionPath(workload)}/${encodeURIComponent(name)}${suffix}`,
    resource: `${PLURALS[kind]}.apps${suffix} "${name}" in namespace "${namespace}"`,
  };
}

/** Path of all workloads of a kind in a namespace. A single one is watched through this path, with a field selector. */
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
 * Reads a workload.
 *
 * @throws TransientError | PermissionError | NotFoundError | RejectedError
 */
export async function getWorkload(api: KubernetesApi, workload: Workload, signal: AbortSignal): Promise<Seen> {
  const { path, resource } = workloadPath(workload);
  const read = await api.request({ verb: "get", resource, method: "GET", path }, signal);
  return seenIn(workload, "get", read);
}

/**
 * Sets the replica count, if the workload still has that resourceVersion.
 *
 * If the response is lost, the change may have been made. Repeating the call then ends in a ConflictError, never in a
 * second change. Deno's fetch also resends a request by itself if a reused connection was dropped. So a ConflictError
 * may be our own doing: read again, and check whether the count is the wanted one.
 *
 * @param resourceVersion of the {@linkcode Scale} that the decision is based on. The API server refuses a merge patch
 * that carries it with 409 if the object has changed (Kubernetes API, Resource versions)
 * @throws ConflictError if it has changed since; TransientError | PermissionError | NotFoundError | RejectedError
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
 * Reads a workload's counts, as {@linkcode scaleOf} does.
 *
 * @param verb that fetched it, for the message
 * @throws TransientError if the object is not a workload
 */
export function seenIn(workload: Workload, verb: string, object: Json): Seen {
  const scale = scaleOf(object);
  if (scale !== undefined) return { object, scale };
  throw new TransientError(`Cannot ${verb} ${workloadPath(workload).resource}: the response is not a ${workload.kind}`);
}

/**
 * Replica counts of a Deployment or StatefulSet from the API; undefined if it is neither. Absent counts in the status
 * are 0. An absent `spec.replicas` is 1, the API's default.
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
 * The manager that last set `spec.replicas`, directly or through the scale (Kubernetes API, field management). Setting
 * the count to 0 through the scale removes its owner, and later changes through the scale aren't recorded (seen on
 * v1.35). So it is often undefined, but never stale.
 */
function managerIn(managedFields: unknown): string | undefined {
  const owners = list(managedFields).map(object)
    .filter(({ fieldsV1 }) => "f:replicas" in object(object(fieldsV1)["f:spec"]));
  const time = (owner: Json): string => text(owner.time) ?? "";
  const newest = owners.reduce((one, other) => time(other) >= time(one) ? other : one, owners[0] ?? {});
  return text(newest.manager) || undefined;
}
