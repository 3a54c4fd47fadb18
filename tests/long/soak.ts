/** Commands and chatter by the thousand, with faults sprinkled in: what becomes of memory, and what is lost. */

import assert from "node:assert/strict";
import { type Fault, tooManyRequests } from "../../sandbox/homeserver/mod.ts";
import type { Fault as ClusterFault } from "../../sandbox/kubernetes/mod.ts";
import { firstAnswer, type Message } from "../../sandbox/person/mod.ts";
import { Fixture, PATIENCE_MS } from "../faults/fixture.ts";
import { printTable } from "../faults/table.ts";
import { countOf } from "./arguments.ts";

const COMMANDS = countOf("commands", 20_000);
/** So many are under way at once. */
const BATCH = 20;
const FAULT_EVERY = 10;
const ROWS = 20;
const MEBI = 2 ** 20;

const sendFails = { method: "PUT", path: /\/send\// };
const faults: readonly ({ readonly homeserver: Fault } | { readonly cluster: ClusterFault })[] = [
  { homeserver: { ...sendFails, times: 2, answer: { status: 502 } } },
  { homeserver: { ...sendFails, times: 1, after: true, answer: { status: 504 } } },
  { homeserver: { path: "/sync", times: 1, answer: tooManyRequests(500) } },
  { homeserver: { path: "/sync", times: 2, after: true, body: "drop" } },
  { homeserver: { path: /\/keys\//, times: 1, answer: { status: 500 } } },
  { homeserver: { times: 5, delayMs: 300 } },
  { cluster: { times: 1, effect: { answer: 500 } } },
  { cluster: { times: 2, effect: "drop" } },
  { cluster: { method: "PATCH", times: 1, effect: "lose" } },
  { cluster: { times: 3, effect: { delayMs: 200 } } },
  { cluster: { method: "PATCH", times: 1, effect: { answer: 409 } } },
];

Deno.test(`after ${COMMANDS} commands and as much chatter, memory is flat and nothing is lost`, async () => {
  await using place = await Fixture.open();
  const { anna, operatorId } = place;
  await using operator = place.start({
    flags: ["--v8-flags=--expose-gc", "--preload", new URL("memory.ts", import.meta.url).pathname],
    environment: { LOG_LEVEL: "warning" },
  });
  const roomId = await place.invite();
  await place.joined(roomId);

  const answers = new Map<string, number>();
  const waiting = new Set<string>();
  const answerIds = new Set<string>();
  using _listening = anna.listen((message: Message) => {
    const { sender, about, kind, eventId } = message;
    if (sender !== operatorId || about === undefined || kind !== "notice") return;
    if (answerIds.has(eventId) || firstAnswer(message) === undefined) return;
    answerIds.add(eventId);
    answers.set(about, (answers.get(about) ?? 0) + 1);
    waiting.delete(about);
  });
  let switched = 0;
  const command = async (text: string) => {
    const eventId = await anna.say(roomId, text);
    if (!answers.has(eventId)) waiting.add(eventId);
    return eventId;
  };
  const allAnswered = () =>
    anna.until(() => waiting.size === 0 || undefined, PATIENCE_MS, () => `answers to ${waiting.size} commands`);
  const remember: string[] = [];
  const rows: { commands: number; seconds: number; rss: number; heap: number; external: number }[] = [];
  const begin = performance.now();
  const measure = async () => {
    const { promise, resolve } = Promise.withResolvers<{ rss: number; heapUsed: number; external: number }>();
    operator.onLine = (line) => line.startsWith("memory ") && resolve(JSON.parse(line.slice(7)));
    operator.signal("SIGUSR2");
    const { rss, heapUsed, external } = await promise;
    const seconds = (performance.now() - begin) / 1_000;
    rows.push({
      commands: remember.length,
      seconds,
      rss: rss / MEBI,
      heap: heapUsed / MEBI,
      external: external / MEBI,
    });
  };

  let struck = 0;
  for (let batch = 0; remember.length < COMMANDS; batch += 1) {
    using faulty = new DisposableStack();
    if (batch % FAULT_EVERY === FAULT_EVERY - 1) {
      const fault = faults[struck++ % faults.length];
      if (fault && "homeserver" in fault) {
        faulty.use(place.homeserver.fault({ ...fault.homeserver, userId: operatorId }));
      }
      if (fault && "cluster" in fault) faulty.use(place.kubernetes.fault(fault.cluster));
    }
    for (let i = 0; i < BATCH && remember.length < COMMANDS; i += 1) {
      const isStatus = i % 5 === 4;
      const eventId = await command(isStatus ? "status" : switched++ % 2 === 0 ? "start" : "stop");
      remember.push(eventId);
      await anna.say(roomId, "chatter", { edits: eventId });
    }
    await allAnswered();
    if (remember.length >= COMMANDS * rows.length / ROWS) await measure();
  }
  await measure();
  assert.equal(await operator.stop(), 0);

  printTable(
    ["commands", "s", "RSS MB", "heap MB", "external MB"],
    rows.map(({ commands, seconds, rss, heap, external }) => [
      `${commands}`,
      seconds.toFixed(0),
      rss.toFixed(1),
      heap.toFixed(1),
      external.toFixed(1),
    ]),
  );
  console.log(`${struck} times a fault; ${place.effects.length} changes of the target by ${switched} commands`);
  assert.equal(place.effects.length, switched);
  assert.deepEqual(remember.filter((eventId) => answers.get(eventId) !== 1), [], "not exactly one answer");
  const [first, last] = [rows[Math.floor(rows.length / 4)], rows.at(-1)];
  const grown = last && first ? last.heap - first.heap : NaN;
  assert.ok(grown < 4, `the heap has grown by ${grown.toFixed(1)} MB in the last three quarters`);
});
