/** Attacks by the homeserver's administrator on its users, on a real Synapse. None of them changes the target. */

import assert from "node:assert/strict";
import type { Phone } from "../../../testbed/phone.ts";
import { bodyOf } from "../conversation.ts";
import { type Client, type Outgoing, put, Room } from "./people.ts";
import { command } from "./senders.ts";
import { type Case, commandOf, type Story, tries } from "./story.ts";
import type { World } from "./world.ts";

async function isTold(story: Story, room: Room, done: string, what: RegExp, since = 0): Promise<string> {
  const body = bodyOf(await room.told(what, since));
  story.add(done, "the owner is told", body);
  return body;
}

/** Resets a password and logs in on a new device, then replaces the owner's identity. */
async function takesAccountOver(world: World, story: Story): Promise<void> {
  const { administrator, erin, operatorId } = world;
  const room = await Room.create(erin, operatorId, []);
  await room.ask("start");
  const password = `never to be logged ${crypto.randomUUID()}`;
  world.secrets.add(password);
  await administrator.resetPassword(erin.userId, password);
  const thief = await world.login("erin", { password });
  await thief.untilJoined(room.roomId, [operatorId]);

  const stop = (who: Client) => commandOf(world, who, room, "stop");
  await tries(world, story, "resets Erin's password, logs in, sends `stop`", stop(thief), "unsigned-device");
  await isTold(story, room, "(the same)", /a device you haven't verified/);
  const since = room.seen.events.length;
  const masterKey = await thief.makeIdentity();
  await tries(world, story, "replaces Erin's identity, sends `stop` from its device", stop(thief), "other-identity");
  await isTold(story, room, "(the same)", /isn't the one I trust/, since);
  await isLogged(world, story, erin.userId, masterKey);
  await tries(world, story, "(Erin's own phone, by now signed by nobody)", stop(erin), "other-identity");
  await world.switchOff();
}

/** The log names the exact setting that would accept an identity. */
async function isLogged({ log }: World, story: Story, userId: string, masterKey: string): Promise<void> {
  const setting = `TRUSTED_IDENTITIES=${userId}=${masterKey}`;
  const { level } = await log.first(setting, ({ properties }) => properties["setting"] === setting);
  story.add("(how that would be accepted)", `log, ${level}`, setting);
  assert.match(level, /^warn/i);
}

/** Adds a device, and then an identity, for a user who has none. */
async function givesIdentity(world: World, story: Story): Promise<void> {
  const { administrator, frank, operatorId } = world;
  const room = await Room.create(frank, operatorId, []);
  await room.ask("start");
  const password = `never to be logged ${crypto.randomUUID()}`;
  world.secrets.add(password);
  await administrator.resetPassword(frank.userId, password);
  const thief = await world.login(frank.userId, { password });
  await thief.untilJoined(room.roomId, [operatorId]);

  const say = (who: Client, word: string) => commandOf(world, who, room, word);
  await tries(world, story, "logs in as Frank, who has no identity, sends `stop`", say(thief, "stop"), "new-device");
  const told = await isTold(story, room, "(the same)", /a device I don't trust yet/);
  assert.ok(told.includes(frank.deviceId), "it names the device that is trusted");
  const masterKey = await thief.makeIdentity();
  await tries(world, story, "makes an identity for Frank, sends `stop`", say(thief, "stop"), "new-device");
  await isLogged(world, story, frank.userId, masterKey);
  await tries(world, story, "(Frank's own phone sends `stop`)", say(frank, "stop"), "stop: done");
}

/** Sends an event that was obeyed before, from the homeserver's own database, again in the owner's name. */
async function sendsAgain(world: World, story: Story): Promise<void> {
  const { administrator, alice, mallory, operatorId } = world;
  const room = await Room.create(alice, operatorId, []);
  const start = await room.say("start");
  await room.answerTo(start);
  await room.ask("stop");
  const { type, content } = await alice.request("GET", `/rooms/${encodeURIComponent(room.roomId)}/event/${start}`);
  const again = () => administrator.sendAs(alice.userId, room.roomId, { type, content });
  await tries(world, story, "sends Alice's old `start` again, in her name", again, "repeat");
  await tries(world, story, "and again", again, "repeat");
  const [device] = (await alice.published(mallory.userId)).devices;
  const changed = { ...content, device_id: device?.deviceId, sender_key: device?.curve25519, "org.example.more": 1 };
  const disguised = () => administrator.sendAs(alice.userId, room.roomId, { type, content: changed });
  await tries(world, story, "and again, with all else around the ciphertext changed", disguised, "repeat");
}

/** Uses a session whose device was replaced by another one under the same ID, then one whose device is gone. */
async function usesOldSessions(world: World, story: Story): Promise<void> {
  const { administrator, alice, grace, operatorId } = world;
  const tablet = await world.login("grace");
  await grace.signDevice(tablet.deviceId);
  const room = await Room.create(alice, operatorId, [grace]);
  await tablet.untilJoined(room.roomId, [operatorId]);
  const encrypt = (phone: Phone, word: string) => phone.encrypt(room.roomId, ...parts(command(world, word)));
  await room.answerTo(await put(grace, room.roomId, await encrypt(grace, "status")));
  await room.answerTo(await put(tablet, room.roomId, await encrypt(tablet, "status")));

  world.operator.signal("SIGSTOP"); // so that it never sees the account without the device
  await administrator.deleteDevice(tablet.userId, tablet.deviceId);
  const anew = await world.login("grace", { deviceId: tablet.deviceId });
  world.operator.signal("SIGCONT");
  const old = await encrypt(tablet, "start");
  const replaced = () => put(anew, room.roomId, old);
  await tries(
    world,
    story,
    "replaces Grace's tablet, sends `start` under the old one's session",
    replaced,
    "other-keys",
  );

  const stolen = await encrypt(grace, "start");
  await world.untilAsked(() => administrator.deleteDevice(grace.userId, grace.deviceId));
  const gone = () => administrator.sendAs(grace.userId, room.roomId, stolen);
  await tries(world, story, "deletes Grace's phone, sends `start` under its session", gone, "unknown-device");
}

function parts({ type, content }: Outgoing): [string, Outgoing["content"]] {
  return [type, content];
}

export const attackCases: readonly Case[] = [
  { name: "an account taken over by its administrator is not obeyed, and its owner is told", run: takesAccountOver },
  { name: "a device and an identity given to somebody who had none count for nothing", run: givesIdentity },
  { name: "a ciphertext sent again is refused", run: sendsAgain },
  { name: "a session whose device was replaced, or is gone, is refused", run: usesOldSessions },
];
