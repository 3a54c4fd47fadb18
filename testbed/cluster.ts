/**
 * A real Kubernetes control plane on this machine, or a cluster that was given by its kubeconfig. Knows how to start,
 * stop and talk to it as its administrator; what is put into it is the business of `workloads.ts`.
 *
 * @module
 */

import { KubeConfig, type KubernetesObject } from "@kubernetes/client-node";
import type { RequestOptions } from "node:https";
import { join } from "node:path";
import { freePort, httpJson } from "./network.ts";
import { Child } from "./process.ts";

/** How long things take in the life of a pod on a control plane of ours; in milliseconds. */
export interface PodDelays {
  /** From being created to being ready. */
  readonly startMs: number;
  /** From being deleted to being gone. */
  readonly stopMs: number;
  /** How long a container that ends by itself runs. */
  readonly runMs: number;
  /** First wait between crashes, which doubles, and wait between pulls. */
  readonly backOffMs: number;
}

/** A running control plane, and what it takes to talk to it. */
export interface ControlPlane extends AsyncDisposable {
  /** Base URL of the API server. */
  readonly url: string;
  /** Certificates of the authority to be trusted, PEM. */
  readonly authority: string;
  /** Kubeconfig of its administrator. */
  readonly kubeconfig: string;
  /** Log of the writes that the API server was asked for, a line of JSON each; undefined for a cluster that was given. */
  readonly auditLog: string | undefined;
  /**
   * Sends a request as administrator.
   *
   * @param method HTTP method; a PATCH is a JSON merge patch
   * @param path path and query
   * @param body sent as JSON
   * @throws HttpError if the answer is no success
   */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any>;
  /**
   * Makes an object, or changes it, as `kubectl apply --server-side --validate=strict` does, as administrator.
   *
   * @throws HttpError if it is not valid, or refused
   */
  apply(object: KubernetesObject): Promise<void>;
  /**
   * Reads an answer that comes an object a line, such as a watch, as administrator, for as long as it goes on.
   *
   * @param path path and query
   * @param signal ends it
   */
  // deno-lint-ignore no-explicit-any
  lines(path: string, signal: AbortSignal): AsyncIterable<any>;
  /** Stops it. Throws if it was given. */
  stop(): Promise<void>;
  /** Starts it again, with the same data on the same port. Throws if it was given. */
  start(): Promise<void>;
}

/**
 * A cluster that somebody else runs.
 *
 * @param kubeconfig file with its address and credentials that may create namespaces, roles and tokens
 */
export async function givenControlPlane(kubeconfig: string): Promise<ControlPlane> {
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
 * Starts a control plane of our own.
 *
 * @param program the built control plane
 * @param folder empty folder for its data
 * @param delays how its pods behave
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

/** What the audit log holds: each write to a scale and to the workloads themselves, with its body, once answered. */
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
