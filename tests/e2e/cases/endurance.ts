/**
 * What survives the process: the device, messages sent while it was down, and the command in progress when it was
 * killed.
 */

import assert from "node:assert/strict";
import type { ScaleWrite } from "../../../testbed/mod.ts";
import { bodyOf } from "../conversation.ts";
import { OperatorProcess } from "../../operator_process.ts";
import { median } from "../report.ts";
import type { World } from "../world.ts";
import type { Case } from "./case.ts";

const answers = {
  start: "clawdbot is on (1 replica), starting…",
  stop: "clawdbot is off",
} as const;
type Command = keyof typeof answers;

async function restart(world: World): Promise<void> {
  const { talk, report } = world;
  const device = await operatorDevice(world);
  const before = await world.state();
  assert.equal(await world.operator.stop(), 0, "exit code after SIGTERM");
  assert.match(await world.operatorLog(), /main: stopped|"message":"stopped"/);

  const start = await talk.send("start");
  const stop = await talk.send("stop");
  const begin = performance.now();
  await world.startOperator();
  const { readyMs } = world.operator;
  const back = [await talk.answerTo(start), await talk.answerTo(stop)].map(bodyOf);
  const ms = performance.now() - begin;
  const after = await world.state(({ current }) => current === 0);
  report.add({
    ...{ case: "sent while it was away", sent: "start, stop", back: back.join(" / ") },
    ...{ before: before.replicas, after: after.replicas, ms },
  });
  report.fact(`Ready after ${readyMs.toFixed(0)} ms, restarted on its store.`);
  assert.deepEqual(back, [answers.start, answers.stop]);
  assert.equal(after.generation, before.generation + 2);

  // Restarts once more: a completed command must not be repeated.
  assert.equal(await world.operator.stop(), 0);
  await world.startOperator();
  await talk.ask("status");
  assert.equal((await world.state()).generation, after.generation);
  for (const eventId of [start, stop]) assert.equal(talk.answersTo(eventId).length, 1);
  assert.deepEqual(await operatorDevice(world), device);
}

/** Returns ID and keys of the operator's only device. */
async function operatorDevice({ alice, operatorId }: World): Promise<unknown> {
  const { device_keys } = await alice.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
  const devices = Object.values<{ device_id: string; keys: unknown }>(device_keys[operatorId]);
  assert.equal(devices.length, 1, "the operator must have one device");
  return devices.map(({ device_id, keys }) => ({ device_id, keys }));
}

/** Kills spread evenly over the duration of a command and slightly beyond, then some during startup. */
const killsDuringCommand = 20;
const killsDuringStart = 4;

/** A command, and whether it had been executed and answered when the operator was killed. */
interface Struck {
  readonly eventId: string;
  readonly command: Command;
  readonly done: boolean;
  readonly answered: boolean;
}

async function killAgainAndAgain(world: World): Promise<void> {
  const { talk, report } = world;
  const before = await world.state();
  const writesBefore = await writes(world);
  const undisturbed: number[] = [];
  const quiet: readonly Command[] = ["start", "stop", "start", "stop"];
  for (const command of quiet) undisturbed.push((await talk.ask(command)).answeringMs);
  const commandMs = median(undisturbed) * 1.3;
  const startMs = world.operator.readyMs;
  const struck: Struck[] = [];
  const readyMs: number[] = [];

  for (let round = 0; round < killsDuringCommand + killsDuringStart; round++) {
    const command = round % 2 === 0 ? "start" : "stop";
    const overStart = round - killsDuringCommand;
    const strike = overStart < 0
      ? killDuringCommand(world, command, commandMs * round / (killsDuringCommand - 1))
      : killDuringStart(world, command, startMs * (overStart + 1) / killsDuringStart);
    const eventId = await strike;
    const generation = before.generation + undisturbed.length + round;
    const done = (await world.state()).generation > generation;
    struck.push({ eventId, command, done, answered: talk.isAnswered(eventId) });

    await world.startOperator();
    readyMs.push(world.operator.readyMs);
    assert.equal(bodyOf(await talk.answerTo(eventId)), answers[command], `after kill ${round + 1}`);
    assert.equal((await world.state()).generation, generation + 1, `effects after kill ${round + 1}`);
  }

  await talk.ask("status"); // anything sent twice would have been sent before this
  const after = await world.state(({ current }) => current === 0);
  report.add({
    ...{ case: `killed ${struck.length} times around commands`, sent: "start, stop, start, …" },
    ...{ back: `${struck.length} answers`, before: before.replicas, after: after.replicas, ms: undefined },
  });
  const count = (accept: (one: Struck) => boolean) => struck.filter(accept).length;
  const early = count(({ done }) => !done);
  const between = count(({ done, answered }) => done && !answered);
  const late = count(({ answered }) => answered);
  report.fact(
    `Killed ${early} times before the effect, ${between} between effect and answer, ${late} after the answer.`,
  );
  assert.ok(early > 0 && between > 0, "the kills have missed what they were meant for");
  report.fact(`Ready after ${median(readyMs).toFixed(0)} ms (median), restarted after a kill.`);
  for (const { eventId } of struck) {
    assert.equal(talk.answersTo(eventId).length, 1, "each command has one answer");
  }
  assert.ok(talk.seen.events.every(({ how }) => how !== "undecryptable"), "something could not be decrypted");
  const commands = [...quiet, ...struck.map(({ command }) => command)];
  assertWrites(world, commands, (await writes(world))?.slice(writesBefore?.length));
}

async function killDuringCommand(world: World, command: Command, afterMs: number): Promise<string> {
  const eventId = await world.talk.send(command);
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  await world.operator.kill();
  return eventId;
}

async function killDuringStart(world: World, command: Command, afterMs: number): Promise<string> {
  await world.operator.kill();
  const eventId = await world.talk.send(command);
  const operator = new OperatorProcess(world.options);
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  await operator.kill();
  return eventId;
}

/** Returns the writes to the target's scale from the API server's audit log, which a given cluster doesn't reveal. */
function writes(world: World): Promise<ScaleWrite[] | undefined> {
  return world.testbed.records.scaleWrites(world.namespace, "clawdbot");
}

/** Asserts that each command wrote once, and nobody else did. A conflict isn't an effect. */
function assertWrites(world: World, commands: readonly Command[], seen: readonly ScaleWrite[] | undefined): void {
  if (seen === undefined) return;
  const done = seen.filter(({ status }) => status === 200);
  assert.deepEqual(done.map(({ replicas }) => replicas), commands.map((command) => command === "start" ? 1 : 0));
  const user = `system:serviceaccount:${world.namespace}:openclaw-toggle`;
  assert.ok(seen.every((write) => write.user === user), "somebody else has scaled");
  assert.ok(seen.every(({ status }) => status === 200 || status === 409), "a write was refused");
}

export const enduranceCases: readonly Case[] = [
  { name: "restarted, it is the same device and does once what was sent meanwhile", run: restart },
  { name: "killed at any moment, each command has one effect and one answer", run: killAgainAndAgain },
];
