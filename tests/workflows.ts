/**
 * `deno task workflows`: has actionlint read GitHub's workflows. It is built with Go; where there is none, this is left
 * out and said, except where CI is set.
 *
 * @module
 */

import { join } from "node:path";
import { actionlint } from "../testbed/mod.ts";

const hasGo = await new Deno.Command("go", { args: ["version"] }).output().then(({ success }) => success, () => false);
if (!hasGo && !Deno.env.has("CI")) {
  console.log("Left out: actionlint is built with Go, and there is none here");
} else {
  const folder = join(import.meta.dirname ?? ".", "..", ".github", "workflows");
  const args = Array.from(Deno.readDirSync(folder), ({ name }) => join(folder, name));
  const { code } = await new Deno.Command(await actionlint(), { args, stdout: "inherit", stderr: "inherit" }).spawn()
    .status;
  Deno.exit(code);
}
