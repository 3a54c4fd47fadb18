/**
 * `deno task sbom`: prints what is in the executable as a CycloneDX document: the npm packages that main.ts imports,
 * directly or by way of others, with their hashes as deno.lock has them, and Deno's runtime. A scanner of the image finds
 * none of it, since all is in one file.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { readArguments } from "./arguments.ts";

const root = join(import.meta.dirname ?? ".", "..");

/** A part of the executable (CycloneDX 1.6, `components`). */
export interface Component {
  readonly type: "library" | "platform";
  readonly name: string;
  readonly version: string;
  /** Package URL, such as `pkg:npm/%40scope/name@1.0.0`. */
  readonly purl: string;
  readonly hashes?: readonly [{ readonly alg: "SHA-512"; readonly content: string }];
}

/** What `deno info` tells, as far as it is used. */
interface Info {
  readonly modules: readonly { readonly kind?: string; readonly npmPackage?: string }[];
  readonly npmPackages: Readonly<
    Record<string, { readonly name: string; readonly version: string; readonly dependencies: readonly string[] }>
  >;
}

/**
 * The parts, in the order of their names.
 *
 * @throws Error if a package has no hash in deno.lock
 */
export async function components(): Promise<Component[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "main.ts"],
    cwd: root,
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`Cannot list the packages: ${text.decode(stderr)}`);
  const { modules, npmPackages } = JSON.parse(text.decode(stdout)) as Info;
  const seen = new Set<string>();
  const open = modules.flatMap(({ kind, npmPackage }) => kind === "npm" && npmPackage ? [npmPackage] : []);
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    // Types are nothing that could be run.
    if (seen.has(id) || id.startsWith("@types/")) continue;
    seen.add(id);
    open.push(...npmPackages[id]?.dependencies ?? []);
  }
  const { npm: locked } = JSON.parse(await Deno.readTextFile(join(root, "deno.lock"))) as {
    npm: Readonly<Record<string, { readonly integrity?: string }>>;
  };
  const packages = [...seen].map((id): Component => {
    const { name = "", version = "" } = npmPackages[id] ?? {};
    const integrity = /^sha512-(.+)$/.exec(locked[id]?.integrity ?? "")?.[1];
    if (integrity === undefined) throw new Error(`Cannot list ${id}: deno.lock has no hash of it`);
    const content = Uint8Array.fromBase64(integrity).toHex();
    const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
    return { type: "library", name, version, purl, hashes: [{ alg: "SHA-512", content }] };
  });
  const runtime = { type: "platform", name: "deno", version: Deno.version.deno } as const;
  const byName = packages.toSorted((one, other) => one.name < other.name ? -1 : 1);
  return [{ ...runtime, purl: `pkg:github/denoland/deno@v${runtime.version}` }, ...byName];
}

if (import.meta.main) {
  readArguments({});
  const { name, version, license } = project;
  const about = { type: "application", name, version, licenses: [{ license: { id: license } }] };
  const document = { bomFormat: "CycloneDX", specVersion: "1.6", version: 1, metadata: { component: about } };
  console.log(JSON.stringify({ ...document, components: await components() }, null, 2));
}
