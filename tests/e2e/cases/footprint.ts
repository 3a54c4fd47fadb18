/** What the operator needs and leaves behind: permissions, memory, and a log without secrets. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Conversation } from "../conversation.ts";
import { OperatorProcess } from "../../operator_process.ts";
import type { World } from "../world.ts";
import { type Case, obey } from "./case.ts";

async function memory(world: World): Promise<void> {
  const mebibytes = await world.operator.residentBytes() / 2 ** 20;
  world.report.fact(`RSS ${mebibytes.toFixed(0)} MiB, idle, kubeconfig.`);
  assert.ok(mebibytes > 10);
}

async function inPod(world: World): Promise<void> {
  const { alice, account, testbed, options, report } = world;
  const password = crypto.randomUUID();
  const { userId, localpart } = await testbed.homeserver.register("toggle-pod", password);
  const { KUBECONFIG: _, ...environment } = options.environment;
  const { hostname, port } = new URL(testbed.cluster.url);
  await using operator = await OperatorProcess.start({
    environment: {
      ...environment,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      CRYPTO_STORE_PATH: join(testbed.folder, "store-pod"),
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port || "443",
    },
    logFile: join(testbed.folder, "operator-pod.log"),
    serviceAccountFolder: account.folder,
  });
  const talk = await Conversation.begin(alice, userId);
  const [on, off] = ["clawdbot is on (1 replica), starting…", "clawdbot is off"];
  await obey(world, "as in a pod", { send: "start", answer: on, replicas: 1 }, talk);
  await world.state(({ ready }) => ready === 1);
  await obey(world, "as in a pod", { send: "stop", answer: off, replicas: 0 }, talk);
  await world.state(({ current }) => current === 0);
  const mebibytes = await operator.residentBytes() / 2 ** 20;
  report.fact(`RSS ${mebibytes.toFixed(0)} MiB, ready after ${operator.readyMs.toFixed(0)} ms, as in a pod.`);
  assert.equal(await operator.stop(), 0);
}

async function discretion(world: World): Promise<void> {
  const log = await world.operatorLog();
  for (const secret of world.secrets) assert.ok(!log.includes(secret), "the log holds a secret");
  for (const line of log.trimEnd().split("\n")) assert.doesNotThrow(() => JSON.parse(line), `no JSON: ${line}`);
}

export const footprintCases: readonly Case[] = [
  { name: "it holds a measured amount of memory", run: memory },
  { name: "in a pod it finds its ServiceAccount by itself", run: inPod },
  { name: "its log is JSON and holds no secret", run: discretion },
];
