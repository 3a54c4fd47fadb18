/** Differences between homeservers that the operator must handle, tested on each of them. */

import assert from "node:assert/strict";
import { httpJson, startTestbed } from "../../testbed/mod.ts";
import type { RequestInfo } from "../../testbed/proxy.ts";
import { OperatorProcess } from "../operator_process.ts";
import { eventually, type Ground, patienceMs, Subject } from "./faults/subject.ts";
import { withLog } from "./faults/rows.ts";
import { type NamedCase, Results } from "./results.ts";

interface Case extends NamedCase {
  /** Whether the homeserver's own rate limits are on. */
  readonly limited?: boolean;
  /** Runs the case and throws if it fails. Returns what was measured, in a few words. */
  run(ground: Ground): Promise<string | void>;
}

const isLogin = ({ method, path }: RequestInfo) => method === "POST" && path.endsWith("/login");
const isIdentity = ({ path }: RequestInfo) => path.endsWith("/keys/device_signing/upload");

/** Returns the operator's devices with keys, and which of them its own identity has signed. */
async function devicesOf({ alice }: Ground, { operatorId }: Subject): Promise<{ all: string[]; signed: string[] }> {
  const answer = await alice.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
  const devices = answer.device_keys[operatorId] ?? {};
  const [selfSigning = ""] = Object.keys(answer.self_signing_keys?.[operatorId]?.keys ?? {});
  const all = Object.keys(devices);
  return { all, signed: all.filter((id) => selfSigning in (devices[id].signatures?.[operatorId] ?? {})) };
}

/** Asserts that each command had one effect and one answer, and stops the operator. The target must be off. */
async function end(subject: Subject): Promise<void> {
  assert.deepEqual(await subject.tallyAll(), { lost: 0, doubled: 0 });
  await subject.endBySignal();
}

async function firstIdentity(ground: Ground): Promise<string> {
  const begin = performance.now();
  await using subject = await Subject.ready(ground);
  const { all, signed } = await devicesOf(ground, subject);
  assert.deepEqual([all.length, signed], [1, all]);
  await subject.endBySignal();
  const asked = subject.homeserver.arrivedSince(begin, isIdentity);
  return asked > 1 ? "the password was asked for, and given" : "no password was asked for";
}

/** Returns variables that give the operator only a token, and no other way to log in. */
async function withToken({ testbed }: Ground, subject: Subject, password: string): Promise<void> {
  const identifier = { type: "m.id.user", user: subject.operatorId };
  const body = { type: "m.login.password", identifier, password: subject.password };
  const { access_token } = await httpJson("POST", `${testbed.homeserver.url}/_matrix/client/v3/login`, { body });
  Object.assign(subject.options.environment, {
    AUTH_METHOD: "token",
    MATRIX_ACCESS_TOKEN: access_token,
    MATRIX_PASSWORD: password,
  });
}

async function tokenAndPassword(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await withToken(ground, subject, subject.password);
  const begin = performance.now();
  await subject.start();
  await subject.meet();
  const { all, signed } = await devicesOf(ground, subject);
  assert.deepEqual([all.length, signed], [1, all]);
  assert.equal(subject.homeserver.arrivedSince(begin, isLogin), 0, "the password was used to log in");
  await subject.endBySignal();
  return "signed, without a login";
}

async function tokenAlone(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  await withToken(ground, subject, "");
  const begin = performance.now();
  await subject.start();
  await subject.meet();
  const isAsked = subject.homeserver.arrivedSince(begin, isIdentity) > 0 &&
    (await devicesOf(ground, subject)).signed.length === 0;
  const warning = /not signed.*first asks for m\.login\.password, .*give MATRIX_PASSWORD, which is used for that alone/;
  assert.equal(warning.test(await subject.log()), isAsked);
  assert.equal(isAsked, ground.testbed.homeserver.kind === "dendrite");
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return isAsked ? "answers unsigned, and says to give MATRIX_PASSWORD" : "signed";
}

async function oldCommand(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground, { environment: { MAX_COMMAND_AGE: "2s" } });
  await subject.start();
  await subject.meet();
  assert.equal(await subject.running.stop(), 0);
  const command = await subject.send("start", 0);
  const sentAt = performance.now();
  await eventually("the command to be too old", () => performance.now() - sentAt > 2_500);
  await subject.start();
  const answer = await subject.answerTo(command);
  assert.match(answer, /^I was away when you sent `start`/);
  await end(subject);
  return answer;
}

