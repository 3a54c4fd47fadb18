/**
 * Runs the operator as a process of its own, with the permissions of the task `start`; for all suites that need it so.
 * Its environment, its life and its log are here; nothing of what is said to it.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { freePort } from "../testbed/network.ts";
import { containment } from "../testbed/pod.ts";

/** The project's folder. */
export const projectRoot: string = join(import.meta.dirname ?? ".", "..");

/** How it is run. */
export interface OperatorOptions {
  /**
   * Variables of SPEC 1; nothing of our own environment reaches it but what Deno needs. It serves its health at a free
   * port unless HTTP_ADDRESS is given.
   */
  readonly environment: Readonly<Record<string, string>>;
  /** File that its log is added to, besides {@linkcode OperatorProcess.lines}. */
  readonly logFile?: string;
  /** As in a pod: folder of a ServiceAccount, mounted where a pod has it. */
  readonly serviceAccountFolder?: string;
  /** What stands before it on the command line, such as what gives it other surroundings. */
  readonly within?: readonly string[];
  /** Flags of Deno besides those of the task. */
  readonly flags?: readonly string[];
  /** Arguments of the operator itself. */
  readonly args?: readonly string[];
  /** Folder of the program; the project's own unless given. */
  readonly root?: string;
}

/** The same, with a file for its log. */
export interface LoggedOptions extends OperatorOptions {
  readonly logFile: string;
}

/** What a probe is told; status 0 where nobody listens. */
export interface ProbeAnswer {
  readonly status: number;
  readonly text: string;
}

/** An operator that was started. */
export class OperatorProcess implements AsyncDisposable {
  /** What it has logged so far, a line each. */
  readonly lines: string[] = [];
  /** Told of each line. */
  onLine: (line: string) => void = () => {};
  /** Its exit code; -1 after a signal. */
  readonly ended: Promise<number>;
  /** It has logged that it is ready; rejects with its log if it ends before. */
  readonly ready: Promise<void>;
  readonly #begunAt = performance.now();
  readonly #address: string;
  readonly #process: Deno.ChildProcess;
  #readyMs: number | undefined;
  #running = true;

  /** Starts it and doesn't wait. */
  constructor(options: OperatorOptions) {
    const { environment, logFile, serviceAccountFolder, within = [], flags = [], args = [] } = options;
    const { root = projectRoot } = options;
    if (logFile !== undefined) Deno.writeTextFileSync(logFile, "", { append: true });
    this.#address = environment["HTTP_ADDRESS"] ?? `127.0.0.1:${freePort()}`;
    const [, run = "", ...rest] = project.tasks.start.split(" ");
    // So that it does not outlive a test that is killed itself.
    const contained = Deno.build.os === "linux" ? containment(serviceAccountFolder) : [];
    const [program, ...all] = [...within, ...contained, Deno.execPath(), run, ...flags, ...rest, ...args];
    this.#process = new Deno.Command(program ?? "", {
      args: all,
      cwd: root,
      env: { ...denoEnvironment(), HTTP_ADDRESS: this.#address, ...environment },
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ready = promise;
    // Most are killed, and then nobody asks.
    promise.catch(() => undefined);
    const read = this.#read(logFile, (line) => /\bready: @/i.test(line) && resolve());
    this.ended = this.#process.status.then(async ({ code, signal }) => {
      this.#running = false;
      await read;
      reject(this.#failure(`it has ended (${signal ?? code})`));
      return signal === null ? code : -1;
    });
  }

  /** Starts it and waits until `/readyz` answers 200. */
  static async start(options: OperatorOptions): Promise<OperatorProcess> {
    const process = new OperatorProcess(options);
    try {
      await process.untilReady();
    } catch (error) {
      await process.kill();
      throw error;
    }
    return process;
  }

  /** It has not ended yet. */
  get running(): boolean {
    return this.#running;
  }

  /** Process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** From its start until {@linkcode OperatorProcess.untilReady} saw it ready, in milliseconds. */
  get readyMs(): number {
    return this.#readyMs ?? NaN;
  }

  /** Waits until `/readyz` answers 200. */
  async untilReady(deadlineMs = 60_000): Promise<void> {
    const deadline = performance.now() + deadlineMs;
    while (!await this.isReady()) {
      if (!this.#running) throw this.#failure("it has ended");
      if (performance.now() > deadline) throw this.#failure(`not after ${deadlineMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    this.#readyMs ??= performance.now() - this.#begunAt;
  }

  /** `/readyz` answers 200 now. */
  async isReady(): Promise<boolean> {
    return (await this.probe("readyz", 2_000)).status === 200;
  }

  /** Asks its health server. */
  async probe(path: "healthz" | "readyz" | "metrics", deadlineMs = 30_000): Promise<ProbeAnswer> {
    return await fetch(`http://${this.#address}/${path}`, { signal: AbortSignal.timeout(deadlineMs) }).then(
      async (response) => ({ status: response.status, text: (await response.text()).trim() }),
      // Refused connections are what there is until it listens.
      () => ({ status: 0, text: "" }),
    );
  }

  /** Memory that it holds, in bytes. */
  async residentBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.pid}/status`);
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (!kibibytes) throw new Error(`Cannot read the operator's memory: ${status}`);
    return Number(kibibytes) * 1_024;
  }

  /** Sends it a signal that does not end it. */
  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Waits until it ends by itself, and kills it where that takes too long. Returns its exit code. */
  async untilEnded(deadlineMs = 90_000): Promise<number> {
    const timer = setTimeout(() => this.kill(), deadlineMs);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks it to end (SIGTERM), and kills it where that takes too long. Returns its exit code. */
  stop(deadlineMs = 20_000): Promise<number> {
    if (this.#running) this.#process.kill("SIGTERM");
    return this.untilEnded(deadlineMs);
  }

  /** Kills it at once (SIGKILL). */
  kill(): Promise<number> {
    if (this.#running) this.#process.kill("SIGKILL");
    return this.ended;
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #failure(reason: string): Error {
    return new Error(`The operator is not ready: ${reason}\n${this.lines.slice(-60).join("\n")}`);
  }

  async #read(logFile: string | undefined, take: (line: string) => void): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line, logFile, take);
    }
    if (rest !== "") this.#take(rest, logFile, take);
  }

  #take(line: string, logFile: string | undefined, take: (line: string) => void): void {
    this.lines.push(line);
    if (logFile !== undefined) Deno.writeTextFileSync(logFile, `${line}\n`, { append: true });
    take(line);
    this.onLine(line);
  }
}

function denoEnvironment(): Record<string, string> {
  const wanted = /^(HOME|PATH|DENO_DIR|DENO_TLS_CA_STORE|DENO_CERT|XDG_CACHE_HOME)$/;
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
}
