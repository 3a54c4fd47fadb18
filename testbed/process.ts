/**
 * Child processes that end when asked, and with us. Knows nothing of what they do.
 *
 * @module
 */

/** What to run, and where what it prints goes. */
export interface ChildOptions {
  /** What it is called in error messages. */
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** File that its output is added to. */
  readonly logFile: string;
  /** Environment variables besides (or, with `clearEnvironment`, instead of) our own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Start from an empty environment. */
  readonly clearEnvironment?: boolean;
  /** Working folder. */
  readonly folder?: string;
  /** Give us its standard output through {@linkcode Child.output}; only standard error is logged then. */
  readonly pipeOutput?: boolean;
}

/**
 * A running process. Its standard input stays open for as long as we live, so a program that watches for its end
 * cannot outlive us.
 */
export class Child implements AsyncDisposable {
  /** What it is called in error messages. */
  readonly name: string;
  /** File that its output is added to. */
  readonly logFile: string;
  /** Its end. */
  readonly ended: Promise<Deno.CommandStatus>;
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #running = true;

  /**
   * Starts it.
   *
   * @param options what to run
   * @throws Error if there is no such program
   */
  constructor(options: ChildOptions) {
    this.name = options.name;
    this.logFile = options.logFile;
    // The shell only redirects: `exec` makes the program take its place, and its process id.
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

  /** It has not ended yet. */
  get running(): boolean {
    return this.#running;
  }

  /** Its standard output, if that was asked for. */
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
   * @param isReady asked again and again
   * @param deadlineMs longest wait in milliseconds
   * @throws Error with the end of its log, if it ends or the time is over
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
   * Asks it to end, and makes it end if it has not done so in time.
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

  /** Makes it end at once. */
  async kill(): Promise<Deno.CommandStatus> {
    this.#signal("SIGKILL");
    const status = await this.ended;
    await this.#release();
    return status;
  }

  /** The end of its log, for error messages. */
  async tail(lines = 30): Promise<string> {
    const log = await Deno.readTextFile(this.logFile).catch((error: Error) => error.message);
    return log.trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** As {@linkcode Child.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #signal(signal: Deno.Signal): void {
    if (this.#running) this.#process.kill(signal);
  }

  async #release(): Promise<void> {
    // The other end is gone, so closing may say "broken pipe": that is what was wanted.
    await this.#input.close().catch((error: Error) => error);
  }
}
