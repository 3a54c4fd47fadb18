/** What the cases besides the matrix tell: a line for each thing that was done, and what came of it. */

import assert from "node:assert/strict";
import type { NamedCase } from "../results.ts";
import { type Client, type Room, send } from "./people.ts";
import { command } from "./senders.ts";
import { table } from "./table.ts";
import type { World } from "./world.ts";

/** Collects lines and prints them. */
export class Story {
  readonly #title: string;
  readonly #rows: string[][] = [];

  /** @param title what it is about */
  constructor(title: string) {
    this.#title = title;
  }

  /**
   * Adds a line.
   *
   * @param done what somebody did
   * @param came what came of it
   * @param told what was said or logged
   */
  add(done: string, came: string, told: string): void {
    this.#rows.push([done, came, told]);
  }

  /** The lines as a table. */
  toString(): string {
    return table([this.#title, "came of it", "said in the room, or logged"], this.#rows, 110);
  }
}

/** A case; what it tells goes into the story. */
export interface Case extends NamedCase {
  /** Does it, and throws where it does not hold. */
  run(world: World, story: Story): Promise<void>;
}

/** Sends a command as somebody, waits until the log says what became of it, and compares the target's count. */
export async function tries(
  world: World,
  story: Story,
  done: string,
  say: () => Promise<string>,
  reason: string,
): Promise<void> {
  const before = await world.state();
  const eventId = await say();
  await world.log.first(`event ${eventId}`, ({ properties }) => properties["event"] === eventId);
  const first = await world.log.verdictOn(eventId);
  const isLate = first === "undecryptable: no-key" && reason !== first;
  const verdict = isLate ? await world.log.verdictWithKey(eventId) : first;
  const after = await world.state();
  const obeyed = before.generation !== after.generation;
  const came = obeyed
    ? `obeyed: ${before.replicas} → ${after.replicas}`
    : verdict?.endsWith(": done")
    ? "obeyed"
    : "not obeyed";
  story.add(done, came, `log: ${verdict}`);
  assert.equal(verdict, reason, done);
  if (!reason.endsWith(": done")) assert.ok(!obeyed, done);
}

/** Sends a command; returns its event id. */
export function commandOf(world: World, client: Client, { roomId }: Room, word: string): () => Promise<string> {
  const { type, content } = command(world, word);
  return () => send(client, roomId, type, content);
}
