/**
 * `deno task compile [--target TRIPLE] [--output FILE]`: the program as one executable, from the bundle, with the
 * permissions of the task `start` and no others.
 *
 * Deno fetches the runtime that it puts the program into, `denort`, from its own download site. Where that is out of
 * reach, DENORT_BIN names a copy.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { readArguments } from "./arguments.ts";
import { bundle, bundleFolder } from "./bundle.ts";

const root = join(import.meta.dirname ?? ".", "..");

/**
 * The permissions that the task `start` grants: flags of `deno run` and `deno compile`.
 *
 * @throws Error if the task is no call of deno that names permissions only
 */
export function permissions(start: string = project.tasks.start): string[] {
  const flags = /^deno run ((?:--(?:no-prompt|allow-(?:net|env|read|write|sys=[a-zA-Z,]+)) )+)main\.ts$/.exec(start)
    ?.[1];
  if (flags === undefined) throw new Error(`Cannot tell permissions: the task start grants more or less: ${start}`);
  return flags.trim().split(" ");
}

/**
 * Flags for the runtime. Young objects are collected sooner, for memory of its own that is some 25 MiB smaller while a
 * store of 3,000 sessions is taken over; the Python operator's manifest allows 128 MiB in all.
 */
export const runtimeFlags: readonly string[] = ["--v8-flags=--max-semi-space-size=1,--optimize-for-size"];

/** What the options say, for `deno compile`. */
export function compileArguments({ target, output }: { target?: string | undefined; output: string }): string[] {
  return [
    "compile",
    ...permissions(),
    ...runtimeFlags,
    // It would be written beside the temporary files, and there is no place for them in the image.
    "--no-code-cache",
    "--no-check",
    ...["--include", join(bundleFolder, "pkg")],
    ...(target === undefined ? [] : ["--target", target]),
    ...["--output", output],
    join(bundleFolder, "main.js"),
  ];
}

/** Compiles. Returns an exit code. */
async function compile(): Promise<number> {
  const values = readArguments({
    target: { type: "string" },
    output: { type: "string", default: join(root, "dist", "openclaw-toggle") },
  });
  // Should it fail, no older one is to be taken for it.
  await Deno.remove(values.output).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await bundle();
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: compileArguments(values),
    cwd: root,
    stdout: "inherit",
  }).output();
  const said = new TextDecoder().decode(stderr).trim();
  if (success) {
    console.log(`${values.output}: ${((await Deno.stat(values.output)).size / 2 ** 20).toFixed(1)} MiB`);
    return 0;
  }
  console.error(said);
  if (/denort/.test(said)) {
    console.error(
      "Cannot compile: Deno's download site, where the runtime denort comes from, cannot be reached. Set DENORT_BIN " +
        `to a copy of denort ${Deno.version.deno} for the target; dist/bundle is complete, and runs with \`deno run\`.`,
    );
  }
  return 1;
}

if (import.meta.main) Deno.exit(await compile());
