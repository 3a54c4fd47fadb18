/**
 * What is switched on and off, how its counts are told, and how the Kubernetes API names it. Knows nothing of requests.
 *
 * @module
 */

/** A workload that is switched on and off. */
export interface Target {
  /** The name that people use. */
  readonly alias: string;
  /** What kind of workload it is. */
  readonly kind: "deployment" | "statefulset";
  /** Namespace. */
  readonly namespace: string;
  /** Name. */
  readonly name: string;
}

/** A workload's counts as the cluster tells them. */
export interface Scale {
  /** `spec.replicas`: what is wanted. */
  readonly desired: number;
  /** `status.replicas`: pods that exist. */
  readonly current: number;
  /** `status.readyReplicas`: pods that are ready. */
  readonly ready: number;
  /** `status.availableReplicas`: pods that have been ready for long enough. */
  readonly available: number;
  /** The status speaks of the present spec: `observedGeneration` has caught up with `generation`. */
  readonly settled: boolean;
  /**
   * For the PATCH that is to change exactly what was read. It moves with every change of the status too, so during a
   * rollout it is soon out of date.
   */
  readonly resourceVersion: string;
}

/** Plural names in the API group `apps`. */
export const PLURALS: Readonly<Record<Target["kind"], string>> = {
  deployment: "deployments",
  statefulset: "statefulsets",
};

/** Where a target, or a subresource of it, is found, and what people call it. */
export interface Place {
  /** Path on the API server. */
  readonly path: string;
  /** Such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/** Place of a target, or of its subresource (Kubernetes API, apps/v1). */
export function placeOf(target: Target, subresource?: "scale"): Place {
  const { kind, namespace, name } = target;
  const suffix = subresource === undefined ? "" : `/${subresource}`;
  return {
    path: `/apis/apps/v1/namespaces/${encodeURIComponent(namespace)}/${PLURALS[kind]}/${
      encodeURIComponent(name)
    }${suffix}`,
    resource: `${PLURALS[kind]}.apps${suffix} "${name}" in namespace "${namespace}"`,
  };
}
