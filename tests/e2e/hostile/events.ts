/** Rows about messages, senders and invitations, from the homeserver to the command. */

import assert from "node:assert/strict";
import { join } from "node:path";
import type { Person, SeenEvent } from "../../../testbed/mod.ts";
import { PhoneHost } from "../../../testbed/phone_host.ts";
import type { Answered, RequestInfo } from "../../../testbed/proxy.ts";
import { bodyOf } from "../conversation.ts";
import { OperatorProcess } from "../../operator_process.ts";
import { eventually, type Ground, Subject } from "../faults/subject.ts";
import { Room } from "../trust/people.ts";
import type { HostileRow } from "./row.ts";

const isSync = ({ path }: RequestInfo) => path.endsWith("/sync");
const isQuery = ({ path }: RequestInfo) => path.endsWith("/keys/query");
const isJoin = ({ method, path }: RequestInfo) => method === "POST" && /\/join(\/|$)/.test(path);
const isLeave = ({ method, path }: RequestInfo) => method === "POST" && path.endsWith("/leave");

/** Returns the outcome of an event, as the operator logs it. */
async function verdictOn(subject: Subject, eventId: string): Promise<string> {
  const verdict = async () => {
    const lines = (await subject.log()).split("\n").filter((line) => line.includes(eventId));
    return lines.map((line) => /refused \$.*: ([a-z-]+)/.exec(line)?.[1]).find((reason) => reason !== undefined);
  };
  await eventually(`a word about ${eventId} in the log`, async () => await verdict() !== undefined);
  return await verdict() ?? "";
}

/** Rewrites responses to omit a user's devices. */
function withoutDevices(userId: string): (answer: Answered) => Answered {
  return ({ status, body }) => {
    const { device_keys = {}, ...rest } = body;
    return {
      status,
      body: { ...rest, device_keys: device_keys[userId] ? { ...device_keys, [userId]: {} } : device_keys },
    };
  };
}

/**
 * SENDER_TRUST=cross-signed, but the account's identity was created elsewhere, so the operator's device isn't signed
 * and can't send keys.
 */
async function unsignedOperator(ground: Ground): Promise<string> {
  const { homeserver, folder } = ground.testbed;
  await using host = await PhoneHost.start(homeserver.url, join(folder, `mautrix-${crypto.randomUUID()}.log`));
  const name = `ida-${crypto.randomUUID().slice(0, 8)}`;
  const password = crypto.randomUUID();
  const { userId } = await homeserver.register(name, password);
  const ida = await host.login(name, password);
  await ida.makeIdentity();
  const environment = { SENDER_TRUST: "cross-signed", ALLOWED_USERS: userId };
  await using subject = await Subject.create(ground, { environment });
  const elsewhere = await host.login(subject.operatorId, subject.password);
  await elsewhere.makeIdentity();
  const begin = async () => {
    const logged = (await subject.log()).length;
    subject.running = new OperatorProcess(subject.options);
    // It never becomes ready. /readyz says so, and the log says what to do.
    await eventually("a warning", async () => /--reset-identity/.test((await subject.log()).slice(logged)));
  };
  await begin();
  const room = await Room.create(ida, subject.operatorId, []);
  const before = await subject.state();
  const reason = await verdictOn(subject, await room.say("start"));
  assert.equal(reason, "own-device-unsigned");
  await subject.endBySignal();
  await begin();
  const again = await verdictOn(subject, await room.say("start"));
  const { generation } = await subject.state();
  assert.equal(generation, before.generation, "no effect");
  await subject.endBySignal();
  return `refused before it has an effect (${again}), now and after a restart; ends with 0`;
}

/** A join that is refused twice and then succeeds. */
function refusedJoin(letter: string, status: number, errcode: string): HostileRow {
  return {
    number: `16${letter}`,
    input: `the first two joins after an invitation are refused with ${status}`,
    before: "never joins",
    where: "real",
    run: async (ground) => {
      await using subject = await Subject.create(ground);
      await subject.start();
      let refusals = 0;
      using _fault = subject.homeserver.addFault({
        kind: "answer",
        status,
        body: { errcode, error: "not yet" },
        when: (asked) => isJoin(asked) && refusals++ < 2,
      });
      const since = performance.now();
      await subject.meet();
      return `joined with the third try, ${((performance.now() - since) / 1_000).toFixed(1)} s after the invitation`;
    },
  };
}

