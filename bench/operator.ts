/**
 * How the operator is run in measurements: the bundle, with the flags of the compiled program and the environment of
 * the image.
 *
 * @module
 */

import { join } from "node:path";
import { permissions, runtimeFlags } from "../build/compile.ts";
import { readContainerfile } from "../build/containerfile.ts";

const containerfile = new URL("../Containerfile", import.meta.url);

/** Command of the operator that is bundled in a folder. */
export function operatorCommand(bundleFolder: string): readonly [string, ...string[]] {
  return [Deno.execPath(), "run", ...permissions(), ...runtimeFlags, join(bundleFolder, "main.js")];
}

/** Environment variables that the image sets. */
export async function imageEnvironment(): Promise<Readonly<Record<string, string>>> {
  return readContainerfile(await Deno.readTextFile(containerfile)).environment;
}

/** Matches the last line that the operator logs before it takes commands. */
export const operatorReady = /\bready: /i;
