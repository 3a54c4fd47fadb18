/**
 * What a command costs the homeserver, counted: the same in every room, whatever its size; and what it costs the API
 * server. How memory grows is counted by the soak (`tests/long/soak.ts`); how long things take is measured by `deno task bench`.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Rule } from "../sandbox/kubernetes/mod.ts";
import { Person } from "../sandbox/person/mod.ts";
import { Fixture, PATIENCE_MS } from "./faults/fixture.ts";

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

const target = { namespace: "clawdbot", resourceNames: ["clawdbot"] };
const base: readonly Rule[] = [
  { ...target, resources: ["deployments"], verbs: ["get"] },
  { ...target, resources: ["deployments/scale"], verbs: ["get", "patch"] },
];
const watch: Rule = { ...target, resources: ["deployments"], verbs: ["watch"] };

/** What some commands have the API server asked for, each until it has ended and what follows of it has been done. */
async function requestsForTarget(
  rules: readonly Rule[],
  commands: readonly {
    readonly word: "start" | "stop";
    readonly takesMs?: number;
    readonly asked: readonly string[];
  }[],
): Promise<string[][]> {
  await using fixture = await Fixture.open();
  const { anna, kubernetes, operatorId, environment } = fixture;
  await kubernetes.writeKubeconfig(environment["KUBECONFIG"] ?? "", kubernetes.token("counted", rules));
  await using operator = fixture.start();
  const roomId = await fixture.invite();
  await fixture.joined(roomId);
  await operator.ready;
  const asked = () => kubernetes.requests.map(({ method, path }) => `${method} ${/[\w-]+(?=\?|$)/.exec(path)}`);
  const isAtRest = () =>
    kubernetes.workloads().every(({ settled, desired, ready, pods }) =>
      settled && ready === desired && pods.length === desired
    );
  const answer = async (word: string, answered: RegExp) => {
    const heard = anna.next(({ sender, body }) => sender === operatorId && answered.test(body));
    await anna.say(roomId, word);
    await heard;
  };
  const command = async (word: "start" | "stop", count: number): Promise<string[]> => {
    kubernetes.requests.length = 0;
    await answer(word, word === "start" ? /is ready/ : /is off/);
    // A watch that shows the controller's last change has shown all.
    await until(() => kubernetes.requests.length >= count && isAtRest());
    // If anything else had been asked for by now, it would have been before the status is.
    await answer("status", /🦞 status/);
    return asked().slice(0, -1);
  };
  // The first Event is refused. After that, none is tried for a while.
  await command("start", 0);
  await command("stop", 0);
  await until(() => asked().includes("GET clawdbot"));
  const counted: string[][] = [];
  for (const { word, takesMs = 20, asked } of commands) {
    kubernetes.durations.startMs = takesMs;
    counted.push(await command(word, asked.length));
  }
  return counted;
}

async function until(holds: () => boolean): Promise<void> {
  const untilMs = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > untilMs) throw new Error("It has not come about");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

Deno.test("a command costs the API server one write, and reads where no watch spares them", async (t) => {
  const [read, write, pods] = ["GET clawdbot", "PATCH scale", "GET pods"];
  const takesMs = 2_000;
  const cases = [
    {
      name: "with a watch",
      rules: [...base, watch],
      commands: [
        { word: "start", asked: [write] },
        { word: "stop", asked: [write] },
        // Why it takes long, pods tell, if they may be listed. That is tried once.
        { word: "start", takesMs, asked: [write, pods] },
        { word: "stop", asked: [write] },
        { word: "start", takesMs, asked: [write] },
      ],
    },
    {
      name: "without a watch",
      rules: base,
      commands: [
        { word: "start", asked: [read, write, read] },
        { word: "stop", asked: [read, write, read] },
      ],
    },
  ] as const;
  for (const { name, rules, commands } of cases) {
    await t.step(name, async () => {
      assert.deepEqual(await requestsForTarget(rules, commands), commands.map(({ asked }) => asked));
    });
  }
});
