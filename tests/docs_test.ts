import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { loadYaml, type V1Role } from "@kubernetes/client-node";
import { readContainerfile } from "../build/containerfile.ts";
import project from "../deno.json" with { type: "json" };
import { readConfig } from "../lib/config/mod.ts";
import { generated, updated } from "./docs_update.ts";

const rootUrl = new URL("../", import.meta.url);
const readme = await read("README.md");
const developing = await read("docs/developing.md");
const pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].concat(
  Array.from(Deno.readDirSync(new URL("docs/", rootUrl)), ({ name }) => `docs/${name}`).filter((name) =>
    name.endsWith(".md")
  ),
);

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(path, rootUrl));
}

const root = fileURLToPath(rootUrl);
const tasks: Readonly<Record<string, string>> = project.tasks;

Deno.test("generated tables are those in the code; if not, run `deno task docs`", async () => {
  for (const each of generated) {
    const text = await Deno.readTextFile(each.page);
    assert.equal(text, updated(text, each));
    for (const broken of ["", text.replace(`<!-- ${each.marker} -->`, "")]) {
      assert.throws(() => updated(broken, each), /^Error: Cannot update .*\.md: it lacks /);
    }
  }
});

Deno.test("the table of tasks names every task", () => {
  const table = /<!-- tasks -->([^]*)<!-- \/tasks -->/.exec(developing)?.[1] ?? "";
  const named = [...table.matchAll(/^\| `([^`]+)`/gm)].map(([, name = ""]) => name);
  // What `ok` is made of needs no line of its own.
  const parts = ["check", "doc"];
  assert.deepEqual(named.toSorted(), Object.keys(tasks).filter((name) => !parts.includes(name)).toSorted());
});

Deno.test("the walk of a command names files that are there, in order, and few", async () => {
  const walk = /^## The walk of a command$([^]*?)^## /m.exec(developing)?.[1] ?? "";
  const steps = [...walk.matchAll(/^(\d+)\. `([^`]+)`: /gm)].map(([, number, path = ""]) => ({
    number: Number(number),
    path,
  }));
  assert.deepEqual(steps.map(({ number }) => number), steps.map((_, index) => index + 1));
  assert.equal(new Set(steps.map(({ path }) => path)).size, steps.length, "a file is named twice");
  for (const { path } of steps) await Deno.stat(new URL(path, rootUrl));
  const toPatch = steps.findIndex(({ path }) => path === "lib/scaler/api.ts") + 1;
  assert.ok(
    toPatch > 0 && toPatch <= 28 && steps.length <= 38,
    `${toPatch} files to the PATCH, ${steps.length} in all`,
  );
});

/** Where each part of docs/operations.md is run: a test's file and its name or a part of it; or why it isn't. */
const operations: Readonly<Record<string, readonly (readonly [file: string, name: string])[] | string>> = {
  "Upgrade": [
    ["tests/store/old_test.ts", "openStore() takes over all that the first release had in its store"],
    ["tests/store/mod_test.ts", "openStore() refuses files that it cannot read"],
    ["tests/e2e/deploy_test.ts", "assertFits"],
  ],
  "Back up": [["tests/faults/rotate_test.ts", "a backup that was put back"]],
  "Restore": [
    ["tests/faults/rotate_test.ts", "a backup that was put back"],
    ["tests/session/restore_detection_test.ts", "openSession() notices a restored backup"],
    ["tests/e2e/trust/recovery.ts", "volume lost, start with RECOVERY_KEY"],
    ["tests/e2e/trust/recovery.ts", "--reset-identity"],
  ],
  "Run it once with an option": [["tests/e2e/deploy_test.ts", "everything is valid, and runs restricted"]],
  "Rotate the password": [["tests/faults/rotate_test.ts", "a new password leaves the device as it is"]],
  "Rotate the access token": [
    [
      "tests/session/connect_test.ts",
      "openSession() by the token of another device sets the keys of the old one aside",
    ],
  ],
  "Rotate the recovery key": [["tests/faults/rotate_test.ts", "--rotate-recovery-key"]],
  "Rotate the store's key": [["tests/faults/rotate_test.ts", "--rotate-store-key"]],
  "Move the homeserver": [
    ["tests/session/connect_test.ts", "openSession() goes on where the homeserver has moved to"],
  ],
  "Uninstall": [["tests/e2e/deploy_test.ts", "leaves its volume"]],
  "Argo CD and Flux": [["tests/e2e/gitops_test.ts", "beside Argo CD and Flux"]],
  "Monitoring": [
    ["tests/service/metrics_test.ts", "dashboard and alerts"],
    ["tests/e2e/alerts_test.ts", "each alert fires when it should, and ends"],
  ],
  "Health": [["tests/service/health_test.ts", "serveHealth() answers"]],
  "Logs": [["tests/texts_test.ts", "every line of the log is"]],
};

