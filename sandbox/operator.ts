/**
 * Runs the operator as its own process, with the permissions of the task `start`. Knows its life and its log, nothing
 * of what is said to it.
 *
 * @module
 */

import { join } from "node:path";
import { Problem } from "./program.ts";

/** Folder of the project. */
export const projectFolder: string = join(import.meta.dirname ?? ".", "..");

/** How to run it. */
export interface OperatorOptions {
  /** The whole environment that it gets. */
  readonly environment: Readonly<Record<string, string>>;
  /** Takes each line that it prints. */
  readonly print: (line: string) => void;
  /** May run programs, as credential plugins of a kubeconfig want it. */
  readonly mayRun?: boolean;
  /** Folder to be removed, too, should this process be killed before it can end the operator. */
  readonly folder?: string;
}

const mostLinesKept = 12;
/** Ends what we cannot end ourselves when we are killed: its input ends with us. */
const watchdog = 'cat > /dev/null; kill -KILL "$0" 2> /dev/null; [ -z "$1" ] || rm -rf "$1"';

/** A running operator. */
export class Operator implements AsyncDisposable {
  /** Its exit code. */
  readonly ended: Promise<number>;
  /** Its log says that it is ready, or it has ended: then this rejects with the end of its log. */
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

  /** Starts it, apart from our terminal: Ctrl-C reaches us alone. It is to log as text, at level info or finer. */
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

  /** Process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** An error that ends with what it logged last. */
  failure(reason: string): Problem {
    const printed = this.#lastLines.length === 0
      ? "It has printed nothing."
      : `Its last lines:\n  ${this.#lastLines.join("\n  ")}`;
    return new Problem(`Cannot run the operator: ${reason}. ${printed}`);
  }

  /** Asks it to end; kills it if that takes longer than 12 s. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#running) this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#running && this.#process.kill("SIGKILL"), 12_000);
    await this.ended;
    clearTimeout(timer);
    this.#watchdog?.kill("SIGKILL");
    await this.#watchdog?.status;
    await this.#watchdog?.stdin.close().catch((error) => {
      // It has been killed: nobody reads any more.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    });
  }
}

/** Variables of our environment that Deno and the system need, and none of the operator's own. */
export function systemEnvironment(): Record<string, string> {
  const wanted =
    /^(HOME|USERPROFILE|PATH|SYSTEMROOT|APPDATA|LOCALAPPDATA|TMPDIR|TEMP|TMP|LANG|(DENO|NPM|NODE|SSL|XDG)_.*|.*_PROXY)$/i;
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
}

/** Arguments of the task `start`. */
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
