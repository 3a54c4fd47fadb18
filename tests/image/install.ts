/**
 * The ten minutes of docs/install.md, by its own lines, on a real Synapse and a real API server: an account, a recovery
 * key, the example copied and three values changed, applied; then the image's tree runs with what its pod would find.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import type { V1Deployment } from "@kubernetes/client-node";
import { readContainerfile } from "../../build/containerfile.ts";
import { Child, kubectl, startTestbed } from "../../testbed/mod.ts";
import { setUp } from "../../testbed/setup.ts";
import { bodyOf, Conversation } from "../e2e/conversation.ts";
import { podEnvironment } from "../e2e/manifests.ts";
import { commandIn, executableOf, layOut, type Places, volumeFor } from "./container.ts";
import { needsOf } from "./libraries.ts";

const root = join(import.meta.dirname ?? ".", "..", "..");
const image = readContainerfile(await Deno.readTextFile(join(root, "Containerfile")));
const namespace = "clawdbot";
const name = "openclaw-toggle";

Deno.test("the ten minutes of docs/install.md", async () => {
  assert.equal(Deno.uid(), 0, "Cannot run the image: it takes root to change root and user; run this as root");
  await using testbed = await startTestbed();
  const { cluster, workloads, serviceAccounts, homeserver, folder } = testbed;
  const alice = await testbed.person("alice");
  await workloads.createTarget({ namespace, name: "clawdbot" });
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels } });

  const begin = performance.now();
  const report: string[] = [];
  const project = join(folder, "project");
  await Deno.mkdir(join(project, "bin"), { recursive: true });
  await new Deno.Command("cp", { args: ["-R", join(root, "deploy"), project] }).output();
  await Deno.copyFile(join(folder, "homeserver", "homeserver.yaml"), join(project, "homeserver.yaml"));
  await Deno.symlink(await kubectl(), join(project, "bin", "kubectl"));
  // Synapse's own script, which names an interpreter that is elsewhere since its environment was made.
  const { python } = await setUp({ controlPlane: false });
  const script = `#!/bin/sh\nexec "${python}" -m synapse._scripts.register_new_matrix_user "$@"\n`;
  await Deno.writeTextFile(join(project, "bin", "register_new_matrix_user"), script, { mode: 0o755 });
  const password = crypto.randomUUID();
  const path = [join(project, "bin"), Deno.env.get("PATH")].join(":");
  const run = async (line: string, cwd = project): Promise<string> => {
    const env = { PATH: path, KUBECONFIG: cluster.kubeconfig, MATRIX_PASSWORD: password, NO_COLOR: "1" };
    const { code, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", line], cwd, env, stdin: "null" })
      .output();
    const text = new TextDecoder();
    report.push(`$ ${line}`, ...(text.decode(stdout).trim() || "-").split("\n").map((each) => `  ${each}`));
    assert.equal(code, 0, `${line}\n${text.decode(stdout)}${text.decode(stderr)}`);
    return text.decode(stdout).trim();
  };
  const change = async (file: string, from: RegExp, to: string): Promise<void> => {
    const at = join(project, "deploy/overlays/mine", file);
    const text = await Deno.readTextFile(at);
    assert.match(text, from, `${file} of the example`);
    await Deno.writeTextFile(at, text.replace(from, to));
    report.push(`  ${file}: ${to.replace(/=.*/, "=…")}`);
  };

  const page = await Deno.readTextFile(join(root, "docs", "install.md"));
  const steps = page.split(/^## (?=\d\. )/m).slice(1).map((step) =>
    [...step.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block = ""]) => block.trim().split("\n"))
  );
  const [account = [], recoveryKey = [], copy = [], apply = []] = steps;
  try {
    for (const line of account) await run(line);
    const [key = ""] = await Promise.all(recoveryKey.map((line) => run(line, root)));
    for (const line of copy) await run(line);
    await change("config.env", /^MATRIX_HOMESERVER=.*$/m, `MATRIX_HOMESERVER=${homeserver.url}`);
    await change("config.env", /^ALLOWED_USERS=.*$/m, `ALLOWED_USERS=${alice.userId}`);
    await change(
      "secret.env",
      /^MATRIX_PASSWORD=.*$/m,
      `MATRIX_PASSWORD=${password}\nRECOVERY_KEY=${key.split("\n").at(-1)}`,
    );
    // What builds an image is left out: the tree of the one that is described runs below.
    for (const line of apply.filter((line) => line.startsWith("kubectl "))) await run(line);

    const executable = await executableOf(image, folder);
    const tree = join(folder, "root");
    await Deno.mkdir(tree);
    await layOut(image, executable, (await needsOf(executable.path)).libraries, tree);
    const { spec }: V1Deployment = await cluster.request(
      "GET",
      `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`,
    );
    const { serviceAccountName = "", containers } = spec?.template.spec ?? { containers: [] };
    const rules = [{ apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["clawdbot"], verbs: ["get"] }];
    const credentials = await serviceAccounts.credentialsOf(namespace, serviceAccountName, rules);
    const places: Places = { root: tree, volume: join(folder, "volume"), account: join(folder, "account") };
    await volumeFor(image, places.volume);
    const secrets = ["token", "ca.crt", "namespace"].map((file) => [file, join(credentials.folder, file)]);
    await volumeFor(image, places.account, Object.fromEntries(secrets));
    const { hostname, port } = new URL(cluster.url);
    await using operator = new Child({
      name: "the operator in the image",
      command: commandIn(places, image, executable, []),
      environment: {
        PATH: Deno.env.get("PATH") ?? "",
        ...executable.environment,
        ...image.environment,
        ...await podEnvironment(cluster, namespace),
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port,
      },
      clearEnvironment: true,
      logFile: join(folder, "operator.log"),
    });
    const [{ containerPort } = { containerPort: 0 }] = containers[0]?.ports ?? [];
    const probe = containers[0]?.readinessProbe?.httpGet?.path;
    await operator.untilReady(async () => {
      const response = await fetch(`http://127.0.0.1:${containerPort}${probe}`).catch(() => undefined);
      await response?.body?.cancel();
      return response?.status === 200;
    }, 30_000);
    const talk = await Conversation.begin(alice, `@openclaw-toggle:${homeserver.serverName}`);
    const { answer } = await talk.ask("status");
    assert.equal(answer.how, "decrypted");
    assert.match(bodyOf(answer), /^clawdbot is off/);
    report.push("> status", `< ${bodyOf(answer)}`, `All in ${((performance.now() - begin) / 1_000).toFixed(1)} s.`);
    assert.equal((await operator.stop(12_000)).code, 0, await operator.tail());
  } finally {
    console.log(report.join("\n").replaceAll(password, "…"));
  }
});
