/**
 * The operator's interface to the cluster: reads, scales, watches and diagnoses workloads.
 *
 * @module
 */

import type { KubernetesApi } from "./api.ts";
import type { Json } from "../json.ts";
import { createEvent, type KubernetesEvent, type ObjectReference, referenceTo } from "./events.ts";
import { diagnose, type Diagnosis } from "./pod_diagnosis.ts";
import { watchRollout } from "./rollout_watch.ts";
import { getWorkload, patchScale, type Scale, scaleIn, type Workload, workloadPath } from "./workloads.ts";

/**
 * The workloads of one cluster. Every method throws TransientError, PermissionError, NotFoundError or RejectedError, or
 * the signal's reason.
 */
export class KubernetesScaler {
  readonly #api: KubernetesApi;
  /** Workloads as last read, by path, until they are diagnosed. */
  readonly #read = new Map<string, Json>();
  /** What Events refer to, by path. */
  readonly #references = new Map<string, ObjectReference>();

  /** Uses the cluster of the given API client. */
  constructor(api: KubernetesApi) {
    this.#api = api;
  }

  /** Reads a workload's replica counts. */
  async read(workload: Workload, signal: AbortSignal): Promise<Scale> {
    const { path } = workloadPath(workload);
    this.#read.delete(path);
    const read = await getWorkload(this.#api, workload, signal);
    const scale = scaleIn(workload, "get", read);
    this.#read.set(path, read);
    this.#references.set(path, referenceTo(workload, read));
    return scale;
  }

  /**
   * Sets the replica count, if the workload hasn't changed since it was read.
   *
   * @throws ConflictError if it has changed since; the change may be our own, if the response to it was lost
   */
  async scale(workload: Workload, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void> {
    await patchScale(this.#api, workload, replicas, resourceVersion, signal);
  }

  /** Yields a workload's counts, then again after each change. Needs permission to `watch`. */
  watch(workload: Workload, signal: AbortSignal): AsyncGenerator<Scale, void> {
    return watchRollout(this.#api, workload, signal);
  }

  /**
   * Diagnoses why a workload isn't ready, from its pods too if they may be listed. It explains what
   * {@linkcode KubernetesScaler.read} has returned; the workload is read again only if that was diagnosed already.
   */
  async diagnose(workload: Workload, signal: AbortSignal): Promise<Diagnosis> {
    const { path } = workloadPath(workload);
    const read = this.#read.get(path) ?? await getWorkload(this.#api, workload, signal);
    this.#read.delete(path);
    return await diagnose(this.#api, workload, read, signal);
  }

  /** Creates a Kubernetes Event on a workload. Needs permission to `create` Events. */
  async record(workload: Workload, event: KubernetesEvent, signal: AbortSignal): Promise<void> {
    const { path } = workloadPath(workload);
    const reference = this.#references.get(path) ??
      referenceTo(workload, await getWorkload(this.#api, workload, signal));
    await createEvent(this.#api, workload, reference, event, signal);
  }
}
