/**
 * A program under measurement: takes commands, runs as in a pod, and has its own account and target. Starts and stops
 * it, and reads its resource usage.
 *
 * @module
 */

import { join } from "node:path";
import { Child, containment, type ServiceAccount, type Testbed } from "../testbed/mod.ts";
import { ControlGroup } from "./control_group.ts";
import { type Usage, usageOf } from "./usage.ts";

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

/** Resource usage of a program. */
export interface ContenderUsage extends Usage {
  /** Working set in bytes, as a cluster reckons it; undefined if this machine has no control groups for memory. */
  readonly workingSet: number | undefined;
}

/** Longest wait for a program that has a fifth of a core. */
const readyMs = 180_000;

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
  /** The running program's group, if this machine has control groups. */
  #group: ControlGroup | undefined;

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
   * @param cores limits its processor time; undefined: no limit
   * @returns how long that took, in milliseconds
   * @throws Error if its processor time shall be limited and this machine has no control groups for that
   */
  async start(how: "cold" | "warm", cores?: number): Promise<number> {
    if (how === "cold") this.#stores += 1;
    await Deno.mkdir(this.#folder, { recursive: true });
    const group = await ControlGroup.create(`bench-${this.name}`, cores === undefined ? "memory" : "cpu");
    this.#group = group;
    if (cores !== undefined) {
      if (group === undefined) throw new Error("Cannot limit processor time: no control group can be created");
      await group.limitCores(cores);
    }
    const logFile = join(this.#folder, `${this.#starts++}.log`);
    const begin = performance.now();
    const child = new Child({
      name: this.name,
      command: [...group?.prefix ?? [], ...containment(this.#account.folder), ...this.#program.command],
      environment: { ...this.#environment, CRYPTO_STORE_PATH: join(this.#folder, `store-${this.#stores}`) },
      clearEnvironment: true,
      logFile,
    });
    this.#child = child;
    const isReady = async () => this.#program.ready.test(await Deno.readTextFile(logFile).catch(() => ""));
    for (const deadline = begin + readyMs; !(await isReady());) {
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
    await this.#group?.[Symbol.asyncDispose]();
    this.#child = undefined;
    this.#group = undefined;
  }

  /** Its resource usage so far. */
  async usage(): Promise<ContenderUsage> {
    if (this.#child === undefined) throw new Error(`Cannot tell the usage of ${this.name}: it is not running`);
    return { ...await usageOf(this.#child.pid), workingSet: await this.#group?.workingSet() };
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
