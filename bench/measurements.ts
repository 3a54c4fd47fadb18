/**
 * The measurements. Each one alternates between the programs, so that other load on the machine affects all of them.
 *
 * @module
 */

import { join } from "node:path";
import type { Contender, ContenderUsage, Name } from "./contender.ts";
import { ControlGroup } from "./control_group.ts";
import type { Figure } from "./figures.ts";
import type { Room, Stage } from "./stage.ts";

const mebi = 2 ** 20;
/** Processor of a Raspberry Pi beside a core of a server. */
const fewCores = 0.2;
type Values = Record<string, number[]>;

/** Values of one measurement, by program. */
class Series {
  readonly values: Values = {};

  add(name: Name, value: number): void {
    (this.values[name] ??= []).push(value);
  }

  figure(what: string, unit: Figure["unit"]): Figure {
    return { what, unit, values: this.values };
  }
}

/** Time until ready, with a new store and with an existing one. Afterwards all programs are running. */
export async function starts(stage: Stage, count: number): Promise<Figure[]> {
  const measured = { cold: new Series(), warm: new Series() };
  for (const how of ["cold", "warm"] as const) {
    for (let i = 0; i < count; i++) {
      for (const contender of stage.operators) {
        await contender.stop();
        measured[how].add(contender.name, await contender.start(how));
      }
    }
  }
  await stage.named("floor").start("warm");
  return [
    measured.cold.figure("process start → ready, new device", "ms"),
    measured.warm.figure("process start → ready, restarted", "ms"),
  ];
}

/** The same with a fifth of a core, as on a Raspberry Pi. Afterwards all programs but the floor are stopped. */
export async function slowStarts(stage: Stage, count: number): Promise<Figure[]> {
  await using trial = await ControlGroup.create("bench-trial", "cpu");
  if (trial === undefined) {
    console.error(`bench: starts with ${fewCores} cores left out, because no control group can be created`);
    return [];
  }
  const measured = { cold: new Series(), warm: new Series() };
  for (const how of ["cold", "warm"] as const) {
    for (let i = 0; i < count; i++) {
      for (const contender of stage.operators) {
        await contender.stop();
        measured[how].add(contender.name, await contender.start(how, fewCores));
        await contender.stop();
      }
    }
  }
  return [
    measured.cold.figure(`process start → ready, new device, ${fewCores} cores`, "ms"),
    measured.warm.figure(`process start → ready, restarted, ${fewCores} cores`, "ms"),
  ];
}

/** Memory of a program, in several reckonings. */
class MemorySeries {
  readonly #series = { rss: new Series(), pss: new Series(), workingSet: new Series(), withoutFiles: new Series() };

  add(name: Name, { rss, pss, workingSet, withoutFiles }: ContenderUsage): void {
    this.#series.rss.add(name, rss / mebi);
    this.#series.pss.add(name, pss / mebi);
    this.#series.withoutFiles.add(name, withoutFiles / mebi);
    if (workingSet !== undefined) this.#series.workingSet.add(name, workingSet / mebi);
  }

  figures(when: string): Figure[] {
    const { rss, pss, workingSet, withoutFiles } = this.#series;
    return [
      rss.figure(`RSS, ${when}`, "MiB"),
      pss.figure(`PSS, ${when}`, "MiB"),
      ...Object.keys(workingSet.values).length === 0 ? [] : [workingSet.figure(`working set, ${when}`, "MiB")],
      withoutFiles.figure(`working set without pages of files, ${when}`, "MiB"),
    ];
  }
}

/** Memory, CPU time and requests while idle, after one command. */
export async function idle(stage: Stage, seconds: number): Promise<Figure[]> {
  const [memory, cpu, requests] = [new MemorySeries(), new Series(), new Series()];
  for (const contender of stage.contenders) {
    const room = await stage.room(contender, 2);
    for (let i = 0; i < 2; i++) await stage.command(room);
  }
  const look = async () =>
    await Promise.all(stage.contenders.map(async (contender) => ({
      ...{ contender, usage: await contender.usage() },
      asked: (await stage.testbed.homeserver.requestsOf(contender.userId)).length,
    })));
  await wait(5);
  const before = await look();
  await wait(seconds);
  for (const [i, { contender: { name }, usage, asked }] of (await look()).entries()) {
    memory.add(name, usage);
    cpu.add(name, (usage.cpuMs - (before[i]?.usage.cpuMs ?? NaN)) / seconds / 10);
    requests.add(name, (asked - (before[i]?.asked ?? NaN)) * 60 / seconds);
  }
  return [
    ...memory.figures("idle"),
    cpu.figure("processor, idle", "% of one core"),
    requests.figure("requests to the homeserver, idle", "requests a minute"),
  ];
}

