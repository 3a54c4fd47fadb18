/**
 * Reads the resource usage of a process from /proc.
 *
 * @module
 */

/** Resource usage of a process. */
export interface Usage {
  /** Resident memory, in bytes. */
  readonly rss: number;
  /** The same, with shared pages divided among their users. */
  readonly pss: number;
  /**
   * Lower bound of the working set, in bytes: all memory but the pages of files. Those of the executable and of
   * libraries are "inactive" to a kernel that has read them only once.
   */
  readonly withoutFiles: number;
  /** CPU time since the start, in milliseconds. */
  readonly cpuMs: number;
}

/** Size of a thread's stack in the kernel, in bytes (THREAD_SIZE on x86-64 and arm64). */
const kernelStack = 16 * 1_024;
/** Clock ticks per second in /proc (`getconf CLK_TCK`; fixed on Linux). */
const ticksPerSecond = 100;

/** Returns the resource usage of a process so far. */
export async function usageOf(pid: number | "self"): Promise<Usage> {
  const memory = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const number = (text: string, what: string) => Number(new RegExp(`^${what}:\\s+(\\d+)`, "m").exec(text)?.[1]);
  const bytes = (text: string, what: string) => number(text, what) * 1_024;
  // Fields 14 and 15, utime and stime (proc_pid_stat(5)), counted after the process name, which may contain anything.
  const times = (await Deno.readTextFile(`/proc/${pid}/stat`)).replace(/^.*\) /s, "").split(" ");
  const ticks = Number(times[11]) + Number(times[12]);
  return {
    rss: bytes(memory, "Rss"),
    pss: bytes(memory, "Pss"),
    withoutFiles: bytes(memory, "Anonymous") + bytes(status, "RssShmem") + bytes(status, "VmPTE") +
      number(status, "Threads") * kernelStack,
    cpuMs: ticks * 1_000 / ticksPerSecond,
  };
}
