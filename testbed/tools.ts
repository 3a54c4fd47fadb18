/**
 * Programs from Go's module proxy that tests use, each built once under `.cache/testbed` at the version that is named.
 *
 * @module
 */

import { join } from "node:path";
import { cacheFolder, making, run } from "./setup.ts";

/** Renders Kubernetes manifests. */
export const kustomize = (): Promise<string> => goTool("sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1");

/** Checks GitHub's workflows. */
export const actionlint = (): Promise<string> => goTool("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.7");

/** Path of a program, built if it isn't there yet. */
async function goTool(path: string, version: string): Promise<string> {
  const name = path.split("/").findLast((part) => !/^v\d+$/.test(part)) ?? "";
  const program = join(cacheFolder, `${name}-${version}`);
  if (await Deno.lstat(program).then(() => true, () => false)) return program;
  await making(program, `${name} ${version}`, async (unfinished) => {
    const folder = `${unfinished}.d`;
    await run(`build ${name} with Go (https://go.dev/dl)`, ["go", "install", `${path}@${version}`], { GOBIN: folder });
    await Deno.rename(join(folder, name), unfinished);
    await Deno.remove(folder);
  });
  return program;
}
