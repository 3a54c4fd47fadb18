/**
 * Starts a real Kubernetes control plane on this machine, or connects to an existing cluster by its kubeconfig, and
 * sends requests as administrator. `workloads.ts` and `service_accounts.ts` create objects in it.
 *
 * @module
 */

import { KubeConfig, type KubernetesObject } from "@kubernetes/client-node";
import type { RequestOptions } from "node:https";
import { join } from "node:path";
import { freePort, httpJson } from "./network.ts";
import { Child } from "./process.ts";

/** Durations in the life of a pod on our own control plane, in milliseconds. */
export interface PodDelays {
  /** From creation to ready. */
  readonly startMs: number;
  /** From deletion to gone. */
  readonly stopMs: number;
  /** Run time of a container that exits by itself. */
  readonly runMs: number;
  /** First wait between crashes, which doubles each time, and the wait between image pulls. */
  readonly backOffMs: number;
}

/** A running control plane, with administrator access. */
export interface ControlPlane extends AsyncDisposable {
  /** Base URL of the API server. */
  readonly url: string;
  /** CA certificate of the API server, PEM. */
  readonly authority: string;
  /** Administrator's kubeconfig. */
  readonly kubeconfig: string;
  /** Audit log of write requests, one JSON object per line; undefined for an existing cluster. */
  readonly auditLog: string | undefined;
  /**
   * Sends a request as administrator.
   *
   * @param method HTTP method; a PATCH sends a JSON merge patch
   * @param path path and query
   * @param body sent as JSON
   * @throws HttpError if the request fails
   */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any>;
  /**
   * Creates or changes an object as administrator, like `kubectl apply --server-side --validate=strict`.
   *
   * @throws HttpError if the object is invalid or refused
   */
  apply(object: KubernetesObject): Promise<void>;
  /**
   * Reads a response with one object per line, such as a watch, as administrator, until it ends.
   *
   * @param path path and query
   * @param signal aborts it
   */
  // deno-lint-ignore no-explicit-any
  lines(path: string, signal: AbortSignal): AsyncIterable<any>;
  /** Stops the control plane. Throws for an existing cluster. */
  stop(): Promise<void>;
  /** Restarts it with the same data on the same port. Throws for an existing cluster. */
  start(): Promise<void>;
}

/**
 * Connects to an existing cluster.
 *
 * @param kubeconfig file with the address, and credentials that may create namespaces, roles and tokens
 */
export async function existingControlPlane(kubeconfig: string): Promise<ControlPlane> {
  const refuse = () => Promise.reject(new Error("Cannot stop or start the cluster: it was given"));
  const administrator = await connect(kubeconfig);
  return {
    ...administrator,
    kubeconfig,
    auditLog: undefined,
    stop: refuse,
    start: refuse,
    [Symbol.asyncDispose]: () => Promise.resolve(administrator.close()),
  };
}

/**
 * Starts our own control plane.
 *
 * @param program path of the built control plane
 * @param folder empty folder for its data
 * @param delays durations in the life of its pods
 */
export async function startControlPlane(program: string, folder: string, delays: PodDelays): Promise<ControlPlane> {
  const file = (name: string) => join(folder, name);
  const port = freePort();
  await Deno.writeTextFile(file("audit-policy.yaml"), JSON.stringify(auditPolicy));
  let child: Child | undefined;
  const start = async () => {
    await Deno.writeTextFile(file("READY"), ""); // a kill leaves it behind, so that it is always there to be removed
    await Deno.remove(file("READY"));
    child = new Child({
      name: "the Kubernetes control plane",
      command: [
        program,
        "--exit-with-stdin",
        ...["--dir", folder, "--listen", `127.0.0.1:${port}`],
        ...["--start-delay", `${delays.startMs}ms`, "--stop-delay", `${delays.stopMs}ms`],
        ...["--run-time", `${delays.runMs}ms`, "--back-off", `${delays.backOffMs}ms`],
        "--",
        ...[`--audit-policy-file=${file("audit-policy.yaml")}`, `--audit-log-path=${file("audit.log")}`],
      ],
      logFile: file("output.log"),
    });
    await child.untilReady(() => Deno.stat(file("READY")).then(() => true, () => false), 60_000);
  };
  await start();
  const administrator = await connect(file("kubeconfig"));
  return {
    ...administrator,
    kubeconfig: file("kubeconfig"),
    auditLog: file("audit.log"),
    stop: async () => void await child?.stop(),
    start,
    [Symbol.asyncDispose]: async () => {
      administrator.close();
      await child?.kill(); // nobody needs its data any more
    },
  };
}

/**
 * Audit policy: logs each write to a scale or a workload, with its body, once it is answered; and which other requests
 * ServiceAccounts make about workloads, their pods and Events.
 */
const auditPolicy = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [
    {
      level: "Request",
      verbs: ["patch", "update"],
      resources: [{
        group: "apps",
        resources: ["deployments", "deployments/scale", "statefulsets", "statefulsets/scale"],
      }],
    },
    {
      level: "Metadata",
      userGroups: ["system:serviceaccounts"],
      resources: [{ group: "apps" }, { group: "", resources: ["pods", "events"] }],
    },
    { level: "None" },
  ],
};

async function connect(kubeconfig: string) {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new Error(`Cannot use ${kubeconfig}: it has no current cluster`);
  const tls: RequestOptions = {};
  await config.applyToHTTPSOptions(tls);
  const pem = (value: unknown) => value === undefined ? undefined : String(value);
  const authority = pem(tls.ca) ?? "";
  const cert = pem(tls.cert);
  const key = pem(tls.key);
  const client = Deno.createHttpClient({
    ...(authority === "" ? {} : { caCerts: [authority] }),
    ...(cert && key ? { cert, key } : {}),
  });
  const headers = new Headers(tls.headers as Record<string, string> | undefined);
  const authorization = headers.get("authorization") ?? undefined;
  const url = cluster.server.replace(/\/+$/, "");
  const apply = async (object: KubernetesObject): Promise<void> => {
    const { apiVersion = "", kind = "", metadata: { name, namespace } = {} } = object;
    const folder = `/${apiVersion.includes("/") ? "apis" : "api"}/${apiVersion}${
      namespace ? `/namespaces/${namespace}` : ""
    }`;
    await httpJson(
      "PATCH",
      `${url}${folder}/${kind.toLowerCase()}s/${name}?fieldManager=testbed&fieldValidation=Strict`,
      {
        ...{ authorization, body: object, client, contentType: "application/apply-patch+yaml" },
      },
    );
  };
  return {
    url,
    authority,
    apply,
    request: (method: string, path: string, body?: unknown) =>
      httpJson(method, `${url}${path}`, {
        authorization,
        body,
        client,
        ...(method === "PATCH" ? { contentType: "application/merge-patch+json" } : {}),
      }),
    lines: async function* (path: string, signal: AbortSignal) {
      const headers = new Headers(authorization === undefined ? {} : { authorization });
      const { body } = await fetch(`${url}${path}`, { headers, client });
      const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
      signal.addEventListener("abort", () => void reader?.cancel());
      let rest = "";
      for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
        const lines = (rest + part.value).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) yield JSON.parse(line);
      }
    },
    close: () => client.close(),
  };
}
