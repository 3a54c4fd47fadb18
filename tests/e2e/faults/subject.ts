/**
 * An operator to expose to faults, with its own account, store, target and room, and a proxy in front of each of its
 * two servers. Alice, who commands it, reaches the homeserver directly, so she can send while the operator can't
 * receive.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { baseRules, extendedRules, type Person, type TargetState, type Testbed } from "../../../testbed/mod.ts";
import { FaultProxy } from "../../../testbed/proxy.ts";
import { bodyOf, Conversation } from "../conversation.ts";
import { type LoggedOptions, OperatorProcess } from "../../operator_process.ts";

/** Servers and people that all rows share. */
export interface Ground {
  /** The servers. */
  readonly testbed: Testbed;
  /** The user whom every operator obeys. */
  readonly alice: Person;
  /** Called with each new subject. */
  readonly made: (subject: Subject) => void;
}

/** Options of {@linkcode Subject.create}. */
export interface SubjectOptions {
  /** Whether it connects to its servers without proxies. */
  readonly direct?: boolean;
  /** Its permissions. Default: the base Role. */
  readonly role?: "base" | "extended";
  /** Behaviour of its target's pods. */
  readonly target?: { readonly image?: string; readonly startDelayMs?: number };
  /** Additional environment variables, or replacements. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Host name under which it knows its homeserver. */
  readonly homeserverName?: string;
  /** See {@linkcode LoggedOptions}. */
  readonly within?: readonly string[];
}

/** Generous, so that nothing fails on a busy machine for being slow. Required times are asserted from measurements. */
export const patienceMs = 90_000;

/** One operator and its environment. */
export class Subject implements AsyncDisposable {
  /** Proxy in front of the homeserver. */
  readonly homeserver: FaultProxy;
  /** Proxy in front of the API server. */
  readonly kubernetes: FaultProxy;
  /** The operator's user ID. */
  readonly operatorId: string;
  /** Its password. */
  readonly password: string;
  /** Folder for its files. The store is in `store`. */
  readonly folder: string;
  /** How it is run. */
  readonly options: LoggedOptions;
  /** The current process. Replaced by {@linkcode Subject.start}. */
  running!: OperatorProcess;
  /** Alice's room with the operator, once it has joined. */
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

  /** Creates account, target and proxies. Starts nothing. */
  static async create(ground: Ground, given: SubjectOptions = {}): Promise<Subject> {
    await using resources = new AsyncDisposableStack();
    const { testbed: { homeserver, cluster, workloads, serviceAccounts, folder: base } } = ground;
    const name = `fault-${crypto.randomUUID().slice(0, 8)}`;
    const folder = join(base, name);
    await Deno.mkdir(folder);
    const password = crypto.randomUUID();
    const rules = given.role === "extended" ? extendedRules : baseRules;
    const [toHomeserver, toKubernetes, account, registered] = await Promise.all([
      FaultProxy.start({ url: homeserver.url }),
      FaultProxy.start({ url: cluster.url, authority: cluster.authority }),
      workloads.createTarget({ namespace: name, name: "clawdbot", ...given.target })
        .then(() => serviceAccounts.create(name, "openclaw-toggle", rules("clawdbot"))),
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
        // A command sent at the beginning of the longest outage must not become too old.
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

  /** Creates a subject, starts it, and waits until it has answered a command in a room with Alice. */
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

  /** Invites the operator to a room and asks for the status. */
  async meet(): Promise<void> {
    const { alice } = this.#ground;
    const roomId = await alice.createRoom({ invite: [this.operatorId], encrypted: true });
    await alice.untilJoined(roomId, [this.operatorId], patienceMs);
    this.talk = new Conversation(alice, roomId, this.operatorId);
    await this.ask("status", 0);
  }

  /** Sends a command. `effects` is how often it must change the target. */
  async send(text: string, effects: number): Promise<string> {
    const eventId = await this.talk.send(text);
    this.#commands.push({ eventId, effects });
    return eventId;
  }

  /** Records that a command was refused and must have changed nothing. */
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

  /** Waits until the target's state satisfies `wanted`, and returns it. */
  async state(wanted: (state: TargetState) => boolean = () => true): Promise<TargetState> {
    return await this.#ground.testbed.workloads.until(this.namespace, "clawdbot", wanted, patienceMs);
  }

  /**
   * Counts missing and surplus effects and answers of all commands so far. First asks for the status, whose answer
   * comes after anything that would be sent twice.
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

  /** Like {@linkcode Subject.tally}, but first waits until every command has been answered. */
  async tallyAll(): Promise<{ lost: number; doubled: number }> {
    for (const { eventId } of this.#commands) await this.answerTo(eventId);
    return await this.tally();
  }

  /** Returns the operator's whole log. */
  async log(): Promise<string> {
    return await Deno.readTextFile(this.options.logFile).catch(() => "");
  }

  /** Waits until the operator's log matches. */
  async untilLogged(what: RegExp): Promise<void> {
    await eventually(`${what} in the operator's log`, async () => what.test(await this.log()));
  }

  /** Stops the process by SIGTERM and asserts that it exits with code 0 within 10 s. */
  async endBySignal(): Promise<string> {
    const begin = performance.now();
    assert.equal(await this.running.stop(), 0, "exit code after SIGTERM");
    const ms = performance.now() - begin;
    assert.ok(ms <= 10_000, `ended ${ms.toFixed(0)} ms after SIGTERM`);
    return `SIGTERM: 0 after ${(ms / 1_000).toFixed(1)} s`;
  }

  /** Turns the target off, counts, and stops the process. */
  async finish(): Promise<{ lost: number; doubled: number; end: string }> {
    assert.match(await this.ask("stop", 1), /is off/);
    return { ...await this.tally(), end: await this.endBySignal() };
  }

  /**
   * Number of failed attempts according to the operator's log, for requests that reach no server that could count them.
   */
  async failedAttempts(): Promise<number> {
    return (await this.log()).match(/trying again in|starting over in/g)?.length ?? 0;
  }

  /** Kills the process and removes what was created, except in the cluster. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.running?.[Symbol.asyncDispose]();
    await this.#resources.disposeAsync();
  }
}

/** Waits until a condition holds. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!await holds()) {
    if (performance.now() > deadline) throw new Error(`Not within ${patienceMs} ms: ${what}`);
    await elapsed(50);
  }
}

/** Waits for a time, in milliseconds. */
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
