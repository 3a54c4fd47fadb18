/**
 * A program under measurement: takes commands, runs as in a pod, and has its own account and target. Starts and stops
 * it, and reads its resource usage.
 *
 * @module
 */

import { join } from "node:path";
import { Child, containment, type ServiceAccount, type Testbed } from "../testbed/mod.ts";

/** The programs, in the order in which they are measured and shown. */
export const names = ["toggle", "before", "python", "floor"] as const;
/** This project's operator, an earlier version of it, the Python operator, or the minimal floor program. */
export type Name = typeof names[number];

/** A program under measurement. */
export interface Program {
  /** What it is called. */
  readonly name: Name;
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** Matches the last line that it logs before it takes commands. */
  readonly ready: RegExp;
  /** Environment variables that its image sets. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Resource usage of a process. */
export interface Usage {
  /** Resident memory, in bytes. */
  readonly rss: number;
  /** The same, with shared pages divided among their users. */
  readonly pss: number;
  /** CPU time since the start, in milliseconds. */
  readonly cpuMs: number;
}

/** Clock ticks per second in /proc (`getconf CLK_TCK`; fixed on Linux). */
const ticksPerSecond = 100;

/** A program with its account and its target. */
export class Contender implements AsyncDisposable {
  /** What it is called. */
  readonly name: Name;
  /** Its user id. */
  readonly userId: string;
  /** Namespace of its target. */
  readonly namespace: string;
  readonly #program: Program;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #account: ServiceAccount;
  readonly #folder: string;
  #starts = 0;
  #stores = 0;
  #child: Child | undefined;

  /**
   * Creates its account and its target.
   *
   * @param allowed user id of the allowed user
   */
  static async create(testbed: Testbed, program: Program, allowed: string): Promise<Contender> {
    const { homeserver, workloads, serviceAccounts, cluster, folder } = testbed;
    const { name } = program;
    await workloads.createTarget({ namespace: name, name: targetName, startDelayMs: 20 });
    const account = await serviceAccounts.create(name, "operator", rules);
    const password = crypto.randomUUID();
    const { userId, localpart } = await homeserver.register(name, password);
    const { hostname, port } = new URL(cluster.url);
    return new Contender(program, userId, account, join(folder, name), {
      PATH: Deno.env.get("PATH") ?? "",
      HOME: Deno.env.get("HOME") ?? "",
      ...(Deno.env.has("DENO_DIR") ? { DENO_DIR: Deno.env.get("DENO_DIR") ?? "" } : {}),
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: allowed,
      DEPLOYMENT_NAME: targetName,
      DEPLOYMENT_NAMESPACE: name,
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port || "443",
      HTTP_ADDRESS: "127.0.0.1:0",
      LOGURU_LEVEL: "INFO",
      ...program.environment,
    });
  }

  private constructor(
    program: Program,
    userId: string,
    account: ServiceAccount,
    folder: string,
    environment: Readonly<Record<string, string>>,
  ) {
    this.name = program.name;
    this.userId = userId;
    this.namespace = program.name;
    this.#program = program;
    this.#account = account;
    this.#folder = folder;
    this.#environment = environment;
  }

  /**
   * Starts it and waits until it takes commands.
   *
   * @param how `cold`: with a new store, as a new device; `warm`: with the existing store
   * @returns how long that took, in milliseconds
   */
  async start(how: "cold" | "warm"): Promise<number> {
    if (how === "cold") this.#stores += 1;
    await Deno.mkdir(this.#folder, { recursive: true });
    const logFile = join(this.#folder, `${this.#starts++}.log`);
    const begin = performance.now();
    const child = new Child({
      name: this.name,
      command: [...containment(this.#account.folder), ...this.#program.command],
      environment: { ...this.#environment, CRYPTO_STORE_PATH: join(this.#folder, `store-${this.#stores}`) },
      clearEnvironment: true,
      logFile,
    });
    this.#child = child;
    const isReady = async () => this.#program.ready.test(await Deno.readTextFile(logFile).catch(() => ""));
    for (const deadline = begin + 60_000; !(await isReady());) {
      if (!child.running || performance.now() > deadline) {
        throw new Error(`Cannot start ${this.name}: it is not ready\n${await child.tail()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return performance.now() - begin;
  }

  /** Stops it. */
  async stop(): Promise<void> {
    await this.#child?.stop(10_000);
    this.#child = undefined;
  }

  /** Its resource usage so far. */
  async usage(): Promise<Usage> {
    const process = `/proc/${this.#child?.pid}`;
    const memory = await Deno.readTextFile(`${process}/smaps_rollup`);
    const bytes = (what: string) => Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, "m").exec(memory)?.[1]) * 1_024;
    // Fields 14 and 15, utime and stime (proc_pid_stat(5)), counted after the process name, which may contain anything.
    const times = (await Deno.readTextFile(`${process}/stat`)).replace(/^.*\) /s, "").split(" ");
    const ticks = Number(times[11]) + Number(times[12]);
    return { rss: bytes("Rss"), pss: bytes("Pss"), cpuMs: ticks * 1_000 / ticksPerSecond };
  }

  /** Stops it, if it is running. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const targetName = "clawdbot";

/** The permissions of the README's Role. */
const rules = [
  { apiGroups: ["apps"], resources: ["deployments"], verbs: ["get", "list", "watch"] },
  { apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["get", "patch"] },
];
