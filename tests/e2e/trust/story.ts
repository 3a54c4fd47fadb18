/** Report of the cases outside the matrix: one row per action and its outcome. */

import assert from "node:assert/strict";
import type { NamedCase } from "../results.ts";
import { type Client, type Room, send } from "./people.ts";
import { command } from "./senders.ts";
import { table } from "./table.ts";
import type { World } from "./world.ts";

/** Collects rows and formats them. */
export class Story {
  readonly #title: string;
  readonly #rows: string[][] = [];

  /** @param title subject */
  constructor(title: string) {
    this.#title = title;
  }

  /**
   * Adds a row.
   *
   * @param done what someone did
   * @param came the outcome
   * @param told what was sent or logged
   */
  add(done: string, came: string, told: string): void {
    this.#rows.push([done, came, told]);
  }

  /** Formats the rows as a table. */
  toString(): string {
    return table([this.#title, "came of it", "said in the room, or logged"], this.#rows, 110);
  }
}

/** A case, which reports to the story. */
export interface Case extends NamedCase {
  /** Runs the case. Throws if it fails. */
  run(world: World, story: Story): Promise<void>;
}

/** Sends a command, waits until its outcome is logged, and compares the target's replica count. */
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
  const verdict = await world.log.finalVerdictOn(eventId, (verdict) => verdict === reason);
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

/** Returns a function that sends a command and returns its event ID. */
export function commandOf(world: World, client: Client, { roomId }: Room, word: string): () => Promise<string> {
  const { type, content } = command(world, word);
  return () => send(client, roomId, type, content);
}
