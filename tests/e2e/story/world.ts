/**
 * Environment of all stories: real servers, workloads of which some fail, an operator with the base or the extended
 * Role, Alice, and a room of both. Counts the messages that the homeserver is asked to send.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  baseRules,
  extendedRules,
  type Person,
  type SeenEvent,
  startTestbed,
  type Testbed,
  type WorkloadResource,
} from "../../../testbed/mod.ts";
import { FaultProxy } from "../../../testbed/proxy.ts";
import { bodyOf, Conversation } from "../conversation.ts";
import { OperatorProcess } from "../../operator_process.ts";
import { WallClock } from "../wall_clock.ts";
import { rings, transcript } from "./transcript.ts";

/** A workload. Its alias is also its name. */
interface Workload {
  readonly resource?: WorkloadResource;
  readonly image?: string;
  readonly startDelayMs?: number;
}

const workloads: Readonly<Record<string, Workload>> = {
  clawdbot: {},
  missing: { image: "example/missing:1" },
  crash: { image: "example/crash" },
  memory: { image: "example/oom" },
  pending: { image: "example/pending" },
  slow: { startDelayMs: 8_000 },
  sleepy: { startDelayMs: 31_000 },
  scaled: {},
  shared: {},
  store: { resource: "statefulsets" },
};

/** How the operator is run. */
export interface Setting {
  /** Its permissions. */
  readonly role: "base" | "extended";
  /** Aliases of its targets. Default: all. */
  readonly targets?: readonly string[];
  /** Additional variables. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Longer than anything takes that happens at all, even on a slow machine. */
const patienceMs = 60_000;

/** Environment of all stories. */
export class World implements AsyncDisposable {
  readonly testbed: Testbed;
  readonly namespace: string;
  readonly alice: Person;
  /** The operator's wall clock. Undefined if it can't be set. */
  readonly clock: WallClock | undefined;
  readonly #homeserver: FaultProxy;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #kubeconfigs: Readonly<Record<Setting["role"], string>>;
  readonly #resources: AsyncDisposableStack;
  #setting = "";
  #operator: OperatorProcess | undefined;
  #talk: Conversation | undefined;

  private constructor(
    parts: Pick<World, "testbed" | "namespace" | "alice" | "clock">,
    homeserver: FaultProxy,
    environment: Readonly<Record<string, string>>,
    kubeconfigs: Readonly<Record<Setting["role"], string>>,
    resources: AsyncDisposableStack,
  ) {
    ({ testbed: this.testbed, namespace: this.namespace, alice: this.alice, clock: this.clock } = parts);
    this.#homeserver = homeserver;
    this.#environment = environment;
    this.#kubeconfigs = kubeconfigs;
    this.#resources = resources;
  }

  /** Starts everything except the operator. */
  static async create(): Promise<World> {
    await using resources = new AsyncDisposableStack();
    // A failing pull changes its reason after each back-off. If two of them took as long as a diagnosis waits, 2 s, each
    // diagnosis could see the same one.
    const testbed = resources.use(await startTestbed({ startMs: 1_000, stopMs: 100, runMs: 300, backOffMs: 1_300 }));
    const namespace = `story-${crypto.randomUUID().slice(0, 8)}`;
    const all = Object.entries(workloads);
    for (const [name, workload] of all) await testbed.workloads.createTarget({ namespace, name, ...workload });
    const account = async (name: Setting["role"], rules: typeof baseRules) => {
      const whole = all.flatMap(([alias, { resource }]) => rules(alias, resource));
      return (await testbed.serviceAccounts.create(namespace, name, whole)).kubeconfig;
    };
    const kubeconfigs = { base: await account("base", baseRules), extended: await account("extended", extendedRules) };
    const alice = await testbed.person("alice");
    const password = crypto.randomUUID();
    const { userId } = await testbed.homeserver.register("toggle", password);
    const proxy = resources.use(await FaultProxy.start({ url: testbed.homeserver.url }));
    const environment = {
      MATRIX_HOMESERVER: proxy.url,
      MATRIX_USER: userId,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      CRYPTO_STORE_PATH: join(testbed.folder, "store"),
      LOG_FORMAT: "text",
      LOG_LEVEL: "debug",
    };
    const clock = await WallClock.find(testbed.folder);
    return new World({ testbed, namespace, alice, clock }, proxy, environment, kubeconfigs, resources.move());
  }

