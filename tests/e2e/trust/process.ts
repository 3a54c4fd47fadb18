/** Runs the operator where its end matters: exit codes, kills at will, arguments. Its log is text unless told otherwise. */

import { dirname, join } from "node:path";
import { Child, freePort } from "../../../testbed/mod.ts";
import type { World } from "./world.ts";

const root = join(import.meta.dirname ?? ".", "..", "..", "..");

/** An operator, running or ended. */
export class Run implements AsyncDisposable {
  readonly #child: Child;

  private constructor(child: Child) {
    this.#child = child;
  }

  /**
   * Starts it with the permissions of the task `start`.
   *
   * @param environment variables besides those of the world's operator; an empty one is as good as none
   * @param args arguments
   */
  static async start(
    world: World,
    environment: Readonly<Record<string, string>>,
    args: readonly string[] = [],
  ): Promise<Run> {
    const { tasks } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
    const [, ...start] = String(tasks.start).split(/\s+/);
    const inherited = ["HOME", "PATH", "DENO_DIR"].flatMap((name) => {
      const value = Deno.env.get(name);
      return value === undefined ? [] : [[name, value]];
    });
    const logFile = join(dirname(world.options.logFile), `run-${crypto.randomUUID()}.log`);
    world.logFiles.add(logFile);
    return new Run(
      new Child({
        name: "the operator",
        command: ["setpriv", "--pdeathsig", "KILL", "--", Deno.execPath(), ...start, ...args],
        environment: {
          ...Object.fromEntries(inherited),
          ...world.options.environment,
          LOG_FORMAT: "text",
          HTTP_ADDRESS: `127.0.0.1:${freePort()}`,
          ...environment,
        },
        clearEnvironment: true,
        logFile,
        folder: root,
      }),
    );
  }

  /** Where it logs. */
  get logFile(): string {
    return this.#child.logFile;
  }

  /** Waits until it is ready. */
  async untilReady(): Promise<void> {
    await this.#child.untilReady(async () => /\bReady: @/.test(await this.#text()), 20_000);
  }

  /** Waits for its end. Returns its exit code. */
  async ended(): Promise<number> {
    const timer = setTimeout(() => this.#child.kill(), 20_000);
    const { code } = await this.#child.ended;
    clearTimeout(timer);
    return code;
  }

  /** Asks it to end. Returns its exit code. */
  async stop(): Promise<number> {
    return (await this.#child.stop(12_000)).code;
  }

  /** Kills it at once. */
  async kill(): Promise<void> {
    await this.#child.kill();
  }

  /** The first line that it has printed of this kind; undefined if there is none. */
  async line(what: RegExp): Promise<string | undefined> {
    return (await this.#text()).split("\n").find((line) => what.test(line));
  }

  /** Kills it, if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.running) await this.kill();
  }

  async #text(): Promise<string> {
    return await Deno.readTextFile(this.#child.logFile).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    });
  }
}
