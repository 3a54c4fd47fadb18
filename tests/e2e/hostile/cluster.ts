/** Rows about Kubernetes, kubeconfigs, the health server and the connection test. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type Cluster,
  type Diagnosis,
  KubernetesApi,
  KubernetesScaler,
  openCluster,
  whoAmI,
  type Workload,
} from "../../../lib/scaler/mod.ts";
import project from "../../../deno.json" with { type: "json" };
import type { TargetOptions } from "../../../testbed/mod.ts";
import * as certificates from "../../certificates.ts";
import { elapsed, eventually, type Ground, patienceMs, Subject } from "../faults/subject.ts";
import { type HostileRow } from "./row.ts";

const root = join(import.meta.dirname ?? ".", "..", "..", "..");
const nowhere = {
  kubeconfig: undefined,
  serviceHost: undefined,
  servicePort: undefined,
  serviceAccountFolder: "/nonexistent",
  home: undefined,
};

/** Runs a request against the real API server as its administrator. */
async function asAdministrator<Value>(
  { testbed: { cluster } }: Ground,
  ask: (api: KubernetesApi, signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const signal = AbortSignal.timeout(patienceMs);
  using access = await openCluster({ ...nowhere, kubeconfig: cluster.kubeconfig }, signal);
  return await ask(new KubernetesApi(access), signal);
}

/** Opens 3,000 connections and sends half a request on each. */
async function halfSentRequests(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await subject.start();
  await subject.untilLogged(/listening on port \d+/);
  const port = Number(/listening on port (\d+)/.exec(await subject.log())?.[1]);
  const address = { hostname: "127.0.0.1", port };
  let open = 0;
  const connections: Deno.Conn[] = [];
  for (let count = 0; count < 3_000; count += 1) {
    const connection = await Deno.connect(address);
    connections.push(connection);
    await connection.write(new TextEncoder().encode("GET /healthz HTTP/1.1\r\nhost:")).catch(() => {});
    open += 1;
    connection.read(new Uint8Array(1_024)).catch(() => null).then(() => open -= 1);
  }
  const beganMs = performance.now();
  const response = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(5_000) });
  const ms = performance.now() - beganMs;
  assert.equal(await response.text(), "alive\n");
  await eventually("all half-sent requests are closed", () => open === 0);
  const closedMs = performance.now() - beganMs;
  for (const connection of connections) connection.close();

  using bad = await Deno.connect(address);
  await bad.write(new TextEncoder().encode("GET /healthz HTTP/1.1\r\nhost: [\r\nconnection: close\r\n\r\n"));
  const bytes = new Uint8Array(1_024);
  const answer = new TextDecoder().decode(bytes.subarray(0, await bad.read(bytes) ?? 0));
  assert.match(answer, /^HTTP\/1\.1 400 /);
  assert.doesNotMatch(await subject.log(), /Invalid URL|\n\s+at /);
  await subject.endBySignal();
  return `/healthz answers after ${ms.toFixed(0)} ms, all closed after ${
    (closedMs / 1_000).toFixed(1)
  } s; Host: [ gets 400`;
}

/** Terminates TLS in front of a plain server. Its certificate can be replaced by one of another CA. */
class TlsFront implements AsyncDisposable {
  readonly port: number;
  readonly #upstream: number;
  readonly #connections = new Set<Deno.Conn>();
  #listener: Deno.TlsListener;
  #ended: Promise<void>;

  constructor(upstreamUrl: string) {
    this.#upstream = Number(new URL(upstreamUrl).port);
    const { certificate: cert, privateKey: key } = certificates;
    this.#listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key });
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.#ended = this.#serve(this.#listener);
  }

  /** Switches certificates, like an API server that restarts with another one. */
  async rotate(): Promise<void> {
    await this[Symbol.asyncDispose]();
    const { otherCertificate: cert, otherPrivateKey: key } = certificates;
    this.#listener = Deno.listenTls({ hostname: "127.0.0.1", port: this.port, cert, key });
    this.#ended = this.#serve(this.#listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch (error) {
        if (!(error instanceof Deno.errors.BadResource)) throw error;
      }
    }
    this.#connections.clear();
    await this.#ended;
  }

  async #serve(listener: Deno.TlsListener): Promise<void> {
    const pipes: Promise<unknown>[] = [];
    for (;;) {
      let connection: Deno.TlsConn;
      try {
        connection = await listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) break;
        continue;
      }
      const upstream = await Deno.connect({ hostname: "127.0.0.1", port: this.#upstream });
      for (const each of [connection, upstream]) this.#connections.add(each);
      // Either end may close the connection, also because the client rejects the certificate.
      pipes.push(
        connection.readable.pipeTo(upstream.writable).catch(() => {}),
        upstream.readable.pipeTo(connection.writable).catch(() => {}),
      );
    }
    await Promise.all(pipes);
  }
}

