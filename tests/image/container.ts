/**
 * The image without a container engine: its tree in an empty root, and a process in it that finds what a restricted pod
 * finds: another user, a root that cannot be written to, a volume, a ServiceAccount. Needs to be root.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { bundle, bundleFolder, filesOf } from "../../build/bundle.ts";
import { permissions, runtimeFlags } from "../../build/compile.ts";
import type { Image } from "../../build/containerfile.ts";
import type { Library } from "./libraries.ts";

/** Where a pod finds its ServiceAccount. */
const accountFolder = "var/run/secrets/kubernetes.io/serviceaccount";

const devices = ["null", "zero", "full", "random", "urandom"];

/** The executable of the image, or what stands in for it. */
export interface Executable {
  /** Path on this machine. */
  readonly path: string;
  /** Arguments that come before the program's own. */
  readonly args: readonly string[];
  /** Environment that it needs besides the program's own. */
  readonly environment: Readonly<Record<string, string>>;
  /** What it is, in words. */
  readonly what: string;
}

/** Compiles, or, where there is no denort, takes Deno itself and the bundle, under the permissions that were compiled. */
export async function executableOf(image: Image, folder: string): Promise<Executable> {
  const path = join(folder, "compiled");
  const script = join(import.meta.dirname ?? ".", "..", "..", "build", "compile.ts");
  const compiling = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", script, "--output", path],
    signal: AbortSignal.timeout(120_000),
  });
  const { success, stderr } = await compiling.output();
  const [program] = image.entrypoint;
  if (success) return { path, args: [], environment: {}, what: `${program}, compiled` };
  const said = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
  if (!said?.startsWith("Cannot compile: ")) throw new Error(said);
  console.log(said);
  await bundle();
  const closed = ["--no-config", "--no-npm", "--no-remote", "--cached-only"];
  return {
    path: Deno.execPath(),
    args: ["run", ...permissions(), ...runtimeFlags, ...closed, "/bundle/main.js"],
    environment: { DENO_DIR: "/nowhere" },
    what: `${program}, played by deno ${Deno.version.deno} with the bundle (there is no denort here)`,
  };
}

/** Lays the image's tree out in an empty folder, with the libraries that distroless cc would bring. */
export async function layOut(
  image: Image,
  executable: Executable,
  libraries: readonly Library[],
  root: string,
): Promise<void> {
  for (const { from, to, owner } of image.copies) {
    const path = join(root, to);
    await Deno.mkdir(dirname(path), { recursive: true });
    if (from === image.executable) {
      await Deno.copyFile(executable.path, path);
      await Deno.chmod(path, 0o755);
    } else await Deno.mkdir(path, { mode: 0o700 }); // the build makes nothing but folders besides
    const [user = 0, group = 0] = owner.split(":").map(Number);
    await Deno.chown(path, user, group);
  }
  for (const { path } of libraries) {
    await Deno.mkdir(join(root, dirname(path)), { recursive: true });
    await Deno.copyFile(path, join(root, path));
    await Deno.chmod(join(root, path), 0o755);
  }
  if (executable.args.length > 0) {
    for (const { name } of filesOf(bundleFolder)) {
      await Deno.mkdir(join(root, "bundle", dirname(name)), { recursive: true });
      await Deno.copyFile(join(bundleFolder, name), join(root, "bundle", name));
    }
  }
  for (const folder of ["dev", "proc", accountFolder]) await Deno.mkdir(join(root, folder), { recursive: true });
  for (const device of devices) await Deno.writeTextFile(join(root, "dev", device), "");
}

/** Where the process finds what. */
export interface Places {
  /** Folder that is its root. */
  readonly root: string;
  /** Folder of its volume; it is mounted over the image's working folder. */
  readonly volume: string;
  /** Folder of its ServiceAccount. */
  readonly account: string;
}

/**
 * What to run. The program takes the place of all that comes before it, so that signals reach it.
 *
 * @param args the program's own arguments
 */
export function commandIn(
  { root, volume, account }: Places,
  image: Image,
  executable: Executable,
  args: readonly string[],
): [string, ...string[]] {
  const script = [
    "set -eu",
    "root=$1 volume=$2 folder=$3 account=$4 user=$5; shift 5",
    'mount --bind "$root" "$root"',
    `for device in ${devices.join(" ")}; do mount --bind "/dev/$device" "$root/dev/$device"; done`,
    'mount -t proc proc "$root/proc"',
    `mount --bind "$account" "$root/${accountFolder}"`,
    'mount --bind "$volume" "$root$folder"',
    'mount -o remount,bind,ro "$root"',
    'exec setpriv --no-new-privs -- "$(command -v chroot)" --userspec="$user" --groups="${user#*:}" "$root" "$@"',
  ].join("\n");
  const [program = "", ...own] = image.entrypoint;
  return [
    ...["unshare", "--mount", "/bin/sh", "-c", script, "sh"] as [string, ...string[]],
    ...[root, volume, image.folder, account, image.user, program, ...executable.args, ...own, ...args],
  ];
}

/** A folder as Kubernetes makes a volume for the image's group (fsGroup), with copies of files in it. */
export async function volumeFor(
  image: Image,
  folder: string,
  files: Readonly<Record<string, string>> = {},
): Promise<void> {
  const group = Number(image.user.split(":")[1]);
  await Deno.mkdir(folder);
  for (const [name, from] of Object.entries(files)) {
    await Deno.copyFile(from, join(folder, name));
    await Deno.chown(join(folder, name), 0, group);
    await Deno.chmod(join(folder, name), 0o660);
  }
  await Deno.chown(folder, 0, group);
  await Deno.chmod(folder, 0o2770);
}
