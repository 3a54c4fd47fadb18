/**
 * A memory limit as the kubelet sets it, by a control group; of either version, where the machine lets root make one.
 *
 * @module
 */

import { join } from "node:path";

const root = "/sys/fs/cgroup";

/** A control group with a limit. */
export class MemoryLimit implements Disposable {
  /** What was used at most, in bytes, page cache included. */
  readonly #peak: string;
  readonly #folder: string;

  private constructor(folder: string, files: Readonly<Record<string, string>>, peak: string) {
    this.#folder = folder;
    this.#peak = join(folder, peak);
    Deno.mkdirSync(folder);
    for (const [name, value] of Object.entries(files)) Deno.writeTextFileSync(join(folder, name), value);
  }

  /** Makes one; undefined if this machine has no memory controller that is ours to use. */
  static make(bytes: number): MemoryLimit | undefined {
    const name = `openclaw-toggle-${crypto.randomUUID().slice(0, 8)}`;
    if (read(join(root, "cgroup.controllers")).split(/\s+/).includes("memory")) {
      return new MemoryLimit(
        join(root, name),
        { "memory.max": String(bytes), "memory.swap.max": "0" },
        "memory.peak",
      );
    }
    if (read(join(root, "memory", "cgroup.procs")) === "") return undefined;
    const files = { "memory.limit_in_bytes": String(bytes) };
    return new MemoryLimit(join(root, "memory", name), files, "memory.max_usage_in_bytes");
  }

  /** A command that runs another one under the limit. */
  around(command: readonly [string, ...string[]]): [string, ...string[]] {
    return ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', join(this.#folder, "cgroup.procs"), ...command];
  }

  /** What was used at most, in bytes, page cache included. */
  get peakBytes(): number {
    return Number(read(this.#peak));
  }

  /** Removes it; whatever ran in it is to have ended. */
  [Symbol.dispose](): void {
    Deno.removeSync(this.#folder);
  }
}

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