/** The CA file first contains both CAs, then the API server presents a certificate of the new one. */
async function rotatedAuthority(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await using front = new TlsFront(subject.kubernetes.url);
  const { KUBECONFIG = "" } = subject.options.environment;
  const { users: [{ user: { token } }] } = JSON.parse(await Deno.readTextFile(KUBECONFIG));
  const authority = join(subject.folder, "ca.crt");
  await Deno.writeTextFile(authority, certificates.authority);
  await Deno.writeTextFile(join(subject.folder, "token"), token);
  await Deno.writeTextFile(
    KUBECONFIG,
    JSON.stringify({
      clusters: [{
        name: "it",
        cluster: { server: `https://127.0.0.1:${front.port}`, "certificate-authority": "ca.crt" },
      }],
      users: [{ name: "it", user: { tokenFile: "token" } }],
      contexts: [{ name: "it", context: { cluster: "it", user: "it" } }],
      "current-context": "it",
    }),
  );
  await subject.start();
  await subject.meet();
  await subject.ask("start", 1);
  await Deno.writeTextFile(authority, certificates.authority + certificates.otherAuthority);
  await front.rotate();
  await subject.ask("stop", 1);
  await subject.state(({ replicas }) => replicas === 0);
  await Deno.writeTextFile(authority, certificates.otherAuthority);
  await subject.ask("start", 1);
  await subject.state(({ replicas }) => replicas === 1);
  const { lost, doubled, end } = await subject.finish();
  assert.deepEqual([lost, doubled], [0, 0]);
  return `obeyed without a restart, before and after the old authority goes; ${end}`;
}

/** Something else answers instead of the API server for a while. */
async function answeredByAnother(ground: Ground, status: number, body: unknown): Promise<string> {
  await using subject = await Subject.ready(ground);
  const beganMs = performance.now();
  await subject.kubernetes.setFault({ kind: "answer", status, body });
  const eventId = await subject.send("start", 1);
  await eventually("the operator asks", () => subject.kubernetes.arrivedSince(beganMs) >= 2);
  assert.equal(await subject.running.isReady(), false);
  await subject.kubernetes.clearFault();
  await subject.answerTo(eventId);
  await subject.state(({ replicas }) => replicas === 1);
  const { lost, doubled } = await subject.finish();
  assert.deepEqual([lost, doubled], [0, 0]);
  return "tried again, carried out once; not ready meanwhile";
}

/** Uses kubeconfigs that kubectl accepts, and checks the user name at the API server. */
async function kubeconfigs({ testbed: { cluster, serviceAccounts, folder } }: Ground): Promise<string> {
  const namespace = `hostile-${crypto.randomUUID().slice(0, 8)}`;
  const { token } = await serviceAccounts.create(namespace, "toggle", []);
  const { users: [{ user: { token: administrator } }] } = JSON.parse(await json(cluster.kubeconfig));
  const own = join(folder, namespace);
  await Deno.mkdir(own);
  const self = `system:serviceaccount:${namespace}:toggle`;
  await Deno.writeTextFile(join(own, "token"), `${token}\n`);
  await Deno.writeTextFile(join(own, "ca.crt"), cluster.authority);
  const login = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status: { token } };
  await Deno.writeTextFile(join(own, "login"), `#!/bin/sh\necho '${JSON.stringify(login)}'\n`, { mode: 0o755 });
  const exec = { apiVersion: login.apiVersion, interactiveMode: "Never", command: "./login" };
  const config = (user: unknown, more: Record<string, unknown> = {}) => ({
    "current-context": "it",
    clusters: [{ name: "it", cluster: { server: cluster.url, "certificate-authority": "ca.crt" } }],
    users: [{ name: "x", user: { "client-certificate-data": "eA==" } }, { name: "it", user }],
    contexts: [{ name: "it", context: { cluster: "it", user: "it" } }, { name: "x", context: {} }],
    ...more,
  });
  const as = { as: "carl", "as-uid": "7", "as-groups": ["system:masters", "b, c"], "as-user-extra": { "a/b": ["1"] } };
  const rows: [name: string, files: readonly unknown[], who: string][] = [
    ["tokenFile", [config({ tokenFile: "token" })], self],
    ["tokenFile before token", [config({ token: "wrong", tokenFile: "token" })], self],
    ["an empty file first", ["", config({ token })], self],
    ["what is unused makes no sense", [config({ token })], self],
    ["impersonation with groups", [config({ token: administrator, ...as })], "carl"],
    ["an exec plugin beside the kubeconfig", [config({ exec })], self],
    ["the user in a second file", [config(undefined, { users: [] }), config({ token })], self],
    ["nobody", [config({})], "not permitted"],
  ];
  for (const [name, files, who] of rows) {
    const paths = files.map((_, index) => join(own, `config-${index}`));
    for (const [index, file] of files.entries()) {
      await Deno.writeTextFile(paths[index] ?? "", typeof file === "string" ? file : JSON.stringify(file));
    }
    const signal = AbortSignal.timeout(patienceMs);
    using access: Cluster = await openCluster({ ...nowhere, kubeconfig: paths.join(":") }, signal);
    const found = await whoAmI(new KubernetesApi(access), signal).catch(({ message }) => String(message));
    assert.ok(found === who || found.endsWith(who), `${name}: ${found}`);
  }
  return `${rows.length} of ${rows.length} as kubectl: ${rows.map(([name]) => name).join("; ")}`;
}

