/** The refusal matrix: tries every way in as every sender and compares the outcome with the expected one. */

import assert from "node:assert/strict";
import { type Expected, expected, type WayName } from "./expected.ts";
import { bodyOf } from "../conversation.ts";
import { type Sender, senderNames } from "./senders.ts";
import { table } from "./table.ts";
import { type Attempt, cameOf, inviteToNewRoom, type Way, ways } from "./ways.ts";
import type { World } from "./world.ts";

/** Outcome of a way in. */
interface Outcome {
  readonly effect: string;
  readonly answer: string;
  readonly log: string | undefined;
}

/** Runs the whole matrix and collects its cells. */
export class Matrix {
  readonly #world: World;
  readonly #senders: readonly Sender[];
  readonly #rows: string[][] = [];
  readonly #wrong: string[] = [];
  readonly #reasons = new Map<string, number>();

  /**
   * @param world servers and people
   * @param senders in the order of the table
   */
  constructor(world: World, senders: readonly Sender[]) {
    assert.deepEqual(senders.map(({ name }) => name), senderNames);
    this.#world = world;
    this.#senders = senders;
  }

  /** Expected count of each reason. */
  get reasons(): ReadonlyMap<string, number> {
    return this.#reasons;
  }

  /** Tries one way as all senders: concurrently those who must be refused, then the others one by one. */
  async try(way: Way & { readonly name: WayName }): Promise<void> {
    const possible = this.#senders.filter(({ name }) => !("cannot" in expected[way.name](name)));
    const moves = (sender: Sender) => effectOf(expected[way.name](sender.name)).includes("→");
    const outcomes = new Map<Sender, Outcome>();
    const together = possible.filter((sender) => !way.alone && !moves(sender));
    const alone = possible.filter((sender) => !together.includes(sender));
    for (const group of [together, ...alone.map((sender) => [sender])]) {
      const tried = await Promise.all(group.map((sender) => this.#attempt(way, sender)));
      for (const { sender, outcome } of tried) outcomes.set(sender, await outcome());
      if (group.some(moves)) await this.#world.switchOff();
    }
    this.#note(way.name, outcomes);
  }

  /** All senders invite the operator while it is down. */
  async tryInvitationsWhileDown(): Promise<void> {
    const world = this.#world;
    const name = "invitation while down";
    assert.equal(await world.operator.stop(), 0);
    const possible = this.#senders.filter((sender) => !("cannot" in expected[name](sender.name)));
    const rooms = await Promise.all(possible.map((sender) => inviteToNewRoom(world, sender)));
    await world.startOperator();
    const outcomes = new Map<Sender, Outcome>();
    for (const [index, sender] of possible.entries()) {
      const attempt = await cameOf(world, rooms[index]);
      if ("effect" in attempt) outcomes.set(sender, { ...attempt, answer: "" });
    }
    this.#note(name, outcomes);
  }

  /** Throws if a cell isn't as expected. */
  check(way: WayName): void {
    assert.deepEqual(this.#wrong.filter((line) => line.startsWith(`${way} ×`)), []);
  }

  /** Formats the cells as a table. */
  toString(): string {
    return table(["way in", "sender", "effect", "answer", "log: reason", "counted"], this.#rows, 56);
  }

  async #attempt(way: Way & { readonly name: WayName }, sender: Sender) {
    const world = this.#world;
    const { room } = sender;
    const must = expected[way.name](sender.name);
    const before = await world.state();
    const since = room.seen.events.length;
    const attempt: Attempt = await way.attempt(world, sender);
    const later = await room.say("help"); // a room is read in order: once this is answered, everything before it is done
    await room.answerTo(later);
    const verdict = (eventId: string) => world.log.finalVerdictOn(eventId, (verdict) => isLogged(verdict, must));
    if ("eventId" in attempt) await verdict(attempt.eventId); // which is not in order, if its key is late
    if ("answer" in must && must.answer) await room.told(must.answer, since).catch(() => undefined); // compared below
    const outcome = async (): Promise<Outcome> => {
      if (effectOf(must).includes("→")) await room.told(/is ready \(took/, since);
      const own = "eventId" in attempt ? attempt.eventId : undefined;
      const said = room.saidSince(since).filter((event) => event.eventId !== own && !isHelp(bodyOf(event)));
      const answer = said.map(bodyOf).join(" / ");
      if ("effect" in attempt) return { ...attempt, answer };
      const after = await world.state();
      const moved = before.generation !== after.generation;
      return {
        effect: moved ? `${before.replicas} → ${after.replicas}` : "none",
        answer,
        log: await verdict(attempt.eventId),
      };
    };
    return { sender, outcome };
  }

  #note(way: WayName, outcomes: ReadonlyMap<Sender, Outcome>): void {
    for (const sender of this.#senders) {
      const must = expected[way](sender.name);
      const came = outcomes.get(sender);
      if ("cannot" in must || came === undefined) {
        this.#rows.push([way, sender.name, "cannot occur", "cannot" in must ? must.cannot : "", "", ""]);
        continue;
      }
      const reason = isRefusal(came.log) ? came.log : undefined;
      if (reason !== undefined) this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
      const counted = reason === undefined ? "" : `refused{${reason}} + 1`;
      this.#rows.push([way, sender.name, came.effect, came.answer || "(none)", came.log ?? "(none)", counted]);
      if (!isAsExpected(came, must)) {
        this.#wrong.push(`${way} × ${sender.name}: ${JSON.stringify(came)}, and not ${show(must)}`);
      }
    }
  }
}

/** All ways in the order of the table. The one that needs the operator down runs separately. */
export const allWays: readonly (Way & { readonly name: WayName })[] = Object.values(ways);

function effectOf(must: Expected): string {
  return "effect" in must ? must.effect : "";
}

function isAsExpected({ effect, answer, log }: Outcome, must: Expected): boolean {
  if ("cannot" in must || effect !== must.effect) return false;
  if (must.answer === undefined ? answer !== "" : !must.answer.test(answer)) return false;
  return isLogged(log, must);
}

function isLogged(log: string | undefined, must: Expected): boolean {
  if ("cannot" in must) return false;
  return must.log instanceof RegExp ? must.log.test(log ?? "") : must.log === log;
}

/** A reason is one word with hyphens. Anything else describes what was done. */
function isRefusal(log: string | undefined): log is string {
  return log !== undefined && log !== "joined" && /^[a-z]+(-[a-z]+)*$/.test(log);
}

/** Matches the answer to `help`, which this suite and some ways send. */
function isHelp(body: string): boolean {
  return body.includes("on and off. Commands:");
}

function show(must: Expected): string {
  return JSON.stringify(must, (_, value) => value instanceof RegExp ? String(value) : value);
}