/** Drops the response to the operator's leave, so that it leaves again. */
async function leavesTwice(ground: Ground): Promise<string> {
  const { alice, testbed } = ground;
  await using subject = await Subject.ready(ground);
  const mallory = await testbed.person("mallory");
  let left = 0;
  using _lost = subject.homeserver.addFault({
    kind: "drop",
    when: ({ path }) => path.endsWith("/leave") && ++left === 1,
  });
  const roomId = await mallory.createRoom({ invite: [subject.operatorId] });
  await subject.untilLogged(/declined|failed to leave/);
  await eventually("a second leave", () => left > 1);
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  const path = `/rooms/${encodeURIComponent(roomId)}/members?membership=leave`;
  const { chunk } = await mallory.request("GET", path);
  assert.ok(chunk.some((event: { state_key: string }) => event.state_key === subject.operatorId));
  assert.ok(alice.userId);
  return `left ${left} times; goes on`;
}

/** Dendrite limits logins, joins and leaves, not messages. It takes fewer of them at once. */
const invitations = 8;

async function ownRateLimits(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  let limits = 0;
  using _counting = subject.homeserver.addFault({
    kind: "rewrite",
    rewrite: (answer) => {
      if (answer.status === 429) limits += 1;
      return answer;
    },
  });
  await subject.start();
  const begin = performance.now();
  const invited = { invite: [subject.operatorId], encrypted: true };
  const rooms = await Promise.all(Array.from({ length: invitations }, () => ground.alice.createRoom(invited)));
  for (const roomId of rooms) await ground.alice.untilJoined(roomId, [subject.operatorId], patienceMs);
  const joinedMs = performance.now() - begin;
  assert.ok(limits > 0, "no rate limit was met");
  await subject.meet();
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return `${invitations} invitations, ${limits} times 429, all joined after ${(joinedMs / 1_000).toFixed(1)} s`;
}

async function firstSync(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  assert.equal(await subject.running.stop(), 0);
  const begin = performance.now();
  subject.running = new OperatorProcess(subject.options);
  await subject.running.untilReady(patienceMs);
  const readyMs = performance.now() - begin;
  assert.ok(readyMs < 20_000, `ready after ${readyMs.toFixed(0)} ms`);
  await end(subject);
  return `ready after ${(readyMs / 1_000).toFixed(1)} s`;
}

const cases: readonly Case[] = [
  { name: "the first identity is made, whether the password is asked for or not", run: firstIdentity },
  { name: "AUTH_METHOD=token with MATRIX_PASSWORD: it is used for the identity alone", run: tokenAndPassword },
  { name: "AUTH_METHOD=token without it: where it is asked for, the log says to give it", run: tokenAlone },
  { name: "a command that is too old has no effect, with and without unsigned.age", run: oldCommand },
  { name: "a room that was left already is left, whatever that is answered with", run: leavesTwice },
  { name: "a restart is ready soon, however long a poll without a wait takes", run: firstSync },
  {
    name: "the homeserver's own rate limits delay joins, and lose none",
    limited: true,
    dendriteOnly: "Synapse's would limit Alice, too; a proxy's 429 are in the tables of faults and hostile input",
    run: ownRateLimits,
  },
];

Deno.test("what homeservers differ in", async (t) => {
  for (const limited of [false, true]) {
    await using testbed = await startTestbed(undefined, { rateLimits: limited });
    await using results = new Results(limited ? "rate limits" : "what homeservers differ in", testbed.homeserver.kind);
    const here = cases.filter((each) => (each.limited ?? false) === limited && !results.isElsewhere(each));
    if (here.length === 0) continue;
    const alice = await testbed.person("alice");
    const ground: Ground = { testbed, alice, made: () => {} };
    for (const one of here) {
      await results.step(t, one, async () => {
        const came = await withLog(one.name, ground, (each) => one.run(each));
        if (came) console.log(`${testbed.homeserver.kind}: ${one.name}: ${came}`);
      });
    }
  }
});
