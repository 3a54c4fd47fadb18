/** `deno task image:check`: what the Containerfile describes, run as a restricted pod would run it, on real servers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { loadYaml, type V1Deployment } from "@kubernetes/client-node";
import project from "../../deno.json" with { type: "json" };
import { bundleFolder, filesOf } from "../../build/bundle.ts";
import { compileArguments } from "../../build/compile.ts";
import { readContainerfile } from "../../build/containerfile.ts";
import { baseRules, Child, startTestbed, type Testbed } from "../../testbed/mod.ts";
import { bodyOf, Conversation } from "../e2e/conversation.ts";
import { commandIn, type Executable, executableOf, layOut, type Places, volumeFor } from "./container.ts";
import { assertMet, needsOf } from "./libraries.ts";
import { MemoryLimit } from "./memory.ts";

const root = join(import.meta.dirname ?? ".", "..", "..");
const image = readContainerfile(await Deno.readTextFile(join(root, "Containerfile")));
const [port = 0] = image.ports;
const { spec }: V1Deployment = loadYaml(await Deno.readTextFile(join(root, "deploy", "base", "deployment.yaml")));
const resources = spec?.template.spec?.containers[0]?.resources;
const [request, limit] = [resources?.requests?.["memory"], resources?.limits?.["memory"]].map((quantity) =>
  Number(/^(\d+)Mi$/.exec(quantity ?? "")?.[1]) * 2 ** 20
);
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const report: string[] = [];

Deno.test("the image", async (t) => {
  assert.equal(Deno.uid(), 0, "Cannot try the image: it takes root to change root and user; run this as root");
  await using testbed = await startTestbed();
  const tree = join(testbed.folder, "root");
  await Deno.mkdir(tree);
  const executable = await executableOf(image, testbed.folder);
  const needs = await needsOf(executable.path);

  await t.step("what the build is given is enough to bundle", () => bundleFromSources(testbed.folder));
  await t.step("its libraries are in distroless cc", () => {
    report.push(`Needs glibc ${needs.glibc.join(".")} and`);
    for (const { name, from } of needs.libraries) report.push(`  ${name.padEnd(24)} ${from ?? "NOT IN DISTROLESS CC"}`);
    assertMet(needs);
  });
  await t.step("the executable holds the bundle, the kubeconfig reader and the crypto", () => holdsAll(testbed.folder));
  await layOut(image, executable, needs.libraries, tree);
  report.push(`Layout (${executable.what}), on ${image.base.replace(/@.*/, "")}, user ${image.user}, ports ${port}:`);
  for (const { to, owner } of image.copies) {
    const { size, mode, isDirectory } = await Deno.stat(join(tree, to));
    const rights = ((mode ?? 0) & 0o7777).toString(8).padStart(4, "0");
    report.push(`  ${rights} ${owner.padEnd(9)} ${to}${isDirectory ? "/" : `  ${mebibytes(size)}`}`);
  }
  if (executable.args.length > 0) {
    for (const { name, size } of filesOf(join(tree, "bundle"))) report.push(`  /bundle/${name}  ${mebibytes(size)}`);
  }
  try {
    await t.step("it toggles in a restricted pod, and ends", () => toggle(testbed, tree, executable));
  } finally {
    console.log(`\n${report.join("\n")}`);
  }
});

/** Makes the bundle from what the Containerfile copies, where there is nothing else. */
async function bundleFromSources(folder: string): Promise<void> {
  const context = join(folder, "context");
  await Deno.mkdir(context);
  const { code: copied } = await new Deno.Command("cp", { args: ["-R", ...image.sources, context], cwd: root })
    .output();
  assert.equal(copied, 0);
  const script = join(context, "build", "bundle.ts");
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", script] }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

/** What `deno compile` puts into the executable, whatever runtime it is put into. */
async function holdsAll(folder: string): Promise<void> {
  const output = join(folder, "embedded");
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: compileArguments({ output }),
    env: { DENORT_BIN: "/bin/true" },
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  const embedded = new TextDecoder("latin1").decode(await Deno.readFile(output));
  const missing = filesOf(bundleFolder).filter(({ name }) => !embedded.includes(name.slice(name.lastIndexOf("/") + 1)));
  assert.deepEqual(missing, []);
  const bundled = filesOf(bundleFolder).reduce((sum, { size }) => sum + size, 0);
  assert.ok(embedded.length > bundled, "it holds the names of the files, not the files");
}

async function toggle(testbed: Testbed, tree: string, executable: Executable): Promise<void> {
  const { workloads, serviceAccounts, cluster, homeserver, folder } = testbed;
  const [namespace, name] = ["image", "clawdbot"];
  await workloads.createTarget({ namespace, name });
  const { folder: credentials, kubeconfig } = await serviceAccounts.create(namespace, "toggle", baseRules(name));
  const alice = await testbed.person("alice");
  const password = crypto.randomUUID();
  const { userId, localpart } = await homeserver.register("toggle-image", password);
  const places: Places = { root: tree, volume: join(folder, "volume"), account: join(folder, "account") };
  await volumeFor(image, places.volume, { kubeconfig });
  const secrets = ["token", "ca.crt", "namespace"].map((file) => [file, join(credentials, file)]);
  await volumeFor(image, places.account, Object.fromEntries(secrets));
  const { hostname, port: apiPort } = new URL(cluster.url);
  // What comes before the program is found by it.
  const path = { PATH: Deno.env.get("PATH") ?? "" };
  const environment = {
    ...path,
    ...executable.environment,
    ...image.environment,
    MATRIX_HOMESERVER: homeserver.url,
    MATRIX_USER: localpart,
    MATRIX_PASSWORD: password,
    ALLOWED_USERS: alice.userId,
    DEPLOYMENT_NAME: name,
    DEPLOYMENT_NAMESPACE: namespace,
    LOG_FORMAT: "json",
  };
  const inCluster = { ...environment, KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: apiPort };
  const ask = async (args: string[], env: Record<string, string>) => {
    const [program, ...rest] = commandIn(places, image, executable, args);
    const begin = performance.now();
    const { code, stdout, stderr } = await new Deno.Command(program, { args: rest, env, clearEnv: true }).output();
    const text = new TextDecoder();
    return { code, printed: text.decode(stdout).trim(), said: text.decode(stderr), ms: performance.now() - begin };
  };

  const version = await ask(["--version"], environment);
  assert.deepEqual([version.code, version.printed], [0, project.version], version.said);
  assert.equal(image.labels["org.opencontainers.image.version"], "$VERSION");
  report.push(`--version after ${version.ms.toFixed(0)} ms`);
  for (
    const [where, env] of [["in the cluster", inCluster], ["with a kubeconfig", { ...environment, ...workstation }]]
  ) {
    const { code, printed, said } = await ask(["--conntest"], env as Record<string, string>);
    report.push(`--conntest ${where}:`, ...printed.split("\n").map((line) => `  ${line}`));
    assert.equal(code, 0, `${printed}\n${said}`);
  }

  using contained = MemoryLimit.make(limit ?? 0);
  const command = commandIn(places, image, executable, []);
  await using operator = new Child({
    name: "the operator in the image",
    command: contained?.around(command) ?? command,
    environment: inCluster,
    clearEnvironment: true,
    logFile: join(folder, "operator.log"),
  });
  const begin = performance.now();
  await operator.untilReady(() => answers("readyz"), 30_000);
  report.push(`Ready after ${(performance.now() - begin).toFixed(0)} ms, the first time (new store, new device).`);
  const talk = await Conversation.begin(alice, userId);
  for (
    const [command, replicas, answer] of [["start", 1, / is on \(1 replica\)/], ["stop", 0, / is off/]] as const
  ) {
    const { answer: said } = await talk.ask(command);
    assert.equal(said.how, "decrypted");
    assert.match(bodyOf(said), answer);
    await workloads.until(namespace, name, ({ ready }) => ready === replicas, 10_000);
  }
  for (const path of ["healthz", "metrics"]) assert.ok(await answers(path), path);

  const status = await Deno.readTextFile(`/proc/${operator.pid}/status`);
  const field = (wanted: string) =>
    new RegExp(`^${wanted}:\\s+(.*)$`, "m").exec(status)?.[1]?.trim().split(/\s+/) ?? [];
  const [user = "", group = ""] = image.user.split(":");
  assert.deepEqual([field("Uid"), field("Gid"), field("Groups")], [Array(4).fill(user), Array(4).fill(group), [group]]);
  assert.deepEqual([field("NoNewPrivs"), field("CapEff")], [["1"], ["0000000000000000"]]);
  const mounts = await Deno.readTextFile(`/proc/${operator.pid}/mountinfo`);
  const writable = mounts.split("\n").map((line) => line.split(" ")).filter(([, , , , at, options]) =>
    (at === "/" || at === image.folder) && options?.split(",").includes("rw")
  ).map(([, , , , at]) => at);
  assert.deepEqual(writable, [image.folder], "only the volume can be written to");
  const kept = filesOf(join(places.volume, "crypto_store")).map(({ name }) => name);
  const memory = (name: string) => mebibytes(Number(field(name)[0]) * 1_024);
  const resident = Number(field("VmRSS")[0]) * 1_024;
  const peak = contained === undefined
    ? "no control group to be had here"
    : `${mebibytes(contained.peakBytes)} at most`;
  report.push(
    `Requested ${mebibytes(request ?? 0)}, used ${mebibytes(resident)}; limit ${mebibytes(limit ?? 0)}, ${peak}`,
  );
  assert.ok(resident <= (request ?? 0), "more than is requested");
  assert.ok((request ?? 0) < (limit ?? 0));
  report.push(
    `RSS ${memory("VmRSS")} after a start and a stop: ${memory("RssAnon")} of its own, ${
      memory("RssFile")
    } mapped files`,
    `The volume holds ${kept.join(", ")}`,
  );
  assert.equal((await operator.stop(12_000)).code, 0, await operator.tail());
}

/** As on somebody's own machine; the file is on the volume, where the image's user finds it. */
const workstation = { KUBECONFIG: join(image.folder, "kubeconfig") };

async function answers(path: string): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}/${path}`).catch(() => undefined);
  await response?.body?.cancel();
  return response?.status === 200;
}
