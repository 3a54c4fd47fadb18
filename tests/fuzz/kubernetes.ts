/**
 * Grammars of Kubernetes API responses, one per kind of request (Kubernetes API, apps/v1, core/v1, autoscaling/v1,
 * meta/v1).
 *
 * @module
 */

import fc from "fast-check";
import { render } from "./json.ts";
import { dictionary, hostile, listOf, mostly, nastyText, oneOf, shape, someCount } from "./values.ts";

const name = oneOf(["clawdbot"], ["other", "Clawdbot", "-"]);
const version = fc.oneof(fc.constantFrom("1", "17", "100000"), nastyText);
const time = fc.oneof(fc.constantFrom("2026-11-27T09:00:00Z", "0000-00-00T00:00:00Z", "soon"), nastyText);
const replicas = fc.oneof(fc.integer({ min: 0, max: 3 }), someCount);
const labels = dictionary(
  fc.oneof(fc.constantFrom("app", "pod-template-hash", "controller-revision-hash"), nastyText),
  name,
);

const managedField = shape({
  manager: fc.oneof(fc.constantFrom("kubectl", "openclaw-toggle", "argocd"), nastyText),
  operation: fc.constantFrom("Update", "Apply"),
  apiVersion: fc.constant("apps/v1"),
  time,
  fieldsType: fc.constant("FieldsV1"),
  fieldsV1: shape({ "f:spec": shape({ "f:replicas": fc.constant({}) }) }),
  subresource: fc.constantFrom("scale", ""),
});
const metadata = shape({
  name,
  namespace: name,
  uid: fc.oneof(fc.constant("u-1"), nastyText),
  resourceVersion: version,
  generation: someCount,
  creationTimestamp: time,
  deletionTimestamp: fc.constantFrom<unknown>(null, undefined, "2026-11-27T09:00:00Z"),
  labels,
  annotations: dictionary(nastyText, nastyText),
  ownerReferences: listOf(hostile),
  managedFields: listOf(managedField),
});
const condition = shape({
  type: fc.constantFrom("Progressing", "Available", "ReplicaFailure", "Ready", "PodScheduled", "x"),
  status: fc.constantFrom("True", "False", "Unknown"),
  reason: fc.oneof(fc.constantFrom("FailedCreate", "ProgressDeadlineExceeded", "Unschedulable"), nastyText),
  message: fc.oneof(
    fc.constantFrom(
      'ReplicaSet "clawdbot-7d4" is progressing.',
      "pods is forbidden: exceeded quota: compute",
      "(".repeat(50_000),
    ),
    fc.constant(`replicaset "${'"-'.repeat(30_000)}`),
    nastyText,
  ),
  lastTransitionTime: time,
});
const selector = shape({
  matchLabels: labels,
  matchExpressions: listOf(
    shape({
      key: nastyText,
      operator: fc.constantFrom("In", "NotIn", "Exists", "DoesNotExist", "x"),
      values: listOf(nastyText),
    }),
  ),
});
const workload = shape({
  kind: fc.constantFrom("Deployment", "Deployment", "StatefulSet", "x"),
  apiVersion: fc.constant("apps/v1"),
  metadata,
  spec: shape({ replicas, paused: fc.boolean(), selector, template: hostile, strategy: hostile }),
  status: shape({
    observedGeneration: someCount,
    replicas,
    readyReplicas: replicas,
    availableReplicas: replicas,
    updatedReplicas: replicas,
    terminatingReplicas: replicas,
    unavailableReplicas: replicas,
    updateRevision: nastyText,
    currentRevision: nastyText,
    conditions: listOf(condition),
  }),
});
const ended = shape({
  exitCode: fc.integer(),
  reason: fc.constantFrom("Error", "OOMKilled", "StartError"),
  message: nastyText,
});
const container = shape({
  name,
  image: nastyText,
  ready: fc.boolean(),
  restartCount: someCount,
  state: shape({
    waiting: shape({
      reason: fc.oneof(
        fc.constantFrom(
          "ImagePullBackOff",
          "ErrImagePull",
          "CrashLoopBackOff",
          "CreateContainerConfigError",
          "ContainerCreating",
        ),
        nastyText,
      ),
      message: nastyText,
    }),
    terminated: ended,
    running: hostile,
  }),
  lastState: shape({ terminated: ended }),
});
const pod = shape({
  kind: fc.constant("Pod"),
  metadata,
  spec: hostile,
  status: shape({
    phase: fc.constantFrom("Pending", "Running", "Failed", "Succeeded", "x"),
    conditions: listOf(condition),
    containerStatuses: listOf(container),
    initContainerStatuses: listOf(container),
  }),
});
/** A Status object (meta/v1), the body of an error response. */
export const kubernetesStatus: fc.Arbitrary<unknown> = shape({
  kind: fc.constantFrom("Status", "Status", "Status", "APIStatus"),
  apiVersion: fc.constant("v1"),
  metadata: fc.constant({}),
  status: fc.constantFrom("Failure", "Success"),
  message: nastyText,
  reason: fc.oneof(
    fc.constantFrom(
      "NotFound",
      "Forbidden",
      "Conflict",
      "Invalid",
      "Unauthorized",
      "TooManyRequests",
      "Expired",
      "Gone",
    ),
    nastyText,
  ),
  code: fc.constantFrom(400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 0, -1),
  details: shape({ name, kind: nastyText, causes: listOf(hostile), retryAfterSeconds: fc.constantFrom(0, 1, -1) }),
});
const watchEvent = shape({
  type: fc.constantFrom("ADDED", "MODIFIED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "x"),
  object: fc.oneof({ weight: 5, arbitrary: workload }, { weight: 1, arbitrary: kubernetesStatus }),
});
/** Lines of a watch, as text: complete, truncated, empty, or unterminated. */
const watchLines = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: mostly(watchEvent).map((event) => `${render(event)}\n`) },
    { weight: 1, arbitrary: watchEvent.map((event) => `${render(event).slice(0, 40)}\n`) },
    {
      weight: 1,
      arbitrary: fc.constantFrom("\n", "\n\n\n", "\r\n", "null\n", "[]\n", '"', "\0\n", "x".repeat(1_000_000)),
    },
  ),
  { maxLength: 5 },
).map((lines) => lines.join(""));

