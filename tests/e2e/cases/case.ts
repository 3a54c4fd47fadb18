/** Definition of a case, and helpers that many cases use. */

import assert from "node:assert/strict";
import { bodyOf, type Conversation, type Exchange } from "../conversation.ts";
import type { NamedCase } from "../results.ts";
import type { World } from "../world.ts";

/** A case of the suite. Each must leave the target off and the operator running. */
export interface Case extends NamedCase {
  /** Runs the case. Throws if it fails. */
  run(world: World): Promise<void>;
}

/** A command and its expected outcome. */
export interface Expected {
  /** What is sent. */
  readonly send: string;
  /** The answer, exactly or as a pattern. */
  readonly answer: string | RegExp;
  /** Replicas afterwards. */
  readonly replicas: number;
}

/** Asserts the text of an answer. */
export function assertSays(exchange: Exchange, expected: string | RegExp): void {
  const body = bodyOf(exchange.answer);
  if (typeof expected === "string") assert.equal(body, expected);
  else assert.match(body, expected);
}

/** Sends a command, checks its answer and effect, and adds a row to the report. */
export async function obey(world: World, title: string, expected: Expected, talk = world.talk): Promise<Exchange> {
  const before = await world.state();
  const exchange = await talk.ask(expected.send);
  const after = await world.state();
  const { ms } = exchange;
  const row = { case: title, sent: expected.send, before: before.replicas, after: after.replicas, ms };
  world.report.add({ ...row, back: bodyOf(exchange.answer) });
  assertSays(exchange, expected.answer);
  talk.assertWellFormed(exchange, expected.send.trim());
  assert.equal(after.replicas, expected.replicas);
  return exchange;
}

/**
 * Checks that something sent has no effect. The operator reads a room in order, so once it has answered a later
 * command, it has processed the earlier message.
 *
 * @param act sends it; returns the ID of the event that must not be answered, if any
 */
export async function ignore(
  world: World,
  title: string,
  sent: string,
  talk: Conversation,
  act: () => Promise<string>,
  mayAnswer?: RegExp,
): Promise<void> {
  const before = await world.state();
  const eventId = await act();
  await talk.ask("status");
  const after = await world.state();
  const said = talk.saidAbout(eventId).map(bodyOf);
  world.report.add({
    ...{ case: title, sent, back: said.join(" / ") || "(nothing)", before: before.replicas, after: after.replicas },
    ms: undefined,
  });
  assert.deepEqual(said.filter((body) => !mayAnswer?.test(body)), []);
  assert.equal(after.generation, before.generation);
}
