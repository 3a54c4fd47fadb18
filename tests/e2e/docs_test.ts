/** Every command of the README and the docs: run as it stands there, or named with the reason why not. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { kustomize } from "../../testbed/mod.ts";

const root = join(import.meta.dirname ?? ".", "..", "..");
const pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].concat(
  Array.from(Deno.readDirSync(join(root, "docs")), ({ name }) => `docs/${name}`).filter((name) => name.endsWith(".md")),
);
const image = "registry.example/openclaw-toggle:1.2.3";

/** How a command ended. */
interface Ended {
  readonly code: number;
  readonly said: string;
}

/** What is done about the commands of a form: run, where, and what must come of it; or why they are not. */
interface Rule {
  readonly form: RegExp;
  readonly why?: string;
  readonly expect?: (ended: Ended, folder: string) => void | Promise<void>;
}

const cluster = "needs a cluster of one's own; deploy_test.ts applies the same to a real API server";
const containers = "needs a container engine and a registry of one's own; `deno task image:check` tries the image";
let compiled = false;

const rules: readonly Rule[] = [
  {
    form: /^npx -y deno@[\d.]+ task demo$/,
    expect: ({ code, said }) => {
      assert.equal(code, 0, said);
      assert.match(said, /clawdbot is on/);
    },
  },
  {
    form: /^npx -y deno@[\d.]+ task start --new-recovery-key$/,
    expect: ({ code, said }) => {
      assert.equal(code, 0, said);
      assert.match(said, /^(?:[1-9A-HJ-NP-Za-km-z]{4} ){11}[1-9A-HJ-NP-Za-km-z]{4}$/m);
    },
  },
  { form: /^npx -y deno@[\d.]+ task (?:test|ok)$/, why: "is what .ci/run begins with" },
  { form: /^npx -y deno@[\d.]+ task e2e$/, why: "is what this test is a part of" },
  {
    form: /^npx -y deno@[\d.]+ task compile$/,
    expect: ({ code, said }) => {
      compiled = code === 0;
      if (!compiled) assert.match(said, /Cannot compile: .*denort.*DENORT_BIN/, said);
    },
  },
  {
    form: /^\.\/dist\/openclaw-toggle --conntest$/,
    expect: ({ code, said }) => {
      // Without any variable it has that to say, and without denort there is no executable.
      assert.equal(code, compiled ? 2 : 127, said);
      if (compiled) assert.match(said, /^✘ configuration +MATRIX_USER: not set/m);
    },
  },
  {
    form: /^\(cd deploy\/base && kustomize edit set image /,
    expect: async ({ code, said }, folder) => {
      assert.equal(code, 0, said);
      const { stdout } = await new Deno.Command(await kustomize(), { args: ["build", `${folder}/deploy/base`] })
        .output();
      assert.match(new TextDecoder().decode(stdout), new RegExp(`^ +image: ${image}$`, "m"));
    },
  },
  { form: /^kubectl /, why: cluster },
  { form: /^kind /, why: cluster },
  { form: /^docker /, why: containers },
  { form: /^register_new_matrix_user /, why: "needs a Synapse of one's own" },
  { form: /^curl .*\/keys\/query"$/, why: "needs an access token of one's own" },
  { form: /^npx -y deno@[\d.]+ test /, why: "is what this test is an example of" },
  { form: /^cosign verify /, why: "needs an image that was released" },
];

Deno.test("every command in the docs runs", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    await copy(join(root, "deploy"), join(folder, "deploy"));
    await Deno.mkdir(join(folder, "bin"));
    await Deno.symlink(await kustomize(), join(folder, "bin", "kustomize"));
    for (const page of pages) {
      const text = await Deno.readTextFile(join(root, page));
      for (const [, block = ""] of text.matchAll(/^```sh\n([^]*?)^```$/gm)) {
        for (const command of block.trim().split("\n")) {
          await t.step(`${page}: ${command}`, async () => {
            const rule = rules.find(({ form }) => form.test(command));
            assert.ok(rule, "nobody has said what is to come of it: give it a rule");
            if (rule.expect === undefined) return console.log(`not run, because it ${rule.why}: ${command}`);
            await rule.expect(await run(command, folder), folder);
          });
        }
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Runs a line as a shell would that stands in the project; what changes deploy/ does so in a copy. */
async function run(command: string, folder: string): Promise<Ended> {
  const wanted = /^(HOME|DENO_.*|NPM_CONFIG_.*|npm_config_.*|SSL_.*|NODE_EXTRA_CA_CERTS|.*_PROXY|.*_proxy)$/;
  const own = Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", command],
    cwd: command.includes("deploy/") ? folder : root,
    clearEnv: true,
    env: { ...own, PATH: `${folder}/bin:${Deno.env.get("PATH")}`, IMAGE: image, NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, said: text.decode(stdout) + text.decode(stderr) };
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) await copy(join(from, name), join(to, name));
    else await Deno.copyFile(join(from, name), join(to, name));
  }
}
