/**
 * ServiceAccounts that tests create in a cluster, with few permissions, and their credentials.
 *
 * @module
 */

import { join } from "node:path";
import type { ControlPlane } from "./cluster.ts";
import { eventually, type Namespaces } from "./namespaces.ts";
import { HttpError } from "./network.ts";
import type { WorkloadResource } from "./workloads.ts";

/** A rule of a Role (Kubernetes API, rbac.authorization.k8s.io/v1 PolicyRule). */
export interface Rule {
  /** API groups; "" is the core. */
  readonly apiGroups: readonly string[];
  /** Resources, such as `deployments/scale`. */
  readonly resources: readonly string[];
  /** Names that the rule is limited to. */
  readonly resourceNames?: readonly string[];
  /** Permitted verbs. */
  readonly verbs: readonly string[];
}

/** The permissions that the operator needs for its target. */
export function baseRules(target: string, resource: WorkloadResource = "deployments"): Rule[] {
  const limits = { apiGroups: ["apps"], resourceNames: [target] };
  return [
    { ...limits, resources: [resource], verbs: ["get"] },
    { ...limits, resources: [`${resource}/scale`], verbs: ["get", "patch"] },
  ];
}

/** The base permissions, and those that let the operator report more. */
export function extendedRules(target: string, resource: WorkloadResource = "deployments"): Rule[] {
  return [
    ...baseRules(target, resource),
    { apiGroups: ["apps"], resources: [resource], resourceNames: [target], verbs: ["watch"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
    { apiGroups: [""], resources: ["events"], verbs: ["create"] },
  ];
}

/** A ServiceAccount, in the forms that programs accept. */
export interface ServiceAccount {
  /** Bearer token. */
  readonly token: string;
  /** Kubeconfig that contains only that token. */
  readonly kubeconfig: string;
  /** Folder with `token`, `ca.crt` and `namespace`, as in a pod. */
  readonly folder: string;
}

/** Creates ServiceAccounts. */
export class ServiceAccounts {
  readonly #plane: ControlPlane;
  readonly #namespaces: Namespaces;
  readonly #folder: string;

  /** @param folder folder for their credentials */
  constructor(plane: ControlPlane, namespaces: Namespaces, folder: string) {
    this.#plane = plane;
    this.#namespaces = namespaces;
    this.#folder = folder;
  }

  /**
   * Creates a ServiceAccount with its own Role, and waits until the API server applies it.
   *
   * @param rules its permissions in the namespace
   */
  async create(namespace: string, name: string, rules: readonly Rule[]): Promise<ServiceAccount> {
    await this.#namespaces.create(namespace);
    const { request } = this.#plane;
    const core = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
    const metadata = { name };
    await request("POST", core, { metadata });
    await request("POST", `${rbac}/roles`, { metadata, rules });
    await request("POST", `${rbac}/rolebindings`, {
      metadata,
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", namespace, name }],
    });
    return await this.credentialsOf(namespace, name, rules);
  }

  /**
   * Gets a token of an existing ServiceAccount, once the API server applies its Role.
   *
   * @param rules its permissions in the namespace
   */
  async credentialsOf(namespace: string, name: string, rules: readonly Rule[]): Promise<ServiceAccount> {
    await this.untilAllowed(namespace, `system:serviceaccount:${namespace}:${name}`, rules);
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const { status } = await this.#plane.request("POST", path, { spec: { expirationSeconds: 3_600 } });
    return await this.#writeCredentials(namespace, name, status.token);
  }

  /** Waits until the API server applies these rules to a user. */
  async untilAllowed(namespace: string, user: string, rules: readonly Rule[]): Promise<void> {
    for (const { apiGroups, resources, resourceNames, verbs } of rules) {
      const [resource, subresource] = (resources[0] ?? "").split("/");
      const resourceAttributes = {
        ...{ namespace, group: apiGroups[0], resource, subresource, name: resourceNames?.[0], verb: verbs[0] },
      };
      await eventually(async () => {
        const review = { spec: { user, resourceAttributes } };
        const { status } = await this.#plane.request(
          "POST",
          "/apis/authorization.k8s.io/v1/subjectaccessreviews",
          review,
        );
        if (!status.allowed) throw new HttpError(`${user} ${verbs[0]} ${resources[0]}`, 403, status.reason ?? "");
      });
    }
  }

  async #writeCredentials(namespace: string, name: string, token: string): Promise<ServiceAccount> {
    const folder = join(this.#folder, `${namespace}-${name}`);
    await Deno.mkdir(folder, { recursive: true });
    const kubeconfig = join(this.#folder, `${namespace}-${name}.kubeconfig`);
    const { authority, url: server } = this.#plane;
    const cluster = { server, ...(authority ? { "certificate-authority-data": btoa(authority) } : {}) };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "cluster", cluster }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: "cluster", user: name, namespace } }],
      "current-context": name,
    };
    await Deno.writeTextFile(kubeconfig, JSON.stringify(config, null, 2), { mode: 0o600 });
    await Deno.writeTextFile(join(folder, "token"), token, { mode: 0o600 });
    await Deno.writeTextFile(join(folder, "ca.crt"), authority);
    await Deno.writeTextFile(join(folder, "namespace"), namespace);
    return { token, kubeconfig, folder };
  }
}
