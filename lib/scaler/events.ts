/**
 * Records Kubernetes Events on a workload, so that `kubectl describe` shows what was done and by whom.
 *
 * @module
 */

import { type Json, object, text } from "../json.ts";
import type { KubernetesApi } from "./api.ts";
import { oneLine } from "./pod_diagnosis.ts";
import { FIELD_MANAGER, namespacedPath, type Workload } from "./workloads.ts";

/** Content of a Kubernetes Event. */
export interface KubernetesEvent {
  /** One word in CamelCase, such as `SwitchedOn`. */
  readonly reason: string;
  /** One sentence, without text of chat messages and without secrets. */
  readonly message: string;
  /** `Warning` if something failed. */
  readonly type: "Normal" | "Warning";
}

/** The object that an Event is about (Kubernetes API, ObjectReference). */
export type ObjectReference = Readonly<Record<"apiVersion" | "kind" | "namespace" | "name" | "uid", string>>;

/** Refers to a workload that was read. */
export function referenceTo({ namespace, name }: Workload, { apiVersion, kind, metadata }: Json): ObjectReference {
  const uid = text(object(metadata).uid) ?? "";
  return { apiVersion: text(apiVersion) ?? "", kind: text(kind) ?? "", namespace, name, uid };
}

/**
 * Creates an Event (Kubernetes API, core/v1) on a workload.
 *
 * @throws TransientError | PermissionError | NotFoundError | RejectedError
 */
export async function createEvent(
  api: KubernetesApi,
  workload: Workload,
  involvedObject: ObjectReference,
  { type, reason, message }: KubernetesEvent,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, name } = workload;
  const now = new Date().toISOString();
  const { path, resource } = namespacedPath(workload, "events");
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { namespace, generateName: `${name}.` },
    involvedObject,
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
