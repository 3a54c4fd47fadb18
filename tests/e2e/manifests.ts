/**
 * A copy of the manifests in deploy/ that can be edited like a user would, rendered, and applied by kubectl.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type KubernetesObject, loadAllYaml, type V1ConfigMap, type V1Deployment } from "@kubernetes/client-node";
import { type ControlPlane, kubectl } from "../../testbed/mod.ts";

const deploy = await Deno.realPath(new URL("../../deploy", import.meta.url));

/** Output of a program. */
export interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}

/** A copy of deploy/ in its own folder, and the cluster that it is applied to. */
export class Manifests {
  readonly folder: string;
  readonly #kubeconfig: string;

  private constructor(folder: string, kubeconfig: string) {
    this.folder = folder;
    this.#kubeconfig = kubeconfig;
  }

  /**
   * @param within folder in which the copy is made
   * @param kubeconfig kubeconfig for kubectl; /dev/null if nothing is applied
   */
  static async copy(within: string, kubeconfig: string): Promise<Manifests> {
    const folder = await Deno.realPath(await Deno.makeTempDir({ dir: within, prefix: "deploy-" }));
    const { success } = await new Deno.Command("cp", { args: ["-R", `${deploy}/.`, folder] }).output();
    assert.ok(success);
    return new Manifests(folder, kubeconfig);
  }

  /** Replaces a text that occurs exactly once in a file, not counting comments. */
  async edit(file: string, from: string, to: string): Promise<void> {
    const path = join(this.folder, file);
    const text = await Deno.readTextFile(path);
    const lines = text.split("\n").filter((line) => !line.startsWith("#")).join("\n");
    assert.equal(lines.split(from).length, 2, `"${from}" in ${file}`);
    await Deno.writeTextFile(path, text.replace(from, to));
  }

  /** Sets variables of an .env file, existing and new ones. */
  async set(file: string, variables: Readonly<Record<string, string>>): Promise<void> {
    const path = join(this.folder, file);
    const kept = (await Deno.readTextFile(path)).split("\n").filter((line) =>
      !((line.split("=")[0] ?? "") in variables)
    );
    const set = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    await Deno.writeTextFile(path, [...kept.filter((line) => line !== ""), ...set, ""].join("\n"));
  }

  /** Renders a folder. */
  async render(folder: string): Promise<KubernetesObject[]> {
    return loadAllYaml((await this.kubectl("kustomize", join(this.folder, folder))).stdout);
  }

  /** Runs kubectl. Throws with its output if it fails. */
  async kubectl(...args: string[]): Promise<Printed> {
    const { code, stdout, stderr } = await this.try(...args);
    assert.equal(code, 0, `kubectl ${args.join(" ")}\n${stdout}${stderr}`);
    return { stdout, stderr };
  }

  /** Registers custom resource definitions and waits until the API server accepts their objects. */
  async define(files: readonly string[]): Promise<void> {
    for (const file of files) await this.kubectl("apply", "--server-side", "--filename", file);
    const filenames = files.flatMap((file) => ["--filename", file]);
    // `kubectl wait` can't wait for a condition of an object without a status.
    for (let tries = 0; tries < 20; tries += 1) {
      if ((await this.try("wait", "--for=condition=established", "--timeout=20s", ...filenames)).code === 0) return;
    }
    assert.fail(`not established: ${files.join(", ")}`);
  }

  /** Runs kubectl and returns its output and exit code. */
  async try(...args: string[]): Promise<Printed & { readonly code: number }> {
    const { code, stdout, stderr } = await new Deno.Command(await kubectl(), {
      args,
      cwd: this.folder,
      clearEnv: true,
      env: { PATH: Deno.env.get("PATH") ?? "", HOME: this.folder, KUBECONFIG: this.#kubeconfig },
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  }
}

/** Returns the object of a kind by its name, to which kustomize may have appended a hash. */
export function the<Kind extends KubernetesObject>(
  objects: readonly KubernetesObject[],
  kind: string,
  name = "openclaw-toggle",
): Kind {
  const form = new RegExp(`^${name}(-[0-9a-z]{10})?$`);
  const found = objects.find((object) => object.kind === kind && form.test(object.metadata?.name ?? ""));
  assert.ok(found, `no ${kind} ${name}`);
  return found as Kind;
}

/** Returns the environment variables that the Deployment's container would get. */
export async function podEnvironment(
  cluster: ControlPlane,
  namespace: string,
): Promise<Record<string, string>> {
  const read = (kind: string, of: string) => cluster.request("GET", `/api/v1/namespaces/${namespace}/${kind}/${of}`);
  const deployment: V1Deployment = await cluster.request(
    "GET",
    `/apis/apps/v1/namespaces/${namespace}/deployments/openclaw-toggle`,
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
  return environment;
}
