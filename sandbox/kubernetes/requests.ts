/**
 * Handles API requests: create, get, list, patch, delete, the scale subresource, and access reviews.
 *
 * @module
 */

import { type Attributes, conflict, forbidden, notFound, permits, Refused, type User } from "./access.ts";
import { isRecord, type KubernetesObject, mergePatch, now, type ObjectStore } from "./objects.ts";
import { letters, type Rollouts, type WorkloadResource, WORKLOADS } from "./rollout.ts";

/** An authenticated request. */
export interface Request {
  readonly method: string;
  /** Path and query. */
  readonly url: URL;
  /** Content type of the body. */
  readonly contentType: string;
  readonly body: string;
  /** Sender of the request. */
  readonly user: User;
  /** Field manager of the changes. */
  readonly fieldManager: string;
}

/** A response: an object with its HTTP status, or what to watch. */
export type Answer =
  | { readonly status: number; readonly object: unknown }
  | { readonly watch: Attributes; readonly selects: (object: KubernetesObject) => boolean };

const CORE_KINDS = { pods: "Pod", events: "Event", resourcequotas: "ResourceQuota" };
const KINDS: Readonly<Record<string, string>> = { ...WORKLOADS, ...CORE_KINDS };
const OBJECTS = /^\/(api\/v1|apis\/apps\/v1)\/namespaces\/([^/]+)\/([a-z]+)(?:\/([^/]+))?(?:\/([a-z]+))?$/;

/**
 * Handles a request.
 *
 * @throws Refused
 */
export function answer(store: ObjectStore, rollouts: Rollouts, request: Request): Answer {
  const review = /^\/apis\/(?:authentication|authorization)\.k8s\.io\/v1\/(selfsubject[a-z]+)$/.exec(
    request.url.pathname,
  );
  if (review !== null && request.method === "POST") return { status: 201, object: reviewed(request, `${review[1]}`) };

  const { asked, selects } = understand(request);
  if (!permits(request.user.rules, asked)) throw forbidden(request.user, asked);
  if (asked.verb === "watch") return { watch: asked, selects };
  const { resource, namespace } = asked;
  if (asked.verb === "list") {
    const items = store.list(resource, namespace).filter(selects);
    const metadata = { resourceVersion: store.version };
    return {
      status: 200,
      object: { kind: `${kindOf(resource)}List`, apiVersion: apiVersionOf(asked), metadata, items },
    };
  }
  if (asked.verb === "create") {
    return { status: 201, object: create(store, asked, parse(request.body), request.fieldManager) };
  }

  const object = store.get(resource, namespace, asked.name);
  if (object === undefined) throw notFound(asked);
  if (asked.verb === "get") return { status: 200, object: asked.subresource === "scale" ? scaleOf(object) : object };
  if (asked.verb === "patch") return { status: 200, object: patch(store, asked, object, request) };
  if (resource === "pods") rollouts.end(object);
  else store.remove(resource, object);
  return { status: 200, object: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" } };
}

function understand({ method, url }: Request): { asked: Attributes; selects: (object: KubernetesObject) => boolean } {
  const [, root = "", namespace = "", resource = "", inPath = "", subresource = ""] = OBJECTS.exec(url.pathname) ?? [];
  const group = resource in WORKLOADS ? "apps" : resource in KINDS ? "" : undefined;
  const scale = subresource === "scale" && resource in WORKLOADS;
  if (group === undefined || (group === "apps") !== root.startsWith("apis") || (subresource !== "" && !scale)) {
    throw new Refused(404, "NotFound", "the server could not find the requested resource", {});
  }
  const fields = pairs(url.searchParams.get("fieldSelector"));
  const labels = pairs(url.searchParams.get("labelSelector"));
  const watching = ["1", "true"].includes(url.searchParams.get("watch") ?? "");
  const many = inPath === "";
  const verb = verbOf(method, many, watching);
  if (verb === undefined || (verb === "create" && resource === "pods") || (verb === "delete" && scale)) {
    throw new Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {});
  }
  // As in the API server, a list or watch of one name counts as naming it.
  const name = inPath || fields.find(([path]) => path === "metadata.name")?.[1] || "";
  const selects = (object: KubernetesObject) =>
    fields.every(([path, value]) => path.split(".").reduce<unknown>(fieldOf, object) === value) &&
    labels.every(([label, value]) => object.metadata.labels?.[label] === value);
  return { asked: { verb, group, resource, subresource, namespace, name }, selects };
}