/** Converts a kubeconfig of the testbed to JSON. */
async function json(path: string): Promise<string> {
  const { load } = await import("js-yaml");
  return JSON.stringify(load(await Deno.readTextFile(path)));
}

/** Changes a workload as administrator, and waits until its controller has observed the change. */
async function change({ testbed: { cluster } }: Ground, workload: Workload, patch: unknown): Promise<void> {
  const path = `/apis/apps/v1/namespaces/${workload.namespace}/${workload.kind}s/${workload.name}`;
  await cluster.request("PATCH", path, patch);
  await eventually(`the controller has seen ${JSON.stringify(patch)}`, async () => {
    const { metadata, status } = await cluster.request("GET", path);
    return status.observedGeneration === metadata.generation;
  });
}

const withImage = (image: string) => ({ template: { spec: { containers: [{ name: "agent", image }] } } });

/** Creates a workload for the testbed's real controllers. */
async function workloadOf(
  { testbed: { workloads } }: Ground,
  kind: Workload["kind"],
  options: Partial<TargetOptions> = {},
): Promise<Workload> {
  const namespace = `hostile-${crypto.randomUUID().slice(0, 8)}`;
  await workloads.createTarget({ ...options, namespace, name: "clawdbot", resource: `${kind}s` });
  return { kind, namespace, name: "clawdbot" };
}

/** Waits until a diagnosis names an image problem first, and returns its reason. */
async function reasonFor(ground: Ground, workload: Workload): Promise<string> {
  return await asAdministrator(ground, async (api, signal) => {
    let diagnosis: Diagnosis | undefined;
    await eventually("a reason is found", async () => {
      const scaler = new KubernetesScaler(api);
      diagnosis = await scaler.diagnose(workload, await scaler.read(workload, signal), signal);
      return diagnosis.problems[0]?.reason === "ImagePullBackOff";
    });
    return diagnosis?.problems.map(({ reason, image }) => `${reason} of ${image}`).join("; ") ?? "";
  });
}

async function pausedDeployment(ground: Ground): Promise<string> {
  const workload = await workloadOf(ground, "deployment", { image: "example/missing:1" });
  await change(ground, workload, { spec: { paused: true } });
  await change(ground, workload, { spec: withImage("example/good:2") });
  await change(ground, workload, { spec: { replicas: 1 } });
  return await reasonFor(ground, workload);
}

async function heldStatefulSet(ground: Ground, updateStrategy: unknown): Promise<string> {
  const workload = await workloadOf(ground, "statefulset", { image: "example/missing:1", replicas: 1 });
  await change(ground, workload, { spec: { updateStrategy } });
  await change(ground, workload, { spec: withImage("example/good:2") });
  return await reasonFor(ground, workload);
}

async function recreatedDeployment(ground: Ground): Promise<string> {
  const workload = await workloadOf(ground, "deployment");
  const path = `/apis/apps/v1/namespaces/${workload.namespace}/deployments`;
  return await asAdministrator(ground, async (api, signal) => {
    const { testbed: { cluster, workloads } } = ground;
    const begun = Promise.withResolvers<void>();
    const again = (async () => {
      for await (const scale of new KubernetesScaler(api).watch(workload, signal)) {
        begun.resolve();
        if (scale?.desired === 3) return performance.now();
      }
      throw new Error("the watch has ended");
    })();
    await Promise.race([begun.promise, again]);
    await cluster.request("DELETE", `${path}/${workload.name}`);
    await eventually("it is gone", async () => (await cluster.request("GET", path)).items.length === 0);
    // There is no event for this: only the watch knows when it has seen the deletion and requested the missing object.
    await Promise.race([elapsed(1_000), again]);
    await workloads.createTarget({ ...workload, resource: "deployments", replicas: 3 });
    const beganMs = performance.now();
    const seenMs = await again;
    return `seen ${Math.max(0, seenMs - beganMs).toFixed(0)} ms after its controller has seen it, by the same watch`;
  });
}

