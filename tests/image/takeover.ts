/**
 * The manifest of the Python operator with the image changed and nothing else: its variables, its volume, no probes, its
 * 128 MiB; also where years of chatting have filled the store. Part of `deno task image:check`.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { readContainerfile } from "../../build/containerfile.ts";
import { Child, installPythonOperator, startTestbed, type Testbed } from "../../testbed/mod.ts";
import { bodyOf } from "../e2e/conversation.ts";
import { devicesOf, Move, target, versions } from "../e2e/takeover/move.ts";
import { commandIn, type Executable, executableOf, layOut, volumeFor } from "./container.ts";
import { needsOf } from "./libraries.ts";
import { MemoryLimit } from "./memory.ts";

/** Where the manifest mounts the volume; `CRYPTO_STORE_PATH` is left at its default, which is the same. */
const mountPath = "/data/crypto_store";
const limitBytes = 128 * 2 ** 20;
const image = {
  ...readContainerfile(await Deno.readTextFile(new URL("../../Containerfile", import.meta.url))),
  folder: mountPath,
};
const [user = 0, group = 0] = image.user.split(":").map(Number);
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const report: string[] = [];

Deno.test("the image replaces the Python operator's", async (t) => {
  assert.equal(Deno.uid(), 0, "Cannot try the image: it takes root to change root and user; run this as root");
  await using testbed = await startTestbed();
  const root = join(testbed.folder, "root");
  await Deno.mkdir(root);
  const executable = await executableOf(image, testbed.folder);
  await layOut(image, executable, (await needsOf(executable.path)).libraries, root);
  await Deno.mkdir(join(root, mountPath)); // as the kubelet does it
  try {
    for (const [pickles, version] of Object.entries(versions)) {
      for (const sessions of [0, 3_000]) {
        await t.step(`${pickles} pickles, ${sessions} more Megolm sessions`, async () => {
          await using move = await Move.begin(
            testbed,
            `image-${pickles}-${sessions}`,
            await installPythonOperator(version),
          );
          await changeImage(testbed, move, { root, executable, sessions, version });
        });
      }
    }
  } finally {
    console.log(`\n${report.join("\n")}\n`);
  }
});

interface Change {
  readonly root: string;
  readonly executable: Executable;
  readonly sessions: number;
  readonly version: string;
}

async function changeImage(
  testbed: Testbed,
  move: Move,
  { root, executable, sessions, version }: Change,
): Promise<void> {
  const { cluster, folder, workloads } = testbed;
  await move.askPython("start", /now on/);
  const before = Object.keys(await devicesOf(move.alice, move.operatorId));
  await move.endPython("stopped");
  const script = new URL("../../testbed/python_operator/add_sessions.py", import.meta.url).pathname;
  const adding = await new Deno.Command(await installPythonOperator(version), {
    args: [script, move.folder, String(sessions)],
  }).output();
  assert.ok(adding.success, new TextDecoder().decode(adding.stderr));
  // The Python operator's image has the same user.
  for (const { name } of Deno.readDirSync(move.folder)) await Deno.chown(join(move.folder, name), user, group);
  await Deno.chown(move.folder, user, group);

  const account = join(folder, `account-${move.name}`);
  const secrets = ["token", "ca.crt", "namespace"].map((file) => [file, join(move.account.folder, file)]);
  await volumeFor(image, account, Object.fromEntries(secrets));
  const { hostname, port } = new URL(cluster.url);
  const command = commandIn({ root, volume: move.folder, account }, image, executable, []);
  using limit = MemoryLimit.make(limitBytes);
  await using operator = new Child({
    name: "the operator in the image",
    command: limit?.around(command) ?? command,
    environment: {
      PATH: Deno.env.get("PATH") ?? "",
      ...executable.environment,
      ...image.environment,
      ...move.environment,
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port,
    },
    clearEnvironment: true,
    logFile: join(folder, `${move.name}.log`),
  });
  const begin = performance.now();
  await operator.untilReady(async () => (await operator.tail(200)).includes("ready: "), 60_000);
  const readyMs = performance.now() - begin;
  const answer = (await move.talk.ask("stop")).answer;
  assert.deepEqual([answer.how, bodyOf(answer)], ["decrypted", "clawdbot is off"]);
  await workloads.until(move.namespace, target, ({ current }) => current === 0, 10_000);
  assert.deepEqual(Object.keys(await devicesOf(move.alice, move.operatorId)), before);
  const log = await operator.tail(200);
  const taken = Number(/took over (\d+) Megolm sessions/.exec(log)?.[1]);
  assert.ok(taken > sessions, log);
  const status = await Deno.readTextFile(`/proc/${operator.pid}/status`);
  const held = (name: string) => mebibytes(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1_024);
  const limited = limit === undefined
    ? "no memory controller here"
    : `${mebibytes(limit.peakBytes)} at most of ${mebibytes(limitBytes)}, cache included`;
  report.push(
    `${move.name}: ${taken} Megolm sessions, ready after ${readyMs.toFixed(0)} ms, RSS ${held("VmRSS")} now and ` +
      `${held("VmHWM")} at most; ${limited}`,
  );
  assert.equal((await operator.stop(12_000)).code, 0, await operator.tail());
}
