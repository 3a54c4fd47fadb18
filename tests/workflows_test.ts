import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
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

Deno.test("every base image is named by tag and digest, of releases that are supported", async () => {
  const containerfile = await Deno.readTextFile(new URL("../Containerfile", import.meta.url));
  const images = [...containerfile.matchAll(/^FROM (?:--platform=\S+ )?(\S+)/gm)].map(([, image = ""]) => image);
  const forms = [
    /^node:\d+\.\d+\.\d+-bookworm-slim@sha256:[0-9a-f]{64}$/,
    /^gcr\.io\/distroless\/cc-debian13:nonroot@sha256:[0-9a-f]{64}$/,
  ];
  assert.equal(images.length, forms.length);
  for (const [index, image] of images.entries()) assert.match(image, forms[index] ?? /^$/);
});

Deno.test("an action has one version, the same in all workflows", () => {
  const used = new Map<string, Set<string>>();
  for (const { text } of workflows) {
    for (const [, action = "", version = ""] of text.matchAll(/uses: ([\w/-]+)@(.*)$/gm)) {
      used.set(action, (used.get(action) ?? new Set()).add(version));
    }
  }
  assert.ok(used.size >= 8);
  for (const [action, versions] of used) assert.equal(versions.size, 1, action);
});

Deno.test("an image is built and tried on every push, and tried before it is pushed", () => {
  const [check = "", release = ""] = ["check.yml", "release.yml"].map((file) =>
    workflows.find(({ name }) => name === file)?.text
  );
  assert.match(check, /^on:\n {2}push:\n {4}branches: \["\*\*"\]$/m);
  assert.match(check, /load: true[^]*\.github\/try-image/);
  assert.doesNotMatch(check, /push: true/);
  assert.match(release, /load: true[^]*\.github\/try-image[^]*push: true[^]*attest-sbom[^]*cosign sign/);
  assert.match(release, /task notes[^]*task sbom[^]*--notes-file dist\/notes\.md/);
  // Nothing is public before all of it is there.
  assert.ok(release.indexOf("gh release create") > release.indexOf("cosign sign"));
});

Deno.test("deployed images are named by version", async () => {
  const kustomization = await Deno.readTextFile(new URL("../deploy/base/kustomization.yaml", import.meta.url));
  assert.equal(/newTag: (.*)/.exec(kustomization)?.[1], project.version);
});

Deno.test({
  name: ".github/try-image passes with this program, and fails with one that does nothing",
  ignore: Deno.build.os === "windows",
  async fn() {
    const root = fileURLToPath(new URL("../", import.meta.url));
    const folder = await Deno.makeTempDir();
    // Runs on this machine what would run in the container, with its variables.
    const docker = (program: string) =>
      `#!/bin/sh
while [ "$1" != tried ]; do
  case $1 in -e) export "$2"; shift ;; esac
  shift
done
shift
cd "${root}" && exec ${program} "$@"
`;
    try {
      await Deno.copyFile(new URL("../deno.json", import.meta.url), `${folder}/deno.json`);
      for (const [program, expected] of [[`"${Deno.execPath()}" run -A main.ts`, 0], ["true", 1]] as const) {
        await Deno.writeTextFile(`${folder}/docker`, docker(program), { mode: 0o755 });
        const { code, stdout, stderr } = await new Deno.Command("sh", {
          args: [`${root}/.github/try-image`, "tried"],
          cwd: folder,
          clearEnv: true,
          env: { PATH: `${folder}:${Deno.env.get("PATH")}`, HOME: Deno.env.get("HOME") ?? "" },
        }).output();
        const text = new TextDecoder();
        assert.equal(code, expected, text.decode(stdout) + text.decode(stderr));
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
