/** Every command in the README and the docs is run as written, or listed with the reason why it can't be. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { readConfig, VARIABLES } from "../../lib/config/mod.ts";
import { kubectl, startTestbed } from "../../testbed/mod.ts";

const root = join(import.meta.dirname ?? ".", "..", "..");
const pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].concat(
  Array.from(Deno.readDirSync(join(root, "docs")), ({ name }) => `docs/${name}`).filter((name) => name.endsWith(".md")),
);
const image = "registry.example/openclaw-toggle:1.2.3";

/** Result of a command. */
interface Ended {
  readonly code: number;
  readonly said: string;
}

/** What to do with commands of this form: where to run them and what to expect, or why they aren't run. */
interface Rule {
  readonly form: RegExp;
  readonly why?: string;
  readonly expect?: (ended: Ended, folder: string, command: string) => void | Promise<void>;
}

const kind = "needs a kind cluster; deploy_test.ts applies the same overlay to a real API server";
const inPod = "needs a container that runs; `deno task image:check` runs the program as a pod would";
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
      // 2: the executable reports that variables are missing. 127: it doesn't exist, because denort is missing.
      assert.equal(code, compiled ? 2 : 127, said);
      if (compiled) assert.match(said, /^✘ configuration +MATRIX_USER: not set/m);
    },
  },
  { form: /^cp -r deploy\/overlays\/example deploy\/overlays\/mine$/, expect: succeeds },
  {
    form: /^sed -i .* kustomization\.yaml$/,
    expect: async (ended, folder) => {
      succeeds(ended);
      const text = await Deno.readTextFile(join(folder, "kustomization.yaml"));
      const places = [...text.matchAll(/^ *- (\S+\/\S+)$/gm)].map(([, place = ""]) => place);
      const form =
        /^https:\/\/github\.com\/you\/openclaw-toggle\/\/deploy\/(base|components\/[a-z-]+|names)\?ref=v\d+\.\d+\.\d+$/;
      assert.ok(places.length >= 3 && places.every((place) => form.test(place)), text);
    },
  },
  { form: /^kubectl .*(exec|logs) /, why: inPod },
  {
    form: /^kubectl .*delete -k deploy\/volume$/,
    why: "waits for the controller that releases a volume, which the testbed lacks",
  },
  { form: /^kubectl apply -k deploy\/overlays\/dev$/, why: kind },
  { form: /^kubectl /, expect: succeeds },
  { form: /^kind /, why: kind },
  {
    // A configuration variable.
    form: /^[A-Z_]+=/,
    expect: (_, __, command) => {
      const [, name = "", value = ""] = /^([A-Z_]+)="?(.*?)"?$/.exec(command) ?? [];
      const env = {
        MATRIX_USER: "toggle",
        MATRIX_PASSWORD: "secret",
        ALLOWED_USERS: "@you:example.org",
        AGENTS: "@clawd:x",
      };
      const readFile = () => assert.fail("no file is named");
      const config = readConfig({ ...env, [name]: value }, { inCluster: true, terminal: false, readFile });
      assert.deepEqual(config.warnings, []);
      assert.ok(Object.values(VARIABLES).some((variable) => variable.name === name), `${name} is no variable`);
    },
  },
  { form: /^docker /, why: containers },
  { form: /^apt-get install /, why: "installs packages, as root" },
  { form: /^register_new_matrix_user /, why: "needs a Synapse of one's own" },
  { form: /^curl .*\/keys\/query"$/, why: "needs an access token of one's own" },
  { form: /^npx -y deno@[\d.]+ test /, why: "is what this test is an example of" },
  { form: /^cosign verify /, why: "needs an image that was released" },
];

function succeeds({ code, said }: Ended): void {
  assert.equal(code, 0, said);
}

Deno.test("every command in the docs runs", async (t) => {
  await using testbed = await startTestbed();
  const bin = join(testbed.folder, "bin");
  await Deno.mkdir(bin);
  await Deno.symlink(await kubectl(), join(bin, "kubectl"));
  const environment = {
    PATH: `${bin}:${Deno.env.get("PATH")}`,
    KUBECONFIG: testbed.cluster.kubeconfig,
    MATRIX_PASSWORD: "secret",
  };
  // Recreates what earlier pages would have left in the cluster.
  await testbed.workloads.createTarget({ namespace: "clawdbot", name: "clawdbot" });
  for (const page of pages) {
    const folder = await Deno.makeTempDir({ dir: testbed.folder });
    await copy(join(root, "deploy"), join(folder, "deploy"));
    await Deno.copyFile(join(root, "deploy/overlays/example/kustomization.yaml"), join(folder, "kustomization.yaml"));
    await Deno.writeTextFile(join(folder, "ca.crt"), testbed.cluster.authority);
    const text = await Deno.readTextFile(join(root, page));
    if (!text.includes("cp -r deploy/overlays/example")) {
      await copy(join(root, "deploy/overlays/example"), join(folder, "deploy/overlays/mine"));
    }
    for (const [, block = ""] of text.matchAll(/^```sh\n([^]*?)^```$/gm)) {
      for (const command of block.trim().split("\n")) {
        await t.step(`${page}: ${command}`, async () => {
          const rule = rules.find(({ form }) => form.test(command));
          assert.ok(rule, "nobody has said what is to come of it: give it a rule");
          if (rule.expect === undefined) return console.log(`not run, because it ${rule.why}: ${command}`);
          await rule.expect(await run(command, folder, environment), folder, command);
        });
      }
    }
  }
});

/** Runs a line in a shell in the project's root. Commands that use deploy/ run in a copy. */
async function run(command: string, folder: string, environment: Readonly<Record<string, string>>): Promise<Ended> {
  const wanted = /^(HOME|DENO_.*|NPM_CONFIG_.*|npm_config_.*|SSL_.*|NODE_EXTRA_CA_CERTS|.*_PROXY|.*_proxy)$/;
  const own = Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", command],
    cwd: /^(cp|sed|kubectl) /.test(command) ? folder : root,
    clearEnv: true,
    env: { ...own, ...environment, IMAGE: image, NO_COLOR: "1" },
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
