/**
 * An operator to have faults with: its own account, store, target and room, and a proxy before each of its two servers.
 * Alice, who commands it, reaches the homeserver directly, so that she can send while it cannot hear.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { baseRules, extendedRules, type Person, type TargetState, type Testbed } from "../../../testbed/mod.ts";
import { FaultProxy } from "../../../testbed/proxy.ts";
import { bodyOf, Conversation } from "../conversation.ts";
import { type LoggedOptions, OperatorProcess } from "../../operator_process.ts";

/** Servers and people that all faults share. */
export interface Ground {
  /** The servers. */
  readonly testbed: Testbed;
  /** Whom every operator obeys. */
  readonly alice: Person;
  /** Told of each subject that is made. */
  readonly made: (subject: Subject) => void;
}

/** What is different about a subject. */
export interface SubjectOptions {
  /** It talks to its servers without proxies. */
  readonly direct?: boolean;
  /** What it may do; the base Role unless given. */
  readonly role?: "base" | "extended";
  /** How its target's pods fare. */
  readonly target?: { readonly image?: string; readonly startDelayMs?: number };
  /** Other or further environment variables. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Host name under which it knows its homeserver. */
  readonly homeserverName?: string;
  /** As in {@linkcode LoggedOptions}. */
  readonly within?: readonly string[];
}

/** On a busy machine nothing is to fail for being slow; what is promised is asserted from what was measured. */
export const patienceMs = 90_000;

/** One operator and everything around it. */
export class Subject implements AsyncDisposable {
  /** Between the operator and the homeserver. */
  readonly homeserver: FaultProxy;
  /** Between the operator and the API server. */
  readonly kubernetes: FaultProxy;
  /** The operator's user id. */
  readonly operatorId: string;
  /** Its password. */
  readonly password: string;
  /** Folder for whatever belongs to it; its store is in `store`. */
  readonly folder: string;
  /** How it is run. */
  readonly options: LoggedOptions;
  /** The process; replaced by {@linkcode Subject.start}. */
  running!: OperatorProcess;
  /** Alice's room with it, once it has joined. */
  talk!: Conversation;
  readonly #ground: Ground;
  /** Namespace of its target. */
  readonly namespace: string;
  readonly #resources: AsyncDisposableStack;
  readonly #commands: { readonly eventId: string; effects: number }[] = [];
  #generation = 0;

  private constructor(
    parts: Pick<Subject, "homeserver" | "kubernetes" | "operatorId" | "password" | "folder" | "options">,
    ground: Ground,
    namespace: string,
    resources: AsyncDisposableStack,
  ) {
    Object.assign(this, parts);
    ({ homeserver: this.homeserver, kubernetes: this.kubernetes, operatorId: this.operatorId } = parts);
    ({ password: this.password, folder: this.folder, options: this.options } = parts);
    this.#ground = ground;
    this.namespace = namespace;
    this.#resources = resources;
  }

  /** Makes account, target and proxies. Nothing runs yet. */
  static async create(ground: Ground, given: SubjectOptions = {}): Promise<Subject> {
    await using resources = new AsyncDisposableStack();
    const { testbed: { homeserver, cluster, workloads, folder: base } } = ground;
    const name = `fault-${crypto.randomUUID().slice(0, 8)}`;
    const folder = join(base, name);
    await Deno.mkdir(folder);
    const password = crypto.randomUUID();
    const rules = given.role === "extended" ? extendedRules : baseRules;
    const [toHomeserver, toKubernetes, account, registered] = await Promise.all([
      FaultProxy.start({ url: homeserver.url }),
      FaultProxy.start({ url: cluster.url, authority: cluster.authority }),
      workloads.createTarget({ namespace: name, name: "clawdbot", ...given.target })
        .then(() => workloads.serviceAccount(name, "openclaw-toggle", rules("clawdbot"))),
      homeserver.register(name, password),
    ]);
    resources.use(toHomeserver);
    resources.use(toKubernetes);
    const kubeconfig = join(folder, "kubeconfig");
    await Deno.writeTextFile(kubeconfig, JSON.stringify(kubeconfigFor(toKubernetes.url, account.token)));
    const options: LoggedOptions = {
      environment: {
        MATRIX_HOMESERVER: given.direct ? homeserver.url : named(toHomeserver.url, given.homeserverName),
        MATRIX_USER: registered.localpart,
        MATRIX_PASSWORD: password,
        ALLOWED_USERS: ground.alice.userId,
        DEPLOYMENT_NAMESPACE: name,
        CRYPTO_STORE_PATH: join(folder, "store"),
        KUBECONFIG: given.direct ? account.kubeconfig : kubeconfig,
        LOG_FORMAT: "text",
        // What is sent at the beginning of the longest outage is to be carried out after it.
        MAX_COMMAND_AGE: "15m",
        ...given.environment,
      },
      logFile: join(folder, "operator.log"),
      ...(given.within === undefined ? {} : { within: given.within }),
    };
    const proxies = { homeserver: toHomeserver, kubernetes: toKubernetes };
    const subject = new Subject(
      { ...proxies, operatorId: registered.userId, password, folder, options },
      ground,
      name,
      resources.move(),
    );
    ground.made(subject);
    subject.#generation = (await subject.state()).generation;
    return subject;
  }

