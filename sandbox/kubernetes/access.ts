/**
 * Authorization: bearer tokens, users with rules as in a Role, and Status objects for refusals.
 *
 * @module
 */

/** Attributes of a request (Kubernetes API, request attributes). */
export interface Attributes {
  /** Such as `get`, `list`, `watch`, `create`, `patch`, `delete`. */
  readonly verb: string;
  /** API group; empty for the core group. */
  readonly group: string;
  /** Plural name. */
  readonly resource: string;
  /** Such as `scale`; empty for the object itself. */
  readonly subresource: string;
  readonly namespace: string;
  /** Name of the object; empty if the request has none. */
  readonly name: string;
}

/** A rule of a Role. `*` matches everything. */
export interface Rule {
  /** Namespace of the rule. Default: all. */
  readonly namespace?: string;
  /** API groups. Default: all. */
  readonly apiGroups?: readonly string[];
  /** Such as `deployments`, `deployments/scale`. */
  readonly resources: readonly string[];
  /** Names that the rule is limited to. It doesn't permit requests without a name then. */
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** Owner of a token. */
export interface User {
  /** Such as `system:serviceaccount:clawdbot:openclaw-toggle`. */
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** Whether a rule permits the request. */
export function permits(rules: readonly Rule[], asked: Attributes): boolean {
  const whole = asked.subresource === "" ? asked.resource : `${asked.resource}/${asked.subresource}`;
  const has = (list: readonly string[] | undefined, value: string) =>
    list === undefined || list.includes("*") || list.includes(value);
  return rules.some((rule) =>
    (rule.namespace === undefined || rule.namespace === asked.namespace) && has(rule.apiGroups, asked.group) &&
    has(rule.resources, whole) && has(rule.verbs, asked.verb) &&
    (rule.resourceNames === undefined || rule.resourceNames.includes(asked.name))
  );
}

/** A refusal, with the Status object to send (Kubernetes API, meta/v1). */
export class Refused extends Error {
  readonly code: number;
  /** Such as `NotFound`. */
  readonly reason: string;
  /** `details` of the Status object. */
  readonly details: Record<string, unknown> | undefined;

  constructor(code: number, reason: string, message: string, details?: Record<string, unknown>) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  /** Returns the Status object. */
  status(): Record<string, unknown> {
    const { message, reason, details, code } = this;
    const about = details === undefined ? {} : { details };
    return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, ...about, code };
  }
}

/** 403, with the API server's message. */
export function forbidden(user: User, asked: Attributes): Refused {
  const { verb, group, resource, subresource, namespace, name } = asked;
  const whole = subresource === "" ? resource : `${resource}/${subresource}`;
  const message = `${called(asked)} is forbidden: User "${user.name}" cannot ${verb} resource "${whole}" ` +
    `in API group "${group}" in the namespace "${namespace}"`;
  return new Refused(403, "Forbidden", message, { ...(name && { name }), ...(group && { group }), kind: resource });
}

/** 404 for an object. */
export function notFound(asked: Attributes): Refused {
  const { name, group, resource } = asked;
  return new Refused(404, "NotFound", `${called(asked)} not found`, { name, ...(group && { group }), kind: resource });
}

/** 409: the object has been modified. */
export function conflict(asked: Attributes): Refused {
  const { name, group, resource } = asked;
  const message =
    `Operation cannot be fulfilled on ${called(asked)}: the object has been modified; please apply your ` +
    "changes to the latest version and try again";
  return new Refused(409, "Conflict", message, { name, group, kind: resource });
}

function called({ group, resource, name }: Attributes): string {
  return `${resource}${group && `.${group}`}${name && ` "${name}"`}`;
}
