/** Commands of an allowed user, and how they are answered. */

import assert from "node:assert/strict";
import { bodyOf, Conversation, editedBy } from "../conversation.ts";
import type { World } from "../world.ts";
import { type Case, type Expected, ignore, obey } from "./case.ts";

const on = "clawdbot is on (1 replica), starting…";
const off = "clawdbot is off";

/** A command, and when the next one may be sent. */
interface Step extends Expected {
  /** Wait until the pod is ready, or gone. */
  readonly then?: "ready" | "gone";
}

const conversation: readonly Step[] = [
  { send: "status", answer: /^clawdbot is off\b/, replicas: 0 },
  { send: "start", answer: on, replicas: 1 },
  { send: "status", answer: /^clawdbot is (starting|running)\b/, replicas: 1, then: "ready" },
  { send: "status", answer: /^clawdbot is running: 1\/1 ready/, replicas: 1 },
  { send: "start", answer: "clawdbot is already running (1/1 ready)", replicas: 1 },
  { send: "on", answer: "clawdbot is already running (1/1 ready)", replicas: 1 },
  { send: "stop", answer: off, replicas: 0, then: "gone" },
  { send: "status", answer: /^clawdbot is off\b/, replicas: 0 },
  { send: "stop", answer: "clawdbot is already off", replicas: 0 },
  { send: "off", answer: "clawdbot is already off", replicas: 0 },
  { send: "on", answer: on, replicas: 1 },
  { send: "off", answer: off, replicas: 0, then: "gone" },
  { send: "  StArT \n", answer: on, replicas: 1 },
  { send: "\tOFF ", answer: off, replicas: 0, then: "gone" },
  { send: "help", answer: /start[^]*stop[^]*status[^]*help/, replicas: 0 },
];

async function converse(world: World): Promise<void> {
  for (const step of conversation) {
    await obey(world, "two people in the room", step);
    if (step.then === "ready") await world.state(({ ready }) => ready === 1);
    if (step.then === "gone") await world.state(({ current }) => current === 0);
  }
}

async function unknown(world: World): Promise<void> {
  const send = "make me a sandwich";
  const exchange = await world.talk.ask(send);
  const { replicas } = await world.state();
  const back = bodyOf(exchange.answer);
  world.report.add({ case: "no command", sent: send, back, before: 0, after: replicas, ms: exchange.ms });
  assert.match(back, /^Unknown command: make me a sandwich\b.*help/);
  assert.ok(!(await world.operatorLog()).includes(send), "the log holds the text of a message");
}

/** Sends messages while the process is paused, so that it reads them all at once. */
async function inOrder(world: World): Promise<void> {
  const { operator, talk } = world;
  const before = await world.state();
  const words = ["start", "stop", "start", "stop"];
  const sent: string[] = [];
  operator.signal("SIGSTOP");
  for (const word of words) sent.push(await talk.send(word));
  const begin = performance.now();
  operator.signal("SIGCONT");
  const back = [];
  for (const eventId of sent) back.push(await talk.answerTo(eventId));
  const ms = performance.now() - begin;
  const after = await world.state();
  world.report.add({
    ...{ case: "in quick succession", sent: words.join(", "), back: back.map(bodyOf).join(" / ") },
    ...{ before: before.replicas, after: after.replicas, ms },
  });
  assert.deepEqual(back.map(bodyOf), words.map((word) => word === "start" ? on : off));
  const places = back.map(({ eventId }) => talk.seen.events.findIndex((event) => event.eventId === eventId));
  assert.deepEqual(places, places.toSorted((a, b) => a - b), "the answers come in another order");
  assert.equal(after.generation, before.generation + words.length);
  await world.state(({ current }) => current === 0);
}

async function tenMembers(world: World): Promise<void> {
  const { alice, operatorId, testbed } = world;
  const friends = await Promise.all(Array.from({ length: 8 }, (_, number) => testbed.person(`friend${number + 1}`)));
  const talk = await Conversation.begin(alice, operatorId, { invite: friends.map(({ userId }) => userId) });
  await Promise.all(friends.map((friend) => friend.join(talk.roomId)));
  await alice.untilJoined(talk.roomId, friends.map(({ userId }) => userId));
  const watches = friends.map((friend) => friend.watch(talk.roomId));

  const title = "ten people in the room";
  const { answer } = await obey(world, title, { send: "start", answer: on, replicas: 1 }, talk);
  await Promise.all(watches.map(async (watch) => {
    const seen = await watch.first("answer", ({ eventId }) => eventId === answer.eventId);
    assert.equal(seen.how, "decrypted", "a member cannot read the answer");
    watch[Symbol.dispose]();
  }));
  await obey(world, title, { send: "stop", answer: off, replicas: 0 }, talk);
  await world.state(({ current }) => current === 0);
  await ignore(world, title, "what's for dinner?", talk, () => talk.send("what's for dinner?"));
  await compareRequests(world, talk);
}

/** Compares the number of requests per command, according to the homeserver's own log. */
async function compareRequests(world: World, crowd: Conversation): Promise<void> {
  if (world.testbed.homeserver.requestLog === undefined) return;
  const two = await requestsFor(world, world.talk);
  const ten = await requestsFor(world, crowd);
  world.report.fact(`Homeserver requests for one status, besides /sync: ${two} with 2 members, ${ten} with 10.`);
  assert.equal(ten, two);
}

async function requestsFor(world: World, talk: Conversation): Promise<number> {
  const logFile = world.testbed.homeserver.requestLog ?? "";
  const ours = async () =>
    (await Deno.readTextFile(logFile)).split("\n").filter((line) =>
      line.includes(`{${world.operatorId}} Processed request`) && !line.includes("/sync?")
    );
  await talk.ask("status"); // what is done once per room has been done now
  const before = (await ours()).length;
  const { answer } = await talk.ask("status");
  // A request is logged shortly after its response.
  const deadline = performance.now() + 2_000;
  for (;;) {
    const lines = (await ours()).slice(before);
    const sent = lines.filter((line) => line.includes("/send/"));
    // A slow command is acknowledged first and answered by an edit: one more send, in any room.
    const edits = editedBy(answer) === undefined ? 0 : 1;
    if (sent.length > edits) return lines.length - edits;
    assert.ok(performance.now() < deadline, `the homeserver has no record of ${answer.eventId}: ${lines.join("\n")}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const commandCases: readonly Case[] = [
  { name: "commands do what they say, in the words of the specification", run: converse },
  { name: "what is no command is answered with a pointer to help", run: unknown },
  { name: "commands in quick succession are carried out in order", run: inOrder },
  { name: "among ten members everyone can read the answer", run: tenMembers },
];
