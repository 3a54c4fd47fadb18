/** Users and messages that the operator refuses. */

import assert from "node:assert/strict";
import { bodyOf, Conversation } from "../conversation.ts";
import type { World } from "../world.ts";
import { type Case, ignore, obey } from "./case.ts";

async function strangerInRoom(world: World): Promise<void> {
  const { alice, operatorId, testbed } = world;
  const mallory = await testbed.person("mallory");
  const talk = await Conversation.begin(alice, operatorId, { invite: [mallory.userId] });
  await mallory.join(talk.roomId);
  await mallory.untilJoined(talk.roomId, [operatorId, alice.userId]);
  await alice.untilJoined(talk.roomId, [mallory.userId]);
  for (const text of ["start", "status", "help", "nonsense"]) {
    const say = () => mallory.sendText(talk.roomId, text, { mentions: [operatorId] });
    await ignore(world, "a stranger in the room", text, talk, say);
  }
}

async function strangerInvites(world: World): Promise<void> {
  const { operatorId, testbed, report } = world;
  const eve = await testbed.person("eve");
  const roomId = await eve.createRoom();
  using seen = eve.watch(roomId);
  await eve.invite(roomId, operatorId);
  const { content } = await seen.first(
    "answer to the invitation",
    (event) => event.type === "m.room.member" && event.stateKey === operatorId && event.sender === operatorId,
  );
  const { replicas } = await world.state();
  report.add({
    ...{ case: "a stranger's invitation", sent: "(invitation)", back: `(${content["membership"]})` },
    ...{ before: 0, after: replicas, ms: undefined },
  });
  assert.equal(content["membership"], "leave");
}

async function unencryptedRoom(world: World): Promise<void> {
  const { alice, operatorId, report } = world;
  const before = await world.state();
  const talk = await Conversation.begin(alice, operatorId, { encrypted: false });
  const eventId = await talk.send("start", { encrypted: false });
  const hint = await talk.seen.first("hint", ({ sender, type }) => sender === operatorId && type === "m.room.message");
  const after = await world.state();
  const back = talk.saidAbout(eventId).map(bodyOf).join(" / ");
  report.add({
    ...{ case: "an unencrypted room", sent: "start", back, before: before.replicas, after: after.replicas },
    ms: undefined,
  });
  assert.match(bodyOf(hint), /this room isn't encrypted/);
  assert.equal(after.generation, before.generation);
}

async function clearTextInEncryptedRoom(world: World): Promise<void> {
  const { talk } = world;
  const say = () => talk.send("start", { encrypted: false });
  await ignore(world, "clear text in an encrypted room", "start", talk, say, /wasn't encrypted/);
}

async function editsAndReplies(world: World): Promise<void> {
  const { alice, talk } = world;
  const { eventId: earlier } = await talk.ask("help");
  const text = { msgtype: "m.text", body: "start" };
  const sayRelated = (relation: unknown) => () =>
    alice.sendRaw(talk.roomId, "m.room.message", text, { outside: { "m.relates_to": relation } });
  const replaces = { rel_type: "m.replace", event_id: earlier };
  const repliesTo = { "m.in_reply_to": { event_id: earlier } };
  const rows: [title: string, say: () => Promise<string>, mayAnswer?: RegExp][] = [
    ["an edit", () => talk.send("start", { edit: earlier })],
    ["a reply to a person's message", () => talk.send("start", { replyTo: earlier }), /it was a reply/],
    ["an edit, said outside the ciphertext", sayRelated(replaces)],
    ["a reply, said outside the ciphertext", sayRelated(repliesTo), /it was a reply/],
    ["a notice", () => alice.sendRaw(talk.roomId, "m.room.message", { msgtype: "m.notice", body: "start" })],
    ["an emote", () => alice.sendRaw(talk.roomId, "m.room.message", { msgtype: "m.emote", body: "start" })],
    [
      "another type of event",
      () => alice.sendRaw(talk.roomId, "org.example.note", { msgtype: "m.text", body: "start" }),
    ],
  ];
  for (const [title, say, mayAnswer] of rows) await ignore(world, title, "start", talk, say, mayAnswer);
}

/** Asserts that the operator still works in the first room after a refusal. */
async function stillObeys(world: World): Promise<void> {
  await obey(world, "after all refusals", { send: "status", answer: /^clawdbot is off\b/, replicas: 0 });
}

export const refusalCases: readonly Case[] = [
  { name: "a stranger in the room gets no answer and no effect", run: strangerInRoom },
  { name: "a stranger's invitation is declined", run: strangerInvites },
  { name: "a command in an unencrypted room is refused, and why is said", run: unencryptedRoom },
  { name: "clear text in an encrypted room has no effect", run: clearTextInEncryptedRoom },
  { name: "edits, replies, notices, emotes and other events are no commands", run: editsAndReplies },
  { name: "an allowed user is obeyed afterwards as before", run: stillObeys },
];
