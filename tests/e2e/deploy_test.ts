/** The manifests in deploy/: rendered, applied to a real API server by kubectl, checked verb by verb, and used. */

import assert from "node:assert/strict";
import { join } from "node:path";
import type { KubernetesObject, V1ConfigMap, V1Deployment, V1Role } from "@kubernetes/client-node";
import { readContainerfile } from "../../build/containerfile.ts";
import project from "../../deno.json" with { type: "json" };
import {
  customResources,
  HttpError,
  httpJson,
  kustomize,
  type ServiceAccount,
  startTestbed,
  type Testbed,
} from "../../testbed/mod.ts";
import { Conversation } from "./conversation.ts";
import { Manifests, podEnvironment, the } from "./manifests.ts";
import { OperatorProcess } from "../operator_process.ts";

const image = readContainerfile(await Deno.readTextFile(new URL("../../Containerfile", import.meta.url)));
const name = "openclaw-toggle";
const example = "overlays/example";
const components = ["extended", "monitoring", "private-ca", "network-policy"];
const restricted = {
  "pod-security.kubernetes.io/enforce": "restricted",
  "pod-security.kubernetes.io/warn": "restricted",
};

Deno.test("deploy", async (t) => {
  await using testbed = await startTestbed();
  const copy = () => Manifests.copy(testbed.folder, testbed.cluster.kubeconfig);
  await t.step(
    "the Deployment and the image are of one mind",
    async () => assertFits(await (await copy()).render(example)),
  );
  await t.step("a name, a namespace and an image are written once", async () => assertWrittenOnce(await copy()));
  await t.step(
    "kustomize renders the same as kubectl, and a remote base the same as a local one",
    async () => assertSame(await copy()),
  );
  await t.step("kustomize edit set image works in every overlay", async () => assertImageSet(await copy()));
  // A given cluster has no image of ours to run.
  const ignore = testbed.cluster.auditLog === undefined;
  const step = (name: string, fn: () => Promise<void>) => t.step({ name, ignore, fn });
  await step("everything is valid, and runs restricted", async () => validate(testbed, await copy()));
  await step(
    "the base may do what it must and nothing else, toggles, and leaves its volume",
    async () => base(testbed, await copy()),
  );
  await step(
    "the component extended may do what tells more, and nothing else",
    async () => extended(testbed, await copy()),
  );
  await step(
    "two targets in two namespaces each have a Role, and are toggled",
    async () => targets(testbed, await copy()),
  );
});