function verbOf(method: string, many: boolean, watching: boolean): string | undefined {
  if (many) return { GET: watching ? "watch" : "list", POST: "create" }[method];
  return { GET: "get", PATCH: "patch", DELETE: "delete" }[method];
}

function fieldOf(object: unknown, field: string): unknown {
  return isRecord(object) ? object[field] : undefined;
}

function pairs(selector: string | null): [string, string][] {
  return (selector ?? "").split(",").filter((term) => term !== "").map((term) => {
    const [left = "", right = ""] = term.split(/==?/);
    return [left, right];
  });
}

function create(store: ObjectStore, asked: Attributes, body: unknown, manager: string): KubernetesObject {
  const { resource, namespace } = asked;
  const given = isRecord(body) && isRecord(body.metadata) ? body.metadata : {};
  const name = given.name ?? (typeof given.generateName === "string" ? given.generateName + letters() : undefined);
  if (!isRecord(body) || typeof name !== "string") throw invalid(resource, "", "metadata.name", "Required value");
  if (store.get(resource, namespace, name) !== undefined) {
    const details = { name, group: asked.group, kind: resource };
    throw new Refused(409, "AlreadyExists", `${resource} "${name}" already exists`, details);
  }
  if (resource === "events") validateEvent(body, name, namespace);
  const object = {
    ...body,
    kind: kindOf(resource),
    apiVersion: apiVersionOf(asked),
    metadata: { ...given, namespace, name },
  };
  if (resource in WORKLOADS) {
    Object.assign(object, { spec: { replicas: 1, ...(isRecord(body.spec) ? body.spec : {}) } });
    Object.assign(object.metadata, { managedFields: [managed(manager, "")] });
  }
  return store.put(resource, object);
}

/** Validates an Event (Kubernetes API, core/v1). With an eventTime it is one of the new kind. */
function validateEvent(event: Record<string, unknown>, name: string, namespace: string): void {
  const about = fieldOf(event.involvedObject, "namespace") || "";
  const isNew = typeof event.eventTime === "string";
  if (isNew ? about === "" : about !== namespace) {
    const why = `Invalid value: "${about}": does not match event.namespace`;
    throw invalid("Event", name, "involvedObject.namespace", why);
  }
  const needed = isNew ? ["reportingComponent", "reportingInstance", "action", "reason"] : [];
  const missing = needed.find((field) => !event[field]);
  if (missing !== undefined) throw invalid("Event", name, missing, "Required value");
}

function patch(store: ObjectStore, asked: Attributes, object: KubernetesObject, request: Request): unknown {
  const applied = request.contentType.startsWith("application/apply-patch+yaml");
  if (!applied && !request.contentType.startsWith("application/merge-patch+json")) {
    throw new Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", {});
  }
  const { resource, subresource, name } = asked;
  const before = subresource === "scale" ? scaleOf(object) : object;
  const after = mergePatch(before, parse(request.body)) as KubernetesObject;
  if (after.metadata?.resourceVersion !== object.metadata.resourceVersion) throw conflict(asked);

  const spec = subresource === "scale" ? { ...object.spec, replicas: after.spec?.replicas ?? 0 } : after.spec;
  if (resource in WORKLOADS && !(Number.isSafeInteger(spec?.replicas) && spec?.replicas >= 0)) {
    const why = `Invalid value: ${JSON.stringify(spec?.replicas)}: must be greater than or equal to 0`;
    throw invalid(subresource === "scale" ? "Scale.autoscaling" : resource, name, "spec.replicas", why);
  }
  const next = { ...(subresource === "scale" ? object : after), ...(spec === undefined ? {} : { spec }) };
  if (object.spec?.replicas !== spec?.replicas) {
    const owner = object.metadata.managedFields?.[0]?.manager ?? request.fieldManager;
    if (applied && owner !== request.fieldManager && request.url.searchParams.get("force") !== "true") {
      const message = `Apply failed with 1 conflict: conflict with "${owner}" using apps/v1: .spec.replicas`;
      throw new Refused(409, "Conflict", message, {});
    }
    const managedFields = applied
      ? [{ ...managed(request.fieldManager, ""), operation: "Apply" }]
      : ownersAfter(object, subresource, spec?.replicas, request.fieldManager);
    next.metadata = { ...next.metadata, managedFields };
  }
  const stored = store.put(resource, next);
  return subresource === "scale" ? scaleOf(stored) : stored;
}

