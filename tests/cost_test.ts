/**
 * What a command costs the homeserver, counted: the same in every room, whatever its size. How memory grows is counted
 * by the soak (`tests/long/soak.ts`); how long things take is measured by `deno task bench`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Person } from "../sandbox/person/mod.ts";
import { Place } from "./faults/place.ts";

const commandCount = 5;

/** A command that takes longer has its first line sent alone, and the answer as an edit: one request more. */
const ECHO_AFTER_MS = 150;
const message = "PUT /rooms/{roomId}/send/{type}/{transactionId}";

/**
 * What each of some commands has had the operator ask the homeserver for, in the order of the alphabet. Where this machine
 * was too slow for an answer in time, the line that went before it is left out.
 */
async function requestsPerCommand(echo: "true" | "false", others: number): Promise<string[][]> {
  await using place = await Place.open();
  await using people = new AsyncDisposableStack();
  const { anna, homeserver, operatorId } = place;
  await using operator = place.start({ environment: { ECHO_MODE: echo } });
  const roomId = await place.invite();
  await place.joined(roomId);
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
