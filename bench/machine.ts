/**
 * Describes the machine and the versions, without which the numbers mean nothing.
 *
 * @module
 */

/** A description of the machine. */
export interface Description {
  /** Time of the description. */
  readonly at: string;
  /** Processor, memory and operating system. */
  readonly machine: string;
  /** Versions of what was measured, and of the servers. */
  readonly versions: string;
  /** Load averages of 1, 5 and 15 minutes. */
  readonly load: string;
}

/**
 * Describes this machine.
 *
 * @param python interpreter of the environment with the Python operator
 */
export async function machine(python: string): Promise<Description> {
  const { stdout } = await new Deno.Command(python, { args: ["-c", versionsOfPython] }).output();
  const processor = /^model name\s*: (.*)$/m.exec(await Deno.readTextFile("/proc/cpuinfo"))?.[1] ?? "unknown processor";
  const { total } = Deno.systemMemoryInfo();
  return {
    at: new Date().toISOString(),
    machine: `${processor}, ${navigator.hardwareConcurrency} cores, ${(total / 2 ** 30).toFixed(0)} GiB; ` +
      `${Deno.build.os} ${Deno.osRelease()}`,
    versions: `Deno ${Deno.version.deno}, V8 ${Deno.version.v8}; ${new TextDecoder().decode(stdout).trim()}`,
    load: Deno.loadavg().map((each) => each.toFixed(1)).join(" "),
  };
}

const versionsOfPython = `
import sys
from importlib.metadata import version
names = ("openclaw-k8s-toggle-operator", "minimatrix", "matrix-nio", "python-olm")
print(", ".join(["Python " + sys.version.split()[0]] + [f"{name} {version(name)}" for name in names]))
`;
