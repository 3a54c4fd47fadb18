import assert from "node:assert/strict";
import project from "../deno.json" with { type: "json" };

const folder = new URL("../.github/workflows/", import.meta.url);
const workflows = Array.from(Deno.readDirSync(folder), ({ name }) => ({
  name,
  text: Deno.readTextFileSync(new URL(name, folder)),
}));

Deno.test("actions are pinned by commit, each with its version", () => {
  for (const { name, text } of workflows) {
    for (const [, used = ""] of text.matchAll(/^\s*(?:- )?uses: (.*)$/gm)) {
      if (!used.startsWith("./")) assert.match(used, /^[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, name);
    }
  }
});

Deno.test("a job has the permissions that it names, and no others", () => {
  for (const { name, text } of workflows) assert.match(text, /^permissions:(?: \{\}|\n {2}contents: read)$/m, name);
});

Deno.test("a release has a binary for each system, by the version of Deno that the README names", async () => {
  const text = workflows.find(({ name }) => name === "release.yml")?.text ?? "";
  for (const system of ["unknown-linux-gnu", "apple-darwin"]) {
    for (const machine of ["x86_64", "aarch64"]) assert.ok(text.includes(`${machine}-${system}`));
  }
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const deno = /deno@[\d.]+\d/.exec(readme)?.[0] ?? "none";
  const files = [text, await Deno.readTextFile(new URL("../Containerfile", import.meta.url))];
  for (const file of files) assert.deepEqual([...new Set(file.match(/deno@[\d.]+\d/g))], [deno]);
});

Deno.test("what is deployed is named by the version", async () => {
  const kustomization = await Deno.readTextFile(new URL("../deploy/base/kustomization.yaml", import.meta.url));
  assert.equal(/newTag: (.*)/.exec(kustomization)?.[1], project.version);
});
