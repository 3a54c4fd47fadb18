/**
 * An in-memory Kubernetes API server over HTTP, with rollouts of Deployments and StatefulSets, pods, Events, watches,
 * permissions and fault injection. tests/contract compares it to the real one.
 *
 * @module
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Refused, type Rule, type User } from "./access.ts";
import { type Fault, Faults } from "./faults.ts";
import { type Change, type KubernetesObject, ObjectStore } from "./objects.ts";
import { type Answer, answer, apiVersionOf, kindOf, managed, WORKLOAD_RESOURCES } from "./requests.ts";
import { type Durations, podsOf, Rollouts, type WorkloadResource, WORKLOADS } from "./rollout.ts";
import { isReady } from "./statuses.ts";

export type { Rule } from "./access.ts";
export type { Effect, Fault } from "./faults.ts";
export type { Durations, WorkloadResource } from "./rollout.ts";

/** Options of a {@linkcode KubernetesSandbox}. */
export interface SandboxOptions extends Partial<Durations> {
  /** Port to listen on. Default: a free one. */
  readonly port?: number;
}

/** A workload to create. */
export interface NewWorkload {
  /** Default: `deployments`. */
  readonly resource?: WorkloadResource;
  readonly namespace: string;
  readonly name: string;
  /** Replicas. Default: 0. */
  readonly replicas?: number;
  /** Image. Its name decides what happens to the pods (`kubelet.ts`). Default: one that works. */
  readonly image?: string;
}

/** Summary of a workload. */
export interface WorkloadView {
  /** Plural name of its kind. */
  readonly resource: WorkloadResource;
  readonly namespace: string;
  readonly name: string;
  /** `spec.replicas`. */
  readonly desired: number;
  /** `status.readyReplicas`. */
  readonly ready: number;
  /** Whether the status belongs to the current spec. */
  readonly settled: boolean;
  /** Its pods, oldest first. */
  readonly pods: readonly PodView[];
}

/** Summary of a pod. */
export interface PodView {
  readonly name: string;
  readonly state: "Pending" | "Running" | "Ready" | "Terminating";
}

/** A workload or pod that was created, changed or deleted. */
export interface ChangedObject {
  /** Plural name of its kind. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  /** `spec.replicas`; undefined for a pod. */
  readonly replicas: number | undefined;
}

/** A request that was answered, or affected by a fault. */
export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** User name; empty if the token is unknown. */
  readonly user: string;
}

/** A watch that times out sends a bookmark this many seconds before. */
const BOOKMARK_BEFORE_END_S = 2;

/** A running sandbox. */
export class KubernetesSandbox implements AsyncDisposable {
  /** Base URL. */
  readonly url: string;
  /** Token with all permissions. */
  readonly adminToken: string;
  /** Durations of rollouts. May be changed at any time. */
  readonly durations: Durations;
  /** The last 1,000 requests, oldest first. */
  readonly requests: SeenRequest[] = [];
  readonly #server: Server;
  readonly #store = new ObjectStore();
  readonly #rollouts: Rollouts;
  readonly #faults = new Faults();
  readonly #users = new Map<string, User>();

  private constructor(server: Server, durations: Durations) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.durations = durations;
    this.#rollouts = new Rollouts(this.#store, durations);
    this.adminToken = this.token("admin", [{ resources: ["*"], verbs: ["*"] }]);
    server.on("request", (request, response) => void this.#serve(request, response));
  }

