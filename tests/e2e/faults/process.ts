/**
 * Runs the operator with the permissions of `deno task start`, where its start, its end and its surroundings are what a
 * test is about: it may never become ready, and it may see other files than we do.
 *
 * @module
 */

import { join } from "node:path";
import project from "../../../deno.json" with { type: "json" };
import { Child, freePort } from "../../../testbed/mod.ts";

const root = join(import.meta.dirname ?? ".", "..", "..", "..");

/** How to run it. */
export interface RunOptions {
  /** Variables of SPEC 1, and others that the program is to see. */
  readonly environment: Readonly<Record<string, string>>;
  /** File that its log is added to. */
  readonly logFile: string;
  /** Arguments, such as `--reset-identity`. */
  readonly args?: readonly string[];
  /** A shell script that ends in running its arguments; it runs as root of a mount namespace of its own. */
  readonly surroundings?: string;
}

/** How it ended. */
export interface End {
  /** Exit code. */
  readonly code: number;
  /** From being asked to the end, in milliseconds. */
  readonly ms: number;
}

/** An operator that was started. */
export class Running implements AsyncDisposable {
  readonly #child: Child;
  readonly #port: number;

  /** Starts it and doesn't wait. */
  constructor({ environment, logFile, args: given = [], surroundings }: RunOptions) {
    this.#port = freePort();
    const apart = ["unshare", Deno.uid() === 0 ? "-m" : "-rm", "/bin/sh", "-c", surroundings ?? "", "sh"];
    const [, ...args] = project.tasks.start.split(" ");
    this.#child = new Child({
      name: "the operator",
      command: [
        ...["setpriv", "--pdeathsig", "KILL", "--"] as const,
        ...(surroundings === undefined ? [] : apart),
        ...[Deno.execPath(), ...args, ...given],
      ],
      environment: { ...denoEnvironment(), HTTP_ADDRESS: `127.0.0.1:${this.#port}`, ...environment },
      clearEnvironment: true,
      logFile,
      folder: root,
    });
  }

  /** It has not ended yet. */
  get running(): boolean {
    return this.#child.running;
  }

  /** Process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Waits until `/readyz` answers 200. */
  async untilReady(): Promise<void> {
    await this.#child.untilReady(() => this.isReady(), 60_000);
  }

  /** Whether `/readyz` answers 200 now. */
  async isReady(): Promise<boolean> {
    return (await this.probe("readyz")).status === 200;
  }

  /** What a probe is told; status 0 where nobody listens. */
  async probe(path: "healthz" | "readyz"): Promise<{ readonly status: number; readonly reason: string }> {
    // Refused connections are what there is until it listens.
    return await fetch(`http://127.0.0.1:${this.#port}/${path}`, { signal: AbortSignal.timeout(2_000) }).then(
      async (response) => ({ status: response.status, reason: (await response.text()).trim() }),
      () => ({ status: 0, reason: "" }),
    );
  }

  /** How long `/healthz` takes to answer 200, milliseconds. */
  async healthMs(): Promise<number> {
    const begun = performance.now();
    const response = await fetch(`http://127.0.0.1:${this.#port}/healthz`, { signal: AbortSignal.timeout(30_000) });
    await response.body?.cancel();
    if (response.status !== 200) throw new Error(`/healthz answers ${response.status}`);
    return performance.now() - begun;
  }

  /** Waits for its end; one that takes longer than a minute and a half is killed. */
  async ended(): Promise<End> {
    const begin = performance.now();
    const timer = setTimeout(() => this.#child.kill(), 90_000);
    const { code } = await this.#child.ended;
    clearTimeout(timer);
    return { code, ms: performance.now() - begin };
  }

  /** Sends SIGTERM and waits; one that needs more than 20 s is killed. */
  async terminate(): Promise<End> {
    const begin = performance.now();
    const { code } = await this.#child.stop(20_000);
    return { code, ms: performance.now() - begin };
  }

  /** Sends SIGKILL and waits. */
  async kill(): Promise<void> {
    await this.#child.kill();
  }

  /** Kills it, if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.kill();
  }
}

function denoEnvironment(): Record<string, string> {
  const wanted = /^(HOME|PATH|DENO_DIR|DENO_TLS_CA_STORE|DENO_CERT|XDG_CACHE_HOME)$/;
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name)));
}
