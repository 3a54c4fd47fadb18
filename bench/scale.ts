/**
 * `deno task scale`: many rooms, users and targets in the sandbox. Gives commands at a steady rate, then at higher ones
 * until the operator no longer keeps up, and draws what happened for bench/README.md.
 *
 * Exits with 1 if a command was lost, carried out twice, or not answered once.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { readArguments } from "../build/arguments.ts";
import { bundle, bundleFolder } from "../build/bundle.ts";
import { permissions, runtimeFlags } from "../build/compile.ts";
import { freePort } from "../testbed/mod.ts";
import { Crowd } from "./crowd.ts";
import { median, p95, p99 } from "./figures.ts";
import { type Given, Load } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { operatorCommand } from "./operator.ts";
import { idle, Profiler, type Share, sharesOf } from "./profile.ts";
import { bentMs, drawScale, type Recording, type Step, type Window } from "./scale_picture.ts";
import { type Usage, usageOf } from "./usage.ts";

const root = join(import.meta.dirname ?? ".", "..");
const mebi = 2 ** 20;
const windowSeconds = 10;
/** Longer than anything takes that happens at all, even on a slow machine. */
const patienceMs = 120_000;

const given = readArguments({
  minutes: { type: "string", default: "10" },
  rooms: { type: "string", default: "100" },
  users: { type: "string", default: "1000" },
  targets: { type: "string", default: "50" },
  rate: { type: "string", default: "10" },
  steps: { type: "string", default: "20,30,40,50,60,80,100" },
  "step-seconds": { type: "string", default: "30" },
  svg: { type: "string", default: join(root, ".cache", "bench", "scale.svg") },
});
const positive = (name: keyof typeof given): number => {
  const value = Number(given[name]);
  if (value > 0 && Number.isFinite(value)) return value;
  return usageError(`--${name}: must be a number above 0 (got "${given[name]}")`);
};
const count = (name: keyof typeof given): number => {
  const value = positive(name);
  return Number.isInteger(value) ? value : usageError(`--${name}: must be a whole number (got "${given[name]}")`);
};
const size = { rooms: count("rooms"), users: count("users"), targets: count("targets") };
const [minutes, rate, stepSeconds] = [positive("minutes"), positive("rate"), positive("step-seconds")];
const rates = given.steps.split(",").filter((each) => each !== "").map(Number);
if (!rates.every((each) => each > 0)) usageError(`--steps: must be numbers above 0 (got "${given.steps}")`);
if (size.targets > size.rooms) usageError("--targets: each target needs a room of its own; at most as many as --rooms");
if (size.users < size.rooms) usageError("--users: each room needs somebody; at least as many as --rooms");

function usageError(problem: string): never {
  console.error(problem);
  Deno.exit(2);
}

const begin = performance.now();
const report = (text: string) => console.error(`scale: ${text}, ${((performance.now() - begin) / 1_000).toFixed(0)} s`);

/** Records the usage of both processes, window by window. */
class Recorder {
  readonly windows: Omit<Window, "given" | "done" | "p50" | "p95" | "p99">[] = [];
  #rate = 0;
  #changed = Promise.withResolvers<void>();
  readonly #crowd: Crowd;
  readonly #begin = performance.now();
  readonly #loop: Promise<void>;
  #isOver = false;

  constructor(crowd: Crowd) {
    this.#crowd = crowd;
    this.#loop = this.#record();
  }

  /** Since when times are counted, by `performance.now()`. */
  get beginMs(): number {
    return this.#begin;
  }

  /** Begins a window with another rate, in commands a second. */
  setRate(perSecond: number): void {
    this.#rate = perSecond;
    this.#changed.resolve();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    this.#changed.resolve();
    await this.#loop;
  }