/** Asserts that the Containerfile and the Deployment agree. */
function assertFits(objects: readonly KubernetesObject[]): void {
  const { spec } = the<V1Deployment>(objects, "Deployment");
  const pod = spec?.template.spec;
  const container = pod?.containers[0];
  assert.equal(spec?.strategy?.type, "Recreate");
  assert.equal(container?.image, `ghcr.io/you/${name}:${project.version}`);
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

/** Asserts that each name is set in one place, and that no rendering keeps the old one. */
async function assertWrittenOnce(manifests: Manifests): Promise<void> {
  await manifests.edit(`${example}/kustomization.yaml`, "namespace: clawdbot", "namespace: elsewhere");
  await manifests.edit(`${example}/kustomization.yaml`, `ghcr.io/you/${name}`, "registry.test/other");
  await manifests.edit(`${example}/config.env`, "DEPLOYMENT_NAME=clawdbot", "DEPLOYMENT_NAME=agent");
  await manifests.edit("overlays/targets/kustomization.yaml", "namespace: openclaw-toggle", "namespace: elsewhere");
  await manifests.edit("overlays/targets/kustomization.yaml", `ghcr.io/you/${name}`, "registry.test/other");
  await manifests.edit(
    "overlays/targets/config.env",
    "clawd=agents/clawdbot,ollama=models/ollama",
    "one=first/agent,two=second/model",
  );
  for (const overlay of [example, "overlays/targets"]) {
    await manifests.edit(`${overlay}/kustomization.yaml`, "  - ../../components/extended\n", allComponents);
    const { stdout } = await manifests.kubectl("kustomize", overlay);
    for (const left of [/clawd/, /ollama/, /agents|models/, /ghcr/, /^ *- target$/m, /namespace: openclaw/]) {
      // The dashboard contains no such names, but similar words of its own.
      const parts = stdout.split("\n---\n").filter((part) => !part.includes("name: openclaw-toggle-dashboard"));
      assert.doesNotMatch(parts.join("\n---\n"), left, overlay);
    }
    assert.equal(stdout.split(`image: registry.test/other:${project.version}`).length, 2, overlay);
  }
  const roles = (await manifests.render("overlays/targets")).filter(({ kind }) => kind === "Role") as V1Role[];
  const named = roles.map(({ metadata, rules = [] }) => [
    metadata?.namespace,
    ...new Set(rules.flatMap(({ resourceNames = [] }) => resourceNames)),
  ]);
  assert.deepEqual(named, [["first", "agent"], ["second", "model"]]);
  const { data } = the<V1ConfigMap>(await manifests.render(example), "ConfigMap");
  assert.deepEqual([data?.["DEPLOYMENT_NAME"], data?.["DEPLOYMENT_NAMESPACE"]], ["agent", "elsewhere"]);
  const { data: several } = the<V1ConfigMap>(await manifests.render("overlays/targets"), "ConfigMap");
  assert.deepEqual(Object.keys(several ?? {}).filter((variable) => variable.startsWith("DEPLOYMENT_")), []);
}

const allComponents = components.map((component) => `  - ../../components/${component}\n`).join("");

async function assertSame(manifests: Manifests): Promise<void> {
  const { folder } = manifests;
  for (const overlay of ["example", "targets", "dev"]) {
    const { stdout: expected } = await manifests.kubectl("kustomize", `overlays/${overlay}`);
    const { stdout } = await new Deno.Command(await kustomize(), { args: ["build", join(folder, "overlays", overlay)] })
      .output();
    assert.equal(new TextDecoder().decode(stdout), expected, overlay);
  }
  // Fetched like from a user's own repository, with the line in docs/install.md.
  const git = async (...args: string[]) => {
    const identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"];
    const { success, stderr } = await new Deno.Command("git", { args: [...identity, ...args], cwd: folder }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  };
  const { stdout: expected } = await manifests.kubectl("kustomize", example);
  await git("init", "--quiet");
  await git("add", ".");
  await git("commit", "--quiet", "--message=deploy");
  await git("tag", `v${project.version}`);
  const own = join(folder, "..", `own-${crypto.randomUUID()}`);
  await Deno.mkdir(own);
  for (const file of ["kustomization.yaml", "config.env", "secret.env"]) {
    await Deno.copyFile(join(folder, example, file), join(own, file));
  }
  const kustomization = await Deno.readTextFile(join(own, "kustomization.yaml"));
  const remote = kustomization.replaceAll(/- \.\.\/\.\.\/(\S+)/g, `- file://${folder}//$1?ref=v${project.version}`);
  await Deno.writeTextFile(join(own, "kustomization.yaml"), remote);
  assert.equal((await manifests.kubectl("kustomize", own)).stdout, expected);
}

async function assertImageSet(manifests: Manifests): Promise<void> {
  const program = await kustomize();
  for (const overlay of ["example", "targets", "dev"]) {
    const cwd = join(manifests.folder, "overlays", overlay);
    const args = ["edit", "set", "image", `${name}=registry.test/toggle:9`];
    assert.ok((await new Deno.Command(program, { args, cwd }).output()).success);
    const { spec } = the<V1Deployment>(await manifests.render(`overlays/${overlay}`), "Deployment");
    assert.equal(spec?.template.spec?.containers[0]?.image, "registry.test/toggle:9", overlay);
  }
}

/** Asserts that every rendering passes the API server's validation and admission, without Pod Security warnings. */
async function validate({ cluster }: Testbed, manifests: Manifests): Promise<void> {
  await manifests.define(await customResources("monitoring"));
  for (const namespace of ["clawdbot", "agents", "models", name]) {
    await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels: restricted } });
  }
  await new Deno.Command("cp", { args: ["-R", example, "overlays/mine"], cwd: manifests.folder }).output();
  const table: string[] = [];
  const renderings: [what: string, folder: string][] = [["volume", "volume"]];
  for (const overlay of ["example", "targets", "dev", "once"]) {
    renderings.push([`overlay ${overlay}`, `overlays/${overlay}`]);
  }
  for (const component of ["no component", ...components, "all components"]) {
    const folder = `overlays/with-${component.replace(" ", "-")}`;
    await new Deno.Command("cp", { args: ["-R", example, folder], cwd: manifests.folder }).output();
    const added = component === "all components"
      ? allComponents
      : components.includes(component)
      ? `  - ../../components/${component}\n`
      : "  []\n";
    await manifests.edit(`${folder}/kustomization.yaml`, "  - ../../components/extended\n", added);
    renderings.push([`base, ${component}`, folder]);
  }
  for (const [what, folder] of renderings) {
    const where = folder === "volume" ? ["--namespace", "clawdbot"] : [];
    const apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", ...where, "--kustomize", folder];
    const { stdout, stderr } = await manifests.kubectl(...apply);
    assert.equal(stderr, "", `${what}: a warning`);
    assert.equal(stdout.trim().split("\n").length, (await manifests.render(folder)).length);
    const objects = (await manifests.render(folder)).map(({ kind, metadata }) =>
      `${kind} ${metadata?.namespace === undefined ? "" : `${metadata.namespace}/`}${metadata?.name}`
    );
    table.push(`${what.padEnd(24)} ${objects.length}: ${objects.join(", ")}`);
  }
  console.log(table.join("\n"));
  // Counter-check: the namespace rejects a pod that isn't restricted.
  const lax = { metadata: { name: "lax" }, spec: { containers: [{ name: "lax", image: "lax" }] } };
  const isForbidden = (error: unknown) => error instanceof HttpError && error.status === 403;
  await assert.rejects(cluster.request("POST", "/api/v1/namespaces/clawdbot/pods?dryRun=All", lax), isForbidden);
}

