/**
 * What no honest server does. The operator uses the sandbox's homeserver, which forges invitations, delivers events
 * twice and forges senders. The cluster is real.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Homeserver } from "../../../sandbox/homeserver/mod.ts";
import { firstAnswer, type Message, Person } from "../../../sandbox/person/mod.ts";
import { OperatorLog } from "./log.ts";
import type { Case, Story } from "./story.ts";
import type { World } from "./world.ts";

/** A homeserver under our control, with people and an operator. */
interface Stage extends AsyncDisposable {
  readonly homeserver: Homeserver;
  readonly operatorId: string;
  /** Allowed, with an identity. */
  readonly anna: Person;
  /** Allowed, with an identity. */
  readonly bert: Person;
  /** Not allowed. */
  readonly mallory: Person;
  /** Room of everyone except Mallory and the operator. */
  readonly roomId: string;
  readonly log: OperatorLog;
}

async function openStage(world: World): Promise<Stage> {
  await using resources = new AsyncDisposableStack();
  const homeserver = resources.use(new Homeserver());
  const password = `never to be logged ${crypto.randomUUID()}`;
  world.secrets.add(password);
  const login = async (user: string) => {
    homeserver.register(user, password);
    return resources.use(await Person.login({ url: homeserver.url, user, password, crossSigning: true }));
  };
  const [anna, bert, mallory] = [await login("anna"), await login("bert"), await login("mallory")];
  const operatorId = homeserver.register("toggle", password);
  const logFile = join(world.testbed.folder, "staged.log");
  const run = resources.use(
    world.run(
      {
        MATRIX_HOMESERVER: homeserver.url,
        MATRIX_USER: "toggle",
        MATRIX_PASSWORD: password,
        ALLOWED_USERS: `${anna.userId},${bert.userId}`,
        CRYPTO_STORE_PATH: join(world.testbed.folder, "store-staged"),
        LOG_FORMAT: "json",
      },
      [],
      logFile,
    ),
  );
  await run.untilReady();
  const roomId = await anna.createRoom([operatorId, bert.userId]);
  await bert.join(roomId);
  await anna.until(() => anna.members(roomId).length === 3 || undefined);
  await bert.until(() => bert.members(roomId).includes(operatorId) || undefined);
  const moved = resources.move();
  const log = new OperatorLog(logFile);
  return {
    homeserver,
    operatorId,
    anna,
    bert,
    mallory,
    roomId,
    log,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

async function forges(world: World, story: Story): Promise<void> {
  await using stage = await openStage(world);
  await forgesMessages(world, story, stage);
  await forgesInvitations(story, stage);
}

/** Sends a text and waits for the answer. Returns the event ID. */
async function ask({ anna, operatorId, roomId }: Stage, body: string): Promise<string> {
  const isAnswer = (message: Message) => message.sender === operatorId && firstAnswer(message) !== undefined;
  const answered = anna.next(isAnswer);
  const eventId = await anna.say(roomId, body);
  await answered;
  return eventId;
}

async function forgesMessages(world: World, story: Story, stage: Stage): Promise<void> {
  const { homeserver: { attacks }, anna, bert, roomId, log } = stage;
  const start = await ask(stage, "start");
  await ask(stage, "stop");
  const before = await world.state();
  const tries = async (done: string, eventId: string, reason: string) => {
    await log.first(`event ${eventId}`, ({ properties }) => properties["event"] === eventId);
    const verdict = await log.verdictOn(eventId);
    const { generation } = await world.state();
    story.add(done, generation === before.generation ? "not obeyed" : "obeyed", `log: ${verdict}`);
    assert.equal(verdict, reason, done);
    assert.equal(generation, before.generation, done);
  };
  await tries("puts Anna's old `start` into the room again", attacks.replay(roomId, start), "repeat");
  await tries("and again, as if it were young", attacks.replay(roomId, start, { ageMs: 0 }), "repeat");
  await tries("and again, in Bert's name", attacks.replay(roomId, start, { sender: bert.userId }), "mismatched-sender");
  const content = { msgtype: "m.text", body: "start" };
  const inClear = attacks.inject(roomId, { type: "m.room.message", sender: anna.userId, content });
  await tries("puts a `start` in clear into Anna's mouth", inClear, "clear-in-encrypted-room");
  attacks.duplicate(roomId, start);
  await ask(stage, "status"); // its answer comes after anything done about the earlier event
  const { generation } = await world.state();
  // A start has one answer, which is edited as it progresses.
  const answers = anna.messages(roomId)
    .filter((message) => /^clawdbot is on/.test(firstAnswer(message) ?? "")).length;
  story.add("delivers Anna's old `start` again under its own id", `not obeyed, ${answers} answer in all`, "");
  assert.deepEqual([generation, answers], [before.generation, 1]);
}

async function forgesInvitations(story: Story, stage: Stage): Promise<void> {
  const { homeserver: { attacks }, anna, mallory, operatorId, log } = stage;
  const member = (sender: string) => ({
    ...{ type: "m.room.member", state_key: operatorId, sender, content: { membership: "invite" } },
  });
  const rows: [done: string, inviters: string[], first: RegExp, then?: RegExp][] = [
    ["Mallory invites, forged as from Anna and from Mallory", [anna.userId, mallory.userId], /^declined/],
    ["Mallory invites, forged as from Anna alone", [anna.userId], /^joined/, /^left/],
    ["Mallory invites, forged as from nobody", [], /^declined/],
  ];
  for (const [done, inviters, first, then] of rows) {
    const trap = await mallory.createRoom([]);
    attacks.forgeInvitation(trap, operatorId, mallory.userId, inviters.map(member));
    const inTrap = (what: RegExp) =>
      log.first(done, ({ message, properties }) => properties["room"] === trap && what.test(message));
    const lines = [await inTrap(first), ...then === undefined ? [] : [await inTrap(then)]];
    story.add(
      done,
      then === undefined ? "declined" : "joined and left",
      lines.map(({ message }) => message).join(" / "),
    );
    assert.ok(!mallory.members(trap).includes(operatorId));
  }
}

export const stagedCases: readonly Case[] = [
  { name: "forged messages and invitations switch nothing", run: forges },
];
