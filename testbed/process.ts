/**
 * Child processes that end on request, and with us.
 *
 * @module
 */

/** Options for starting a process. */
export interface ChildOptions {
  /** Name in error messages. */
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** File that its output is appended to. */
  readonly logFile: string;
  /** Environment variables in addition to our own, or, with `clearEnvironment`, instead of them. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether to start from an empty environment. */
  readonly clearEnvironment?: boolean;
  /** Working directory. */
  readonly folder?: string;
  /** Whether to provide its standard output as {@linkcode Child.output}. Then only standard error is logged. */
  readonly pipeOutput?: boolean;
}

/**
 * A running process. Its standard input stays open as long as we live, so a program that exits at the end of its
 * standard input can't outlive us.
 */
export class Child implements AsyncDisposable {
  /** Name in error messages. */
  readonly name: string;
  /** File that its output is appended to. */
  readonly logFile: string;
  /** Resolves when it ends. */
  readonly ended: Promise<Deno.CommandStatus>;
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #running = true;

  /**
   * Starts the process.
   *
   * @throws Error if the program doesn't exist
   */
  constructor(options: ChildOptions) {
    this.name = options.name;
    this.logFile = options.logFile;
    // The shell only redirects. `exec` replaces it with the program, under the same process id.
    const redirect = options.pipeOutput ? 'exec "$@" 2>>"$0"' : 'exec "$@" >>"$0" 2>&1';
    this.#process = new Deno.Command("/bin/sh", {
      args: ["-c", redirect, options.logFile, ...options.command],
      ...(options.environment ? { env: { ...options.environment } } : {}),
      ...(options.folder ? { cwd: options.folder } : {}),
      clearEnv: options.clearEnvironment ?? false,
      stdin: "piped",
      stdout: options.pipeOutput ? "piped" : "null",
      stderr: "null",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.ended = this.#process.status.then((status) => {
      this.#running = false;
      return status;
    });
  }

  /** Process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** Whether it is still running. */
  get running(): boolean {
    return this.#running;
  }

  /** Its standard output. Requires `pipeOutput`. */
  get output(): ReadableStream<Uint8Array> {
    return this.#process.stdout;
  }

  /**
   * Writes a line to its standard input.
   *
   * @param line without the line feed
   */
  async write(line: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  /**
   * Waits until it is ready for use.
   *
   * @param isReady polled until it returns true
   * @param deadlineMs longest wait in milliseconds
   * @throws Error with the tail of its log, if it ends or the time is up
   */
  async untilReady(isReady: () => Promise<boolean>, deadlineMs: number): Promise<void> {
    const deadline = performance.now() + deadlineMs;
    while (!(await isReady())) {
      if (!this.#running) throw new Error(`Cannot start ${this.name}: it has ended\n${await this.tail()}`);
      if (performance.now() > deadline) {
        throw new Error(`Cannot start ${this.name}: not ready after ${deadlineMs} ms\n${await this.tail()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /**
   * Terminates the process, and kills it if it doesn't end in time.
   *
   * @param graceMs time to end by itself, in milliseconds
   */
  async stop(graceMs = 5_000): Promise<Deno.CommandStatus> {
    this.#signal("SIGTERM");
    const timer = setTimeout(() => this.#signal("SIGKILL"), graceMs);
    const status = await this.ended;
    clearTimeout(timer);
    await this.#release();
    return status;
  }

  /** Kills the process. */
  async kill(): Promise<Deno.CommandStatus> {
    this.#signal("SIGKILL");
    const status = await this.ended;
    await this.#release();
    return status;
  }

  /** The tail of its log, for error messages. */
  async tail(lines = 30): Promise<string> {
    const log = await Deno.readTextFile(this.logFile).catch((error: Error) => error.message);
    return log.trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** Same as {@linkcode Child.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #signal(signal: Deno.Signal): void {
    if (this.#running) this.#process.kill(signal);
  }

  async #release(): Promise<void> {
    // The process is gone, so closing may fail with "broken pipe", which is fine.
    await this.#input.close().catch((error: Error) => error);
  }
}
