/**
 * A client with a face against a real Synapse and a real Kubernetes API: what Nheko shows a person of the operator. As
 * an argument, `--pictures`: the pictures of `docs/compatibility.md` are taken anew.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { baseRules, httpJson, startTestbed } from "../../testbed/mod.ts";
import { OperatorProcess, projectRoot } from "../operator_process.ts";
import { assertInstalled, Display } from "./display.ts";
import { Nheko, nhekoPackage } from "./nheko.ts";

const [target, namespace] = ["clawdbot", "agents"];

/** So slow that "starting…" can be read. */
const pods = { startMs: 6_000, stopMs: 100, runMs: 300, backOffMs: 1_000 };

Deno.test("Nheko", async (t) => {
  await assertInstalled(nhekoPackage);
  // Nheko 0.11 can't make a room of version 12, Synapse's own choice: it doesn't know the new form of room ids.
  await using testbed = await startTestbed(pods, { roomVersion: "11" });
  const { homeserver, workloads, serviceAccounts } = testbed;
  await workloads.createTarget({ namespace, name: target });
  const account = await serviceAccounts.create(namespace, "openclaw-toggle", baseRules(target));
  const [password, alicePassword] = [crypto.randomUUID(), crypto.randomUUID()];
  const { userId: operatorId, localpart: operatorName } = await homeserver.register("openclaw", password);
  const { userId: aliceId, localpart: aliceName } = await homeserver.register("alice", alicePassword);
  await using operator = await OperatorProcess.start({
    environment: {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: operatorName,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: aliceId,
      DEPLOYMENT_NAME: target,
      DEPLOYMENT_NAMESPACE: namespace,
      CRYPTO_STORE_PATH: join(testbed.folder, "store"),
      KUBECONFIG: account.kubeconfig,
      LOG_FORMAT: "text",
    },
  });
  const login = await httpJson("POST", `${homeserver.url}/_matrix/client/v3/login`, {
    body: {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: aliceName },
      password: alicePassword,
      initial_device_display_name: "Nheko",
    },
  });
  const folder = join(testbed.folder, "display");
  await Deno.mkdir(folder);
  await using display = await Display.start(folder);
  const nheko = await Nheko.start(display, {
    homeserver: homeserver.url,
    userId: aliceId,
    deviceId: login.device_id,
    accessToken: login.access_token,
  });
  const pictured = Deno.args.includes("--pictures");
  const picture = (name: string) => join(projectRoot, "docs", "pictures", name);
  const latest = async () => {
    const message = (await nheko.messages()).at(-1);
    assert.ok(message);
    return message;
  };
  const send = async (command: string, answer: RegExp) => {
    await nheko.send(command);
    await untilRead(display, answer, async () => await nheko.textOf(await latest()));
  };

  const step = async (name: string, run: () => Promise<void>) => {
    // What follows would only fail for the same reason.
    failed ||= !(await t.step({ name, ignore: failed, fn: run }));
  };
  let failed = false;

  await step("an encrypted room that Nheko makes is joined, and a command is answered there", async () => {
    await nheko.startDirectChat(operatorId);
    await untilLogged(operator, /joined /);
    await send("status", answers.off("status"));
    const messages = await nheko.messages();
    assert.deepEqual(messages.map(({ sender }) => sender), [aliceName, operatorName]);
    const tips = [];
    for (const message of messages) tips.push(await nheko.encryptionOf(message));
    assert.deepEqual(tips, [
      "Encrypted by a verified device",
      // The operator has signed its device by its own identity, else Nheko would warn of it.
      "Encrypted by an unverified device, but you have trusted that user so far.",
    ]);
  });

  await step("the operator is verified by emoji: the same ones in Nheko and in its log", async () => {
    const { emojis, area } = await nheko.beginVerification(await latest());
    if (pictured) await display.picture(area, picture("nheko-emoji.png"));
    const [, logged = ""] = await untilLogged(operator, /showed emojis for verification to \S+: (.*)/);
    assert.equal(emojis.length, 7);
    assert.deepEqual(emojis.map(plain), logged.split(", ").map(plain));
    await nheko.endVerification();
    await untilLogged(operator, /verified by @alice/);
  });

  const before = (await nheko.messages()).length;

  await step("start is answered by one message, which is edited until the target is ready", async () => {
    await send("start", answers.starting);
    await workloads.until(namespace, target, ({ replicas, ready }) => replicas === 1 && ready === 1, 20_000);
    await untilRead(display, answers.ready, async () => await nheko.textOf(await latest()));
    assert.equal(await nheko.stateOf(await latest()), "Edited");
    assert.equal((await nheko.messages()).length, before + 2);
  });

  await step("status, stop and help are answered, and the target is off again", async () => {
    await send("status", answers.running);
    await send("stop", answers.off("stop"));
    await workloads.until(namespace, target, ({ replicas, current }) => replicas === 0 && current === 0, 10_000);
    await send("help", answers.help);
  });

  await step("at the end, each of the four has one answer, each from a verified device", async () => {
    const messages = (await nheko.messages()).slice(before);
    const expected: [sender: string, text: RegExp][] = [
      [aliceName, /^start$/],
      [operatorName, answers.ready],
      [aliceName, /^status$/],
      [operatorName, answers.running],
      [aliceName, /^stop$/],
      [operatorName, answers.off("stop")],
      [aliceName, /^help$/],
      [operatorName, answers.help],
    ];
    assert.deepEqual(messages.map(({ sender }) => sender), expected.map(([sender]) => sender));
    for (const [index, message] of messages.entries()) {
      assert.match(await nheko.textOf(message), expected[index]?.[1] ?? /^$/);
      assert.equal(await nheko.encryptionOf(message), "Encrypted by a verified device");
    }
    const [first] = messages;
    if (pictured && first) await nheko.picture(first, picture("nheko-commands.png"));
  });
});

/** What is copied from the answers in Nheko. */
const answers = {
  starting: /^🦞 start\nclawdbot is on \(1 replica\), starting…$/,
  ready: /^🦞 start\nclawdbot is ready \(took \d+ s\)$/,
  running: /^🦞 status\nclawdbot is running: 1\/1 ready, up \d+ s$/,
  off: (command: string) => new RegExp(`^🦞 ${command}\nclawdbot is off$`),
  help: /^🦞 help\nI turn clawdbot on and off\. Commands:\nstart or on: .*\n(?:.*\n)*help: list commands$/,
};

/** Reads a message again and again, until it says what is wanted: an answer is edited, some at once. */
async function untilRead(display: Display, wanted: RegExp, read: () => Promise<string>): Promise<void> {
  let text = "";
  await display.until(`a message like ${wanted}`, async () => {
    text = await read();
    return wanted.test(text) ? true : undefined;
  }).catch((error) => {
    throw new Error(`The message says: ${text}`, { cause: error });
  });
}

/** Waits for a line of the operator's log. */
async function untilLogged(operator: OperatorProcess, wanted: RegExp): Promise<RegExpExecArray> {
  const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
  const look = (line: string) => {
    const found = wanted.exec(line);
    if (found) resolve(found);
  };
  operator.onLine = look;
  operator.lines.forEach(look);
  const timer = setTimeout(
    () => reject(new Error(`not logged: ${wanted}\n${operator.lines.slice(-20).join("\n")}`)),
    20_000,
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    operator.onLine = () => {};
  }
}

/** An emoji with its name, whatever way is chosen to draw it or to write the name. */
function plain(emoji: string): string {
  return emoji.replaceAll("\u{FE0F}", "").toLowerCase();
}
