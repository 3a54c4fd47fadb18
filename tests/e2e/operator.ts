/**
 * Runs the operator as its own process, exactly as `deno task start` would: the permissions are read from that task.
 * Knows its environment and its life, nothing of what is said to it.
 *
 * @module
 */

import { join } from "node:path";
import { Child, containment, freePort } from "../../testbed/mod.ts";

const root = join(import.meta.dirname ?? ".", "..", "..");

/** How to run it. */
export interface OperatorOptions {
  /** Variables of SPEC 1; nothing of our own environment reaches it but what Deno needs. */
  readonly environment: Readonly<Record<string, string>>;
  /** File that its log is added to. */
  readonly logFile: string;
  /** As in a pod: folder of a ServiceAccount, mounted where a pod has it. */
  readonly serviceAccountFolder?: string;
}

/** A running operator that has become ready. */
export class Operator implements AsyncDisposable {
  /** From the start of the process until `/readyz` answered 200, in milliseconds. */
  readonly readyMs: number;
  readonly #child: Child;

  private constructor(child: Child, readyMs: number) {
    this.#child = child;
    this.readyMs = readyMs;
  }

  /**
   * Starts it and waits until it is ready.
   *
   * @param options how to run it
   * @throws Error with the end of its log, if it doesn't become ready
   */
  static async start(options: OperatorOptions): Promise<Operator> {
    const begin = performance.now();
    const { child, port } = await Operator.#spawn(options);
    try {
      await child.untilReady(() => isReady(port), 30_000);
    } catch (error) {
      await child.kill();
      throw error;
    }
    return new Operator(child, performance.now() - begin);
  }

  /**
   * Starts it and kills it after a while, ready or not.
   *
   * @param options how to run it
   * @param afterMs when to kill it, in milliseconds after its start
   */
  static async startAndKill(options: OperatorOptions, afterMs: number): Promise<void> {
    const { child } = await Operator.#spawn(options);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await child.kill();
  }

  /** It has not ended yet. */
  get running(): boolean {
    return this.#child.running;
  }

  /** Memory that it holds, in bytes. */
  async residentBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`);
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (!kibibytes) throw new Error(`Cannot read the operator's memory: ${status}`);
    return Number(kibibytes) * 1_024;
  }

  /** Makes it stand still (SIGSTOP). */
  pause(): void {
    Deno.kill(this.#child.pid, "SIGSTOP");
  }

  /** Lets it go on (SIGCONT). */
  resume(): void {
    Deno.kill(this.#child.pid, "SIGCONT");
  }

  /** Asks it to end (SIGTERM). Returns its exit code; one that needs more than 12 s is killed. */
  async stop(): Promise<number> {
    return (await this.#child.stop(12_000)).code;
  }

  /** Kills it at once (SIGKILL). */
  async kill(): Promise<void> {
    await this.#child.kill();
  }

  /** As {@linkcode Operator.stop}, if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.running) await this.stop();
  }

  static async #spawn(options: OperatorOptions): Promise<{ child: Child; port: number }> {
    const port = freePort();
    const child = new Child({
      name: "the operator",
      command: [...containment(options.serviceAccountFolder), Deno.execPath(), ...await startArguments()],
      environment: { ...denoEnvironment(), ...options.environment, HTTP_ADDRESS: `127.0.0.1:${port}` },
      clearEnvironment: true,
      logFile: options.logFile,
      folder: root,
    });
    return { child, port };
  }
}

/** Arguments of the task `start`. */
async function startArguments(): Promise<string[]> {
  const { tasks = {} } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const command: unknown = typeof tasks.start === "object" ? tasks.start.command : tasks.start;
  if (typeof command !== "string") throw new Error("Cannot run the operator: deno.json has no task `start`");
  const [program, ...rest] = command.split(/\s+/).map((word) => word.replaceAll(/['"]/g, ""));
  if (program !== "deno") throw new Error(`Cannot run the operator: the task start is no call of deno: ${command}`);
  return rest;
}

function denoEnvironment(): Record<string, string> {
  const wanted = /^(HOME|PATH|DENO_DIR|DENO_TLS_CA_STORE|DENO_CERT|XDG_CACHE_HOME)$/;
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
}

async function isReady(port: number): Promise<boolean> {
  // Refused connections are what there is until it listens.
  return await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(2_000) }).then(
    async (response) => {
      await response.body?.cancel();
      return response.status === 200;
    },
    () => false,
  );
}
