/** What a case is, and the few things that many of them do. */

import assert from "node:assert/strict";
import { bodyOf, type Conversation, type Exchange } from "../conversation.ts";
import type { NamedCase } from "../results.ts";
import type { World } from "../world.ts";

/** A case of the suite. Each leaves the target off and the operator running. */
export interface Case extends NamedCase {
  /** Does it, and throws where it does not hold. */
  run(world: World): Promise<void>;
}

/** A command and what must come of it. */
export interface Expected {
  /** What is sent. */
  readonly send: string;
  /** The answer: exactly this, or of this form. */
  readonly answer: string | RegExp;
  /** Replicas afterwards. */
  readonly replicas: number;
}

/** Asserts that an answer says what it should. */
export function assertSays(exchange: Exchange, expected: string | RegExp): void {
  const body = bodyOf(exchange.answer);
  if (typeof expected === "string") assert.equal(body, expected);
  else assert.match(body, expected);
}

/** Sends a command, checks its answer and its effect, and adds a line to the report. */
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
 * Checks that something said has no effect. The operator reads a room in order, so once it has answered a command
 * that was sent later, it has done whatever it was going to do about the earlier one.
 *
 * @param act says it; the event id of what is not to be answered, where it may not be
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