/** Runs the connection test against a homeserver that sends terminal escape sequences. */
async function terminalEscapes(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: ({ path }) => path.endsWith("/versions"),
    rewrite: ({ status, body }) => ({
      status,
      body: { ...body, versions: ["v1.1\x1b[2K\r✔ login: forged\n✔ forged"] },
    }),
  });
  const [, ...args] = project.tasks.conntest.split(" ");
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { ...subject.options.environment, MAX_COMMAND_AGE: "", MATRIX_PASSWORD: subject.password },
  }).output();
  const text = new TextDecoder().decode(stdout);
  const lines = text.split("\n").filter((line) => line.includes("forged"));
  assert.equal(lines.length, 1, text);
  // deno-lint-ignore no-control-regex -- these are what must not come through
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  return `one line: ${lines[0]?.slice(0, 70)}…`;
}

/** A misspelt variable is reported together with missing ones. */
async function misspelt(): Promise<string> {
  const [, ...args] = project.tasks.start.split(" ");
  const { HOME = "", PATH = "" } = Deno.env.toObject();
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    clearEnv: true,
    env: { HOME, PATH, ALLOWED_USERS: "@a:b", ALLOWED_USER: "@eve:h", MATRIX_PASWORD: "x" },
  }).output();
  const lines = new TextDecoder().decode(stderr).trim().split("\n");
  assert.equal(code, 2);
  for (const name of ["MATRIX_USER", "MATRIX_PASSWORD", "ALLOWED_USER", "MATRIX_PASWORD"]) {
    assert.ok(lines.some((line) => line.startsWith(`${name}: `)), `${name} in ${lines.join("\n")}`);
  }
  return `exit 2, ${lines.length} lines, both misspelt names among them`;
}

export const clusterRows: readonly HostileRow[] = [
  {
    number: "9",
    input: "3,000 half-sent requests to the health server, and Host: [",
    before: "stay for good; a stack trace",
    where: "process: nobody but the operator has a part in it",
    run: halfSentRequests,
  },
  {
    number: "14",
    input: "the cluster's authority is rotated (TLS of the test before the API server)",
    before: "every command fails until a restart",
    where: "real",
    run: rotatedAuthority,
  },
  {
    number: "15a",
    input: "a proxy's 404 page in the place of the API server, while a command comes",
    before: "refused at once",
    where: "real",
    run: (ground) => answeredByAnother(ground, 404, "<html>no such site</html>"),
  },
  {
    number: "15b",
    input: "the API server answers 401 while a command comes",
    before: "refused at once",
    where: "real",
    run: (ground) =>
      answeredByAnother(ground, 401, { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Unauthorized" }),
  },
  {
    number: "28",
    input: "kubeconfigs that kubectl understands",
    before: "dropped silently, or exit 2",
    where: "real",
    run: kubeconfigs,
  },
  {
    number: "29a",
    input: "a paused Deployment with a pending change; the failing pods are of the earlier one",
    before: "no reason is found",
    where: "real",
    run: pausedDeployment,
  },
  {
    number: "29b",
    input: "a StatefulSet with OnDelete; the failing pod is of the earlier revision",
    before: "no reason is found",
    where: "real",
    run: (ground) => heldStatefulSet(ground, { type: "OnDelete", rollingUpdate: null }),
  },
  {
    number: "29c",
    input: "a StatefulSet with a partition; the failing pod is below it",
    before: "no reason is found",
    where: "real",
    run: (ground) => heldStatefulSet(ground, { type: "RollingUpdate", rollingUpdate: { partition: 1 } }),
  },
  {
    number: "29d",
    input: "a Deployment is deleted and created again",
    before: "not watched for five minutes",
    where: "real",
    run: recreatedDeployment,
  },
  {
    number: "30x",
    input: "the homeserver's versions hold control characters; conntest",
    before: "a line can be rewritten to ✔",
    where: "real",
    run: terminalEscapes,
  },
  {
    number: "30y",
    input: "a misspelt variable beside other problems",
    before: "not named",
    where: "process: nobody but the operator has a part in it",
    run: misspelt,
  },
];
