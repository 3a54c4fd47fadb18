/**
 * Describes the machine and what runs on it, without which numbers mean nothing.
 *
 * @module
 */

/** A description. */
export interface Description {
  /** When it was made. */
  readonly at: string;
  /** Processor, memory, system. */
  readonly machine: string;
  /** What was measured with what. */
  readonly versions: string;
  /** Load averages of 1, 5 and 15 minutes. */
  readonly load: string;
}

/**
 * Looks around.
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
