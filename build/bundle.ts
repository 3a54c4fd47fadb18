/**
 * `deno task bundle`: bundles the program into a few JavaScript files and the crypto's WebAssembly, in dist/bundle. The
 * kubeconfig reader is a separate file, loaded on demand. The bundle runs without the sources and packages.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { join } from "node:path";
import * as esbuild from "esbuild";
import { readArguments } from "./arguments.ts";

const root = join(import.meta.dirname ?? ".", "..");

/** Output folder. */
export const bundleFolder: string = join(root, "dist", "bundle");

const wasm = "pkg/matrix_sdk_crypto_wasm_bg.wasm";

/**
 * Makes a new bundle.
 *
 * @throws Error with the output of `deno bundle`, if it fails
 */
export async function bundle(folder: string = bundleFolder): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const { name } of Deno.readDirSync(folder)) await Deno.remove(join(folder, name), { recursive: true });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform", "deno", "--code-splitting", "--outdir", folder, "main.ts"],
    cwd: root,
  }).output();
  if (!success) throw new Error(`Cannot bundle: ${new TextDecoder().decode(stderr)}`);
  await shorten(folder);
  // The crypto loads its WebAssembly from a path relative to its own file.
  await Deno.mkdir(join(folder, "pkg"));
  const crypto = import.meta.resolve("@matrix-org/matrix-sdk-crypto-wasm");
  await Deno.writeFile(join(folder, wasm), withoutNames(await Deno.readFile(new URL(wasm, crypto))));
}

/**
 * Shortens the names and leaves the whitespace out. `deno bundle --minify` also rewrites the syntax, and drops a `using`
 * whose variable is read once, so that what it holds is never disposed of (esbuild 0.25.5, which Deno 2.9.6 bundles with).
 */
async function shorten(folder: string): Promise<void> {
  try {
    for (const { name } of filesOf(folder)) {
      const path = join(folder, name);
      const options = { minifyIdentifiers: true, minifyWhitespace: true, format: "esm", target: "esnext" } as const;
      const { code } = await esbuild.transform(await Deno.readTextFile(path), options);
      await Deno.writeTextFile(path, code);
    }
  } finally {
    await esbuild.stop();
  }
}

if (import.meta.main) {
  readArguments({});
  await bundle();
  for (const { name, size } of filesOf(bundleFolder)) {
    console.log(`${(size / 1_024).toFixed(0).padStart(6)} KiB  ${name}`);
  }
}

/**
 * Strips the custom sections of a WebAssembly module, which have no effect on execution. The function names are two
 * fifths of the crypto's module, and would be kept in memory (WebAssembly Core Specification 2.0, 5.5.3 "Custom
 * section").
 */
export function withoutNames(module: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const kept = [module.subarray(0, 8)]; // magic number and version
  for (let begin = 8; begin < module.length;) {
    let [size, at, shift] = [0, begin + 1, 0];
    // Sizes are LEB128: seven bits per byte, lowest first; the highest bit says that another byte follows.
    for (let byte = 0x80; byte >= 0x80; shift += 7) {
      byte = module[at++] ?? 0;
      size += (byte & 0x7f) * 2 ** shift;
    }
    if (module[begin] !== 0) kept.push(module.subarray(begin, at + size));
    begin = at + size;
  }
  return new Uint8Array(Buffer.concat(kept));
}

/** Lists the files below a folder, with their sizes in bytes. */
export function filesOf(folder: string, below = ""): { readonly name: string; readonly size: number }[] {
  return Array.from(Deno.readDirSync(join(folder, below))).flatMap(({ name, isDirectory }) => {
    const path = join(below, name);
    return isDirectory ? filesOf(folder, path) : [{ name: path, size: Deno.statSync(join(folder, path)).size }];
  }).toSorted((one, other) => one.name < other.name ? -1 : 1);
}
