/**
 * The operator's interface to the cluster: reads, scales, watches and diagnoses workloads.
 *
 * @module
 */

import { FORBIDDEN_FOR_MS } from "../errors.ts";
import type { Json } from "../json.ts";
import type { KubernetesApi } from "./api.ts";
import { createEvent, type KubernetesEvent, type ObjectReference, referenceTo } from "./events.ts";
import { diagnose, type Diagnosis } from "./pod_diagnosis.ts";
import { watchRollout } from "./rollout_watch.ts";
import {
  getWorkload,
  namespacedPath,
  patchScale,
  type Scale,
  type Seen,
  type Workload,
  workloadPath,
} from "./workloads.ts";

/**
 * The workloads of one cluster. Every method throws TransientError, PermissionError, NotFoundError or RejectedError, or
 * the signal's reason.
 */
export class KubernetesScaler {
  readonly #api: KubernetesApi;
  readonly #now: () => number;
  /** The workloads that counts were taken from. */
  readonly #workloads = new WeakMap<Scale, Json>();
  /** What Events refer to, by path. */
  readonly #references = new Map<string, ObjectReference>();
  /** Where listing pods was forbidden, by path: the missing permission, and when to try again. */
  readonly #forbidden = new Map<string, { readonly permission: string; readonly untilMs: number }>();

  /**
   * Uses the cluster of the given API client.
   *
   * @param now milliseconds since any time
   */
  constructor(api: KubernetesApi, now: () => number = () => performance.now()) {
    this.#api = api;
    this.#now = now;
  }

  /** Reads a workload's replica counts. */
  async read(workload: Workload, signal: AbortSignal): Promise<Scale> {
    return this.#remember(workload, await getWorkload(this.#api, workload, signal));
  }

  /**
   * Sets the replica count, if the workload hasn't changed since it had that resourceVersion.
   *
   * @throws ConflictError if it has changed since; the change may be our own, if the response to it was lost
   */
  async scale(workload: Workload, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void> {
    await patchScale(this.#api, workload, replicas, resourceVersion, signal);
  }

  /**
   * Yields a workload's counts, then again after each change; undefined when it was deleted. Needs permission to
   * `watch`.
   */
  async *watch(workload: Workload, signal: AbortSignal): AsyncGenerator<Scale | undefined, void> {
    for await (const shown of watchRollout(this.#api, workload, signal)) {
      yield shown && this.#remember(workload, shown);
    }
  }

  /**
   * Diagnoses why a workload isn't ready, from its pods too if they may be listed. If that was forbidden, it isn't tried
   * again for five minutes.
   *
   * @param scale counts that this object has read, or that its watch has yielded
   */
  async diagnose(workload: Workload, scale: Scale, signal: AbortSignal): Promise<Diagnosis> {
    const seen = this.#workloads.get(scale);
    if (seen === undefined) throw new Error("Cannot diagnose counts that come from elsewhere");
    const { path } = namespacedPath(workload, "pods");
    const forbidden = this.#forbidden.get(path);
    const isForbidden = forbidden !== undefined && this.#now() < forbidden.untilMs;
    const diagnosis = await diagnose(this.#api, workload, seen, isForbidden ? forbidden.permission : undefined, signal);
    const { missingPermission: permission } = diagnosis;
    if (permission !== undefined && !isForbidden) {
      this.#forbidden.set(path, { permission, untilMs: this.#now() + FORBIDDEN_FOR_MS });
    }
    return diagnosis;
  }

  /** Creates a Kubernetes Event on a workload. Needs permission to `create` Events. */
  async record(workload: Workload, event: KubernetesEvent, signal: AbortSignal): Promise<void> {
    const { path } = workloadPath(workload);
    const reference = this.#references.get(path) ??
      referenceTo(workload, (await getWorkload(this.#api, workload, signal)).object);
    await createEvent(this.#api, workload, reference, event, signal);
  }

  #remember(workload: Workload, { object, scale }: Seen): Scale {
    this.#workloads.set(scale, object);
    this.#references.set(workloadPath(workload).path, referenceTo(workload, object));
    return scale;
  }
}
