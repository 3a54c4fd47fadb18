/**
 * Takeover from the real Python operator: it chats and exits, and ours continues with its folder, as the same device,
 * with the same variables, as in a pod.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { installPythonOperator, startTestbed, type Testbed } from "../../testbed/mod.ts";
import { bodyOf, Conversation } from "./conversation.ts";
import { Results } from "./results.ts";
import { type LoggedOptions, OperatorProcess } from "../operator_process.ts";
import { devicesOf, type Ending, Move, ownPart, target, versions } from "./takeover/move.ts";

const endings: readonly Ending[] = ["stopped", "killed", "overtaken"];
const report: string[] = [];

Deno.test("moving from the Python operator", async (t) => {
  await using testbed = await startTestbed();
  await using results = new Results("moving from the Python operator", testbed.homeserver.kind);
  try {
    for (const [pickles, version] of Object.entries(versions)) {
      const python = await installPythonOperator(version);
      for (const ending of endings) {
        await results.step(t, { name: `with ${pickles} pickles, ${ending}` }, async () => {
          await using move = await Move.begin(testbed, `${pickles}-${ending}`, python);
          await goOn(testbed, move, ending);
        });
      }
    }
  } finally {
    console.log(`\n${report.join("\n")}\n`);
  }
});

/** All messages and checks of one takeover. */
async function goOn(testbed: Testbed, move: Move, ending: Ending): Promise<void> {
  const { alice, talk, operatorId, folder, namespace } = move;
  const { workloads, records } = testbed;
  const { hostname, port } = new URL(testbed.cluster.url);
  const options: LoggedOptions = {
    environment: {
      ...move.environment,
      CRYPTO_STORE_PATH: folder,
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port || "443",
      LOG_FORMAT: "json",
    },
    logFile: join(testbed.folder, `operator-${move.name}.log`),
    serviceAccountFolder: move.account.folder,
  };
  await move.askPython("start", /now on/);
  await workloads.until(namespace, target, ({ ready }) => ready === 1, 10_000);
  const before = await devicesOf(alice, operatorId);
  const [deviceId = "", ...more] = Object.keys(before);
  assert.deepEqual(more, []);
  if (ending !== "overtaken") await move.endPython(ending);
  // Sent while no operator runs, unless the Python operator still does.
  const meanwhile = ending === "overtaken" ? undefined : await talk.send("stop");

  await using operator = await OperatorProcess.start(options);
  await move.endPython("stopped");
  const command = meanwhile ?? await talk.send("stop");
  const answer = await talk.answerTo(command);
  assert.deepEqual([answer.how, bodyOf(answer)], ["decrypted", "clawdbot is off"]);
  await workloads.until(namespace, target, ({ current }) => current === 0, 10_000);

  const after = await devicesOf(alice, operatorId);
  assert.deepEqual(Object.keys(after), [deviceId]);
  assert.equal(ownPart(after[deviceId], operatorId, deviceId), ownPart(before[deviceId], operatorId, deviceId));

  for (const [said, replicas, words] of [["status", 0, /is off/], ["start", 1, /is on/]] as const) {
    const exchange = await talk.ask(said);
    assert.equal(exchange.answer.how, "decrypted");
    assert.match(bodyOf(exchange.answer), words);
    await workloads.until(namespace, target, (state) => state.replicas === replicas, 10_000);
  }
  // This uses a one-time key that the Python operator has published.
  const anew = await Conversation.begin(alice, operatorId);
  assert.match(bodyOf((await anew.ask("status")).answer), /^clawdbot is /);

  assert.equal(talk.answersTo(command).length, 1);
  assert.deepEqual(talk.seen.events.filter(({ how }) => how === "undecryptable"), []);
  const writes = await records.scaleWrites(namespace, target);
  assert.deepEqual(writes?.map(({ replicas }) => replicas), [1, 0, 1]);
  report.push(`${move.name}: device ${deviceId} before and after, ready after ${operator.readyMs.toFixed(0)} ms`);
  assert.equal(await operator.stop(), 0);

  const old = () => Array.from(Deno.readDirSync(folder), ({ name }) => name).filter((name) => /^@|session/.test(name));
  assert.ok(
    old().every((name) => !name.endsWith(".imported")),
    "renamed though the Python operator may still be there",
  );
  await using again = await OperatorProcess.start(options);
  assert.match(bodyOf((await talk.ask("status")).answer), /^clawdbot is /);
  assert.ok(old().length >= 2 && old().every((name) => name.endsWith(".imported")), old().join(", "));
  for (const name of old()) assert.equal((Deno.statSync(join(folder, name)).mode ?? 0) & 0o777, 0o600, name);
  assert.equal(await again.stop(), 0);
  for (const line of (await Deno.readTextFile(options.logFile)).trimEnd().split("\n")) {
    const { message, logger } = JSON.parse(line);
    if (/takeover/.test(String(logger))) report.push(`  ${message}`);
  }
}
