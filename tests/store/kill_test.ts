import assert from "node:assert/strict";
import { open, result } from "./indexeddb/driver.ts";
import { StoreFolder } from "./folder.ts";

const program = new URL("kill_program.ts", import.meta.url).pathname;
const KILLS = 200;
const CONTROL_KILLS = 20;

/** The highest of each kind that a life has found, and then acknowledged. */
interface Run {
  found: { number: number; event: number } | undefined;
  acknowledged: { number: number; event: number };
}

/** Lets the program live until it has acknowledged so many writes, or for so long, and kills it wherever it is then. */
async function liveAndDie(folder: StoreFolder, mode: "durable" | "late", until: { writes: number } | { ms: number }) {
  const args = ["run", "--allow-read", "--allow-write", program, folder.path, mode];
  const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn();
  const timer = "ms" in until ? setTimeout(() => child.kill("SIGKILL"), until.ms) : undefined;
  const run: Run = { found: undefined, acknowledged: { number: 0, event: 0 } };
  let [writes, rest, killed] = [0, "", false];
  // What it wrote to the pipe before it died is read to the end.
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [what, first, second] = line.split(" ");
      if (what === "found") run.found = { number: Number(first), event: Number(second) };
      else if (what === "number" || what === "event") run.acknowledged[what] = Number(first);
      else assert.fail(line);
      writes += what === "found" ? 0 : 1;
    }
    if (!killed && "writes" in until && run.found && writes >= until.writes) {
      child.kill("SIGKILL");
      killed = true;
    }
  }
  clearTimeout(timer);
  assert.equal((await child.status).signal, "SIGKILL", "it ended by itself");
  return run;
}

/** Kills the program again and again over one folder; tells what was acknowledged in all, and how often some was lost. */
async function killings(folder: StoreFolder, mode: "durable" | "late", kills: number) {
  const acknowledged = { number: 0, event: 0 };
  const lost = { number: 0, event: 0 };
  for (let kill = 0; kill < kills; kill++) {
    const atStart = kill % 5 === 4;
    const until = atStart ? { ms: Math.random() * 150 } : { writes: Math.floor(Math.random() * 30) };
    const run = await liveAndDie(folder, mode, until);
    for (const kind of ["number", "event"] as const) {
      if (run.found && run.found[kind] < acknowledged[kind]) lost[kind] += 1;
      if (run.found) acknowledged[kind] = Math.max(run.found[kind], run.acknowledged[kind]);
    }
  }
  return { acknowledged, lost };
}

Deno.test(`a store has lost no acknowledged write after ${KILLS} kills`, async () => {
  await using folder = new StoreFolder();
  const { acknowledged, lost } = await killings(folder, "durable", KILLS);
  assert.deepEqual(lost, { number: 0, event: 0 });
  assert.ok(acknowledged.number > KILLS, `only ${acknowledged.number} were acknowledged`);

  const store = await folder.reopen();
  const events = new Set(store.journal.unsettled(0).map(({ event }) => event.eventId));
  for (let i = 1; i <= acknowledged.event; i++) assert.ok(events.has(`$${i}`), `event ${i} of ${acknowledged.event}`);
  assert.equal(store.rooms.syncToken(), String(events.size));

  await store.openCrypto();
  const connection = await open(Reflect.get(globalThis, "indexedDB"), "numbers");
  const numbers = new Set(await result(connection.transaction("all").objectStore("all").getAllKeys()));
  for (let i = 1; i <= acknowledged.number; i++) assert.ok(numbers.has(i), `number ${i} of ${acknowledged.number}`);
  connection.close();
});

Deno.test("the kill test has teeth: a store that writes 30 ms late loses acknowledged writes", async () => {
  await using folder = new StoreFolder();
  const { lost } = await killings(folder, "late", CONTROL_KILLS);
  assert.ok(lost.number > 0 && lost.event > 0, JSON.stringify(lost));
});
