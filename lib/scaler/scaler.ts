/**
 * Reads and sets the counts of workloads: the operator's port to the cluster. Reads with `get` on the workload, writes
 * with `patch` on its scale subresource, and needs no other permission.
 *
 * @module
 */

import { TransientError } from "../errors.ts";
import type { KubernetesApi } from "./api.ts";
import type { Scale, Scaler, Target } from "../operator/mod.ts";
import { count, type Fields, fields, items, text } from "./objects.ts";
import { placeOf } from "./target.ts";

/** Under which name the API server notes our changes (Kubernetes API, field management). */
export const FIELD_MANAGER = "openclaw-toggle";

/** Workloads of one cluster. */
export class KubernetesScaler implements Scaler {
  readonly #api: KubernetesApi;

  /**
   * Makes no request yet.
   *
   * @param api the cluster's API server
   */
  constructor(api: KubernetesApi) {
    this.#api = api;
  }

  /**
   * Reads a target's counts.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError
   */
  async read(target: Target, signal: AbortSignal): Promise<Scale> {
    const { path, resource } = placeOf(target);
    return scaleIn(target, "get", await this.#api.request({ verb: "get", resource, method: "GET", path }, signal));
  }

  /**
   * Sets the count, if the target is still as it was read.
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
  async scale(target: Target, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void> {
    const { path, resource } = placeOf(target, "scale");
    const body = { metadata: { resourceVersion }, spec: { replicas } };
    const query = `?fieldManager=${FIELD_MANAGER}`;
    await this.#api.request({ verb: "patch", resource, method: "PATCH", path: path + query, body }, signal);
  }
}

/**
 * Counts of a target as they came over the wire.
 *
 * @param verb by which they came, for the message
 * @throws TransientError if there are none
 */
export function scaleIn(target: Target, verb: string, object: Fields): Scale {
  const scale = scaleOf(object);
  if (scale !== undefined) return scale;
  throw new TransientError(`Cannot ${verb} ${placeOf(target).resource}: what came back is no ${target.kind}`);
}

/**
 * Counts of a Deployment or StatefulSet as it came over the wire; undefined if it is none. Absent counts of a status
 * are 0; absent `spec.replicas` is 1, the API's default.
 */
export function scaleOf(object: Fields): Scale | undefined {
  const metadata = fields(object.metadata);
  const status = fields(object.status);
  const resourceVersion = text(metadata.resourceVersion);
  const desired = count(fields(object.spec).replicas ?? 1);
  const current = count(status.replicas ?? 0);
  const ready = count(status.readyReplicas ?? 0);
  const available = count(status.availableReplicas ?? 0);
  const generation = count(metadata.generation ?? 0);
  const observed = count(status.observedGeneration ?? 0);
  if (resourceVersion === "" || desired === undefined || current === undefined || ready === undefined) return undefined;
  if (available === undefined || generation === undefined || observed === undefined) return undefined;
  const manager = managerIn(metadata.managedFields);
  const counts = { desired, current, ready, available, settled: observed >= generation, resourceVersion, generation };
  return manager === "" ? counts : { ...counts, manager };
}

/**
 * Who last set `spec.replicas`, directly or through the scale (Kubernetes API, field management); empty if nobody is
 * noted. A count of 0 set through the scale erases its owner, and what is set through the scale then is not noted
 * (seen on v1.35): nobody is common, and somebody is never out of date.
 */
function managerIn(managedFields: unknown): string {
  const owners = items(managedFields).filter(({ fieldsV1 }) => "f:replicas" in fields(fields(fieldsV1)["f:spec"]));
  const newest = owners.reduce((one, other) => text(other.time) >= text(one.time) ? other : one, owners[0] ?? {});
  return text(newest.manager);
}
