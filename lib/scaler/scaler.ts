/**
 * The cluster as the operator uses it: reads and sets the counts of workloads, and tells how they fare.
 *
 * @module
 */

import type { KubernetesApi } from "./api.ts";
import { createEvent, type KubernetesEvent } from "./events.ts";
import { diagnose, type Diagnosis } from "./pod_diagnosis.ts";
import { watchRollout } from "./rollout_watch.ts";
import { getWorkload, patchScale, type Scale, scaleIn, type Workload } from "./workloads.ts";

/**
 * Workloads of one cluster. Every method throws TransientError, CredentialError, PermissionError, NotFoundError or
 * RejectedError, or the signal's reason.
 */
export class KubernetesScaler {
  readonly #api: KubernetesApi;

  /** Of the cluster behind this API. */
  constructor(api: KubernetesApi) {
    this.#api = api;
  }

  /** Reads a workload's counts. */
  async read(workload: Workload, signal: AbortSignal): Promise<Scale> {
    return scaleIn(workload, "get", await getWorkload(this.#api, workload, signal));
  }

  /**
   * Sets the count, if the workload is still as it was read.
   *
   * @throws ConflictError if it has changed since, be it by this very change, whose answer was lost
   */
  async scale(workload: Workload, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void> {
    await patchScale(this.#api, workload, replicas, resourceVersion, signal);
  }

  /** Yields a workload's counts as they stand now, then after each change. Needs permission to `watch`. */
  watch(workload: Workload, signal: AbortSignal): AsyncGenerator<Scale, void> {
    return watchRollout(this.#api, workload, signal);
  }

  /** What keeps a workload from being ready; from its pods, too, where they may be listed. */
  async diagnose(workload: Workload, signal: AbortSignal): Promise<Diagnosis> {
    return await diagnose(this.#api, workload, signal);
  }

  /** Writes a Kubernetes Event on a workload. Needs permission to `create` Events. */
  async record(workload: Workload, event: KubernetesEvent, signal: AbortSignal): Promise<void> {
    await createEvent(this.#api, workload, event, signal);
  }
}
