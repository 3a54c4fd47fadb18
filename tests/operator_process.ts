/**
 * Runs the operator as a separate process, with the permissions of the task `start`. Every suite that needs a real
 * process uses it. It handles environment, lifetime and log, but no chat.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { freePort } from "../testbed/network.ts";
import { containment } from "../testbed/pod.ts";

/** Root folder of the project. */
export const projectRoot: string = join(import.meta.dirname ?? ".", "..");

/** How to run the operator. */
export interface OperatorOptions {
  /**
   * Variables of SPEC 1. Of our own environment, only what Deno needs is passed on. The health server uses a free port
   * unless HTTP_ADDRESS is given.
   */
  readonly environment: Readonly<Record<string, string>>;
  /** File to append the log to, besides {@linkcode OperatorProcess.lines}. */
  readonly logFile?: string;
  /** ServiceAccount folder, mounted where a pod has it. */
  readonly serviceAccountFolder?: string;
  /** Command line prefix, for example a wrapper that changes the process's environment. */
  readonly within?: readonly string[];
  /** Deno flags besides those of the task. */
  readonly flags?: readonly string[];
  /** Arguments of the operator. */
  readonly args?: readonly string[];
  /** Folder of the program. Default: the project root. */
  readonly root?: string;
}

/** {@linkcode OperatorOptions} with a log file. */
export interface LoggedOptions extends OperatorOptions {
  readonly logFile: string;
}

/** Response of the health server. Status 0 if nothing listens. */
export interface ProbeAnswer {
  readonly status: number;
  readonly text: string;
}

/** The operator isn't ready: it has ended, or it takes too long. */
export class NotReady extends Error {
  override readonly name = "NotReady";
}

/** A running operator process. */
export class OperatorProcess implements AsyncDisposable {
  /** Lines logged so far. */
  readonly lines: string[] = [];
  /** Called with each log line. */
  onLine: (line: string) => void = () => {};
  /** Exit code, or -1 after a signal. */
  readonly ended: Promise<number>;
  /** Resolves when the operator logs that it is ready. Rejects with the log if it exits before. */
  readonly ready: Promise<void>;
  readonly #begunAt = performance.now();
  readonly #address: string;
  readonly #process: Deno.ChildProcess;
  #readyMs: number | undefined;
  #running = true;

  /** Starts the process and doesn't wait. */
  constructor(options: OperatorOptions) {
    const { environment, logFile, serviceAccountFolder, within = [], flags = [], args = [] } = options;
    const { root = projectRoot } = options;
    if (logFile !== undefined) Deno.writeTextFileSync(logFile, "", { append: true });
    this.#address = environment["HTTP_ADDRESS"] ?? `127.0.0.1:${freePort()}`;
    const [, run = "", ...rest] = project.tasks.start.split(" ");
    // Makes the process end even if the test itself is killed.
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
    // Most processes are killed, and then nobody awaits the promise.
    promise.catch(() => undefined);
    const read = this.#read(logFile, (line) => /\bready: @/i.test(line) && resolve());
    this.ended = this.#process.status.then(async ({ code, signal }) => {
      this.#running = false;
      await read;
      reject(this.#failure(`it has ended (${signal ?? code})`));
      return signal === null ? code : -1;
    });
  }

  /** Starts the process and waits until `/readyz` answers 200. */
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

  /** Whether the process hasn't exited yet. */
  get running(): boolean {
    return this.#running;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Time from start until {@linkcode OperatorProcess.untilReady} succeeded, in milliseconds. */
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

  /** Reports whether `/readyz` answers 200 now. */
  async isReady(): Promise<boolean> {
    return (await this.probe("readyz", 2_000)).status === 200;
  }

  /** Requests a path of the health server. */
  async probe(path: "healthz" | "readyz" | "metrics", deadlineMs = 30_000): Promise<ProbeAnswer> {
    return await fetch(`http://${this.#address}/${path}`, { signal: AbortSignal.timeout(deadlineMs) }).then(
      async (response) => ({ status: response.status, text: (await response.text()).trim() }),
      // Connections are refused until it listens.
      () => ({ status: 0, text: "" }),
    );
  }

  /** Resident memory, in bytes. */
  async residentBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.pid}/status`);
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (!kibibytes) throw new Error(`Cannot read the operator's memory: ${status}`);
    return Number(kibibytes) * 1_024;
  }

  /** Sends a signal that doesn't end the process. */
  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Waits for the process to exit by itself, and kills it at the deadline. Returns its exit code. */
  async untilEnded(deadlineMs = 90_000): Promise<number> {
    const timer = setTimeout(() => this.kill(), deadlineMs);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends SIGTERM, and kills the process at the deadline. Returns its exit code. */
  stop(deadlineMs = 20_000): Promise<number> {
    if (this.#running) this.#process.kill("SIGTERM");
    return this.untilEnded(deadlineMs);
  }

  /** Sends SIGKILL. */
  kill(): Promise<number> {
    if (this.#running) this.#process.kill("SIGKILL");
    return this.ended;
  }

  /** Kills the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #failure(reason: string): NotReady {
    return new NotReady(`The operator is not ready: ${reason}\n${this.lines.slice(-60).join("\n")}`);
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