/** Returns a Scale (autoscaling/v1). A replica count of 0 is omitted. */
function scaleOf(object: KubernetesObject): KubernetesObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const labels: Record<string, string> = object.spec?.selector?.matchLabels ?? {};
  const selector = Object.entries(labels).map(([label, value]) => `${label}=${value}`).join(",");
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: object.spec?.replicas ? { replicas: object.spec.replicas } : {},
    status: { replicas: object.status?.replicas ?? 0, selector },
  };
}

/**
 * Returns the managedFields after a change of the count. A change through the scale subresource to 0 removes `replicas`
 * from the object, and with it its owner. If no owner was recorded before, the scale subresource records none, so from
 * then on only direct writes are recorded (seen on v1.35).
 */
function ownersAfter(object: KubernetesObject, subresource: string, replicas: number, manager: string): unknown[] {
  const nobody = !object.metadata.managedFields?.length || replicas === 0;
  return subresource === "scale" && nobody ? [] : [managed(manager, subresource)];
}

/** Returns a managedFields entry that owns the count (Kubernetes API, field management). */
export function managed(manager: string, subresource: string): Record<string, unknown> {
  const fieldsV1 = { "f:spec": { "f:replicas": {} } };
  // Through the scale subresource no time is recorded (seen on v1.35).
  const on = subresource === "" ? { time: now() } : { subresource };
  return { manager, operation: "Update", apiVersion: "apps/v1", fieldsType: "FieldsV1", fieldsV1, ...on };
}

function reviewed({ user, body }: Request, review: string): unknown {
  if (review === "selfsubjectreviews") {
    const status = { userInfo: { username: user.name, groups: ["system:authenticated"] } };
    return { kind: "SelfSubjectReview", apiVersion: "authentication.k8s.io/v1", metadata: {}, status };
  }
  if (review === "selfsubjectrulesreviews") {
    const spec = fieldOf(parse(body), "spec");
    const namespace = fieldOf(spec, "namespace");
    const resourceRules = user.rules.filter((rule) => rule.namespace === undefined || rule.namespace === namespace)
      .map(({ apiGroups = ["*"], resources, resourceNames, verbs }) => ({
        apiGroups,
        resources,
        resourceNames,
        verbs,
      }));
    const status = { resourceRules, nonResourceRules: [], incomplete: false };
    return { kind: "SelfSubjectRulesReview", apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status };
  }
  if (review !== "selfsubjectaccessreviews") {
    throw new Refused(404, "NotFound", "the server could not find the requested resource", {});
  }
  const spec = fieldOf(parse(body), "spec");
  const asked = fieldOf(spec, "resourceAttributes");
  const nothing = { verb: "", group: "", resource: "", subresource: "", namespace: "", name: "" };
  const allowed = isRecord(asked) && permits(user.rules, { ...nothing, ...asked });
  const status = { allowed, ...(allowed && { reason: "allowed by a rule of the sandbox" }) };
  return { kind: "SelfSubjectAccessReview", apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status };
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new Refused(400, "BadRequest", "error decoding patch: invalid JSON");
  }
}

function invalid(kind: string, name: string, field: string, why: string): Refused {
  const details = { name, kind, causes: [{ reason: "FieldValueInvalid", message: why, field }] };
  return new Refused(422, "Invalid", `${kind} "${name}" is invalid: ${field}: ${why}`, details);
}

/** Returns the API version of a request. */
export function apiVersionOf({ group }: Attributes): string {
  return group === "" ? "v1" : `${group}/v1`;
}

/** Returns the kind for a plural name. */
export function kindOf(resource: string): string {
  return `${KINDS[resource]}`;
}

/** Plural names of all workloads. */
export const WORKLOAD_RESOURCES = Object.keys(WORKLOADS) as WorkloadResource[];
