/** What is in deploy/: rendered, applied to a real API server, tried verb by verb, and used. */

import assert from "node:assert/strict";
import { join, relative } from "node:path";
import {
  type KubernetesObject,
  loadAllYaml,
  type V1ConfigMap,
  type V1Deployment,
  type V1Role,
} from "@kubernetes/client-node";
import { readContainerfile } from "../../build/containerfile.ts";
import project from "../../deno.json" with { type: "json" };
import { HttpError, httpJson, kustomize, type ServiceAccount, startTestbed, type Testbed } from "../../testbed/mod.ts";
import { Conversation } from "./conversation.ts";
import { OperatorProcess } from "../operator_process.ts";

const deploy = await Deno.realPath(new URL("../../deploy", import.meta.url));
const image = readContainerfile(await Deno.readTextFile(new URL("../../Containerfile", import.meta.url)));
const name = "openclaw-toggle";
const target = "clawdbot";

Deno.test("deploy", async (t) => {
  await using testbed = await startTestbed();
  await t.step("the base and the image are of one mind", async () => assertFits(await render(join(deploy, "base"))));
  // A cluster that was given has no image of ours to run.
  const ignore = testbed.cluster.auditLog === undefined;
  await t.step({
    name: "the base runs in a restricted namespace, may do what it must, and toggles",
    ignore,
    fn: () => base(testbed),
  });
  for (const overlay of ["extended", "dev"]) {
    const name = `the overlay ${overlay} may do what tells more, and nothing else`;
    await t.step({ name, ignore, fn: () => extended(testbed, overlay) });
  }
});

async function render(folder: string): Promise<KubernetesObject[]> {
  const { success, stdout, stderr } = await new Deno.Command(await kustomize(), { args: ["build", folder] }).output();
  const text = new TextDecoder();
  assert.ok(success, text.decode(stderr));
  return loadAllYaml(text.decode(stdout));
}

function the<Kind extends KubernetesObject>(objects: readonly KubernetesObject[], kind: string): Kind {
  const found = objects.find((object) => object.kind === kind && object.metadata?.name?.startsWith(name));
  assert.ok(found, `no ${kind}`);
  return found as Kind;
}

/** What the Containerfile says and what the Deployment says is the same. */
function assertFits(objects: readonly KubernetesObject[]): void {
  const { spec } = the<V1Deployment>(objects, "Deployment");
  const pod = spec?.template.spec;
  const container = pod?.containers[0];
  assert.equal(spec?.strategy?.type, "Recreate");
  assert.equal(container?.image, `${name}:${project.version}`);
  const { runAsUser, runAsGroup, fsGroup, runAsNonRoot } = pod?.securityContext ?? {};
  assert.deepEqual([`${runAsUser}:${runAsGroup}`, fsGroup, runAsNonRoot], [image.user, runAsGroup, true]);
  assert.deepEqual(container?.ports?.map(({ containerPort }) => containerPort), image.ports);
  assert.deepEqual(container?.volumeMounts?.map(({ mountPath }) => mountPath), [image.folder]);
  const { livenessProbe, readinessProbe, securityContext } = container ?? {};
  assert.deepEqual([livenessProbe, readinessProbe].map((probe) => [probe?.httpGet?.path, probe?.httpGet?.port]), [
    ["/healthz", "http"],
    ["/readyz", "http"],
  ]);
  assert.equal(securityContext?.readOnlyRootFilesystem, true);
}

/** Renders a part of deploy/ for a namespace of its own, and for these servers and people. */
async function renderFor(testbed: Testbed, part: string, variables: Readonly<Record<string, string>>) {
  const namespace = `deploy-${crypto.randomUUID().slice(0, 8)}`;
  const folder = await Deno.realPath(await Deno.makeTempDir({ dir: testbed.folder }));
  const literals = Object.entries({ ...variables, DEPLOYMENT_NAMESPACE: namespace }).map(([key, to]) => `${key}=${to}`);
  const kustomization = {
    resources: [relative(folder, join(deploy, part))],
    namespace,
    configMapGenerator: [{ name, behavior: "merge", literals }],
  };
  await Deno.writeTextFile(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
  return { namespace, objects: await render(folder) };
}

/** Applies it all, with something to switch. */
async function apply({ cluster, workloads }: Testbed, namespace: string, objects: readonly KubernetesObject[]) {
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels } });
  const switched: KubernetesObject[] = loadAllYaml(await Deno.readTextFile(join(deploy, "overlays/dev/target.yaml")));
  for (const object of [...objects, ...switched]) {
    if (object.kind !== "Namespace") await cluster.apply({ ...object, metadata: { ...object.metadata, namespace } });
  }
  await workloads.until(namespace, target, () => true, 10_000);
}

