/**
 * `deno task bench`: compares this project's operator with the Python operator, in the same run on the same Synapse and
 * API server, and both with the least that can be done between a message and a Deployment. Prints a table, and writes
 * the numbers as JSON. Asserts no times.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { readArguments } from "../build/arguments.ts";
import { bundle, bundleFolder } from "../build/bundle.ts";
import { installPythonOperator, startTestbed } from "../testbed/mod.ts";
import type { Name, Program } from "./contender.ts";
import { type Figure, table } from "./figures.ts";
import { largeStores } from "./large_store.ts";
import { machine } from "./machine.ts";
import { commands, endurance, idle, sizes, slowStarts, starts } from "./measurements.ts";
import { imageEnvironment, operatorCommand, operatorReady } from "./operator.ts";
import { Stage } from "./stage.ts";

const root = join(import.meta.dirname ?? ".", "..");

const given = readArguments({
  starts: { type: "string", default: "5" },
  "slow-starts": { type: "string", default: "3" },
  commands: { type: "string", default: "20" },
  members: { type: "string", default: "2,10,30,100" },
  "first-commands": { type: "string", default: "5" },
  endurance: { type: "string", default: "100" },
  messages: { type: "string", default: "300" },
  "idle-seconds": { type: "string", default: "60" },
  sessions: { type: "string", default: "10000" },
  devices: { type: "string", default: "5000" },
  before: { type: "string" },
  json: { type: "string", default: join(root, ".cache", "bench", "result.json") },
});

const python = await installPythonOperator();
await bundle();
const environment = await imageEnvironment();
const bundled = (name: Name, folder: string): Program => ({
  name,
  command: operatorCommand(folder),
  ready: operatorReady,
  environment,
});
const programs: readonly Program[] = [
  bundled("toggle", bundleFolder),
  ...given.before === undefined ? [] : [bundled("before", join(given.before, "dist", "bundle"))],
  { name: "python", command: [python, "-m", "openclaw_k8s_toggle_operator"], ready: /Listening for commands/ },
  {
    name: "floor",
    command: [Deno.execPath(), "run", "-A", "--no-config", join(root, "bench/floor.ts")],
    ready: /Ready/,
  },
];

const began = await machine(python);
const figures: Figure[] = [];
const add = (what: string, made: readonly Figure[]) => {
  figures.push(...made);
  console.error(`bench: ${what} measured, ${(performance.now() / 1_000).toFixed(0)} s`);
};
{
  await using testbed = await startTestbed({ startMs: 20, stopMs: 20, runMs: 300, backOffMs: 1_000 });
  await using stage = await Stage.create(testbed, programs);
  const slow = await slowStarts(stage, Number(given["slow-starts"]));
  add("starts", [...await starts(stage, Number(given.starts)), ...slow]);
  add("idle", await idle(stage, Number(given["idle-seconds"])));
  const members = given.members.split(",").map(Number);
  add("commands", await commands(stage, members, Number(given.commands), Number(given["first-commands"])));
  add("endurance", await endurance(stage, Number(given.endurance), Number(given.messages)));
}
add("large stores", await largeStores(python, Number(given.sessions), Number(given.devices), given.before));
add("sizes", await sizes(bundleFolder, python));

const result = { ...began, counts: given, ended: await machine(python), figures };
await Deno.mkdir(dirname(given.json), { recursive: true });
await Deno.writeTextFile(given.json, `${JSON.stringify(result, null, 1)}\n`);
console.log(
  `${began.machine}\n${began.versions}\nload average ${began.load} at the beginning, ${result.ended.load} at the end\n`,
);
console.log(table(figures));
console.log(`\nnumbers: ${given.json}`);