Deno.test("each part of docs/operations.md is run by a test, or has a reason why not", async () => {
  const parts = [...(await read("docs/operations.md")).matchAll(/^## (.*)$/gm)].map(([, title = ""]) => title);
  assert.deepEqual(parts.toSorted(), Object.keys(operations).toSorted());
  const table: string[] = [];
  for (const title of parts) {
    const tests = operations[title] ?? "";
    if (typeof tests !== "string") {
      for (const [file, name] of tests) assert.ok((await read(file)).includes(name), `${file} has no "${name}"`);
    }
    const where = typeof tests === "string" ? `not run: ${tests}` : tests.map((test) => test.join(": ")).join("; ");
    table.push(`${title.padEnd(28)} ${where}`);
  }
  console.log(table.join("\n"));
});

/** The one block of a language in a page. */
function blockOf(text: string, language: string): string {
  return new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "m").exec(text)?.[1] ?? "";
}

Deno.test("the Compose file in docs/install.md fits the image and the configuration", async () => {
  const image = readContainerfile(await read("Containerfile"));
  const { services, volumes, secrets } = loadYaml<{
    services: Record<string, {
      image: string;
      environment: Record<string, string>;
      secrets: string[];
      volumes: string[];
      healthcheck: { test: string[] };
    }>;
    volumes: Record<string, unknown>;
    secrets: Record<string, unknown>;
  }>(blockOf(await read("docs/install.md"), "yaml"));
  const service = services["openclaw-toggle"];
  assert.ok(service);
  assert.match(service.image, new RegExp(`:${project.version}$`));
  assert.deepEqual(service.healthcheck.test, ["CMD", ...image.entrypoint, "--healthcheck"]);
  assert.deepEqual(service.volumes, [`${Object.keys(volumes)[0]}:${image.folder}`]);
  assert.deepEqual(service.secrets, Object.keys(secrets));
  const files = service.secrets.map((name) => `/run/secrets/${name}`);
  const config = readConfig(service.environment, {
    inCluster: false,
    terminal: false,
    readFile: (path) => files.includes(path) ? "secret" : assert.fail(`${path} is no secret of the service`),
  });
  assert.deepEqual(config.httpAddress, { hostname: "127.0.0.1", port: 8080 });
  assert.ok(files.includes(service.environment["KUBECONFIG"] ?? ""));
});

Deno.test("the unit in docs/install.md is one that systemd takes", async () => {
  const unit = blockOf(await read("docs/install.md"), "ini");
  assert.match(unit, /^ExecStart=\/usr\/local\/bin\/openclaw-toggle$/m);
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/openclaw-toggle.service`;
    // The program itself isn't here.
    await Deno.writeTextFile(file, unit.replace(/^ExecStart=.*$/m, "ExecStart=/bin/true"));
    const command = new Deno.Command("systemd-analyze", { args: ["verify", file] });
    const { code, stderr } = await command.output().catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      console.log("not verified: there is no systemd here");
      return { code: 0, stderr: new Uint8Array() };
    });
    const said = new TextDecoder().decode(stderr).split("\n").filter((line) => line.includes("openclaw-toggle"));
    assert.deepEqual([code, said], [0, []]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the README fits on a few screens", () => {
  assert.ok(readme.split("\n").length <= 150);
});

Deno.test("links in the docs lead somewhere", async (t) => {
  for (const path of pages) {
    await t.step(path, async () => {
      const base = new URL(path, rootUrl);
      for (const [, target = ""] of (await read(path)).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
        const [file = "", anchor] = target.split("#");
        const text = await Deno.readTextFile(file === "" ? base : new URL(file, base));
        if (anchor !== undefined) assert.ok(anchors(text).includes(anchor), `${path}: no heading for #${anchor}`);
      }
    });
  }
});

