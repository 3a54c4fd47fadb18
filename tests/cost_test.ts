/**
 * What a command costs the homeserver, counted: the same in every room, whatever its size; and what it costs the API
 * server. How memory grows is counted by the soak (`tests/long/soak.ts`); how long things take is measured by `deno task bench`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Person } from "../sandbox/person/mod.ts";
import { Fixture } from "./faults/fixture.ts";

const commandCount = 5;

/** A command that takes longer has its first line sent alone, and the answer as an edit: one request more. */
const ECHO_AFTER_MS = 150;
const message = "PUT /rooms/{roomId}/send/{type}/{transactionId}";

/**
 * What each of some commands has had the operator ask the homeserver for, in the order of the alphabet. Where this machine
 * was too slow for an answer in time, the line that went before it is left out.
 */
async function requestsPerCommand(echo: "true" | "false", others: number): Promise<string[][]> {
  await using fixture = await Fixture.open();
  await using people = new AsyncDisposableStack();
  const { anna, homeserver, operatorId } = fixture;
  await using operator = fixture.start({ environment: { ECHO_MODE: echo } });
  const roomId = await fixture.invite();
  await fixture.joined(roomId);
  for (let i = 0; i < others; i++) {
    homeserver.register(`other-${i}`, "pw");
    const other = people.use(await Person.login({ url: homeserver.url, user: `other-${i}`, password: "pw" }));
    await anna.invite(roomId, other.userId);
    await other.join(roomId);
  }
  const command = async () => {
    const answered = anna.next(({ sender, body }) => sender === operatorId && body.includes("clawdbot is off"));
    await anna.say(roomId, "status");
    await answered;
  };
  await operator.ready;
  // The first ones still come with keys that are shared, and lists of devices that have changed.
  for (let i = 0; i < 3; i++) await command();
  const counted = [];
  for (let i = 0; i < commandCount; i++) {
    const before = homeserver.requests.entries.length;
    const beganMs = performance.now();
    await command();
    const isSlow = echo === "true" && performance.now() - beganMs > ECHO_AFTER_MS;
    const entries = homeserver.requests.entries.slice(before).filter(({ userId }) => userId === operatorId);
    const asked = entries.map(({ method, template }) => `${method} ${template}`).sort();
    if (isSlow && asked.filter((request) => request === message).length === 2) asked.splice(asked.indexOf(message), 1);
    counted.push(asked);
  }
  assert.equal(await operator.stop(), 0);
  return counted;
}

Deno.test("a command costs as many requests in a room of two as in one of eight", async (t) => {
  const poll = "GET /sync";
  const cases = [
    { echo: "true", others: 0, asked: [poll, message] },
    { echo: "true", others: 6, asked: [poll, message] },
    { echo: "false", others: 0, asked: [poll, message] },
  ] as const;
  for (const { echo, others, asked } of cases) {
    await t.step(`echo ${echo}, ${others + 2} members: ${asked.length}`, async () => {
      assert.deepEqual(await requestsPerCommand(echo, others), Array(commandCount).fill(asked));
    });
  }
});

/** Requests to the API server for a start that is followed until the target is ready, and for the stop after it. */
async function requestsForTarget(verbs: string[]): Promise<{ start: string[]; stop: string[] }> {
  await using fixture = await Fixture.open();
  const { anna, kubernetes, operatorId, environment } = fixture;
  // The first look comes before the pod is ready, and the second, a second later, after that: on a slow machine, too.
  kubernetes.durations.startMs = 400;
  const named = { namespace: "clawdbot", resourceNames: ["clawdbot"] };
  const account = kubernetes.token("counted", [
    { ...named, resources: ["deployments"], verbs },
    { ...named, resources: ["deployments/scale"], verbs: ["get", "patch"] },
  ]);
  await kubernetes.writeKubeconfig(environment["KUBECONFIG"] ?? "", account);
  await using operator = fixture.start();
  const roomId = await fixture.invite();
  await fixture.joined(roomId);
  await operator.ready;
  const command = async (word: string, end: RegExp): Promise<string[]> => {
    const ended = anna.next(({ sender, body }) => sender === operatorId && end.test(body));
    kubernetes.requests.length = 0;
    await anna.say(roomId, word);
    await ended;
    // What follows the answer is over when a status was answered: its read comes after the others.
    const status = anna.next(({ sender, body }) => sender === operatorId && body.includes("🦞 status"));
    await anna.say(roomId, "status");
    await status;
    const asked = kubernetes.requests.map(({ method, path }) => `${method} ${/[\w-]+(?=\?|$)/.exec(path)}`);
    return asked.slice(0, -1);
  };
  // The first Event is refused. After that, none is tried for a while.
  await command("start", /is ready/);
  await command("stop", /is off/);
  return { start: await command("start", /is ready/), stop: await command("stop", /is off/) };
}

Deno.test("a command costs the API server a read and a write, and reads while a start is followed", async (t) => {
  const [read, write, pods] = ["GET clawdbot", "PATCH scale", "GET pods"];
  await t.step("with a watch", async () => {
    const { start, stop } = await requestsForTarget(["get", "watch"]);
    assert.deepEqual(stop, [read, write]);
    assert.deepEqual(start.slice(0, 2), [read, write]);
    assert.ok(start.length <= 6, `${start}`);
  });
  await t.step("without a watch", async () => {
    const { start, stop } = await requestsForTarget(["get"]);
    assert.deepEqual(stop, [read, write, read]);
    assert.deepEqual(start, [read, write, read, pods, read]);
  });
});