/** Creates a target that is off, in a restricted namespace. */
async function makeTarget({ cluster, workloads }: Testbed, manifests: Manifests, namespace: string, target: string) {
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels: restricted } });
  const [dev] = [the<V1Deployment>(await manifests.render("overlays/dev"), "Deployment", "clawdbot")];
  const labels = { app: target };
  await cluster.apply({
    ...dev,
    metadata: { name: target, namespace },
    spec: {
      ...dev.spec,
      selector: { matchLabels: labels },
      template: { ...dev.spec?.template, metadata: { labels } },
    },
  } as KubernetesObject);
  await workloads.until(namespace, target, () => true, 10_000);
}

/** Fills in an overlay with these servers and people and its own namespace. */
async function fill({ homeserver }: Testbed, manifests: Manifests, overlay: string, people: string, from: string) {
  const namespace = `deploy-${crypto.randomUUID().slice(0, 8)}`;
  const password = crypto.randomUUID();
  const { userId, localpart } = await homeserver.register(`toggle-${namespace}`, password);
  await manifests.edit(`${overlay}/kustomization.yaml`, `namespace: ${from}`, `namespace: ${namespace}`);
  await manifests.set(`${overlay}/config.env`, {
    MATRIX_HOMESERVER: homeserver.url,
    MATRIX_USER: localpart,
    ALLOWED_USERS: people,
  });
  await manifests.set(`${overlay}/secret.env`, { MATRIX_PASSWORD: password });
  return { namespace, userId };
}

async function base(testbed: Testbed, manifests: Manifests): Promise<void> {
  const { workloads, serviceAccounts, cluster } = testbed;
  const alice = await testbed.person("alice");
  const { namespace, userId } = await fill(testbed, manifests, example, alice.userId, "clawdbot");
  await manifests.edit(`${example}/kustomization.yaml`, "  - ../../components/extended\n", "  []\n");
  await makeTarget(testbed, manifests, namespace, "clawdbot");
  await manifests.kubectl("--namespace", namespace, "apply", "--kustomize", "volume");
  await manifests.kubectl("apply", "--kustomize", example);
  await workloads.until(namespace, name, ({ ready }) => ready === 1, 20_000);

  const account = await serviceAccounts.credentialsOf(namespace, name, rulesOf(await manifests.render(example)));
  await assertPermitted(testbed, account, {
    [namespace]: ["get apps/deployments", "get apps/deployments/scale", "patch apps/deployments/scale"]
      .map((rule) => `${rule} clawdbot`),
  }, ["clawdbot", name]);
  await toggle(testbed, { namespace, account, begin: () => Conversation.begin(alice, userId) }, [
    ["start", namespace, "clawdbot", 1],
    ["stop", namespace, "clawdbot", 0],
  ]);

  await manifests.kubectl("delete", "--kustomize", example);
  const claim = `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${name}`;
  assert.equal(
    (await cluster.request("GET", claim)).metadata.deletionTimestamp,
    undefined,
    "the volume is still there",
  );
  const left = await manifests.kubectl(
    "--namespace",
    namespace,
    "get",
    "deployment,service,configmap,secret,role,sa",
    "--output=name",
  );
  assert.doesNotMatch(left.stdout, /openclaw/);
}