/** An invitation without our member event has no inviter. */
async function withoutMemberEvent(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await subject.start();
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: isSync,
    rewrite: ({ status, body }) => {
      for (const room of Object.values(body?.rooms?.invite ?? {}) as { invite_state: { events: SeenEvent[] } }[]) {
        room.invite_state.events = room.invite_state.events.filter(({ type }) => type !== "m.room.member");
      }
      return { status, body };
    },
  });
  const roomId = await ground.alice.createRoom({ invite: [subject.operatorId] });
  await subject.untilLogged(new RegExp(`declined .*${roomId}`));
  assert.doesNotMatch(await subject.log(), /joined !/);
  return "declined, whoever it may be from";
}

/** Strangers send invitations, and the homeserver doesn't answer when they are declined. */
async function hangingDeclines(ground: Ground): Promise<string> {
  const mallory = await ground.testbed.person(`mallory-${crypto.randomUUID().slice(0, 8)}`);
  await using subject = await Subject.create(ground);
  await subject.start();
  using _fault = subject.homeserver.addFault({ kind: "silent", forGood: true, when: isLeave });
  const since = performance.now();
  for (let count = 0; count < 8; count += 1) await mallory.createRoom({ invite: [subject.operatorId] });
  await eventually("the first refusals", () => subject.homeserver.arrivedSince(since, isLeave) > 0);
  const invitedAt = performance.now();
  await subject.meet();
  const ms = performance.now() - invitedAt;
  assert.ok(ms < 10_000, `${ms} ms`);
  return `joined and answered within ${(ms / 1_000).toFixed(1)} s; ${
    subject.homeserver.arrivedSince(since, isLeave)
  } refusals at a time`;
}

/** The sender's device isn't listed at first. Then it is, and the ciphertext arrives again under another event ID. */
async function toldLater(ground: Ground): Promise<string> {
  const { alice } = ground;
  await using subject = await Subject.create(ground);
  await subject.start();
  const fault = subject.homeserver.addFault({ kind: "rewrite", when: isQuery, rewrite: withoutDevices(alice.userId) });
  const roomId = await inRoom(alice, subject);
  const content = { msgtype: "m.text", body: "start" };
  const event = await alice.encrypt(roomId, "m.room.message", content);
  const before = await subject.state();
  const first = await verdictOn(subject, await putAgain(alice, roomId, event));
  fault[Symbol.dispose]();
  const second = await verdictOn(subject, await putAgain(alice, roomId, event));
  assert.deepEqual([first, second], ["unknown-device", "repeat"]);
  assert.equal((await subject.state()).generation, before.generation);
  return `refused (${first}), and used up: ${second}`;
}

/** Before Alice's command, a copy of it arrives with another allowed user as its sender. */
async function inAnothersName(ground: Ground): Promise<string> {
  const { alice } = ground;
  const bert = await ground.testbed.person(`bert-${crypto.randomUUID().slice(0, 8)}`);
  const environment = { ALLOWED_USERS: `${alice.userId},${bert.userId}` };
  await using subject = await Subject.create(ground, { environment });
  await subject.start();
  const roomId = await inRoom(alice, subject, [bert]);
  const copyId = `$copy-${crypto.randomUUID()}`;
  let copied = false;
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: isSync,
    rewrite: ({ status, body }) => {
      const timeline = body?.rooms?.join?.[roomId]?.timeline;
      const place = timeline?.events.findIndex((event: SeenEvent) => event.type === "m.room.encrypted") ?? -1;
      if (place >= 0 && !copied) {
        copied = true;
        timeline.events.splice(place, 0, { ...timeline.events[place], event_id: copyId, sender: bert.userId });
      }
      return { status, body };
    },
  });
  using seen = alice.watch(roomId);
  await alice.sendText(roomId, "start");
  const answer = await seen.first("the answer", (event) => /is on/.test(bodyOf(event)), 90_000);
  const copy = await verdictOn(subject, copyId);
  assert.equal(copy, "mismatched-sender");
  return `the copy: ${copy}; the command itself: ${bodyOf(answer)}`;
}

async function inRoom(alice: Person, subject: Subject, others: readonly Person[] = []): Promise<string> {
  const invite = [subject.operatorId, ...others.map(({ userId }) => userId)];
  const roomId = await alice.createRoom({ invite });
  for (const other of others) await other.join(roomId);
  await alice.untilJoined(roomId, invite, 90_000);
  return roomId;
}

async function putAgain(
  person: Person,
  roomId: string,
  { type, content }: { readonly type: string; readonly content: unknown },
): Promise<string> {
  const path = `/rooms/${encodeURIComponent(roomId)}/send/${type}/${crypto.randomUUID()}`;
  return (await person.request("PUT", path, content)).event_id;
}