/** Anchors of a page's headings, as GitHub makes them. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(" ", "-")
  );
}

/** Cells of the rows of a table that begins with these headings. */
function table(text: string, ...headings: string[]): string[][] {
  const head = new RegExp(`^\\| ${headings.join(" +\\| ")} +\\|.*\\n\\|[ |-]*\\n((?:\\|.*\\n)*)`, "m");
  const rows = head.exec(text)?.[1]?.trimEnd().split("\n") ?? [];
  return rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
}

Deno.test("docs/configuration.md names the arguments and exit codes that --help does", async () => {
  const text = await read("docs/configuration.md");
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", "main.ts", "--help"], cwd: root })
    .output();
  const help = new TextDecoder().decode(stdout);
  const [usage = ""] = help.split("Exit codes:");
  const told = table(text, "Argument", "What it does").flatMap(([cell = ""]) => cell.match(/--[a-z-]+/g) ?? []);
  assert.deepEqual(told.toSorted(), [...new Set(usage.match(/--[a-z-]+/g))].toSorted());
  const codes = table(text, "Exit code", "Meaning").map((cells) => cells.join(" "));
  assert.deepEqual(codes, /Exit codes: (.*)/.exec(help)?.[1]?.split(", "));
});

Deno.test("the permissions in docs/install.md are those of the Roles", async () => {
  const granted = (rules: V1Role["rules"] = []) =>
    rules.flatMap(({ resources = [], resourceNames, verbs }) =>
      resources.filter((resource) => !resource.startsWith("statefulsets")).flatMap((resource) =>
        verbs.map((verb) => `${verb} ${resource} ${resourceNames === undefined ? "the namespace" : "the named target"}`)
      )
    );
  const role: V1Role = loadYaml(await read("deploy/base/role.yaml"));
  const component: { patches: { patch: string }[] } = loadYaml(
    await read("deploy/components/extended/kustomization.yaml"),
  );
  const added = component.patches.flatMap(({ patch }) =>
    loadYaml<{ path: string; value: NonNullable<V1Role["rules"]>[number] }[]>(patch).map(({ path, value }) => {
      assert.equal(path, "/rules/-");
      return value;
    })
  );
  const told = table(await read("docs/install.md"), "Permission", "Limited to", "What it is for", "In").flatMap(
    ([permission = "", limit, , part]) => {
      const words = permission.match(/[a-z/]+/g) ?? [];
      const verbs = words.slice(0, -1);
      return verbs.map((verb) => ({ said: `${verb} ${words.at(-1)} ${limit}`, part }));
    },
  );
  const base = told.filter(({ part }) => part === "base");
  assert.deepEqual(base.map(({ said }) => said).toSorted(), granted(role.rules).toSorted());
  const all = new Set([...granted(role.rules), ...granted(added)]);
  assert.deepEqual(told.map(({ said }) => said).toSorted(), [...all].toSorted());
});

Deno.test("all pages name one version of Deno", async () => {
  const texts = await Promise.all(pages.map(read));
  assert.equal(new Set(texts.flatMap((text) => text.match(/deno@[\d.]+\d/g) ?? [])).size, 1);
});

Deno.test("docs/developing.md names every dependency", () => {
  for (const name of Object.keys(project.imports)) assert.ok(developing.includes(`[${name}](`), name);
});
