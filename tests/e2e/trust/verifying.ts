/**
 * Another client verifies the operator by emoji. That proves who the operator is and changes nothing about the user.
 */

import assert from "node:assert/strict";
import type { Phone } from "../../../testbed/phone.ts";
import { Room } from "./people.ts";
import { type Case, commandOf, type Story, tries } from "./story.ts";
import type { World } from "./world.ts";

/** Requests per user that are accepted within ten minutes. */
const mostRequests = 5;

async function compare(world: World, story: Story, who: Phone, roomId?: string): Promise<void> {
  const { log, operatorId } = world;
  const from = (await log.lines()).length;
  const { transactionId, shown } = await who.verify(operatorId, roomId);
  const { properties } = await log.first("emojis", (line) => line.properties["emojis"] !== undefined, from);
  const theirs = shown.emojis.map((symbol, index) => `${symbol} ${shown.descriptions[index]}`).join(", ");
  const ours = String(properties["emojis"]);
  await who.confirm(transactionId);
  await log.first("the end of the verification", ({ message }) => message.startsWith("verified by "), from);
  const where = roomId === undefined ? "to-device" : "in a room";
  story.add(`${who.userId} verifies the operator, ${where}`, "the same emojis", ours);
  assert.equal(plain(ours), plain(theirs));
}

/** Removes variation selectors, because the same symbol may have text or emoji presentation. */
function plain(text: string): string {
  return text.replaceAll("\uFE0F", "");
}

async function verifies(world: World, story: Story): Promise<void> {
  const { alice, bob, operatorId } = world;
  const room = await Room.create(alice, operatorId, [bob]);
  const fresh = await world.login("alice");
  await fresh.untilJoined(room.roomId, [operatorId]);
  await fresh.borrowIdentity(alice); // without it, its client can't record whom it has verified
  await compare(world, story, alice);
  await compare(world, story, alice, room.roomId);
  await compare(world, story, fresh);
  await compare(world, story, bob, room.roomId);

  const by = (who: Phone) => commandOf(world, who, room, "start");
  await tries(world, story, "`start` from Alice's unsigned device, which has verified", by(fresh), "unsigned-device");
  await tries(world, story, "`start` from Bob, whose identity has changed", by(bob), "other-identity");
  await tries(world, story, "`start` from Alice's right phone", by(alice), "start: done");
  await world.switchOff();
  await assertNothingPublished(world, story);
}

/** Queries as the operator itself, because a homeserver shows its signatures on other users to nobody else. */
async function assertNothingPublished(world: World, story: Story): Promise<void> {
  const { administrator, alice, bob, operatorId } = world;
  const ask = await administrator.as(operatorId);
  const users = [alice.userId, bob.userId];
  const published = await ask("POST", "/keys/query", {
    device_keys: Object.fromEntries(users.map((user) => [user, []])),
  });
  for (const user of users) {
    const signed = [published.master_keys[user], ...Object.values(published.device_keys[user])];
    for (const { signatures } of signed) assert.deepEqual(Object.keys(signatures), [user]);
  }
  story.add("(the operator's signatures of Alice's and Bob's keys)", "none", "");
}

async function asksTooOften(world: World, story: Story): Promise<void> {
  const { erin, log, operatorId } = world;
  const from = (await log.lines()).length;
  const about = async () =>
    (await log.lines()).slice(from).filter(({ properties }) => properties["user"] === erin.userId);
  for (let count = 1; count <= mostRequests + 1; count++) {
    const transactionId = await erin.askToVerify(operatorId);
    if (count > mostRequests) break;
    await erin.untilReady(transactionId);
    await erin.cancelVerification(transactionId);
  }
  const { message } = await log.first("too many", ({ message }) => message.includes("too often"), from);
  const accepted = (await about()).filter(({ message }) => message.includes("verifies this device")).length;
  story.add(`Erin asks ${mostRequests + 1} times in a row`, `accepted ${accepted} times`, message);
  assert.equal(accepted, mostRequests);
}

export const verificationCases: readonly Case[] = [
  { name: "another client verifies the operator, and its user is judged as before", run: verifies },
  { name: "verification requests are limited", run: asksTooOften },
];
