/**
 * Describes the machine and the versions, without which the numbers mean nothing.
 *
 * @module
 */

/** A description of the machine. */
export interface MachineDescription {
  /** Time of the description. */
  readonly at: string;
  /** Processor, memory and operating system. */
  readonly machine: string;
  /** Load averages of 1, 5 and 15 minutes. */
  readonly load: string;
}

/** A description of the machine, and of what runs on it. */
export interface Description extends MachineDescription {
  /** Versions of what was measured, and of the servers. */
  readonly versions: string;
}

/** Describes this machine. */
export function describeMachine(): MachineDescription {
  const processor = /^model name\s*: (.*)$/m.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? "unknown processor";
  const { total } = Deno.systemMemoryInfo();
  return {
    at: new Date().toISOString(),
    machine: `${processor}, ${navigator.hardwareConcurrency} cores, ${(total / 2 ** 30).toFixed(0)} GiB; ` +
      `${Deno.build.os} ${Deno.osRelease()}`,
    load: Deno.loadavg().map((each) => each.toFixed(1)).join(" "),
  };
}

/**
 * Describes this machine and the versions.
 *
 * @param python interpreter of the environment with the Python operator
 */
export async function machine(python: string): Promise<Description> {
  const { stdout } = await new Deno.Command(python, { args: ["-c", versionsOfPython] }).output();
  const versions = `Deno ${Deno.version.deno}, V8 ${Deno.version.v8}; ${new TextDecoder().decode(stdout).trim()}`;
  return { ...describeMachine(), versions };
}

const versionsOfPython = `
import sys
from importlib.metadata import version
names = ("openclaw-k8s-toggle-operator", "minimatrix", "matrix-nio", "python-olm")
print(", ".join(["Python " + sys.version.split()[0]] + [f"{name} {version(name)}" for name in names]))
`;
