import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { loadYaml, type V1Role } from "@kubernetes/client-node";
import project from "../deno.json" with { type: "json" };
import { readme, updated } from "./readme_update.ts";

const text = await Deno.readTextFile(readme);
const rootUrl = new URL("../", import.meta.url);
const root = fileURLToPath(rootUrl);
const tasks: Readonly<Record<string, string>> = project.tasks;

Deno.test("the README's tables of variables and metrics are those in the code; if not, run `deno task readme`", () => {
  assert.equal(text, updated(text));
});

Deno.test("updated() refuses a text without markers", () => {
  for (const broken of ["", text.replace("<!-- configuration -->", ""), text.replace("<!-- /metrics -->", "")]) {
    assert.throws(() => updated(broken), /^Error: Cannot update the README/);
  }
});

Deno.test("the README's table of tasks names only tasks that are there", () => {
  const table = /<!-- tasks -->([^]*)<!-- \/tasks -->/.exec(text)?.[1] ?? "";
  const named = [...table.matchAll(/^\| `([^`]+)`/gm)].map(([, name = ""]) => name);
  assert.ok(named.length > 0);
  assert.deepEqual(named.filter((name) => tasks[name] === undefined), []);
});

/** Cells of the rows of a table that begins with these headings. */
function table(...headings: string[]): string[][] {
  const head = new RegExp(`^\\| ${headings.join(" +\\| ")} +\\|.*\\n\\|[ |-]*\\n((?:\\|.*\\n)*)`, "m");
  const rows = head.exec(text)?.[1]?.trimEnd().split("\n") ?? [];
  return rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
}

Deno.test("the README names the arguments and exit codes that --help does", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", "main.ts", "--help"], cwd: root })
    .output();
  const help = new TextDecoder().decode(stdout);
  const [usage = ""] = help.split("exit codes:");
  const told = table("Argument", "What it does").flatMap(([cell = ""]) => cell.match(/--[a-z-]+/g) ?? []);
  assert.deepEqual(told.toSorted(), [...new Set(usage.match(/--[a-z-]+/g))].toSorted());
  const codes = table("Exit code", "Meaning").map((cells) => cells.join(" "));
  assert.deepEqual(codes, /exit codes: (.*)/.exec(help)?.[1]?.split(", "));
});

Deno.test("the README's permissions are those of the Roles", async () => {
  const granted = async (path: string) => {
    const role: V1Role = loadYaml(await Deno.readTextFile(new URL(`deploy/${path}/role.yaml`, rootUrl)));
    return (role.rules ?? []).flatMap(({ resources = [], resourceNames, verbs }) =>
      resources.filter((resource) => !resource.startsWith("statefulsets")).flatMap((resource) =>
        verbs.map((verb) => `${verb} ${resource} ${resourceNames === undefined ? "the namespace" : "the named target"}`)
      )
    ).toSorted();
  };
  const told = table("Permission", "Limited to", "What it is for", "In").flatMap(([permission = "", limit, , part]) => {
    const words = permission.match(/[a-z/]+/g) ?? [];
    const verbs = words.slice(0, -1);
    return verbs.map((verb) => ({ said: `${verb} ${words.at(-1)} ${limit}`, part }));
  });
  const base = told.filter(({ part }) => part === "base");
  assert.deepEqual(base.map(({ said }) => said).toSorted(), await granted("base"));
  assert.deepEqual(told.map(({ said }) => said).toSorted(), await granted("overlays/extended"));
});

Deno.test("the README names one version of Deno", () => {
  const versions = new Set(text.match(/deno@[\d.]+\d/g));
  assert.equal(versions.size, 1);
});

Deno.test("the README names every dependency", () => {
  for (const name of Object.keys(project.imports)) assert.ok(text.includes(`[${name}](`), name);
});