async function base(testbed: Testbed): Promise<void> {
  const { cluster, workloads, homeserver } = testbed;
  const alice = await testbed.person("alice");
  const password = crypto.randomUUID();
  const { userId, localpart } = await homeserver.register("toggle-deploy", password);
  const { namespace, objects } = await renderFor(testbed, "base", {
    MATRIX_HOMESERVER: homeserver.url,
    MATRIX_USER: localpart,
    ALLOWED_USERS: alice.userId,
  });
  const [example] = loadAllYaml(await Deno.readTextFile(join(deploy, "base", "secret.example.yaml")));
  const secret = { ...example, metadata: { name, namespace }, stringData: { MATRIX_PASSWORD: password } };
  await apply(testbed, namespace, [...objects, secret]);

  // A pod that broke the rules would not be made at all.
  await workloads.until(namespace, name, ({ ready }) => ready === 1, 20_000);
  const lax = { metadata: { name: "lax" }, spec: { containers: [{ name: "lax", image: "lax" }] } };
  const isForbidden = (error: unknown) => error instanceof HttpError && error.status === 403;
  await assert.rejects(cluster.request("POST", `/api/v1/namespaces/${namespace}/pods?dryRun=All`, lax), isForbidden);

  const account = await workloads.credentialsOf(namespace, name, rulesOf(objects));
  await assertPermitted(testbed, namespace, account, [
    `get apps/deployments ${target}`,
    `get apps/deployments/scale ${target}`,
    `patch apps/deployments/scale ${target}`,
  ]);
  await toggle(testbed, namespace, account, () => Conversation.begin(alice, userId));
}

/** Runs the operator with what the pod would have, as the API server holds it, and switches. */
async function toggle(
  { cluster, workloads, folder }: Testbed,
  namespace: string,
  account: ServiceAccount,
  begin: () => Promise<Conversation>,
): Promise<void> {
  const read = (kind: string, of: string) => cluster.request("GET", `/api/v1/namespaces/${namespace}/${kind}/${of}`);
  const deployment: V1Deployment = await cluster.request(
    "GET",
    `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`,
  );
  const environment: Record<string, string> = {};
  for (const { configMapRef, secretRef } of deployment.spec?.template.spec?.containers[0]?.envFrom ?? []) {
    if (configMapRef?.name) {
      Object.assign(environment, (await read("configmaps", configMapRef.name) as V1ConfigMap).data);
    }
    if (!secretRef?.name) continue;
    const { data } = await read("secrets", secretRef.name);
    for (const [key, value] of Object.entries<string>(data)) environment[key] = atob(value);
  }
  const { hostname, port } = new URL(cluster.url);
  await using operator = await OperatorProcess.start({
    environment: {
      ...environment,
      CRYPTO_STORE_PATH: join(folder, "store-deploy"),
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port || "443",
    },
    logFile: join(folder, "operator-deploy.log"),
    serviceAccountFolder: account.folder,
  });
  const talk = await begin();
  for (const [command, replicas] of [["start", 1], ["stop", 0]] as const) {
    await talk.ask(command);
    await workloads.until(namespace, target, ({ ready }) => ready === replicas, 10_000);
  }
  const writes = await workloads.scaleWrites(namespace, target);
  const user = `system:serviceaccount:${namespace}:${name}`;
  if (writes) assert.deepEqual(writes, [{ user, status: 200, replicas: 1 }, { user, status: 200, replicas: 0 }]);
  assert.equal(await operator.stop(), 0);
}

