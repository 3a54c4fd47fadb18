/**
 * `deno task compile [--target TRIPLE] [--output FILE]`: compiles the bundle into one executable, with exactly the
 * permissions of the task `start`.
 *
 * Deno downloads the runtime to embed, `denort`, from its own site. If that is unreachable, DENORT_BIN can name a copy.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { readArguments } from "./arguments.ts";
import { bundle, bundleFolder } from "./bundle.ts";

const root = join(import.meta.dirname ?? ".", "..");

/**
 * Permission flags of the task `start`, for `deno run` and `deno compile`.
 *
 * @throws Error if the task isn't a call of deno with permission flags only
 */
export function permissions(start: string = project.tasks.start): string[] {
  const flags = /^deno run ((?:--(?:no-prompt|allow-(?:net|env|read|write|sys=[a-zA-Z,]+)) )+)main\.ts$/.exec(start)
    ?.[1];
  if (flags === undefined) throw new Error(`Cannot tell permissions: the task start grants more or less: ${start}`);
  return flags.trim().split(" ");
}

/**
 * Runtime flags. A smaller young generation is collected sooner, which saves some 25 MiB of private memory while a
 * store of 3,000 sessions is taken over. The Python operator's manifest allows 128 MiB in total. The crypto's functions
 * are optimised after eight times as much use as by default: after some hundred commands, that has cost more processor
 * time and memory than it has saved.
 *
 * The code cache would be written beside the temporary files, which the image has no place for.
 */
export const runtimeFlags: readonly string[] = [
  "--v8-flags=--max-semi-space-size=1,--optimize-for-size,--wasm-tiering-budget=104857600",
  "--no-code-cache",
];

/** Arguments of `deno compile`. */
export function compileArguments({ target, output }: { target?: string | undefined; output: string }): string[] {
  return [
    "compile",
    ...permissions(),
    ...runtimeFlags,
    "--no-check",
    ...["--include", join(bundleFolder, "pkg")],
    ...(target === undefined ? [] : ["--target", target]),
    ...["--output", output],
    join(bundleFolder, "main.js"),
  ];
}

/** Compiles the program and returns an exit code. */
async function compile(): Promise<number> {
  const values = readArguments({
    target: { type: "string" },
    output: { type: "string", default: join(root, "dist", "openclaw-toggle") },
  });
  // Removed first, so that an old executable isn't mistaken for a new one if the compilation fails.
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
