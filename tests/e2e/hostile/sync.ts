/** Rows about sync responses and room history: strangers' events, large rooms, encryption settings, gaps, names. */

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { type Content, httpJson } from "../../../testbed/mod.ts";
import type { Answered, RequestInfo } from "../../../testbed/proxy.ts";
import { bodyOf, Conversation } from "../conversation.ts";
import { type Ground, patienceMs, Subject } from "../faults/subject.ts";
import type { HostileRow } from "./row.ts";

const isSync = ({ path }: RequestInfo) => path.endsWith("/sync");
const isHistory = ({ path }: RequestInfo) => path.endsWith("/messages");

/** Changes a room in the next sync response that contains it, once. */
function onceIn(roomId: string, change: (room: Content) => void): (answer: Answered) => Answered {
  let done = false;
  return ({ status, body }) => {
    const room = body?.rooms?.join?.[roomId];
    if (room !== undefined && !done) {
      done = true;
      change(room);
    }
    return { status, body };
  };
}

/** Size of the operator's main database on disk, in bytes. */
function storeSize({ folder }: Subject): number {
  const sizeOf = (name: string) => statSync(join(folder, "store", name), { throwIfNoEntry: false })?.size ?? 0;
  return sizeOf("state.sqlite3") + sizeOf("state.sqlite3-wal");
}

/** 3,000 messages of a stranger arrive together with a command. */
async function strangersMessages(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { roomId } = subject.talk;
  await subject.ask("status", 0);
  const before = storeSize(subject);
  const rewrite = onceIn(roomId, ({ timeline }) => {
    const events = Array.from({ length: 3_000 }, (_, index) => ({
      type: "m.room.encrypted",
      event_id: `$stranger${index}`,
      sender: "@mallory:elsewhere.example",
      origin_server_ts: Date.now(),
      content: { algorithm: "m.megolm.v1.aes-sha2", session_id: "s", ciphertext: "x".repeat(1_000) },
    }));
    timeline.events.unshift(...events);
  });
  using _fault = subject.homeserver.addFault({ kind: "rewrite", when: isSync, rewrite });
  const begun = performance.now();
  await subject.ask("status", 0);
  const ms = performance.now() - begun;
  const grown = storeSize(subject) - before;
  const refusals = (await subject.log()).match(/refused \$stranger\d+ from @mallory:elsewhere.example .*stranger/g) ??
    [];
  assert.equal(refusals.length, 3_000, "each is told in the log");
  assert.ok(grown < 200_000, `the store has grown by ${grown} bytes`);
  assert.ok(ms < 5_000, `${ms} ms`);
  return `answered after ${ms.toFixed(0)} ms; the store has grown by ${(grown / 1_024).toFixed(0)} KiB; 3,000 refused`;
}

/** A room gets 10,000 members at once, together with a command. */
async function manyMembers(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { roomId } = subject.talk;
  const { serverName } = ground.testbed.homeserver;
  let arrivedAt = 0;
  const rewrite = onceIn(roomId, (room) => {
    const members = Array.from({ length: 10_000 }, (_, index) => ({
      type: "m.room.member",
      state_key: `@nobody${index}:${serverName}`,
      sender: `@nobody${index}:${serverName}`,
      event_id: `$member${index}`,
      content: { membership: "join", displayname: `Nobody ${index}` },
    }));
    Object.assign(room, { state: { events: [...room.state?.events ?? [], ...members] } });
    arrivedAt = performance.now();
  });
  using _fault = subject.homeserver.addFault({ kind: "rewrite", when: isSync, rewrite });
  const command = await subject.send("start", 1);
  let slowest = 0;
  const watching = new AbortController();
  const watched = (async () => {
    while (!watching.signal.aborted) {
      const asked = performance.now();
      assert.equal((await subject.running.probe("healthz")).status, 200);
      slowest = Math.max(slowest, performance.now() - asked);
    }
  })();
  await subject.state(({ replicas }) => replicas === 1);
  const effectMs = performance.now() - arrivedAt;
  const answer = await subject.answerTo(command);
  const answerMs = performance.now() - arrivedAt;
  watching.abort();
  await watched;
  assert.match(answer, /is on/);
  assert.ok(slowest < 1_000, `/healthz took ${slowest.toFixed(0)} ms`);
  assert.ok(effectMs < 2_000, `the effect took ${effectMs.toFixed(0)} ms`);
  return `carried out after ${effectMs.toFixed(0)} ms, answered after ${answerMs.toFixed(0)} ms, /healthz within ${
    slowest.toFixed(0)
  } ms`;
}

