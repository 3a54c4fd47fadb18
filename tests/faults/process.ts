/**
 * The real operator as a process that is killed without warning, with the permissions of the task `start`. Knows its
 * life and its log, nothing of what is said to it.
 *
 * @module
 */

import { join } from "node:path";

/** The project's folder. */
export const projectRoot: string = join(import.meta.dirname ?? ".", "..", "..");

/** How it is run. */
export interface ProcessOptions {
  /** The whole environment that it gets. */
  readonly environment: Readonly<Record<string, string>>;
  /** What stands before Deno on the command line, such as another host name. */
  readonly within?: readonly string[];
  /** Flags of Deno besides those of the task. */
  readonly flags?: readonly string[];
  /** Arguments of the operator itself. */
  readonly args?: readonly string[];
  /** Folder of the program; the project's own unless given. */
  readonly root?: string;
}

/** A running operator. */
export class OperatorProcess implements AsyncDisposable {
  /** What it has logged so far, a line each. */
  readonly lines: string[] = [];
  /** Told of each line. */
  onLine: (line: string) => void = () => {};
  /** Its end; code -1 after a signal. */
  readonly ended: Promise<number>;
  /** It has logged that it is ready; rejects with its log if it ends before. */
  readonly ready: Promise<void>;
  readonly #process: Deno.ChildProcess;
  #running = true;

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ready = promise;
    // Most are killed, and then nobody asks.
    promise.catch(() => undefined);
    const read = this.#read((line) => /\bmain: Ready: /.test(line) && resolve());
    this.ended = process.status.then(async ({ code, signal }) => {
      this.#running = false;
      await read;
      reject(new Error(`The operator is not ready, it has ended (${signal ?? code}):\n${this.lines.join("\n")}`));
      return signal === null ? code : -1;
    });
  }

  /** Starts it. */
  static async start(
    { environment, within = [], flags = [], args: own = [], root = projectRoot }: ProcessOptions,
  ): Promise<OperatorProcess> {
    // So that it does not outlive a test that is killed itself.
    const withUs = Deno.build.os === "linux" ? ["setpriv", "--pdeathsig", "KILL", "--"] : [];
    const [run = "", ...rest] = await startArguments(root);
    const [program = "", ...args] = [...within, ...withUs, Deno.execPath(), run, ...flags, ...rest, ...own];
    const process = new Deno.Command(program, {
      args,
      cwd: root,
      env: { ...environment },
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    return new OperatorProcess(process);
  }

  /** Process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** Kills it at once (SIGKILL); its end is told by {@linkcode OperatorProcess.ended}. */
  kill(): Promise<number> {
    if (this.#running) this.#process.kill("SIGKILL");
    return this.ended;
  }

  /** Sends it a signal that does not end it. */
  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Asks it to end (SIGTERM). Returns its exit code. */
  stop(): Promise<number> {
    if (this.#running) this.#process.kill("SIGTERM");
    return this.ended;
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #read(take: (line: string) => void): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        this.lines.push(line);
        take(line);
        this.onLine(line);
      }
    }
    if (rest !== "") this.lines.push(rest);
  }
}

/** Arguments of the task `start`. */
async function startArguments(root: string): Promise<string[]> {
  const { tasks = {} } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const command: unknown = typeof tasks.start === "object" ? tasks.start.command : tasks.start;
  const [program, ...rest] = typeof command === "string" ? command.split(/\s+/) : [];
  if (program !== "deno") throw new Error(`Cannot run the operator: the task start is no call of deno: ${command}`);
  return rest;
}
