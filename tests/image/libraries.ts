/**
 * The shared libraries that an executable needs, against those that are in distroless cc. Knows nothing of the image.
 *
 * @module
 */

import assert from "node:assert/strict";

/**
 * Shared libraries of gcr.io/distroless/cc-debian13: those of the packages libc6, libssl3t64 (base/base.bzl) and libgcc-s1,
 * libgomp1, libstdc++6 (cc/config.bzl), in the repository GoogleContainerTools/distroless.
 */
const distroless: Readonly<Record<string, readonly string[]>> = {
  "libc6": [
    ...["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libBrokenLocale.so.1", "libanl.so.1", "libc.so.6"],
    ...["libc_malloc_debug.so.0", "libdl.so.2", "libm.so.6", "libmemusage.so", "libmvec.so.1", "libnsl.so.1"],
    ...["libnss_compat.so.2", "libnss_dns.so.2", "libnss_files.so.2", "libnss_hesiod.so.2", "libpcprofile.so"],
    ...["libpthread.so.0", "libresolv.so.2", "librt.so.1", "libthread_db.so.1", "libutil.so.1"],
  ],
  "libssl3t64": ["libcrypto.so.3", "libssl.so.3"],
  "libgcc-s1": ["libgcc_s.so.1"],
  "libgomp1": ["libgomp.so.1"],
  "libstdc++6": ["libstdc++.so.6"],
};

/** Version of its libc6. */
const glibc = [2, 41] as const;

/** A shared library. */
export interface Library {
  /** Name that it is asked for by. */
  readonly name: string;
  /** Where it is on this machine. */
  readonly path: string;
  /** Debian's package that distroless cc has it from; undefined if it has it not. */
  readonly from: string | undefined;
}

/** What an executable needs of the system. */
export interface Needs {
  /** Libraries, and the loader. */
  readonly libraries: readonly Library[];
  /** Oldest glibc that it runs with. */
  readonly glibc: readonly [major: number, minor: number];
}

/**
 * Asks the loader of this machine.
 *
 * @throws Error if it is no executable of this machine's architecture
 */
export async function needsOf(executable: string): Promise<Needs> {
  const { success, stdout, stderr } = await new Deno.Command("ldd", { args: ["-v", executable] }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`Cannot tell the libraries of ${executable}: ${text.decode(stderr)}`);
  const [direct = "", versions = ""] = text.decode(stdout).split(/^\s*Version information:$/m);
  const libraries = [...direct.matchAll(/^\s+(?:(\S+) => )?(\/\S+) \(0x/gm)].map(([, asked, path = ""]) => {
    const name = asked ?? path.slice(path.lastIndexOf("/") + 1);
    const from = Object.entries(distroless).find(([, names]) => names.includes(name))?.[0];
    return { name, path, from };
  });
  const own = versions.split(/^\t(?=\/)/m).find((part) => part.startsWith(`${executable}:`)) ?? "";
  const asked = [...own.matchAll(/\(GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [Number(major), Number(minor)]);
  const [major = 0, minor = 0] = asked.toSorted(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d).at(-1) ?? [];
  return { libraries, glibc: [major, minor] };
}

/** Asserts that distroless cc has it all. */
export function assertMet({ libraries, glibc: [major, minor] }: Needs): void {
  assert.ok(libraries.length > 1, "it needs no libraries?");
  assert.deepEqual(libraries.filter(({ from }) => from === undefined), [], "not in distroless cc");
  assert.ok(major === glibc[0] && minor > 0 && minor <= glibc[1], `it needs glibc ${major}.${minor}`);
}