/** The room's encryption settings are emptied, then replaced. */
async function emptiedEncryption(ground: Ground): Promise<string> {
  const { alice } = ground;
  await using subject = await Subject.ready(ground);
  const path = `/rooms/${encodeURIComponent(subject.talk.roomId)}/state/m.room.encryption/`;
  const answers: string[] = [];
  for (const content of [{}, { algorithm: "m.none.v1" }]) {
    await alice.request("PUT", path, content);
    const eventId = await subject.send("status", 0);
    const answer = await subject.talk.answerTo(eventId, patienceMs);
    assert.equal(answer.how, "decrypted");
    answers.push(bodyOf(answer));
  }
  return `answered, encrypted as before: ${answers.join(" / ")}`;
}

/** An invitation as of MSC4319: our own member event is in `state`. */
async function wholeInvitation(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await subject.start();
  let moved = 0;
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: isSync,
    rewrite: ({ status, body }) => {
      for (const room of Object.values(body?.rooms?.invite ?? {}) as Content[]) {
        const events: Content[] = room.invite_state.events;
        Object.assign(room, {
          state: { events: events.filter(({ type }) => type === "m.room.member") },
          invite_state: { events: events.filter(({ type }) => type !== "m.room.member") },
        });
        moved += 1;
      }
      return { status, body };
    },
  });
  await subject.meet();
  assert.ok(moved > 0);
  return "joined, and answered";
}

/** Sync shows a joined room without some of its members: without Bob, or with nobody but the operator. */
async function joinedWithoutMembers(ground: Ground, who: "Bob" | "all"): Promise<string> {
  const { alice, testbed } = ground;
  const bob = await testbed.person(`bob-${crypto.randomUUID().slice(0, 8)}`);
  await using subject = await Subject.create(ground);
  await subject.start();
  let omitted = 0;
  const isOmitted = ({ type, state_key: user }: Content) =>
    type === "m.room.member" && (who === "Bob" ? user === bob.userId : user !== subject.operatorId);
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: isSync,
    rewrite: ({ status, body }) => {
      for (const { state, timeline } of Object.values(body?.rooms?.join ?? {}) as Content[]) {
        for (const part of [state, timeline]) {
          const events: Content[] = part?.events ?? [];
          omitted += events.filter(isOmitted).length;
          if (part?.events) part.events = events.filter((event) => !isOmitted(event));
        }
      }
      return { status, body };
    },
  });
  const roomId = await alice.createRoom({ invite: [bob.userId], encrypted: true });
  await bob.join(roomId);
  await alice.invite(roomId, subject.operatorId);
  await alice.untilJoined(roomId, [bob.userId, subject.operatorId], patienceMs);
  const bobs = new Conversation(bob, roomId, subject.operatorId);
  subject.talk = new Conversation(alice, roomId, subject.operatorId);
  const command = await subject.send("status", 0);
  await subject.answerTo(command);
  assert.equal((await bobs.answerTo(command, patienceMs)).how, "decrypted");
  assert.ok(omitted > 0);
  assert.doesNotMatch(await subject.log(), /left !/);
  return `joined, and answered so that all can read it; ${omitted} member event${omitted === 1 ? "" : "s"} left out`;
}

/** Messages sent while the operator was down are only available from a server whose history never ends. */
function endlessHistory(letter: string, input: string, before: string, page: (asked: number) => Content): HostileRow {
  return {
    number: `23${letter}`,
    input,
    before,
    where: "real",
    run: async (ground) => {
      await using subject = await Subject.ready(ground);
      await subject.endBySignal();
      for (let count = 0; count < 60; count += 1) await subject.talk.send(`chatter ${count}`);
      let asked = 0;
      using _fault = subject.homeserver.addFault({
        kind: "rewrite",
        when: isHistory,
        rewrite: () => {
          asked += 1;
          return { status: 200, body: page(asked) };
        },
      });
      const begun = performance.now();
      await subject.start();
      const told = await subject.talk.seen.first(
        "a word about it in the room",
        (event) => event.sender === subject.operatorId && /couldn't read every message/.test(bodyOf(event)),
        patienceMs,
      );
      const seconds = (performance.now() - begun) / 1_000;
      assert.ok(asked <= 100, `${asked} requests`);
      await subject.ask("status", 0);
      return `${asked} requests in ${seconds.toFixed(1)} s, then: “${bodyOf(told)}”`;
    },
  };
}

