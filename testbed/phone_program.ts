/**
 * Builds the program behind `phone_host.ts` from its Go sources, under `.cache/testbed`, whenever they change.
 * `mautrix/go.mod` pins all of its modules.
 *
 * @module
 */

import { join } from "node:path";
import { cacheFolder } from "./setup.ts";

const sources = join(import.meta.dirname ?? ".", "mautrix");

/**
 * Builds the program if necessary.
 *
 * @returns its path
 * @throws Error if there is no suitable Go, or the build fails
 */
export async function phoneProgram(): Promise<string> {
  const path = join(cacheFolder, `phones-${await digest()}`);
  if (await exists(path)) return path;
  await Deno.mkdir(cacheFolder, { recursive: true });
  const begin = performance.now();
  console.error("testbed: making the phones on mautrix-go …");
  // Built under a temporary name, so that a file under the final name is always complete.
  const unfinished = `${path}.${Deno.pid}.unfinished`;
  await build(unfinished);
  await Deno.rename(unfinished, path);
  console.error(`testbed: made them in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  return path;
}

/** Pure Go: `goolm` implements the encryption in Go. The default would need the C library libolm. */
async function build(path: string): Promise<void> {
  const command = new Deno.Command("go", {
    args: ["build", "-tags", "goolm", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "."],
    env: { CGO_ENABLED: "0" },
    cwd: sources,
    stdin: "null",
  });
  const { success, stderr } = await command.output().catch((cause) => {
    throw new Error("Cannot build the phones: there is no Go (https://go.dev/dl)", { cause });
  });
  if (!success) throw new Error(`Cannot build the phones: ${new TextDecoder().decode(stderr)}`);
}

async function digest(): Promise<string> {
  const names = [];
  for await (const { name } of Deno.readDir(sources)) if (/\.go$|^go\.(mod|sum)$/.test(name)) names.push(name);
  const texts = await Promise.all(names.sort().map((name) => Deno.readTextFile(join(sources, name))));
  const bytes = new TextEncoder().encode(JSON.stringify([names, texts]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}
