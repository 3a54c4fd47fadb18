/**
 * Runs the operator in a process of its own, with the permissions of the task `start`. Manages its lifetime and reads
 * its log.
 *
 * @module
 */

import { join } from "node:path";
import { Problem } from "./program.ts";

/** Root folder of the project. */
export const projectFolder: string = join(import.meta.dirname ?? ".", "..");

export interface OperatorOptions {
  /** The complete environment of the process. */
  readonly environment: Readonly<Record<string, string>>;
  /** Called with each line that it prints. */
  readonly print: (line: string) => void;
  /** Whether it may run programs, which credential plugins of a kubeconfig require. */
  readonly mayRun?: boolean;
  /** Folder that is removed if this process is killed before it can stop the operator. */
  readonly folder?: string;
}

const mostLinesKept = 12;
/** Kills the operator if this process is killed: the shell's stdin closes then. */
const watchdog = 'cat > /dev/null; kill -KILL "$0" 2> /dev/null; [ -z "$1" ] || rm -rf "$1"';

/** A running operator. */
export class Operator implements AsyncDisposable {
  /** Resolves to its exit code. */
  readonly ended: Promise<number>;
  /** Resolves when the log reports that the operator is ready. Rejects with the end of the log if it exits before. */
  readonly ready: Promise<void>;
  readonly #process: Deno.ChildProcess;
  readonly #watchdog: Deno.ChildProcess | undefined;
  readonly #lastLines: string[] = [];
  #running = true;

  private constructor(process: Deno.ChildProcess, { print, folder = "" }: OperatorOptions) {
    this.#process = process;
    this.#watchdog = startWatchdog(process.pid, folder);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ready = promise;
    this.ready.catch(() => undefined);
    const read = readLines(process.stderr, (line) => {
      this.#lastLines.push(line);
      if (this.#lastLines.length > mostLinesKept) this.#lastLines.shift();
      if (/\bmain: ready: /.test(line)) resolve();
      print(line);
    });
    this.ended = process.status.then(async ({ code }) => {
      this.#running = false;
      await read;
      reject(this.failure(`it ended with code ${code}`));
      return code;
    });
  }

  /**
   * Starts the operator, detached from our terminal so that Ctrl-C reaches only us. It must log as text, at level info
   * or finer.
   */
  static async start(options: OperatorOptions): Promise<Operator> {
    const process = new Deno.Command(Deno.execPath(), {
      args: await startArguments(options.mayRun ?? false),
      cwd: projectFolder,
      env: { ...options.environment },
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      detached: true,
    }).spawn();
    return new Operator(process, options);
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Makes an error that includes the last log lines. */
  failure(reason: string): Problem {
    const printed = this.#lastLines.length === 0
      ? "It has printed nothing."
      : `Its last lines:\n  ${this.#lastLines.join("\n  ")}`;
    return new Problem(`Cannot run the operator: ${reason}. ${printed}`);
  }

  /** Asks the operator to stop, and kills it after 12 s. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#running) this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#running && this.#process.kill("SIGKILL"), 12_000);
    await this.ended;
    clearTimeout(timer);
    this.#watchdog?.kill("SIGKILL");
    await this.#watchdog?.status;
    await this.#watchdog?.stdin.close().catch((error) => {
      // It was killed, so the pipe has no reader.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    });
  }
}

/**
 * Returns the variables of our environment that Deno and the system need. The operator's own variables are not among
 * them.
 */
export function systemEnvironment(): Record<string, string> {
  const wanted =
    /^(HOME|USERPROFILE|PATH|SYSTEMROOT|APPDATA|LOCALAPPDATA|TMPDIR|TEMP|TMP|LANG|(DENO|NPM|NODE|SSL|XDG)_.*|.*_PROXY)$/i;
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
}

/** Returns the arguments of the task `start`. */
async function startArguments(mayRun: boolean): Promise<string[]> {
  const { tasks = {} } = JSON.parse(await Deno.readTextFile(join(projectFolder, "deno.json")));
  const command: unknown = typeof tasks.start === "object" ? tasks.start.command : tasks.start;
  const [program, run, ...rest] = typeof command === "string" ? command.split(/\s+/) : [];
  if (program !== "deno" || run !== "run") {
    throw new Error(`Cannot run the operator: the task start of deno.json is not a call of deno run: ${command}`);
  }
  return [run, ...mayRun ? ["--allow-run"] : [], ...rest];
}

function startWatchdog(pid: number, folder: string): Deno.ChildProcess | undefined {
  if (Deno.build.os === "windows") return undefined;
  const args = ["-c", watchdog, String(pid), folder];
  return new Deno.Command("/bin/sh", { args, stdin: "piped", stdout: "null", stderr: "null", detached: true }).spawn();
}

async function readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(take);
  }
  if (rest !== "") take(rest);
}