/** Runs the operator with the pod's settings, as the API server stores them, and sends commands. */
async function toggle(
  { cluster, workloads, records, folder }: Testbed,
  { namespace, account, begin }: { namespace: string; account: ServiceAccount; begin: () => Promise<Conversation> },
  commands: readonly [command: string, namespace: string, target: string, replicas: number][],
): Promise<void> {
  const environment = await podEnvironment(cluster, namespace);
  const { hostname, port } = new URL(cluster.url);
  await using operator = await OperatorProcess.start({
    environment: {
      ...environment,
      CRYPTO_STORE_PATH: join(folder, `store-${namespace}`),
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port || "443",
    },
    logFile: join(folder, `operator-${namespace}.log`),
    serviceAccountFolder: account.folder,
  });
  const talk = await begin();
  for (const [command, where, target, replicas] of commands) {
    await talk.ask(command);
    await workloads.until(where, target, ({ ready }) => ready === replicas, 10_000);
    const writes = await records.scaleWrites(where, target) ?? [];
    assert.deepEqual(writes.at(-1), {
      user: `system:serviceaccount:${namespace}:${name}`,
      status: 200,
      replicas,
    });
  }
  assert.equal(await operator.stop(), 0);
}

async function extended(testbed: Testbed, manifests: Manifests): Promise<void> {
  const { namespace } = await fill(testbed, manifests, example, "@nobody:localhost", "clawdbot");
  await makeTarget(testbed, manifests, namespace, "clawdbot");
  await manifests.kubectl("apply", "--kustomize", example);
  const account = await testbed.serviceAccounts.credentialsOf(
    namespace,
    name,
    rulesOf(await manifests.render(example)),
  );
  await assertPermitted(testbed, account, { [namespace]: extendedPermissions("clawdbot") }, ["clawdbot", name]);

  using client = Deno.createHttpClient({ caCerts: [testbed.cluster.authority] });
  const ask = (method: string, path: string, body?: unknown) =>
    httpJson(method, testbed.cluster.url + path, { authorization: `Bearer ${account.token}`, client, body });
  const watch = `/apis/apps/v1/namespaces/${namespace}/deployments?watch=true&timeoutSeconds=1`;
  const isForbidden = (error: unknown) => error instanceof HttpError && error.status === 403;
  await assert.rejects(ask("GET", watch), isForbidden, "a watch of all of them");
  await assert.rejects(ask("GET", `${watch}&fieldSelector=metadata.name=other`), isForbidden, "a watch of another");
  const isStream = (error: unknown) => error instanceof SyntaxError || error === undefined;
  await ask("GET", `${watch}&fieldSelector=metadata.name=clawdbot&resourceVersion=0`).catch((error) => {
    if (!isStream(error)) throw error; // events come as one JSON object per line, which is not a JSON document
  });
  assert.equal((await ask("GET", `/api/v1/namespaces/${namespace}/pods`)).kind, "PodList");
}

function extendedPermissions(target: string): string[] {
  const kinds = ["deployments", "statefulsets"];
  return [
    ...kinds.flatMap((kind) => [`get apps/${kind} ${target}`, `watch apps/${kind} ${target}`]),
    ...kinds.flatMap((kind) => [`get apps/${kind}/scale ${target}`, `patch apps/${kind}/scale ${target}`]),
    "list /pods *",
    "create /events *",
  ];
}