/** A status behind a stop and many other messages, all sent while the operator was down. */
async function statusBehindStop(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  await subject.ask("start", 1);
  await subject.state(({ ready }) => ready === 1);
  await subject.endBySignal();
  const stop = await subject.send("stop", 1);
  for (let count = 0; count < 120; count += 1) await subject.talk.send(`chatter ${count}`);
  const status = await subject.send("status", 0);
  // Delays the change so that the status could overtake it.
  using _fault = subject.kubernetes.addFault({ kind: "delay", ms: 2_000, when: ({ method }) => method === "PATCH" });
  await subject.start();
  const answers = [await subject.answerTo(stop), await subject.answerTo(status)];
  assert.match(answers[0] ?? "", /is off/);
  assert.match(answers[1] ?? "", /is (off|stopping)/);
  return answers.join(" / ");
}

/** A command in a thread. */
async function inThread(ground: Ground): Promise<string> {
  const { alice } = ground;
  await using subject = await Subject.ready(ground);
  const { roomId } = subject.talk;
  const root = await subject.talk.send("shall we?");
  const relation = { rel_type: "m.thread", event_id: root, is_falling_back: true, "m.in_reply_to": { event_id: root } };
  const content = { msgtype: "m.text", body: "status" };
  const eventId = await alice.sendRaw(roomId, "m.room.message", content, { outside: { "m.relates_to": relation } });
  await subject.talk.answerTo(eventId, 90_000);
  const [answer] = subject.talk.answersTo(eventId);
  assert.deepEqual(answer?.outerContent["m.relates_to"], {
    rel_type: "m.thread",
    event_id: root,
    is_falling_back: false,
    "m.in_reply_to": { event_id: eventId },
  });
  return "answered in the thread, as a reply within it";
}

const invisible: readonly (readonly [name: string, text: string])[] = [
  ["ZWSP", "\u200Bstatus\u200B"],
  ["LRM", "\u200Estatus\u200E"],
  ["VS16", "status\uFE0F"],
  ["soft hyphen", "sta\u00ADtus"],
  ["isolates", "\u2067status\u2069"],
];

async function invisibleLetters(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  for (const [name, text] of invisible) assert.match(await subject.ask(text, 0), /clawdbot is off/, name);
  return `${invisible.map(([name]) => name).join(", ")}: clawdbot is off`;
}

async function replies(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { talk } = subject;
  const { alice } = ground;
  const hello = await talk.send("hello");
  const plain = await talk.ask("status", { replyTo: hello });
  const quoted = await talk.ask(`> <${alice.userId}> hello\n\nstatus`, { replyTo: hello });
  const ours = await talk.ask("status", { replyTo: plain.answer.eventId });
  const texts = [plain, quoted, ours].map(({ answer }) => bodyOf(answer));
  assert.match(texts[0] ?? "", /because it was a reply/);
  assert.equal(texts[1], texts[0]);
  assert.match(texts[2] ?? "", /clawdbot is off/);
  return `${texts[0]} (with a quotation, too); to our own answer: ${texts[2]}`;
}

export const eventRows: readonly HostileRow[] = [
  {
    number: "1",
    input: "SENDER_TRUST=cross-signed, the account's identity was made elsewhere, no RECOVERY_KEY",
    before: "the command is carried out, exit 1, and so at every start for 24 hours",
    where: "real",
    run: unsignedOperator,
  },
  refusedJoin("a", 403, "M_FORBIDDEN"),
  refusedJoin("b", 404, "M_NOT_FOUND"),
  refusedJoin("c", 400, "M_UNKNOWN"),
  {
    number: "17b",
    input: "an invitation without any member event of ours",
    before: "waits, with a warning",
    where: "real",
    run: withoutMemberEvent,
  },
  {
    number: "21",
    input: "eight invitations of strangers whose refusal hangs, then an allowed user's",
    before: "accepted after 28 to 150 s",
    where: "real",
    run: hangingDeclines,
  },
  {
    number: "26a",
    input: "the sender's device is told only later, and the ciphertext sent again",
    before: "carried out",
    where: "real",
    run: toldLater,
  },
  {
    number: "26b",
    input: "Anna's ciphertext arrives as Bert's first",
    before: "mismatched-sender, and Anna's is obeyed",
    where: "real",
    run: inAnothersName,
  },
  {
    number: "30a",
    input: "stop, 120 messages and status, sent while it was away",
    before: 'answered before the stop, "running"',
    where: "real",
    run: statusBehindStop,
  },
  { number: "30b", input: "a command in a thread", before: "answered outside of it", where: "real", run: inThread },
  {
    number: "30d",
    input: "ZWSP, LRM, VS16, soft hyphen around `status`",
    before: "Unknown command: status",
    where: "real",
    run: invisibleLetters,
  },
  {
    number: "30e",
    input: "a command as a reply, with and without the quoted fallback",
    before: "silence, or told",
    where: "real",
    run: replies,
  },
];