  /**
   * Starts a server on 127.0.0.1.
   *
   * @throws Error if the port is taken
   */
  static async start(options: SandboxOptions = {}): Promise<KubernetesSandbox> {
    const { port = 0, startMs = 2_000, stopMs = 500, observeMs = 10, runMs = 500, backOffMs = 1_000 } = options;
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", resolve);
    });
    return new KubernetesSandbox(server, { startMs, stopMs, observeMs, runMs, backOffMs });
  }

  /** Stops everything and closes all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#rollouts[Symbol.dispose]();
    this.#faults[Symbol.dispose]();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  /** Creates a token for a user with rules. */
  token(userName: string, rules: readonly Rule[]): string {
    const token = crypto.randomUUID();
    this.#users.set(token, { name: userName, rules });
    return token;
  }

  /** Revokes a token. It gets 401 from now on. */
  revoke(token: string): void {
    this.#users.delete(token);
  }

  /** Writes a kubeconfig, as JSON (which is YAML), with one context, `sandbox`. */
  async writeKubeconfig(path: string, token: string): Promise<void> {
    const config = {
      apiVersion: "v1",
      kind: "Config",
      "current-context": "sandbox",
      clusters: [{ name: "sandbox", cluster: { server: this.url } }],
      users: [{ name: "sandbox", user: { token } }],
      contexts: [{ name: "sandbox", context: { cluster: "sandbox", user: "sandbox" } }],
    };
    await Deno.writeTextFile(path, JSON.stringify(config, null, 2), { mode: 0o600 });
  }

  /** Creates a workload with one container. */
  create({ resource = "deployments", namespace, name, replicas = 0, image = `example/${name}` }: NewWorkload): void {
    const template = { metadata: { labels: { app: name } }, spec: { containers: [{ name, image }] } };
    const spec = { replicas, selector: { matchLabels: { app: name } }, template };
    this.#store.put(resource, {
      kind: WORKLOADS[resource],
      apiVersion: "apps/v1",
      metadata: { namespace, name, managedFields: [managed("sandbox", "")] },
      spec,
    });
  }

  /** Returns all workloads with their pods. */
  workloads(): WorkloadView[] {
    return WORKLOAD_RESOURCES.flatMap((resource) =>
      this.#store.all(resource).map((object) => ({
        resource,
        namespace: object.metadata.namespace,
        name: object.metadata.name,
        desired: object.spec?.replicas ?? 0,
        ready: object.status?.readyReplicas ?? 0,
        settled: object.status?.observedGeneration === object.metadata.generation,
        pods: podsOf(this.#store, object).map((pod) => ({ name: pod.metadata.name, state: stateOf(pod) })),
      }))
    );
  }

  /** Limits the number of pods in a namespace by a ResourceQuota. Disposing of the result removes it. */
  limitPods(namespace: string, pods: number, name = "compute"): Disposable {
    const spec = { hard: { pods: `${pods}` } };
    const quota = { kind: "ResourceQuota", apiVersion: "v1", metadata: { namespace, name }, spec };
    const stored = this.#store.put("resourcequotas", quota);
    return { [Symbol.dispose]: () => this.#store.remove("resourcequotas", stored) };
  }

  /** Deletes the change history: watches from earlier versions get 410, as after a compaction. */
  forgetHistory(): void {
    this.#store.forget();
  }

  /** Calls a listener after every change of a workload or pod, until disposed of. */
  onChange(listener: (changed: ChangedObject) => void): Disposable {
    return this.#store.listen(({ resource, object: { metadata: { namespace, name }, spec } }) => {
      if (resource in WORKLOADS || resource === "pods") {
        listener({ resource, namespace, name, replicas: spec?.replicas });
      }
    });
  }

  /** Injects a fault. Disposing of the result removes it. */
  fault(fault: Fault): Disposable {
    return this.#faults.add(fault);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    const user = bearer === undefined ? { name: "system:anonymous", rules: [] } : this.#users.get(bearer);
    const { method = "", url: path = "/" } = request;
    this.requests.push({ method, path, user: user?.name ?? "" });
    if (this.requests.length > 1_000) this.requests.shift();
    try {
      const body = await textOf(request);
      const fate = await this.#faults.decide(request, response);
      if (fate === "settled") return;
      const url = new URL(path, this.url);
      const fieldManager = url.searchParams.get("fieldManager") ?? `${request.headers["user-agent"]}`.split("/")[0] ??
        "";
      if (user === undefined) throw new Refused(401, "Unauthorized", "Unauthorized");
      if (["/readyz", "/livez"].includes(url.pathname)) return void response.end("ok");
      if (url.pathname === "/version") {
        return send(response, 200, { major: "1", minor: "35", gitVersion: "v1.35.0-sandbox" });
      }
      const contentType = request.headers["content-type"] ?? "";
      const answered = answer(this.#store, this.#rollouts, { method, url, contentType, body, user, fieldManager });
      if (fate === "lost") request.socket.destroy();
      else if ("watch" in answered) this.#watch(answered, url, response);
      else send(response, answered.status, answered.object);
    } catch (error) {
      // The client has closed the connection before its request was complete.
      if ((error as { code?: unknown }).code === "ECONNRESET") return;
      // Anything else is a bug in this sandbox, and must be visible.
      if (!(error instanceof Refused)) console.error(error);
      const refused = error instanceof Refused ? error : new Refused(500, "InternalError", String(error));
      if (!response.headersSent) send(response, refused.code, refused.status());
    }
  }

  #watch({ watch, selects }: Extract<Answer, { watch: unknown }>, url: URL, response: ServerResponse): void {
    const { resource, namespace } = watch;
    response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
    const tell = ({ type, resource: changed, object }: Change) => {
      if (changed !== resource || object.metadata.namespace !== namespace || !selects(object)) return;
      response.write(`${JSON.stringify({ type, object })}\n`);
    };
    const from = Number(url.searchParams.get("resourceVersion") ?? 0);
    const past = from === 0
      ? this.#store.list(resource, namespace).map((object) => ({ type: "ADDED", resource, object }) as const)
      : this.#store.since(from);
    if (past === undefined) {
      const gone = new Refused(410, "Expired", `too old resource version: ${from} (${this.#store.version})`);
      return void response.end(`${JSON.stringify({ type: "ERROR", object: gone.status() })}\n`);
    }
    past.forEach(tell);
    const listening = this.#store.listen(tell);
    const seconds = Number(url.searchParams.get("timeoutSeconds") ?? 0);
    const timers = seconds > 0 ? [setTimeout(() => response.end(), seconds * 1_000)] : [];
    // Like the API server, so that the next watch can resume from here.
    if (url.searchParams.get("allowWatchBookmarks") === "true" && seconds > BOOKMARK_BEFORE_END_S) {
      timers.push(setTimeout(() => {
        const metadata = { resourceVersion: this.#store.version, creationTimestamp: null };
        const object = { kind: kindOf(resource), apiVersion: apiVersionOf(watch), metadata };
        response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
      }, (seconds - BOOKMARK_BEFORE_END_S) * 1_000));
    }
    response.on("close", () => {
      listening[Symbol.dispose]();
      timers.forEach(clearTimeout);
    });
  }
}

function stateOf(pod: KubernetesObject): PodView["state"] {
  if (pod.metadata.deletionTimestamp !== undefined) return "Terminating";
  if (pod.status?.phase === "Pending") return "Pending";
  return isReady(pod) ? "Ready" : "Running";
}

function send(response: ServerResponse, status: number, object: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(object));
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return new TextDecoder().decode(new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()));
}
