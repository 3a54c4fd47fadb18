/**
 * A login whose access token is valid for 30 s, while the operator is killed repeatedly, also between the homeserver's
 * response to a refresh and the saving of the new tokens. `--minutes=10` after `--` makes it run longer.
 */

import assert from "node:assert/strict";
import { startTestbed } from "../../testbed/mod.ts";
import type { RequestInfo } from "../../testbed/proxy.ts";
import { countOf } from "../long/arguments.ts";
import { OperatorProcess } from "../operator_process.ts";
import { Results } from "./results.ts";
import { elapsed, type Ground, Subject } from "./faults/subject.ts";

const lifeMs = 30_000;
const minutes = countOf("minutes", 1);
/** Time between two kills, in milliseconds. */
const [leastMs, mostMs] = [3_000, 20_000];
/** Time between an answer and the next command, in milliseconds. */
const pauseMs = 2_000;

const isLogin = ({ method, path }: RequestInfo) => method === "POST" && path.endsWith("/login");
const isRefresh = ({ path }: RequestInfo) => path.endsWith("/refresh");

Deno.test(`a login that lives ${lifeMs / 1_000} s lasts for ${minutes} min, whatever is killed`, async () => {
  await using testbed = await startTestbed(undefined, { refreshableMs: lifeMs });
  await using results = new Results("refresh tokens", testbed.homeserver.kind);
  const name = `a login that lives ${lifeMs / 1_000} s lasts, whatever is killed`;
  const synapseOnly = "Dendrite gives no refresh token, and an access token that doesn't expire";
  if (results.isElsewhere({ name, synapseOnly })) return;
  const alice = await testbed.person("alice");
  const ground: Ground = { testbed, alice, made: () => {} };
  const begin = performance.now();
  await using subject = await Subject.ready(ground);
  try {
    const figures = await live(subject);
    const { lost, doubled } = await subject.tallyAll();
    const end = await subject.endBySignal();
    const { device_keys } = await alice.request("POST", "/keys/query", { device_keys: { [subject.operatorId]: [] } });
    const devices = Object.keys(device_keys[subject.operatorId]).length;
    const logins = subject.homeserver.arrivedSince(begin, isLogin);
    const refreshes = subject.homeserver.arrivedSince(begin, isRefresh);
    console.log(
      `\n${minutes} min: ${figures.kills} kills, ${figures.killsAtRefresh} of them between a refresh and its saving; ` +
        `${refreshes} refreshes, ${logins} login, ${devices} device; ${figures.commands} commands, ${lost} lost, ` +
        `${doubled} doubled; ${end}\n`,
    );
    assert.deepEqual({ devices, logins, lost, doubled }, { devices: 1, logins: 1, lost: 0, doubled: 0 });
    assert.ok(figures.killsAtRefresh > 0 && refreshes >= minutes, "it was hardly ever refreshed");
    results.add(name, true);
  } catch (error) {
    results.add(name, false);
    console.log(`the end of the operator's log:\n${(await subject.log()).slice(-6_000)}`);
    throw error;
  }
});

/** Sends commands for the given time, while the operator is killed and restarted like a kubelet does. */
async function live(subject: Subject): Promise<{ commands: number; kills: number; killsAtRefresh: number }> {
  const over = new AbortController();
  const figures = { commands: 0, kills: 0, killsAtRefresh: 0 };
  const begin = performance.now();
  using _killer = subject.homeserver.addFault({
    kind: "forge",
    // Only every second one, so that the operator makes progress.
    when: (request) =>
      isRefresh(request) && subject.homeserver.arrivedSince(begin, isRefresh) % 2 === 1 && !over.signal.aborted,
    forge: async (_, ask) => {
      const answer = await ask();
      await subject.running.kill();
      figures.killsAtRefresh += 1;
      return { ...answer, then: "drop" };
    },
  });
  const restarts = (async () => {
    for (;;) {
      await subject.running.ended;
      if (over.signal.aborted) return;
      figures.kills += 1;
      subject.running = new OperatorProcess(subject.options);
    }
  })();
  const kills = (async () => {
    while (!over.signal.aborted) {
      await elapsed(leastMs + Math.random() * (mostMs - leastMs));
      if (!over.signal.aborted) await subject.running.kill();
    }
  })();
  const untilMs = performance.now() + minutes * 60_000;
  for (const words = ["start", "stop"] as const; performance.now() < untilMs; figures.commands += 1) {
    await subject.answerTo(await subject.send(words[figures.commands % 2] ?? "", 1));
    await elapsed(pauseMs);
  }
  over.abort();
  await kills;
  if (!subject.running.running) await subject.start();
  else await subject.running.untilReady();
  // Not awaited: it ends with the process.
  void restarts;
  return figures;
}