async function targets(testbed: Testbed, manifests: Manifests): Promise<void> {
  const overlay = "overlays/targets";
  const alice = await testbed.person("alice-targets");
  const { namespace, userId } = await fill(testbed, manifests, overlay, alice.userId, name);
  const [first, second] = [`${namespace}-a`, `${namespace}-b`];
  await manifests.edit(`${overlay}/config.env`, "agents/clawdbot", `${first}/agent`);
  await manifests.edit(`${overlay}/config.env`, "models/ollama", `${second}/model`);
  await makeTarget(testbed, manifests, first, "agent");
  await makeTarget(testbed, manifests, second, "model");
  await manifests.kubectl("create", "namespace", namespace);
  await manifests.kubectl("apply", "--kustomize", overlay);
  const { workloads, serviceAccounts } = testbed;
  await workloads.until(namespace, name, ({ ready }) => ready === 1, 20_000);
  const objects = await manifests.render(overlay);
  const account = await serviceAccounts.credentialsOf(namespace, name, []);
  for (const role of objects.filter(({ kind }) => kind === "Role")) {
    await serviceAccounts.untilAllowed(
      role.metadata?.namespace ?? "",
      `system:serviceaccount:${namespace}:${name}`,
      rulesOf([role], role.metadata?.name),
    );
  }
  await assertPermitted(testbed, account, {
    [first]: extendedPermissions("agent"),
    [second]: extendedPermissions("model"),
    [namespace]: [],
  }, ["agent", "model"]);
  await toggle(testbed, { namespace, account, begin: () => Conversation.begin(alice, userId) }, [
    ["start", first, "agent", 1],
    ["start ollama", second, "model", 1],
    ["stop all", second, "model", 0],
  ]);
}

function rulesOf(objects: readonly KubernetesObject[], role = name) {
  return (the<V1Role>(objects, "Role", role).rules ?? []).map((
    { apiGroups = [], resources = [], resourceNames, verbs },
  ) => ({
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

/**
 * Checks every verb on every resource, without a name and with some names, in these namespaces, in another one, and in
 * all.
 *
 * @param expected by namespace: verb, resource and name, or `*` for all names
 */
async function assertPermitted(
  { cluster }: Testbed,
  { token }: ServiceAccount,
  expected: Readonly<Record<string, readonly string[]>>,
  names: readonly string[],
): Promise<void> {
  using client = Deno.createHttpClient({ caCerts: [cluster.authority] });
  const review = async (kind: string, spec: unknown) => {
    const url = `${cluster.url}/apis/authorization.k8s.io/v1/${kind}`;
    return (await httpJson("POST", url, { authorization: `Bearer ${token}`, client, body: { spec } })).status;
  };
  const all = ["", ...names];
  const questions = resources.flatMap((path) => {
    const [group = "", resource, subresource] = path.split("/");
    return all.flatMap((of) =>
      [...Object.keys(expected), "default", ""].flatMap((where) =>
        verbs.map((verb) => ({
          said: `${verb} ${path} ${of} in ${where || "all namespaces"}`,
          asked: { group, resource, subresource, name: of, namespace: where, verb },
        }))
      )
    );
  });
  const permitted: string[] = [];
  for (let at = 0; at < questions.length; at += 50) {
    await Promise.all(
      questions.slice(at, at + 50).map(async ({ said, asked }) => {
        if ((await review("selfsubjectaccessreviews", { resourceAttributes: asked })).allowed) permitted.push(said);
      }),
    );
  }
  const wanted = Object.entries(expected).flatMap(([where, rules]) =>
    rules.flatMap((rule) =>
      (rule.endsWith(" *") ? all.map((of) => `${rule.slice(0, -1)}${of}`) : [rule]).map((said) => `${said} in ${where}`)
    )
  );
  assert.deepEqual(permitted.toSorted(), wanted.toSorted());
  console.log(`${questions.length} asked, ${permitted.length} permitted:\n  ${permitted.toSorted().join("\n  ")}`);

  // Also catches permissions that the list above omits: compares the rules themselves, except those of every
  // ServiceAccount.
  for (const [namespace, rules] of Object.entries(expected)) {
    const { resourceRules } = await review("selfsubjectrulesreviews", { namespace });
    const named = new Set(rules.map((line) => line.split(" ")[1]));
    for (const { apiGroups, resources } of resourceRules as { apiGroups: string[]; resources: string[] }[]) {
      for (const resource of resources.filter((resource) => !/^selfsubject\w*reviews$/.test(resource))) {
        assert.ok(named.has(`${apiGroups.join()}/${resource}`), `a rule for ${resource} in ${namespace}`);
      }
    }
  }
}
