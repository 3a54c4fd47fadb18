/**
 * Environment in which the real operator is killed and restarted: the sandbox's homeserver and cluster in this process,
 * Anna with her phone, and the operator as a separate process with one store folder.
 *
 * @module
 */

import { join } from "node:path";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { KubernetesSandbox } from "../../sandbox/kubernetes/mod.ts";
import { Person } from "../../sandbox/person/mod.ts";
import { type OperatorOptions, OperatorProcess } from "../operator_process.ts";

/** Longer than anything takes that happens at all, even on a slow machine. */
export const PATIENCE_MS = 120_000;

const target = { namespace: "clawdbot", name: "clawdbot" };
/** Permissions of the base Role. */
const permissions = [
  { ...named("deployments"), verbs: ["get"] },
  { ...named("deployments/scale"), verbs: ["get", "patch"] },
];
/** With these, the operator needs no read before a change. */
const watchingPermissions = [...permissions, { ...named("deployments"), verbs: ["watch"] }];

function named(resource: string) {
  return { namespace: target.namespace, resources: [resource], resourceNames: [target.name] };
}

/** The servers, a person, and the folder. */
export class Fixture implements AsyncDisposable {
  readonly homeserver: Homeserver;
  readonly kubernetes: KubernetesSandbox;
  /** A user whom the operator obeys. */
  readonly anna: Person;
  /** The operator's user ID. */
  readonly operatorId: string;
  /** Folder of the operator's store. It doesn't exist before the first start. */
  readonly store: string;
  /** Replica counts that the target was set to, in order. */
  readonly effects: number[] = [];
  /** The operator's environment, with the permissions of the base Role. */
  readonly environment: Readonly<Record<string, string>>;
  /** What is different about it where the operator may also watch its target. */
  readonly watching: Readonly<Record<"KUBECONFIG", string>>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: Pick<Fixture, "homeserver" | "kubernetes" | "anna" | "operatorId" | "store" | "environment" | "watching">,
    resources: AsyncDisposableStack,
  ) {
    ({
      homeserver: this.homeserver,
      kubernetes: this.kubernetes,
      anna: this.anna,
      operatorId: this.operatorId,
      store: this.store,
      environment: this.environment,
      watching: this.watching,
    } = parts);
    this.#resources = resources;
    resources.use(this.kubernetes.onChange(() => this.#look()));
  }

  /** Sets everything up. The target is off. */
  static async open(): Promise<Fixture> {
    await using resources = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "faults-" });
    resources.defer(() => Deno.remove(folder, { recursive: true }));
    const homeserver = resources.use(new Homeserver());
    const kubernetes = resources.use(await KubernetesSandbox.start({ startMs: 20, stopMs: 10, observeMs: 2 }));
    kubernetes.create(target);
    const kubeconfig = join(folder, "kubeconfig");
    await kubernetes.writeKubeconfig(kubeconfig, kubernetes.token("openclaw-toggle", permissions));
    const watching = { KUBECONFIG: join(folder, "kubeconfig-watching") };
    await kubernetes.writeKubeconfig(watching.KUBECONFIG, kubernetes.token("watching", watchingPermissions));
    const operatorId = homeserver.register("toggle", "secret");
    homeserver.register("anna", "pw");
    const login = { url: homeserver.url, user: "anna", password: "pw", crossSigning: true };
    const anna = resources.use(await Person.login(login));
    const store = join(folder, "store");
    const environment = {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: "toggle",
      MATRIX_PASSWORD: "secret",
      ALLOWED_USERS: anna.userId,
      CRYPTO_STORE_PATH: store,
      // On a slow machine, commands must not become too old.
      MAX_COMMAND_AGE: "1h",
      KUBECONFIG: kubeconfig,
      LOG_FORMAT: "text",
      LOG_LEVEL: "info",
      HTTP_ADDRESS: "",
    };
    return new Fixture({ homeserver, kubernetes, anna, operatorId, store, environment, watching }, resources.move());
  }

  /** Starts the operator. */
  start(options: Partial<OperatorOptions> = {}): OperatorProcess {
    const environment = { ...this.environment, ...options.environment };
    return new OperatorProcess({ ...options, environment });
  }

  /** Creates an encrypted room and invites the operator. */
  async invite(): Promise<string> {
    return await this.anna.createRoom([this.operatorId]);
  }

  /** Waits until Anna sees the operator in the room. */
  async joined(roomId: string): Promise<void> {
    const isThere = () => this.anna.members(roomId).includes(this.operatorId) || undefined;
    await this.anna.until(isThere, PATIENCE_MS, () => "the operator to join");
  }

  /** The target's current replica count. */
  get replicas(): number {
    return this.kubernetes.workloads()[0]?.desired ?? -1;
  }

  /** Changes the replica count as another user. */
  async scaleByHand(replicas: number): Promise<void> {
    const path = `/apis/apps/v1/namespaces/${target.namespace}/deployments/${target.name}/scale`;
    const response = await fetch(`${this.kubernetes.url}${path}`, {
      method: "PATCH",
      headers: {
        authorization: `Bearer ${this.kubernetes.adminToken}`,
        "content-type": "application/merge-patch+json",
      },
      body: JSON.stringify({ spec: { replicas } }),
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`Cannot scale by hand: ${response.status}`);
  }

  #look(): void {
    const now = this.replicas;
    if (now !== (this.effects.at(-1) ?? 0)) this.effects.push(now);
  }

  /** Ends everything except the operator. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
