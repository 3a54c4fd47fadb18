/**
 * How the Kubernetes API names what is switched on and off. Knows nothing of requests.
 *
 * @module
 */

import type { Target } from "../operator/mod.ts";

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
    path: `${workloadsIn(target)}/${encodeURIComponent(name)}${suffix}`,
    resource: `${PLURALS[kind]}.apps${suffix} "${name}" in namespace "${namespace}"`,
  };
}

/** Path of the workloads of a target's kind and namespace: a watch of one is a watch of them, narrowed to its name. */
export function workloadsIn({ kind, namespace }: Target): string {
  return `/apis/apps/v1/namespaces/${encodeURIComponent(namespace)}/${PLURALS[kind]}`;
}

/** Place of the pods or Events in a target's namespace (Kubernetes API, core/v1). */
export function placeBeside({ namespace }: Target, plural: "pods" | "events"): Place {
  return {
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/${plural}`,
    resource: `${plural} in namespace "${namespace}"`,
  };
}
