/**
 * `deno task bundle`: the program as a few JavaScript files and the WebAssembly of the crypto, in dist/bundle. What
 * reads kubeconfigs is a file of its own, loaded where it is needed. Runs without any of the sources and packages.
 *
 * @module
 */

import { join } from "node:path";

const root = join(import.meta.dirname ?? ".", "..");

/** Where the bundle goes. */
export const bundleFolder: string = join(root, "dist", "bundle");

const wasm = "pkg/matrix_sdk_crypto_wasm_bg.wasm";

/**
 * Makes the bundle anew.
 *
 * @throws Error with what `deno bundle` has said, if it failed
 */
export async function bundle(): Promise<void> {
  await Deno.mkdir(bundleFolder, { recursive: true });
  for (const { name } of Deno.readDirSync(bundleFolder)) {
    await Deno.remove(join(bundleFolder, name), { recursive: true });
  }
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform", "deno", "--minify", "--code-splitting", "--outdir", bundleFolder, "main.ts"],
    cwd: root,
  }).output();
  if (!success) throw new Error(`Cannot bundle: ${new TextDecoder().decode(stderr)}`);
  // The crypto looks for it beside the file that it is itself in.
  await Deno.mkdir(join(bundleFolder, "pkg"));
  const crypto = import.meta.resolve("@matrix-org/matrix-sdk-crypto-wasm");
  await Deno.copyFile(new URL(wasm, crypto), join(bundleFolder, wasm));
}

if (import.meta.main) {
  await bundle();
  for (const { name, size } of filesOf(bundleFolder)) {
    console.log(`${(size / 1_024).toFixed(0).padStart(6)} KiB  ${name}`);
  }
}

/** Files in a folder and below it, with their sizes in bytes. */
export function filesOf(folder: string, below = ""): { readonly name: string; readonly size: number }[] {
  return Array.from(Deno.readDirSync(join(folder, below))).flatMap(({ name, isDirectory }) => {
    const path = join(below, name);
    return isDirectory ? filesOf(folder, path) : [{ name: path, size: Deno.statSync(join(folder, path)).size }];
  }).toSorted((one, other) => one.name < other.name ? -1 : 1);
}
