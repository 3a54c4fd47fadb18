/**
 * Setup for the measurements: the servers, Alice, who may command every program, users who fill rooms, and the
 * programs, each with a room of every size. Also times commands.
 *
 * @module
 */

import type { Person, SeenEvent, Testbed } from "../testbed/mod.ts";
import { Contender, type Name, type Program } from "./contender.ts";

/** Duration of a command, counted from the homeserver's acknowledgement. */
export interface Timed {
  /** Until the API server reported the new replicas, in milliseconds. */
  readonly replicasMs: number;
  /** Until Alice's phone showed the decrypted answer, in milliseconds. */
  readonly answerMs: number;
}

/** A room with one program. */
export interface Room {
  /** Room id. */
  readonly id: string;
  /** The program that takes commands there. */
  readonly contender: Contender;
}

/** Servers, users and programs. */
export class Stage implements AsyncDisposable {
  /** Servers. */
  readonly testbed: Testbed;
  /** The user who sends the commands. */
  readonly alice: Person;
  /** The programs. */
  readonly contenders: readonly Contender[];
  readonly #others: Person[] = [];
  readonly #ending = new AbortController();
  /** Replicas of the targets, by namespace. */
  readonly #replicas = new Map<string, number>();
  readonly #watchers = new Set<() => void>();
  #watching: Promise<void> = Promise.resolve();

  private constructor(testbed: Testbed, alice: Person, contenders: readonly Contender[]) {
    this.testbed = testbed;
    this.alice = alice;
    this.contenders = contenders;
  }

  /** Creates accounts and targets. Starts no program. */
  static async create(testbed: Testbed, programs: readonly Program[]): Promise<Stage> {
    const alice = await testbed.person("alice");
    const contenders = [];
    for (const program of programs) contenders.push(await Contender.create(testbed, program, alice.userId));
    const stage = new Stage(testbed, alice, contenders);
    stage.#watching = stage.#watch();
    return stage;
  }

  /** All programs except the floor. */
  get operators(): readonly Contender[] {
    return this.contenders.filter(({ name }) => name !== "floor");
  }

  /** The program with a given name. */
  named(name: Name): Contender {
    const found = this.contenders.find((each) => each.name === name);
    if (found === undefined) throw new Error(`Cannot find ${name}`);
    return found;
  }

  /** Creates a room of this size with Alice, the program and other users. Encrypted, except for the floor. */
  async room(contender: Contender, size: number): Promise<Room> {
    while (this.#others.length < size - 2) {
      this.#others.push(await this.testbed.person(`other-${this.#others.length}`, false));
    }
    const others = this.#others.slice(0, size - 2);
    const id = await this.alice.createRoom({
      invite: [contender.userId, ...others.map(({ userId }) => userId)],
      encrypted: contender.name !== "floor",
    });
    for (const other of others) await other.join(id, false);
    await this.alice.untilJoined(id, [contender.userId, ...others.map(({ userId }) => userId)], 60_000);
    return { id, contender };
  }

  /** Sends a command that switches the program's target, and times it. */
  async command({ id, contender }: Room): Promise<Timed> {
    const { namespace, userId, name } = contender;
    const wanted = this.#replicas.get(namespace) === 0 ? 1 : 0;
    using seen = this.alice.watch(id);
    const changed = this.#untilReplicas(namespace, wanted);
    await this.alice.sendText(id, wanted === 1 ? "start" : "stop", { encrypted: name !== "floor" });
    const begin = performance.now();
    const isAnswer = ({ sender, content }: SeenEvent) =>
      sender === userId && /is (now )?(on|off)/.test(String(content["body"]));
    const [replicasMs, answerMs] = await Promise.all([
      changed.then((atMs) => atMs - begin),
      seen.first(`answer of ${name}`, isAnswer, 30_000).then(() => performance.now() - begin),
    ]);
    return { replicasMs, answerMs };
  }

  /** Waits until the program's target has settled in the commanded state, with nothing left to report. */
  async settled({ namespace }: Contender): Promise<void> {
    const { workloads } = this.testbed;
    await workloads.until(
      namespace,
      "clawdbot",
      ({ replicas, current, ready }) => replicas === ready && current === ready,
      10_000,
    );
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  /** Stops everything except the servers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    for (const contender of this.contenders) await contender.stop();
  }

  async #untilReplicas(namespace: string, wanted: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    const look = () => this.#replicas.get(namespace) === wanted && resolve(performance.now());
    this.#watchers.add(look);
    try {
      return await promise;
    } finally {
      this.#watchers.delete(look);
    }
  }

  async #watch(): Promise<void> {
    const path = "/apis/apps/v1/deployments?watch=1";
    for await (const { object } of this.testbed.cluster.lines(path, this.#ending.signal)) {
      this.#replicas.set(object.metadata.namespace, object.spec.replicas ?? 1);
      for (const look of this.#watchers) look();
    }
  }
}