  async #record(): Promise<void> {
    let last = await this.#look();
    while (!this.#isOver) {
      const rateThen = this.#rate;
      this.#changed = Promise.withResolvers();
      const timer = setTimeout(this.#changed.resolve, windowSeconds * 1_000);
      await this.#changed.promise;
      clearTimeout(timer);
      const now = await this.#look();
      const seconds = (now.atMs - last.atMs) / 1_000;
      const percent = (usage: Usage, before: Usage) => rounded((usage.cpuMs - before.cpuMs) / seconds / 10);
      this.windows.push({
        at: (last.atMs - this.#begin) / 1_000,
        seconds,
        rate: rateThen,
        rssMiB: rounded(now.operator.rss / mebi),
        withoutFilesMiB: rounded(now.operator.withoutFiles / mebi),
        operatorCpu: percent(now.operator, last.operator),
        sandboxCpu: percent(now.sandbox, last.sandbox),
      });
      last = now;
    }
  }

  async #look(): Promise<{ atMs: number; operator: Usage; sandbox: Usage }> {
    const [operator, sandbox] = await Promise.all([usageOf(this.#crowd.pid), usageOf("self")]);
    return { atMs: performance.now(), operator, sandbox };
  }
}

/** Gives commands at a rate and waits until all are done. */
async function step(crowd: Crowd, load: Load, recorder: Recorder, perSecond: number, seconds: number): Promise<Step> {
  const before = { usage: await usageOf(crowd.pid), given: load.given.length };
  recorder.setRate(perSecond);
  await load.give(perSecond, seconds);
  recorder.setRate(0);
  if (!await load.settle(patienceMs)) throw new Error(`Cannot go on: ${JSON.stringify(load.account())}`);
  const { cpuMs } = await usageOf(crowd.pid);
  const made = load.given.slice(before.given);
  const took = made.map(latency);
  return {
    rate: perSecond,
    given: made.length,
    p50: rounded(median(took)),
    p95: rounded(p95(took)),
    p99: rounded(p99(took)),
    cpuMsEach: rounded((cpuMs - before.usage.cpuMs) / made.length),
  };
}

/** Time from acknowledgement to PATCH, in milliseconds. */
function latency({ atMs, patchedAtMs = Infinity }: Given): number {
  return patchedAtMs - atMs;
}

/** Adds to each window what became of the commands that were given in it. */
function withCommands(windows: Recorder["windows"], commands: readonly Given[], beginMs: number): Window[] {
  return windows.map((window) => {
    const isWithin = (atMs: number) => {
      const second = (atMs - beginMs) / 1_000;
      return second >= window.at && second < window.at + window.seconds;
    };
    const took = commands.filter(({ atMs }) => isWithin(atMs)).map(latency);
    const done = commands.filter(({ patchedAtMs }) => patchedAtMs !== undefined && isWithin(patchedAtMs)).length;
    const of = (share: (numbers: readonly number[]) => number) => took.length === 0 ? 0 : rounded(share(took));
    const [at, seconds] = [rounded(window.at), rounded(window.seconds)];
    return { ...window, at, seconds, given: took.length, done, p50: of(median), p95: of(p95), p99: of(p99) };
  });
}

/** Longest wait of each target or room: the longest of all, and their median. */
function starvation(commands: readonly Given[], by: "target" | "roomId"): string {
  const longest = [...Map.groupBy(commands, (command) => command[by]).values()]
    .map((its) => Math.max(...its.map(latency)));
  return `${Math.max(...longest).toFixed(0)} ms, median ${median(longest).toFixed(0)} ms of ${longest.length}`;
}

function rounded(value: number): number {
  return Number(value.toFixed(1));
}

await bundle();
await using crowd = await Crowd.open(size, operatorCommand(bundleFolder), report);
using load = new Load(crowd);
await load.giveInEachRoom(patienceMs);
report("a first command was given in each room");
const first = load.given.length;

const recorder = new Recorder(crowd);
const steps = [await step(crowd, load, recorder, rate, minutes * 60)];
const steady = load.given.slice(first);
report(`${steady.length} commands were given at ${rate} a second`);
for (const each of rates) {
  if ((steps.at(-1)?.p50 ?? 0) > bentMs) break;
  steps.push(await step(crowd, load, recorder, each, stepSeconds));
  report(`${each} a second: p50 ${steps.at(-1)?.p50} ms, p99 ${steps.at(-1)?.p99} ms`);
}
await recorder.stop();
const windows = withCommands(recorder.windows, load.given, recorder.beginMs);

// The bundle has no names to tell its parts by. The sources, started anew on the same store, have.
await crowd.stop();
const inspector = `127.0.0.1:${freePort()}`;
const sources = ["run", `--inspect=${inspector}`, ...permissions(), ...runtimeFlags, join(root, "main.ts")];
await crowd.start([Deno.execPath(), ...sources]);
await load.give(rate, stepSeconds / 2);
await load.settle(patienceMs);
let shares: Share[];
{
  using profiler = await Profiler.connect(inspector);
  await profiler.start();
  await load.give(steps.at(-1)?.rate ?? rate, stepSeconds);
  shares = sharesOf(await profiler.stop(), new URL("../", import.meta.url).href)
    .map(({ part, share }) => ({ part, share: Number(share.toFixed(3)) }));
  await load.settle(patienceMs);
}

const { at, machine } = describeMachine();
const recording: Recording = { at, machine, size, windows, steps, shares };
await Deno.mkdir(dirname(given.svg), { recursive: true });
await Deno.writeTextFile(given.svg, drawScale(recording));

const account = load.account();
console.log(`${machine}\n${size.rooms} rooms, ${size.users} users, ${size.targets} targets\n`);
console.log("a second | commands | p50 ms | p95 ms | p99 ms | operator's processor, ms a command");
for (const each of steps) {
  console.log([each.rate, each.given, each.p50, each.p95, each.p99, each.cpuMsEach].join(" | "));
}
const memory = windows.map(({ rssMiB }) => rssMiB);
console.log(`\nRSS ${memory[0]} MiB at first, ${Math.max(...memory)} at most`);
console.log(`longest wait of a target at ${rate} a second: ${starvation(steady, "target")}`);
console.log(`longest wait of a room: ${starvation(steady, "roomId")}`);
console.log(`what became of all commands: ${JSON.stringify(account)}`);
const busy = shares.filter(({ part }) => part !== idle).slice(0, 8);
console.log(
  `main thread at ${steps.at(-1)?.rate} a second: idle ${percent(shares.find(({ part }) => part === idle))}; ` +
    busy.map((each) => `${each.part} ${percent(each)}`).join(", "),
);
console.log(`\npicture: ${given.svg}`);
const { lost, doubled, unanswered, answeredTwice } = account;
Deno.exitCode = lost + doubled + unanswered + answeredTwice === 0 ? 0 : 1;

function percent(share: Share | undefined): string {
  return `${((share?.share ?? 0) * 100).toFixed(0)} %`;
}
