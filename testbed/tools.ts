/**
 * Go programs that tests use, each built once under `.cache/testbed` at a pinned version.
 *
 * @module
 */

import { basename, join } from "node:path";
import type { DendriteTools } from "./dendrite.ts";
import { buildOnce, cacheFolder, digest, exists, run } from "./setup.ts";

const here = import.meta.dirname ?? ".";

/** Renders Kubernetes manifests. */
export const kustomize = (): Promise<string> => goTool("sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1");

/** Checks GitHub's workflows. */
export const actionlint = (): Promise<string> => goTool("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.7");

/** Custom resource definitions that deploy/'s manifests use: module, version and file of each one. */
const definitions = {
  monitoring: [
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
  ],
  argocd: ["github.com/argoproj/argo-cd/v3@v3.1.8", "manifests/crds/application-crd.yaml"],
  flux: [
    "github.com/fluxcd/kustomize-controller@v1.9.6",
    "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
  ],
} as const;

/** Files with the definitions of custom resources (CRDs), from the modules of the projects that define them. */
export async function customResources(of: keyof typeof definitions): Promise<string[]> {
  const [module, ...files] = definitions[of];
  const folder = join(cacheFolder, `crd-${of}-${module.slice(module.lastIndexOf("@") + 1)}`);
  if (!await exists(folder)) {
    await buildOnce(folder, `custom resources of ${of}`, async (unfinished) => {
      const download = new Deno.Command("go", { args: ["mod", "download", "-json", module], cwd: here });
      const { success, stdout, stderr } = await download.output();
      const text = new TextDecoder();
      if (!success) throw new Error(`Cannot fetch ${module}: ${text.decode(stdout)}${text.decode(stderr)}`);
      const { Dir } = JSON.parse(text.decode(stdout)) as { Dir: string };
      await Deno.mkdir(unfinished);
      for (const file of files) {
        await Deno.writeFile(join(unfinished, basename(file)), await Deno.readFile(join(Dir, file)));
      }
    });
  }
  return files.map((file) => join(folder, basename(file)));
}

/** Builds one of our own programs, if necessary, and returns its path, which contains a digest of the sources. */
async function goProgram(folder: string): Promise<string> {
  const sources = ["go.mod", "go.sum", "main.go"].map((file) => join(folder, file));
  const program = join(cacheFolder, `${basename(folder)}-${await digest(sources)}`);
  if (await exists(program)) return program;
  const build = ["go", "build", "-C", folder, "-buildvcs=false", "-o"];
  const what = `build ${basename(folder)} with Go (https://go.dev/dl)`;
  await buildOnce(program, basename(folder), (unfinished) => run(what, [...build, unfinished]));
  return program;
}

/** Builds a program from the module proxy, if necessary, and returns its path. */
async function goTool(path: string, version: string): Promise<string> {
  const name = path.split("/").findLast((part) => !/^v\d+$/.test(part)) ?? "";
  const program = join(cacheFolder, `${name}-${version}`);
  if (await exists(program)) return program;
  await buildOnce(program, `${name} ${version}`, async (unfinished) => {
    const folder = `${unfinished}.d`;
    await run(`build ${name} with Go (https://go.dev/dl)`, ["go", "install", `${path}@${version}`], { GOBIN: folder });
    await Deno.rename(join(folder, name), unfinished);
    await Deno.remove(folder);
  });
  return program;
}

/** Builds Dendrite's programs, which takes some minutes the first time. */
export async function dendrite(): Promise<DendriteTools> {
  const version = "v0.13.8";
  const folder = join(cacheFolder, `dendrite-${version}`);
  if (!await exists(folder)) {
    await buildOnce(folder, `dendrite ${version} (minutes the first time)`, async (unfinished) => {
      const programs = ["dendrite", "generate-keys"].map((name) =>
        `github.com/matrix-org/dendrite/cmd/${name}@${version}`
      );
      await run("build Dendrite with Go (https://go.dev/dl)", ["go", "install", ...programs], { GOBIN: unfinished });
    });
  }
  return { dendrite: join(folder, "dendrite"), generateKeys: join(folder, "generate-keys") };
}

/** Checks metrics on standard input against Prometheus' conventions. */
export const promlint = (): Promise<string> => goProgram(join(here, "promlint"));

/** Evaluates PromQL over series that are given. */
export const promrules = (): Promise<string> => goProgram(join(here, "promrules"));

/** Kubernetes' command line, of the control plane's release. */
export const kubectl = (): Promise<string> => goProgram(join(here, "kubectl"));
