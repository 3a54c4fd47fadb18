/**
 * Gives commands to a crowd at a steady rate, whether or not the earlier ones have been carried out, and observes what
 * becomes of each.
 *
 * @module
 */

import type { Message } from "../sandbox/person/mod.ts";
import type { Crowd, CrowdRoom } from "./crowd.ts";

/** A command whose message the homeserver has acknowledged. */
export interface Given {
  readonly eventId: string;
  readonly roomId: string;
  readonly target: string;
  readonly replicas: number;
  /** When it was acknowledged, by `performance.now()`. */
  readonly atMs: number;
  /** When the API server carried out its PATCH. */
  patchedAtMs?: number;
}

interface Patch {
  readonly atMs: number;
  readonly replicas: number;
}

/** A target with its rooms, and the commands and changes that haven't been matched yet. */
class Target {
  /** Every acknowledged command, in order. */
  readonly given: Given[] = [];
  /** Every change of `spec.replicas`, in order. */
  readonly patches: Patch[] = [];
  readonly #rooms: readonly CrowdRoom[];
  #turn = 0;
  #said = 0;

  constructor(rooms: readonly CrowdRoom[]) {
    this.#rooms = rooms;
  }

  get roomCount(): number {
    return this.#rooms.length;
  }

  /** Whether nothing is under way. */
  get idle(): boolean {
    return this.#said === this.patches.length;
  }

  /**
   * Returns the room and text of the next command. Rooms take turns, but only while nothing is under way: between rooms
   * there is no order.
   */
  next(): { readonly room: CrowdRoom; readonly replicas: number } {
    if (this.idle) this.#turn += 1;
    const room = this.#rooms[this.#turn % this.#rooms.length];
    if (room === undefined) throw new RangeError("Cannot command a target without rooms");
    this.#said += 1;
    return { room, replicas: this.#said % 2 };
  }

  /** Matches commands with changes: the first with the first, and so on. */
  match(): void {
    for (let index = this.given.length - 1; index >= 0; index--) {
      const [given, patch] = [this.given[index], this.patches[index]];
      if (given?.patchedAtMs !== undefined) return;
      if (given !== undefined && patch !== undefined) given.patchedAtMs = patch.atMs;
    }
  }
}

/** What has become of all commands so far. */
export interface Account {
  readonly given: number;
  /** Commands without a change. */
  readonly lost: number;
  /** Changes without a command, or other than commanded. */
  readonly doubled: number;
  /** Commands without an answer. */
  readonly unanswered: number;
  /** Commands with more than one message in answer. */
  readonly answeredTwice: number;
}

/** Gives commands and watches. */
export class Load implements Disposable {
  /** All acknowledged commands, in order. */
  readonly given: Given[] = [];
  readonly #targets: readonly Target[];
  /** Messages of the operator, by the command that they reply to. */
  readonly #answers = new Map<string, Set<string>>();
  readonly #watching = new DisposableStack();
  readonly #waiting = new Set<() => void>();
  #answered = 0;
  #turn = 0;

  constructor({ rooms, kubernetes, operatorId }: Pick<Crowd, "rooms" | "kubernetes" | "operatorId">) {
    const byTarget = Map.groupBy(rooms, ({ target }) => target);
    const targets = new Map([...byTarget].map(([name, its]) => [name, new Target(its)]));
    this.#targets = [...targets.values()];
    const replicasOf = new Map<string, number>();
    this.#watching.use(kubernetes.onChange(({ resource, name, replicas }) => {
      if (resource !== "deployments" || replicas === undefined || replicas === (replicasOf.get(name) ?? 0)) return;
      replicasOf.set(name, replicas);
      const target = targets.get(name);
      target?.patches.push({ atMs: performance.now(), replicas });
      target?.match();
      this.#look();
    }));
    for (const speaker of new Set(rooms.map((room) => room.speaker))) {
      this.#watching.use(speaker.listen(({ sender, about, eventId, kind }: Message) => {
        if (sender !== operatorId || about === undefined || kind === "undecryptable") return;
        const answers = this.#answers.get(about) ?? new Set();
        if (answers.size === 0) this.#answered += 1;
        this.#answers.set(about, answers.add(eventId));
        this.#look();
      }));
    }
  }

  /** Commands without an answer. */
  get unanswered(): number {
    return this.given.length - this.#answered;
  }

  /**
   * Gives commands for a time, at random moments (a Poisson process), to each target in turn.
   *
   * @param perSecond how many on average
   */
  async give(perSecond: number, seconds: number): Promise<void> {
    const under: Promise<void>[] = [];
    const end = performance.now() + seconds * 1_000;
    for (let due = performance.now();;) {
      due += -Math.log(1 - Math.random()) * 1_000 / perSecond;
      if (due >= end) break;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
      under.push(this.#giveOne());
    }
    await Promise.all(under);
  }

  /** Gives one command in every room, one after the other, and waits for each answer. */
  async giveInEachRoom(patienceMs: number): Promise<void> {
    const rounds = Math.max(...this.#targets.map(({ roomCount }) => roomCount));
    for (let i = 0; i < rounds * this.#targets.length; i++) {
      await this.#giveOne();
      await this.settle(patienceMs);
    }
  }

  /**
   * Waits until every command has been carried out and answered.
   *
   * @returns whether that is so before the time is up
   */
  async settle(patienceMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = () => this.unanswered === 0 && this.#targets.every(({ idle }) => idle) && resolve(true);
    const timer = setTimeout(() => resolve(false), patienceMs);
    this.#waiting.add(look);
    look();
    const settled = await promise;
    clearTimeout(timer);
    this.#waiting.delete(look);
    return settled;
  }

  /** Tells what has become of the commands. */
  account(): Account {
    const answersOf = ({ eventId }: Given) => this.#answers.get(eventId)?.size ?? 0;
    const sum = (count: (target: Target) => number) => this.#targets.reduce((all, each) => all + count(each), 0);
    return {
      given: this.given.length,
      lost: sum(({ given, patches }) => Math.max(0, given.length - patches.length)),
      doubled: sum(({ given, patches }) => patches.filter(({ replicas }, i) => given[i]?.replicas !== replicas).length),
      unanswered: this.given.filter((given) => answersOf(given) === 0).length,
      answeredTwice: this.given.filter((given) => answersOf(given) > 1).length,
    };
  }

  /** Stops watching. */
  [Symbol.dispose](): void {
    this.#watching.dispose();
  }

  async #giveOne(): Promise<void> {
    const target = this.#targets[this.#turn++ % this.#targets.length];
    if (target === undefined) throw new RangeError("Cannot give a command without targets");
    const { room: { id: roomId, speaker, target: name }, replicas } = target.next();
    const eventId = await speaker.say(roomId, `${replicas === 1 ? "start" : "stop"} ${name}`);
    const given = { eventId, roomId, target: name, replicas, atMs: performance.now() };
    target.given.push(given);
    this.given.push(given);
    target.match();
    this.#look();
  }

  #look(): void {
    for (const look of [...this.#waiting]) look();
  }
}
