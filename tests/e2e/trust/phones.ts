/** The precondition of these cases: the phones understand each other without the operator. */

import assert from "node:assert/strict";
import type { Phone } from "../../../testbed/phone.ts";
import { type Client, createRoom, join, send } from "./people.ts";
import type { Case, Story } from "./story.ts";
import type { World } from "./world.ts";

async function together(one: Client, other: Client): Promise<string> {
  const roomId = await createRoom(one, [other.userId]);
  await join(other, roomId);
  await Promise.all([one.untilJoined(roomId, [other.userId]), other.untilJoined(roomId, [one.userId])]);
  return roomId;
}

async function reads(world: World, roomId: string, speaker: Client, reader: Client): Promise<void> {
  using seen = reader.watch(roomId);
  const body = world.phrase();
  const eventId = await send(speaker, roomId, "m.room.message", { msgtype: "m.text", body });
  const event = await seen.first("text", (each) => each.eventId === eventId);
  assert.deepEqual([event.how, event.sender, event.content["body"]], ["decrypted", speaker.userId, body]);
  assert.ok(!JSON.stringify(event.outerContent).includes(body));
}

async function chat(world: World, story: Story): Promise<void> {
  const { alice, bob, dave } = world;
  for (const other of [bob, dave]) {
    const roomId = await together(alice, other);
    await reads(world, roomId, alice, other);
    await reads(world, roomId, other, alice);
    story.add(`${alice.userId} and ${other.userId} chat`, "both read each other", "");
  }
}

async function compare(story: Story, one: Phone, other: Phone, roomId?: string): Promise<void> {
  const { transactionId, shown } = await one.verify(other.userId, roomId);
  const seen = await other.emojis(transactionId);
  assert.deepEqual(seen.emojis, shown.emojis);
  await Promise.all([one.confirm(transactionId), other.confirm(transactionId)]);
  const where = roomId === undefined ? "to-device" : "in a room";
  story.add(`${one.userId} verifies ${other.userId}, ${where}`, "the same emojis", shown.descriptions.join(", "));
}

async function identities(world: World, story: Story): Promise<void> {
  const { alice, bob, dave, mallory } = world;
  await bob.acceptVerifications();
  await compare(story, alice, bob);
  await compare(story, alice, bob, await together(alice, bob));

  const further = await world.login("mallory");
  const signed = async () =>
    (await alice.published(mallory.userId)).devices.map((each) => [each.deviceId, each.signedByOwner]);
  const before = Object.fromEntries(await signed());
  await mallory.signDevice(further.deviceId);
  const after = Object.fromEntries(await signed());
  const first = (await alice.published(mallory.userId)).masterKey;
  const second = await mallory.makeIdentity();
  const now = await alice.published(mallory.userId);
  assert.deepEqual(before, { [mallory.deviceId]: true, [further.deviceId]: false });
  assert.deepEqual(after, { [mallory.deviceId]: true, [further.deviceId]: true });
  assert.notEqual(first, second);
  assert.equal(now.masterKey, second);
  assert.deepEqual(Object.fromEntries(await signed()), before);
  assert.equal((await alice.published(dave.userId)).masterKey, undefined);
  story.add("Alice's phone looks at Mallory's devices and identities", "as they are, signed or not", "");
}

export const phoneCases: readonly Case[] = [
  { name: "phones on mautrix-go and matrix-nio read each other", run: chat },
  { name: "phones on mautrix-go have identities, sign devices and verify each other", run: identities },
];
