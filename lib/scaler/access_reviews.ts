/**
 * Read-only requests of the connection test: the server's version, our user name, and our permissions.
 *
 * @module
 */

import type { V1SelfSubjectAccessReview, V1SelfSubjectReview, V1SelfSubjectRulesReview } from "@kubernetes/client-node";
import type { KubernetesApi } from "./api.ts";
import { namespacedPath, PLURALS, type Workload, workloadPath } from "./workloads.ts";

/**
 * Returns the version of the API server, such as `v1.35.4`, or an empty string if the server doesn't report one.
 *
 * @throws TransientError if the server can't be reached; PermissionError | RejectedError
 */
export async function serverVersion(api: KubernetesApi, signal: AbortSignal): Promise<string> {
  const call = { verb: "get", resource: "the version", method: "GET", path: "/version" } as const;
  const { gitVersion } = await api.request(call, signal);
  return typeof gitVersion === "string" ? gitVersion : "";
}

/**
 * Returns the user name that the API server knows us by, such as `system:serviceaccount:clawdbot:openclaw-toggle`
 * (Kubernetes API, SelfSubjectReview, since 1.28), or an empty string if the server doesn't report one.
 *
 * @throws NotFoundError on an older server; TransientError | PermissionError | RejectedError
 */
export async function whoAmI(api: KubernetesApi, signal: AbortSignal): Promise<string> {
  const body: V1SelfSubjectReview = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
  const { status } = await api.request({
    verb: "create",
    resource: "selfsubjectreviews.authentication.k8s.io",
    method: "POST",
    path: "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    body,
  }, signal) as V1SelfSubjectReview;
  return status?.userInfo?.username ?? "";
}

/**
 * Names of workloads of this one's kind that our Roles in its namespace let us scale; undefined if none grants that on
 * anything, or if it does so whatever the name (Kubernetes API, SelfSubjectRulesReview).
 *
 * @throws TransientError | CredentialError | PermissionError | RejectedError
 */
export async function scalableNames(
  api: KubernetesApi,
  { kind, namespace }: Workload,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  const body: V1SelfSubjectRulesReview = {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectRulesReview",
    spec: { namespace },
  };
  const { status } = await api.request({
    verb: "create",
    resource: "selfsubjectrulesreviews.authorization.k8s.io",
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    body,
  }, signal) as Partial<V1SelfSubjectRulesReview>;
  const rules = (status?.resourceRules ?? []).filter(({ resources, verbs }) =>
    resources?.includes(`${PLURALS[kind]}/scale`) && verbs.includes("patch")
  );
  const names = rules.flatMap(({ resourceNames }) => resourceNames ?? []);
  return names.length === 0 ? undefined : [...new Set(names)];
}

/** Result of {@linkcode canI}. */
export interface Permission {
  /** Whether the permission is granted. */
  readonly allowed: boolean;
  /** The resource that was checked, such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/**
 * Checks a permission on a workload, or on the pods or Events of its namespace (Kubernetes API,
 * SelfSubjectAccessReview).
 *
 * @param verb such as `get`, `patch`, `watch`
 * @param on `scale`, `pods`, `events`, or undefined for the workload itself
 * @throws TransientError | PermissionError | RejectedError
 */
export async function canI(
  api: KubernetesApi,
  workload: Workload,
  verb: string,
  on: "scale" | "pods" | "events" | undefined,
  signal: AbortSignal,
): Promise<Permission> {
  const { kind, namespace, name } = workload;
  const isNamespaceWide = on === "pods" || on === "events";
  const subresource = on === "scale" ? { subresource: on } : {};
  const body: V1SelfSubjectAccessReview = {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    spec: {
      resourceAttributes: isNamespaceWide
        ? { group: "", resource: on, namespace, verb }
        : { group: "apps", resource: PLURALS[kind], ...subresource, namespace, name, verb },
    },
  };
  const { status } = await api.request({
    verb: "create",
    resource: "selfsubjectaccessreviews.authorization.k8s.io",
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    body,
  }, signal) as Partial<V1SelfSubjectAccessReview>;
  const { resource } = isNamespaceWide ? namespacedPath(workload, on) : workloadPath(workload, on);
  return { allowed: status?.allowed === true, resource };
}
