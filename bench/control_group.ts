/**
 * Linux control groups for programs under measurement: how much memory a program holds by a cluster's reckoning, and a
 * limit on its processor time, as on a small machine.
 *
 * Groups are created below the group that this process is in, so that its limits stay in force.
 *
 * @module
 */

import { join } from "node:path";

/** A controller that is used here. */
export type Controller = "cpu" | "memory";

/** Length of the period over which processor time is shared out, in microseconds; the kernel's default. */
const periodUs = 100_000;
/** Name of the group into which this process moves, because in version 2 a group with groups below has no processes. */
const ownName = "bench";

/** A group, until disposed of. Its processes must have ended by then. */
export class ControlGroup implements AsyncDisposable {
  /** Its folder. */
  readonly folder: string;
  readonly #version: 1 | 2;

  private constructor(folder: string, version: 1 | 2) {
    this.folder = folder;
    this.#version = version;
  }

  /** Creates a group with a controller; undefined if this machine does not have it, or does not let us. */
  static async create(name: string, controller: Controller): Promise<ControlGroup | undefined> {
    const place = await placeFor(controller);
    if (place === undefined) return undefined;
    const folder = join(place.folder, `${name}-${Deno.pid}`);
    try {
      await Deno.mkdir(folder);
      return new ControlGroup(folder, place.version);
    } catch (error) {
      if (isRefused(error)) return undefined;
      throw error;
    }
  }

  /** Command prefix that makes a program, and all that it starts, part of the group. */
  get prefix(): [string, ...string[]] {
    return ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', this.folder];
  }

  /** Limits the processor time of all processes together. */
  async limitCores(cores: number): Promise<void> {
    const quota = `${Math.round(cores * periodUs)}`;
    if (this.#version === 2) return await this.#write("cpu.max", `${quota} ${periodUs}`);
    await this.#write("cpu.cfs_period_us", `${periodUs}`);
    await this.#write("cpu.cfs_quota_us", quota);
  }

  /** The working set as kubelet reckons it, in bytes. Version 2 only. */
  async workingSet(): Promise<number> {
    const read = (name: string) => Deno.readTextFile(join(this.folder, name));
    return workingSetIn(await read("memory.current"), await read("memory.stat"));
  }

  async #write(file: string, text: string): Promise<void> {
    await Deno.writeTextFile(join(this.folder, file), text);
  }

  /** Removes the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder);
  }
}

/**
 * The working set in bytes, as kubelet and `kubectl top` reckon it (cAdvisor, `setMemoryStats`): all memory of the group
 * but the file pages that have not been used lately, which the kernel takes back first.
 *
 * @param current content of memory.current
 * @param stat content of memory.stat
 */
export function workingSetIn(current: string, stat: string): number {
  const inactive = /^inactive_file (\d+)$/m.exec(stat)?.[1];
  if (inactive === undefined) throw new Error("Cannot tell the working set: memory.stat has no inactive_file");
  return Math.max(0, Number(current) - Number(inactive));
}

interface Place {
  readonly folder: string;
  readonly version: 1 | 2;
}

/** Finds where groups with a controller can be created. Version 2 may have to move this process aside for it. */
async function placeFor(controller: Controller): Promise<Place | undefined> {
  const mounts = (await Deno.readTextFile("/proc/self/mountinfo")).trim().split("\n").map((line) => {
    // mountinfo(5): "… mount-point options [optional fields] - type source super-options"
    const [before = "", after = ""] = line.split(" - ");
    const [type = "", , options = ""] = after.split(" ");
    return { at: before.split(" ")[4] ?? "", type, options: options.split(",") };
  });
  // cgroups(7): "hierarchy:controllers:path"; version 2 is "0::path".
  const groups = (await Deno.readTextFile("/proc/self/cgroup")).trim().split("\n").map((line) => line.split(":"));
  const pathOf = (named: (controllers: string) => boolean) =>
    groups.find(([, controllers = ""]) => named(controllers))?.slice(2).join(":");

  const unified = mounts.find(({ type }) => type === "cgroup2");
  const path = pathOf((controllers) => controllers === "");
  if (unified !== undefined && path !== undefined) {
    // Once this process has been moved aside, its group is the parent.
    const folder = join(unified.at, path.endsWith(`/${ownName}`) ? join(path, "..") : path);
    if (await delegate(folder, controller)) return { folder, version: 2 };
  }
  // Version 1 has no rule on who may have groups below; its figures for memory are others.
  if (controller === "memory") return undefined;
  const own = mounts.find(({ type, options }) => type === "cgroup" && options.includes(controller));
  const ownPath = pathOf((controllers) => controllers.split(",").includes(controller));
  return own === undefined || ownPath === undefined ? undefined : { folder: join(own.at, ownPath), version: 1 };
}

/**
 * Enables a controller for groups below a folder, after moving the folder's processes into one of them: ourselves and
 * `deno task`, which has started us. If it has others, it is not ours to change.
 */
async function delegate(folder: string, controller: Controller): Promise<boolean> {
  const words = async (name: string) => (await Deno.readTextFile(join(folder, name))).trim().split(/\s+/);
  try {
    if (!(await words("cgroup.controllers")).includes(controller)) return false;
    if ((await words("cgroup.subtree_control")).includes(controller)) return true;
    const pids = (await words("cgroup.procs")).filter((word) => word !== "");
    if (pids.some((pid) => Number(pid) !== Deno.pid && Number(pid) !== Deno.ppid)) return false;
    await Deno.mkdir(join(folder, ownName), { recursive: true });
    for (const pid of pids) {
      await Deno.writeTextFile(join(folder, ownName, "cgroup.procs"), pid);
    }
    await Deno.writeTextFile(join(folder, "cgroup.subtree_control"), `+${controller}`);
    return true;
  } catch (error) {
    if (isRefused(error)) return false;
    throw error;
  }
}

/** Whether the kernel did not let us. A group with processes, or one without kernel support, fails with other codes. */
function isRefused(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotFound ||
    ["EBUSY", "EROFS", "EOPNOTSUPP", "EPERM", "EACCES"].includes(code);
}
