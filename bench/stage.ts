/**
 * Where measurements take place: the servers, Alice, whom every program obeys, others who fill rooms, and the programs,
 * each with a room of every size. Knows how a command is timed.
 *
 * @module
 */

import type { Person, SeenEvent, Testbed } from "../testbed/mod.ts";
import { Contender, type Name, type Program } from "./contender.ts";

/** How long a command took, from the moment when the homeserver had acknowledged it. */
export interface Timed {
  /** Until the API server told of changed replicas, in milliseconds. */
  readonly replicasMs: number;
  /** Until Alice's phone showed the answer, decrypted, in milliseconds. */
  readonly answerMs: number;
}

/** A room with a program in it. */
export interface Room {
  /** Room id. */
  readonly id: string;
  /** Whose commands are carried out there. */
  readonly contender: Contender;
}

/** The surroundings. */
export class Stage implements AsyncDisposable {
  /** Servers. */
  readonly testbed: Testbed;
  /** Who commands. */
  readonly alice: Person;
  /** The programs. */
  readonly contenders: readonly Contender[];
  readonly #others: Person[] = [];
  readonly #ending = new AbortController();
  /** What the targets' replicas are, by namespace. */
  readonly #replicas = new Map<string, number>();
  readonly #watchers = new Set<() => void>();
  #watching: Promise<void> = Promise.resolve();

  private constructor(testbed: Testbed, alice: Person, contenders: readonly Contender[]) {
    this.testbed = testbed;
    this.alice = alice;
    this.contenders = contenders;
  }

  /** Makes accounts and targets; nothing is started yet. */
  static async create(testbed: Testbed, programs: readonly Program[]): Promise<Stage> {
    const alice = await testbed.person("alice");
    const contenders = [];
    for (const program of programs) contenders.push(await Contender.create(testbed, program, alice.userId));
    const stage = new Stage(testbed, alice, contenders);
    stage.#watching = stage.#watch();
    return stage;
  }

  /** The programs but the floor. */
  get operators(): readonly Contender[] {
    return this.contenders.filter(({ name }) => name !== "floor");
  }

  /** The program of a name. */
  named(name: Name): Contender {
    const found = this.contenders.find((each) => each.name === name);
    if (found === undefined) throw new Error(`Cannot find ${name}`);
    return found;
  }

  /** A room of Alice, the program, and as many others as it takes; encrypted, except for the floor. */
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

  /** Has a program switch its target, and times it. */
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

  /** Waits until a program's target is as it was told to be, and nothing more is to be said of it. */
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

  /** Ends everything but the servers. */
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
