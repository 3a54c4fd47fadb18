/** Rooms without any user whom the operator obeys, and recovery for a user whose identity has changed. */

import assert from "node:assert/strict";
import { Room } from "./people.ts";
import { type Case, commandOf, type Story, tries } from "./story.ts";
import type { World } from "./world.ts";

async function leaves(world: World, story: Story): Promise<void> {
  const { alice, mallory, operatorId, log } = world;
  const room = await Room.create(alice, operatorId, [mallory]);
  await room.ask("status");
  await alice.request("POST", `/rooms/${encodeURIComponent(room.roomId)}/leave`, {});
  const left = ({ message, properties }: { message: string; properties: Readonly<Record<string, unknown>> }) =>
    properties["room"] === room.roomId && message.startsWith("left");
  const { message } = await log.first("the room that Alice has left", left);
  const { joined } = await mallory.request("GET", `/rooms/${encodeURIComponent(room.roomId)}/joined_members`);
  story.add("Alice leaves a room with Mallory in it", "the operator leaves, too", message);
  assert.deepEqual(Object.keys(joined), [mallory.userId]);
}

async function acceptsBySetting(world: World, story: Story): Promise<void> {
  const { alice, bob, operatorId, log } = world;
  const room = await Room.create(alice, operatorId, [bob]);
  const status = commandOf(world, bob, room, "status");
  await tries(world, story, "Bob, whose identity has changed, sends `status`", status, "other-identity");
  const [{ properties } = { properties: {} as Record<string, unknown> }] = (await log.lines()).filter((
    { properties },
  ) => properties["user"] === bob.userId && properties["setting"] !== undefined);
  const [, value = ""] = /^TRUSTED_IDENTITIES=(.+)$/.exec(String(properties["setting"])) ?? [];
  for (const [what, environment] of [["with", { TRUSTED_IDENTITIES: value }], ["without", {}]] as const) {
    assert.equal(await world.operator.stop(), 0);
    await world.startOperator(environment);
    const done = `the operator starts ${what} the setting that the log gave, Bob sends \`status\``;
    await tries(world, story, done, commandOf(world, bob, room, "status"), "status: done");
  }
}

/** These cases require a user whose identity has already changed. */
export const roomCases: readonly Case[] = [
  { name: "a room without an allowed user is left", run: leaves },
  { name: "another identity is accepted by the setting that the log gives", run: acceptsBySetting },
];
