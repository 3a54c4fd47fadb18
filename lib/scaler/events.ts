/**
 * Records Kubernetes Events on a workload, so that `kubectl describe` shows what was done and by whom.
 *
 * @module
 */

import { object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";
import { oneLine } from "./pod_diagnosis.ts";
import { FIELD_MANAGER, getWorkload, namespacedPath, type Workload } from "./workloads.ts";

/** Content of a Kubernetes Event. */
export interface KubernetesEvent {
  /** One word in CamelCase, such as `SwitchedOn`. */
  readonly reason: string;
  /** One sentence, without text of chat messages and without secrets. */
  readonly message: string;
  /** `Warning` if something failed. */
  readonly type: "Normal" | "Warning";
}

/**
 * Creates an Event (Kubernetes API, core/v1) on a workload.
 *
 * @throws TransientError | PermissionError | NotFoundError | RejectedError
 */
export async function createEvent(
  api: KubernetesApi,
  workload: Workload,
  { type, reason, message }: KubernetesEvent,
  signal: AbortSignal,
): Promise<void> {
  const { apiVersion, kind, metadata } = await getWorkload(api, workload, signal);
  const { namespace, name } = workload;
  const { uid, resourceVersion } = object(metadata);
  const now = new Date().toISOString();
  const { path, resource } = namespacedPath(workload, "events");
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { namespace, generateName: `${name}.` },
    involvedObject: {
      apiVersion: text(apiVersion),
      kind: text(kind),
      namespace,
      name,
      uid: text(uid),
      resourceVersion: text(resourceVersion),
    },
    type,
    reason,
    message: oneLine(message),
    action: reason,
    source: { component: FIELD_MANAGER },
    reportingComponent: FIELD_MANAGER,
    reportingInstance: Deno.hostname() || FIELD_MANAGER,
    // A MicroTime must have six fractional digits, or the API server refuses it.
    eventTime: now.replace("Z", "000Z"),
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  };
  await api.request({ verb: "create", resource, method: "POST", path, body }, signal);
}