  /** The same, started and ready, in a room with Alice where one command has been answered. */
  static async ready(ground: Ground, given: SubjectOptions = {}): Promise<Subject> {
    await using resources = new AsyncDisposableStack();
    const subject = resources.use(await Subject.create(ground, given));
    await subject.start();
    await subject.meet();
    resources.move();
    return subject;
  }

  /** Starts the process and waits until it is ready. */
  async start(options: LoggedOptions = this.options): Promise<void> {
    this.running = new OperatorProcess(options);
    await this.running.untilReady();
  }

  /** Has the operator invited, and asks it something. */
  async meet(): Promise<void> {
    const { alice } = this.#ground;
    const roomId = await alice.createRoom({ invite: [this.operatorId], encrypted: true });
    await alice.untilJoined(roomId, [this.operatorId], patienceMs);
    this.talk = new Conversation(alice, roomId, this.operatorId);
    await this.ask("status", 0);
  }

  /** Sends a command. `effects`: how often it changes the target. */
  async send(text: string, effects: number): Promise<string> {
    const eventId = await this.talk.send(text);
    this.#commands.push({ eventId, effects });
    return eventId;
  }

  /** A command turned out to have changed nothing, and said so. */
  wasRefused(refused: string): void {
    for (const command of this.#commands) if (command.eventId === refused) command.effects = 0;
  }

  /** Waits for the answer to a command. */
  async answerTo(eventId: string): Promise<string> {
    return bodyOf(await this.talk.answerTo(eventId, patienceMs));
  }

  /** Sends a command and waits for its answer. */
  async ask(text: string, effects: number): Promise<string> {
    return await this.answerTo(await this.send(text, effects));
  }

  /** What the target is, as soon as it is as wanted. */
  async state(wanted: (state: TargetState) => boolean = () => true): Promise<TargetState> {
    return await this.#ground.testbed.workloads.until(this.namespace, "clawdbot", wanted, patienceMs);
  }

  /**
   * Counts, over all commands so far, effects and answers that are missing or too many. Asks for the status first:
   * whatever was going to be said twice has been said before that is answered.
   */
  async tally(): Promise<{ lost: number; doubled: number }> {
    await this.ask("status", 0);
    const due = this.#commands.reduce((sum, { effects }) => sum + effects, 0);
    const surplus = (await this.state()).generation - this.#generation - due;
    const answers = this.#commands.map(({ eventId }) => this.talk.answersTo(eventId).length);
    return {
      lost: answers.filter((count) => count === 0).length + Math.max(0, -surplus),
      doubled: answers.filter((count) => count > 1).length + Math.max(0, surplus),
    };
  }

  /** As {@linkcode Subject.tally}, when every command has been answered. */
  async tallyAll(): Promise<{ lost: number; doubled: number }> {
    for (const { eventId } of this.#commands) await this.answerTo(eventId);
    return await this.tally();
  }

  /** Everything that the operator has logged. */
  async log(): Promise<string> {
    return await Deno.readTextFile(this.options.logFile).catch(() => "");
  }

  /** Waits until the operator has logged something. */
  async untilLogged(what: RegExp): Promise<void> {
    await eventually(`${what} in the operator's log`, async () => what.test(await this.log()));
  }

  /** Ends the process by SIGTERM, within 10 s and with exit code 0. */
  async endBySignal(): Promise<string> {
    const begin = performance.now();
    assert.equal(await this.running.stop(), 0, "exit code after SIGTERM");
    const ms = performance.now() - begin;
    assert.ok(ms <= 10_000, `ended ${ms.toFixed(0)} ms after SIGTERM`);
    return `SIGTERM: 0 after ${(ms / 1_000).toFixed(1)} s`;
  }

  /** Stops the target, counts, and ends the process. */
  async finish(): Promise<{ lost: number; doubled: number; end: string }> {
    assert.match(await this.ask("stop", 1), /is off/);
    return { ...await this.tally(), end: await this.endBySignal() };
  }

  /** Attempts that have failed, by the operator's log: for requests that reach nobody who could count them. */
  async failedAttempts(): Promise<number> {
    return (await this.log()).match(/trying again in|starting over in/g)?.length ?? 0;
  }

  /** Kills what runs and removes what was made, except in the cluster. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.running?.[Symbol.asyncDispose]();
    await this.#resources.disposeAsync();
  }
}

/** Waits until something holds. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!await holds()) {
    if (performance.now() > deadline) throw new Error(`Not within ${patienceMs} ms: ${what}`);
    await elapsed(50);
  }
}

/** Waits for so many milliseconds. */
export function elapsed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function named(url: string, name: string | undefined): string {
  return name === undefined ? url : url.replace("127.0.0.1", name);
}

function kubeconfigFor(server: string, token: string): unknown {
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "proxy", cluster: { server } }],
    users: [{ name: "toggle", user: { token } }],
    contexts: [{ name: "proxy", context: { cluster: "proxy", user: "toggle" } }],
    "current-context": "proxy",
  };
}
