/** Tests of the testbed itself: people can chat in private, and the cluster enforces its roles. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  baseRules,
  Child,
  HttpError,
  httpJson,
  installPythonOperator,
  type Person,
  PythonOperator,
  type SeenEvent,
  startTestbed,
  type Testbed,
} from "../../testbed/mod.ts";

Deno.test("testbed", async (t) => {
  await using testbed = await startTestbed();
  const [alice, bob] = await Promise.all([testbed.person("alice"), testbed.person("bob")]);

  await t.step("Person.sendText() is read by another phone, which answers", () => chatInPrivate(alice, bob));
  await t.step("Person.sendText() distinguishes relations inside and outside the ciphertext", () => relate(alice, bob));
  await t.step("Person.sendText() unencrypted is seen as clear text", () => speakInClear(alice, bob));
  await t.step("Person.untilJoined() says who has not joined", () => nobodyComes(alice, bob));
  await t.step("ServiceAccounts.create() may do what its rules say", () => scaleWithBaseRules(testbed));
  await t.step("Workloads.createTarget() applies the start delay", () => startSlowly(testbed));

  await t.step("PythonOperator takes a command in an encrypted room", () => switchWithPython(testbed, alice));

  const mayStop = testbed.homeserver.requestLog !== undefined && testbed.cluster.auditLog !== undefined;
  await t.step({
    name: "stop() and start() keep data and address",
    ignore: !mayStop, // given servers must not be stopped
    fn: () => restart(testbed, alice, bob),
  });
});

Deno.test("Child.stop() kills what does not end by itself", async () => {
  const logFile = await Deno.makeTempFile();
  const child = new Child({
    name: "stubborn",
    command: ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.02; done"],
    logFile,
  });
  await child.untilReady(async () => (await Deno.readTextFile(logFile)).includes("deaf"), 5_000);
  assert.equal((await child.stop(50)).signal, "SIGKILL");
  assert.equal(child.running, false);
  await Deno.remove(logFile);
});

async function together(alice: Person, bob: Person, encrypted = true): Promise<string> {
  const roomId = await alice.createRoom({ invite: [bob.userId], encrypted });
  await bob.join(roomId);
  await alice.untilJoined(roomId, [bob.userId]);
  return roomId;
}

async function chatInPrivate(alice: Person, bob: Person): Promise<void> {
  const roomId = await together(alice, bob);
  using atBob = bob.watch(roomId);
  using atAlice = alice.watch(roomId);
  const question = await alice.sendText(roomId, "are you there?");
  const heard = await atBob.first("question", (event) => event.eventId === question);
  assert.equal(heard.how, "decrypted");
  assert.equal(heard.content["body"], "are you there?");
  assert.ok(!JSON.stringify(heard.outerContent).includes("there"));

  const answer = await bob.sendText(roomId, "yes");
  const reply = await atAlice.first("answer", (event) => event.eventId === answer);
  assert.deepEqual([reply.sender, reply.how, reply.content["body"]], [bob.userId, "decrypted", "yes"]);
}

async function relate(alice: Person, bob: Person): Promise<void> {
  const roomId = await together(alice, bob);
  using atBob = bob.watch(roomId);
  const first = await alice.sendText(roomId, "start");
  const edit = await alice.sendText(roomId, "stop", { edit: first });
  const { content } = await atBob.first("edit", (event) => event.eventId === edit);
  assert.deepEqual(content["m.relates_to"], { rel_type: "m.replace", event_id: first });
  assert.equal(content["m.new_content"].body, "stop");

  const relation = { rel_type: "m.replace", event_id: first };
  const text = { msgtype: "m.text", body: "start" };
  const outside = { "m.relates_to": relation };
  const outer = await alice.sendRaw(roomId, "m.room.message", text, { outside });
  const seen = await atBob.first("edit", (event) => event.eventId === outer);
  assert.deepEqual([seen.content["m.relates_to"], seen.outerContent["m.relates_to"]], [undefined, relation]);

  const mention = await alice.sendText(roomId, "hello", { mentions: [bob.userId], formatted: "<b>hello</b>" });
  const heard = await atBob.first("mention", (event) => event.eventId === mention);
  assert.deepEqual(heard.content["m.mentions"], { user_ids: [bob.userId] });
  assert.equal(heard.content["formatted_body"], "<b>hello</b>");
  assert.equal(heard.content["m.relates_to"], undefined);
}

async function speakInClear(alice: Person, bob: Person): Promise<void> {
  for (const encrypted of [true, false]) {
    const roomId = await together(alice, bob, encrypted);
    using atBob = bob.watch(roomId);
    const eventId = await alice.sendText(roomId, "aloud", { encrypted: false });
    assert.equal((await atBob.first("text", (event) => event.eventId === eventId)).how, "clear");
  }
}

async function nobodyComes(alice: Person, bob: Person): Promise<void> {
  const roomId = await alice.createRoom({ invite: [bob.userId] });
  await assert.rejects(alice.untilJoined(roomId, [bob.userId], 50), new RegExp(`${bob.userId}.* join within 50 ms`));
}

async function scaleWithBaseRules({ cluster, workloads, serviceAccounts, records }: Testbed): Promise<void> {
  const [namespace, name] = ["testbed-base", "agent"];
  await workloads.createTarget({ namespace, name });
  const account = await serviceAccounts.create(namespace, "toggle", baseRules(name));
  using client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(`${account.folder}/ca.crt`)] });
  const deployments = `${cluster.url}/apis/apps/v1/namespaces/${namespace}/deployments`;
  const ask = (method: string, path: string, body?: unknown) =>
    httpJson(method, `${deployments}${path}`, {
      ...{ authorization: `Bearer ${account.token}`, client, body, contentType: "application/merge-patch+json" },
    });
  const before = await workloads.until(namespace, name, () => true, 5_000);

  await ask("PATCH", `/${name}/scale`, { spec: { replicas: 1 } });
  const after = await workloads.until(namespace, name, ({ ready }) => ready === 1, 10_000);
  assert.deepEqual([before.replicas, after.replicas, after.generation], [0, 1, before.generation + 1]);
  assert.equal((await ask("GET", `/${name}`)).metadata.name, name);

  const refused: [string, string, unknown?][] = [
    ["PATCH", `/${name}`, { spec: { replicas: 3 } }],
    ["PATCH", "/other/scale", { spec: { replicas: 1 } }],
    ["GET", "?watch=true"],
    ["GET", ""],
    ["DELETE", `/${name}`],
  ];
  for (const [method, path, body] of refused) {
    const isForbidden = (error: unknown) => error instanceof HttpError && error.status === 403;
    await assert.rejects(ask(method, path, body), isForbidden, `${method} ${path} must be forbidden`);
  }
  const user = `system:serviceaccount:${namespace}:toggle`;
  const writes = await records.scaleWrites(namespace, name);
  if (writes) assert.deepEqual(writes, [{ user, status: 200, replicas: 1 }]);
}

async function startSlowly({ workloads }: Testbed): Promise<void> {
  const [namespace, name] = ["testbed-slow", "agent"];
  await workloads.createTarget({ namespace, name, startDelayMs: 800 });
  const begin = performance.now();
  await workloads.scaleTarget(namespace, name, 1);
  await workloads.until(namespace, name, ({ ready }) => ready === 1, 10_000);
  assert.ok(performance.now() - begin >= 800);
}

async function switchWithPython(
  { homeserver, workloads, serviceAccounts, cluster, folder }: Testbed,
  alice: Person,
): Promise<void> {
  const [namespace, name] = ["python", "clawdbot"];
  await workloads.createTarget({ namespace, name });
  const account = await serviceAccounts.create(namespace, "operator", baseRules(name));
  const password = crypto.randomUUID();
  const { userId, localpart } = await homeserver.register("python-operator", password);
  await using operator = new PythonOperator({
    python: await installPythonOperator(),
    environment: {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      DEPLOYMENT_NAME: name,
      DEPLOYMENT_NAMESPACE: namespace,
      CRYPTO_STORE_PATH: join(folder, "python-store"),
    },
    serviceAccountFolder: account.folder,
    kubernetes: cluster.url,
    logFile: join(folder, "python-operator.log"),
  });
  await operator.untilReady();
  const roomId = await alice.createRoom({ invite: [userId] });
  await alice.untilJoined(roomId, [userId]);
  using atAlice = alice.watch(roomId);
  await alice.sendText(roomId, "start");
  const isAnswer = ({ sender, content }: SeenEvent) => sender === userId && /is now on/.test(String(content["body"]));
  const answer = await atAlice.first("answer", isAnswer);
  assert.equal(answer.how, "decrypted");
  assert.equal((await workloads.until(namespace, name, () => true, 10_000)).replicas, 1);
}

async function restart(testbed: Testbed, alice: Person, bob: Person): Promise<void> {
  const roomId = await together(alice, bob);
  for (const server of [testbed.homeserver, testbed.cluster]) {
    await server.stop();
    await server.start();
  }
  using atBob = bob.watch(roomId);
  const eventId = await alice.sendText(roomId, "still here");
  assert.equal((await atBob.first("text", (event) => event.eventId === eventId)).how, "decrypted");
  assert.equal((await testbed.workloads.until("testbed-base", "agent", () => true, 5_000)).replicas, 1);
}