/** Commands in rooms of several sizes, and the first command in a room. */
export async function commands(
  stage: Stage,
  members: readonly number[],
  count: number,
  firstCount: number,
): Promise<Figure[]> {
  const made: Figure[] = [];
  const calls = new Series();
  const { homeserver, records } = stage.testbed;
  const requestsOf = async ({ userId, namespace }: Contender) => ({
    asked: (await homeserver.requestsOf(userId)).length,
    called: await records.requestsOf(namespace, "operator"),
  });
  for (const size of members) {
    const [replicas, answer, requests] = [new Series(), new Series(), new Series()];
    const rooms: Room[] = [];
    for (const contender of stage.contenders) rooms.push(await stage.room(contender, size));
    // The first command in a room shares keys, and is measured separately below.
    for (const room of rooms) await stage.command(room);
    for (let i = 0; i < count; i++) {
      for (const room of rooms) {
        const { contender } = room;
        await stage.settled(contender);
        const before = await requestsOf(contender);
        const { replicasMs, answerMs } = await stage.command(room);
        replicas.add(contender.name, replicasMs);
        answer.add(contender.name, answerMs);
        await stage.settled(contender);
        const { asked, called } = await requestsOf(contender);
        if (contender.name === "floor") continue;
        requests.add(contender.name, asked - before.asked);
        if (called !== undefined) calls.add(contender.name, called - (before.called ?? NaN));
      }
    }
    made.push(
      replicas.figure(`acknowledged → replicas changed, ${size} members`, "ms"),
      answer.figure(`acknowledged → answer shown, ${size} members`, "ms"),
      requests.figure(`requests to the homeserver per command, ${size} members`, "requests"),
    );
  }
  const [replicas, answer] = [new Series(), new Series()];
  for (let i = 0; i < firstCount; i++) {
    for (const contender of stage.contenders) {
      const room = await stage.room(contender, 2);
      await stage.settled(contender);
      const { replicasMs, answerMs } = await stage.command(room);
      replicas.add(contender.name, replicasMs);
      answer.add(contender.name, answerMs);
    }
  }
  made.push(
    replicas.figure("the same, first command in a room", "ms"),
    answer.figure("acknowledged → answer, first command in a room", "ms"),
    calls.figure("requests to the API server per command", "requests"),
  );
  return made;
}

/** Many commands in a row, and many messages of a user who isn't allowed. */
export async function endurance(stage: Stage, commandCount: number, messageCount: number): Promise<Figure[]> {
  const cpu = new Series();
  const made: Figure[] = [];
  const memory = async (after: string) => {
    const series = new MemorySeries();
    await wait(5);
    for (const contender of stage.operators) series.add(contender.name, await contender.usage());
    made.push(...series.figures(`after ${after}`));
  };
  for (const contender of stage.operators) {
    const room = await stage.room(contender, 2);
    await stage.command(room);
    const before = await contender.usage();
    for (let i = 0; i < commandCount; i++) await stage.command(room);
    cpu.add(contender.name, ((await contender.usage()).cpuMs - before.cpuMs) / commandCount);
  }
  made.push(cpu.figure(`processor per command (${commandCount} in a row)`, "ms"));
  await memory(`${commandCount} more commands`);

  const bob = await stage.testbed.person("bob");
  const ids = stage.operators.map(({ userId }) => userId);
  const roomId = await stage.alice.createRoom({ invite: [bob.userId, ...ids] });
  await bob.join(roomId);
  await bob.untilJoined(roomId, ids);
  for (let i = 0; i < messageCount; i++) await bob.sendText(roomId, `message ${i}`);
  await memory(`${messageCount} messages`);
  return made;
}

/** Sizes of what is installed and shipped. */
export async function sizes(bundleFolder: string, python: string): Promise<Figure[]> {
  const packages = join(python, "..", "..", "lib");
  const values = {
    toggle: [await bytesIn(bundleFolder) / mebi],
    python: [await bytesIn(packages, /\/(__pycache__|pip|setuptools|pkg_resources)$/) / mebi],
  };
  return [{ what: "program and packages, without Deno or Python", unit: "MiB", values }];
}

async function bytesIn(folder: string, except?: RegExp): Promise<number> {
  let sum = 0;
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (except?.test(path)) continue;
    if (isDirectory) sum += await bytesIn(path, except);
    if (isFile) sum += (await Deno.stat(path)).size;
  }
  return sum;
}

async function wait(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
}