/** Grammar of the success response by endpoint. That of a watch is text. */
export const kubernetesGrammar: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  get: workload,
  scale: shape({
    kind: fc.constant("Scale"),
    apiVersion: fc.constant("autoscaling/v1"),
    metadata,
    spec: shape({ replicas }),
    status: shape({ replicas, selector: nastyText }),
  }),
  watch: watchLines,
  pods: shape({
    kind: fc.constant("PodList"),
    metadata: shape({ resourceVersion: version, continue: nastyText }),
    items: listOf(pod),
  }),
  events: shape({ kind: fc.constant("Event"), metadata }),
  version: shape({ major: nastyText, minor: nastyText, gitVersion: nastyText }),
  review: shape({
    kind: nastyText,
    status: shape({ allowed: fc.boolean(), reason: nastyText, userInfo: shape({ username: nastyText }) }),
  }),
};

/** Returns the endpoint name of a request, or undefined if it has no grammar. */
export function kubernetesEndpoint(method: string, url: string): string | undefined {
  if (/[?&]watch=/.test(url)) return "watch";
  if (/\/scale(\?|$)/.test(url)) return method === "PATCH" ? "scale" : undefined;
  if (/\/pods(\?|$)/.test(url)) return "pods";
  if (/\/events(\?|$)/.test(url)) return "events";
  if (/^\/version/.test(url)) return "version";
  if (/selfsubject/.test(url)) return "review";
  return method === "GET" && /^\/apis\/apps\//.test(url) ? "get" : undefined;
}