  /** Runs the operator with this setting. Restarts it if it runs with another one. */
  async run(setting: Setting): Promise<void> {
    if (this.#setting === JSON.stringify(setting)) return;
    assert.equal(await this.#operator?.stop() ?? 0, 0, "exit code after SIGTERM");
    await this.#start(setting);
    if (this.#talk !== undefined) return;
    this.#talk = await Conversation.begin(this.alice, `${this.#environment["MATRIX_USER"]}`);
  }

  /** Kills the operator and restarts it with another time. */
  async restart(setting: Setting, secondsAhead: number): Promise<void> {
    await this.#operator?.kill();
    await this.clock?.set(secondsAhead);
    await this.#start(setting);
  }

  /** Begins a story. */
  scene(): Scene {
    if (this.#talk === undefined) throw new Error("Cannot begin a story before the operator runs");
    return new Scene(this.#talk, this.#homeserver);
  }

  /** Turns all targets off, as Alice, and waits until no pod is left. */
  async rest(): Promise<void> {
    const { workloads: cluster } = this.testbed;
    await this.scene().asks("stop all");
    for (const [name, { resource }] of Object.entries(workloads)) {
      await cluster.until(
        this.namespace,
        name,
        ({ replicas, current }) => replicas + current === 0,
        patienceMs,
        resource,
      );
    }
  }

  /**
   * Waits until a condition holds for a target's pods or the Deployment. Returns the time at which that was first seen.
   */
  async knows(
    name: string,
    // deno-lint-ignore no-explicit-any
    holds: (pod: any) => boolean,
    kind: "pods" | "deployments" = "pods",
  ): Promise<number> {
    const path = kind === "pods"
      ? `/api/v1/namespaces/${this.namespace}/pods?labelSelector=app%3D${name}`
      : `/apis/apps/v1/namespaces/${this.namespace}/deployments?fieldSelector=metadata.name%3D${name}`;
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      const { items } = await this.testbed.cluster.request("GET", path);
      if (items.some(holds)) return performance.now();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`Not within ${patienceMs} ms: ${holds} of ${kind} of ${name}`);
  }

  /** Returns the end of the operator's log. */
  async log(): Promise<string> {
    return (await Deno.readTextFile(this.#logFile)).trimEnd().split("\n").slice(-60).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#operator?.[Symbol.asyncDispose]();
    await this.#resources.disposeAsync();
  }

  async #start(setting: Setting): Promise<void> {
    const { role, targets = Object.keys(workloads), environment } = setting;
    const placed = targets.map((alias) => {
      const kind = workloads[alias]?.resource === "statefulsets" ? "statefulset/" : "";
      return `${alias}=${kind}${this.namespace}/${alias}`;
    });
    this.#setting = JSON.stringify(setting);
    this.#operator = await OperatorProcess.start({
      environment: {
        ...this.#environment,
        ...this.clock?.environment,
        TARGETS: placed.join(),
        KUBECONFIG: this.#kubeconfigs[role],
        ...environment,
      },
      logFile: this.#logFile,
    });
  }

  get #logFile(): string {
    return join(this.testbed.folder, "operator.log");
  }
}

/** The part of the conversation from now on. */
export class Scene {
  readonly #talk: Conversation;
  readonly #homeserver: FaultProxy;
  readonly #from: number;
  readonly #beginMs = performance.now();

  constructor(talk: Conversation, homeserver: FaultProxy) {
    this.#talk = talk;
    this.#homeserver = homeserver;
    this.#from = talk.seen.events.length;
  }

  /** Sends a text. */
  async says(text: string): Promise<string> {
    return await this.#talk.send(text);
  }

  /** Sends a text and waits for the first answer. */
  async asks(text: string): Promise<string> {
    return bodyOf(await this.#talk.answerTo(await this.says(text), patienceMs));
  }

  /** Waits for a message of the operator. Edits count. */
  async hears(what: RegExp): Promise<string> {
    return bodyOf(await this.#talk.seen.first(`${what}`, (event) => this.#isMeant(event, what), patienceMs));
  }

  /** Waits for a message of the operator that notifies phones. Returns the time of its arrival. */
  async rings(what: RegExp): Promise<number> {
    await this.#talk.seen.first(`${what}, ringing`, (event) => this.#isMeant(event, what) && rings(event), patienceMs);
    return performance.now();
  }

  /** All events since the story began. */
  get events(): readonly SeenEvent[] {
    return this.#talk.seen.events.slice(this.#from);
  }

  /** Number of the operator's messages that the homeserver was asked to send since the story began. */
  get sent(): number {
    return this.#homeserver.arrivedSince(this.#beginMs, ({ method, path }) => {
      return method === "PUT" && /\/rooms\/[^/]+\/send\//.test(path);
    });
  }

  /** Renders the conversation like chat apps do. */
  transcript(title: string): string {
    return transcript(title, this.events);
  }

  #isMeant(event: SeenEvent, what: RegExp): boolean {
    const isOperator = event.type === "m.room.message" && event.sender !== this.#talk.person.userId;
    return isOperator && this.events.includes(event) && what.test(bodyOf(event));
  }
}
