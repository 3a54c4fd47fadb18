import assert from "node:assert/strict";
import project from "../deno.json" with { type: "json" };
import { readme, updated } from "./readme_update.ts";

const text = await Deno.readTextFile(readme);
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

Deno.test("the README names one version of Deno", () => {
  const versions = new Set(text.match(/deno@[\d.]+\d/g));
  assert.equal(versions.size, 1);
});

Deno.test("the README names every dependency", () => {
  for (const name of Object.keys(project.imports)) assert.ok(text.includes(`[${name}](`), name);
});