/** More has happened while the operator was down than one response may hold. It starts with that. */
async function tooMuchAtOnce(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  await subject.endBySignal();
  const command = await subject.send("start", 1);
  let large = 0;
  using _fault = subject.homeserver.addFault({
    kind: "answer",
    status: 200,
    body: JSON.stringify({ next_batch: "s0", filler: "x".repeat(70 * 1_048_576) }),
    when: ({ path, url }) => {
      const isWhole = path.endsWith("/sync") && !url.includes("lazy_load_members");
      large += Number(isWhole);
      return isWhole;
    },
  });
  await subject.start();
  const answer = await subject.answerTo(command);
  assert.match(answer, /is on|started/);
  assert.ok(large > 0);
  await subject.ask("status", 1);
  const status = await Deno.readTextFile(`/proc/${subject.running.pid}/status`);
  const peakMiB = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1_024;
  assert.ok(peakMiB < 256, `${peakMiB.toFixed(0)} MiB, and the pod has 256`);
  return `asked for less: “${answer}”; memory at most ${peakMiB.toFixed(0)} MiB`;
}

/** The operator gets a new name and is addressed by it in a room of three. */
async function newName(ground: Ground): Promise<string> {
  const { alice } = ground;
  const { homeserver } = ground.testbed;
  const bob = await ground.testbed.person(`bob-${crypto.randomUUID().slice(0, 8)}`);
  await using subject = await Subject.ready(ground);
  await alice.invite(subject.talk.roomId, bob.userId);
  await bob.join(subject.talk.roomId);
  await subject.ask("status", 0);
  const login = await httpJson("POST", `${homeserver.url}/_matrix/client/v3/login`, {
    body: {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: subject.operatorId },
      password: subject.password,
    },
  });
  const path = `/_matrix/client/v3/profile/${encodeURIComponent(subject.operatorId)}/displayname`;
  const authorization = `Bearer ${login.access_token}`;
  await httpJson("PUT", homeserver.url + path, { authorization, body: { displayname: "The Claw" } });
  const answer = await subject.ask("The Claw: status", 0);
  assert.match(answer, /clawdbot is off/);
  return `“The Claw: status” → ${answer}`;
}

export const syncRows: readonly HostileRow[] = [
  {
    number: "7",
    input: "3,000 messages of a stranger in one sync response",
    before: "a commit each, 5.3 s",
    where: "real",
    run: strangersMessages,
  },
  {
    number: "8",
    input: "a room of 10,000 members",
    before: "blocked for 55 s, killed for it, and again",
    where: "real",
    alone: true,
    run: manyMembers,
  },
  {
    number: "10",
    input: "m.room.encryption with `{}`, then with another algorithm",
    before: "commands have effects, answers are dropped",
    where: "real",
    run: emptiedEncryption,
  },
  {
    number: "17a",
    input: "an invitation in `state` (MSC4319)",
    before: "declined",
    where: "real",
    run: wholeInvitation,
  },
  endlessHistory(
    "a",
    "/messages with alternating tokens and empty pages",
    "21,163 requests in 5 s",
    (asked) => ({ start: "t0", chunk: [], end: `t${asked % 2}` }),
  ),
  endlessHistory(
    "b",
    "/messages with ever new tokens and empty pages",
    "requests without end",
    (asked) => ({ start: "t0", chunk: [], end: `t${asked}` }),
  ),
  endlessHistory(
    "c",
    "/messages with a page of 70 MiB",
    "memory without bound",
    () => ({ start: "t0", chunk: [], end: "t1", filler: "x".repeat(70 * 1_048_576) }),
  ),
  {
    number: "31",
    input: "a sync answer of 70 MiB, again and again",
    before: "exit 1 at every start",
    where: "real",
    run: tooMuchAtOnce,
  },
  {
    number: "32a",
    input: "a joined room without its other members",
    before: "left at once",
    where: "real",
    run: (ground) => joinedWithoutMembers(ground, "all"),
  },
  {
    number: "32b",
    input: "a joined room without a member who isn't allowed",
    before: "that member can't read the answers",
    where: "real",
    run: (ground) => joinedWithoutMembers(ground, "Bob"),
  },
  {
    number: "30c",
    input: "a display name given while it runs",
    before: "not known",
    where: "real",
    run: newName,
  },
];