async function extended(testbed: Testbed, overlay: string): Promise<void> {
  const { namespace, objects } = await renderFor(testbed, `overlays/${overlay}`, {});
  await apply(testbed, namespace, objects);
  const account = await testbed.workloads.credentialsOf(namespace, name, rulesOf(objects));
  const kinds = ["deployments", "statefulsets"];
  await assertPermitted(testbed, namespace, account, [
    ...kinds.flatMap((kind) => [`get apps/${kind} ${target}`, `watch apps/${kind} ${target}`]),
    ...kinds.flatMap((kind) => [`get apps/${kind}/scale ${target}`, `patch apps/${kind}/scale ${target}`]),
    ...["", target, name].flatMap((any) => [`list /pods ${any}`, `create /events ${any}`]),
  ]);

  using client = Deno.createHttpClient({ caCerts: [testbed.cluster.authority] });
  const ask = (method: string, path: string, body?: unknown) =>
    httpJson(method, testbed.cluster.url + path, { authorization: `Bearer ${account.token}`, client, body });
  const watch = `/apis/apps/v1/namespaces/${namespace}/deployments?watch=true&timeoutSeconds=1`;
  const isForbidden = (error: unknown) => error instanceof HttpError && error.status === 403;
  await assert.rejects(ask("GET", watch), isForbidden, "a watch of all of them");
  await assert.rejects(ask("GET", `${watch}&fieldSelector=metadata.name=other`), isForbidden, "a watch of another");
  const isStream = (error: unknown) => error instanceof SyntaxError || error === undefined;
  await ask("GET", `${watch}&fieldSelector=metadata.name=${target}&resourceVersion=0`).catch((error) => {
    if (!isStream(error)) throw error; // events come one a line, which is no JSON as a whole
  });
  assert.equal((await ask("GET", `/api/v1/namespaces/${namespace}/pods`)).kind, "PodList");
}

function rulesOf(objects: readonly KubernetesObject[]) {
  return (the<V1Role>(objects, "Role").rules ?? []).map(({ apiGroups = [], resources = [], resourceNames, verbs }) => ({
    ...{ apiGroups, resources, verbs },
    ...(resourceNames === undefined ? {} : { resourceNames }),
  }));
}

const verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
const resources = [
  ...["deployments", "deployments/scale", "deployments/status", "statefulsets", "statefulsets/scale", "replicasets"],
  ...["replicasets/scale", "daemonsets", "controllerrevisions"],
].map((resource) => `apps/${resource}`).concat(
  ["pods", "pods/log", "pods/exec", "pods/ephemeralcontainers", "pods/eviction", "secrets", "configmaps", "events"].map(
    (resource) => `/${resource}`,
  ),
  ["services", "serviceaccounts", "serviceaccounts/token", "persistentvolumeclaims", "namespaces", "nodes"].map(
    (resource) => `/${resource}`,
  ),
  ["roles", "rolebindings", "clusterroles"].map((resource) => `rbac.authorization.k8s.io/${resource}`),
  ["batch/jobs", "autoscaling/horizontalpodautoscalers", "events.k8s.io/events"],
);

/** Asks about every verb on every resource, by every name, in this namespace, another one and all. */
async function assertPermitted(
  { cluster }: Testbed,
  namespace: string,
  { token }: ServiceAccount,
  expected: readonly string[],
): Promise<void> {
  using client = Deno.createHttpClient({ caCerts: [cluster.authority] });
  const review = async (kind: string, spec: unknown) => {
    const url = `${cluster.url}/apis/authorization.k8s.io/v1/${kind}`;
    return (await httpJson("POST", url, { authorization: `Bearer ${token}`, client, body: { spec } })).status;
  };
  const questions = resources.flatMap((path) => {
    const [group = "", resource, subresource] = path.split("/");
    return ["", target, name].flatMap((of) =>
      [namespace, "default", ""].flatMap((where) =>
        verbs.map((verb) => ({
          said: `${verb} ${path} ${of}`,
          ours: where === namespace,
          asked: { group, resource, subresource, name: of, namespace: where, verb },
        }))
      )
    );
  });
  const permitted: string[] = [];
  for (let at = 0; at < questions.length; at += 50) {
    await Promise.all(
      questions.slice(at, at + 50).map(async ({ said, ours, asked }) => {
        const { allowed } = await review("selfsubjectaccessreviews", { resourceAttributes: asked });
        if (allowed) permitted.push(ours ? said : `${said} in ${asked.namespace || "all namespaces"}`);
      }),
    );
  }
  assert.deepEqual(permitted.toSorted(), expected.toSorted());
  console.log(`${questions.length} asked, ${permitted.length} permitted:\n  ${permitted.toSorted().join("\n  ")}`);

  // And what nobody has thought of: the rules themselves, besides those that every ServiceAccount has.
  const { resourceRules } = await review("selfsubjectrulesreviews", { namespace });
  const named = new Set(expected.map((line) => line.split(" ")[1]));
  for (const { apiGroups, resources } of resourceRules as { apiGroups: string[]; resources: string[] }[]) {
    for (const resource of resources.filter((resource) => !/^selfsubject\w*reviews$/.test(resource))) {
      assert.ok(named.has(`${apiGroups.join()}/${resource}`), `a rule for ${resource}`);
    }
  }
}
