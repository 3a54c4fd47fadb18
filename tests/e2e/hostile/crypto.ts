/** Attacks on the operator's encryption by other people's devices, homeservers and clocks. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { Person } from "../../../sandbox/person/mod.ts";
import type { RequestInfo } from "../../../testbed/proxy.ts";
import { type Ground, patienceMs, Subject } from "../faults/subject.ts";
import type { HostileRow } from "./row.ts";

/** Number of keys that are sent. `--keys=60000` sends more. */
const MANY = Number(Deno.args.find((argument) => argument.startsWith("--keys="))?.slice(7) ?? 800);
const LIMIT_MS = 300_000 + MANY * 50;

/** Registers a person whose phone uses the operator's own kind of encryption. */
async function newcomer(
  { testbed: { homeserver } }: Ground,
  name: string,
): Promise<{ person: Person; password: string; another(): Promise<Person> }> {
  const password = crypto.randomUUID();
  const { localpart: user } = await homeserver.register(`${name}-${crypto.randomUUID().slice(0, 8)}`, password);
  const login = () => Person.login({ url: homeserver.url, user, password });
  return { person: await login(), password, another: login };
}

const is = (end: string) => ({ path }: RequestInfo): boolean => path.endsWith(end);

/** Waits until the phone sees all members, so that it can send into the room. */
async function sees(person: Person, roomId: string, members: number): Promise<void> {
  await person.until(() => person.members(roomId, "join").length === members || undefined);
}

/** Asserts that the operator still runs, and that it restarts. */
async function livesOn(subject: Subject): Promise<string> {
  assert.ok(subject.running.running, "the operator has ended");
  await subject.running.stop();
  await subject.start();
  await subject.ask("status", 0);
  return "answers, also after a restart";
}

async function spoiltKeys(ground: Ground, path: string, spoil: (body: Spoilt, user: string) => void): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { person: bob } = await newcomer(ground, "bob");
  await using _bob = bob;
  const spoilt = Promise.withResolvers<void>();
  using _fault = subject.homeserver.addFault({
    kind: "rewrite",
    when: is(path),
    rewrite: (answer) => {
      if (bob.userId in (answer.body.device_keys ?? answer.body.one_time_keys ?? {})) {
        spoil(answer.body, bob.userId);
        spoilt.resolve();
      }
      return answer;
    },
  });
  await ground.alice.invite(subject.talk.roomId, bob.userId);
  await bob.until(() => bob.invitations.has(subject.talk.roomId) || undefined);
  await bob.join(subject.talk.roomId);
  await ground.alice.untilJoined(subject.talk.roomId, [bob.userId]);
  assert.match(await subject.ask("start", 1), /\bon\b/);
  await spoilt.promise;
  return await livesOn(subject);
}

interface Spoilt {
  device_keys: Record<string, unknown>;
  one_time_keys: Record<string, Record<string, unknown>>;
}

/** Size of the store on disk while no process has it open. */
function storeBytes(folder: string): number {
  return [...Deno.readDirSync(folder)].filter(({ isFile }) => isFile)
    .reduce((sum, { name }) => sum + Deno.statSync(join(folder, name)).size, 0);
}

/**
 * Measures store and memory of an operator that has just been started and has answered once. With the same store,
 * memory differs by up to 10 MiB between starts, because garbage collection runs at different times. Therefore the
 * lowest of three starts counts.
 */
async function footprint(subject: Subject): Promise<{ bytes: number; rssMiB: number }> {
  await subject.running.stop();
  const bytes = storeBytes(join(subject.folder, "store"));
  const measured: number[] = [];
  for (let start = 0; start < 3; start += 1) {
    if (start > 0) await subject.running.stop();
    await subject.start();
    await subject.ask("status", 0);
    const status = await Deno.readTextFile(`/proc/${subject.running.pid}/status`);
    measured.push(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
  }
  return { bytes, rssMiB: Math.min(...measured) };
}

/**
 * Sends the operator a large amount of data and checks what remains of it.
 *
 * @param most permitted growth of the store, in bytes
 * @param mostMiB permitted growth of memory, in MiB
 */
async function flood(subject: Subject, most: number, send: () => Promise<void>, mostMiB = 10): Promise<string> {
  const before = await footprint(subject);
  await send();
  // A new room has a new session, whose key arrives after everything sent before.
  await subject.meet();
  const after = await footprint(subject);
  const [bytes, mib] = [after.bytes - before.bytes, after.rssMiB - before.rssMiB];
  assert.ok(bytes < most, `the store grew by ${bytes} bytes`);
  assert.ok(mib < mostMiB, `memory grew by ${mib.toFixed(1)} MiB`);
  return `${MANY}: store ${signed(bytes / 1024)} KiB, memory ${signed(mib)} MiB after a restart`;
}

function signed(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(value % 1 === 0 ? 0 : 1)}`;
}

async function sendKeys(person: Person, subject: Subject, roomId: string): Promise<void> {
  for (let count = 0; count < MANY; count += 1) {
    await person.crypto.forgetSession(roomId);
    await person.crypto.encrypt(roomId, [subject.operatorId], "m.room.message", { msgtype: "m.text", body: "x" });
  }
}

async function strangersKeys(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { person: mallory } = await newcomer(ground, "mallory");
  await using _mallory = mallory;
  return await flood(subject, 1e6, () => sendKeys(mallory, subject, "!nowhere:localhost"));
}

async function membersKeys(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { person: mallory } = await newcomer(ground, "mallory");
  await using _mallory = mallory;
  const { roomId } = subject.talk;
  await ground.alice.invite(roomId, mallory.userId);
  await mallory.until(() => mallory.invitations.has(roomId) || undefined);
  await mallory.join(roomId);
  return await flood(subject, 1e6, () => sendKeys(mallory, subject, roomId));
}

async function withheldKeys(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { person: mallory } = await newcomer(ground, "mallory");
  await using _mallory = mallory;
  return await flood(subject, 1e6, async () => {
    for (let count = 0; count < MANY; count += 1) {
      const content = {
        algorithm: "m.megolm.v1.aes-sha2",
        code: "m.unverified",
        room_id: subject.talk.roomId,
        sender_key: mallory.crypto.keys.curve25519,
        session_id: crypto.randomUUID(),
      };
      const messages = { [subject.operatorId]: { "*": content } };
      await mallory.api.request("PUT", `/sendToDevice/m.room_key.withheld/${crypto.randomUUID()}`, { messages });
    }
  });
}

async function allowedKeys(ground: Ground): Promise<string> {
  const { person: anna } = await newcomer(ground, "anna");
  await using _anna = anna;
  const environment = { ALLOWED_USERS: `${ground.alice.userId},${anna.userId}` };
  await using subject = await Subject.ready(ground, { environment });
  // The latest hundred sessions of a sender are kept, in memory, too.
  const said = await flood(subject, 1e6, () => sendKeys(anna, subject, subject.talk.roomId), 30);
  await subject.running.stop();
  using database = new DatabaseSync(join(subject.folder, "store", "crypto-1.sqlite3"), { readOnly: true });
  const count = database.prepare("SELECT count(*) AS n FROM megolm_sessions WHERE sender = ?").get(anna.userId)?.["n"];
  assert.equal(count, 100);
  return `${said}; ${count} sessions kept`;
}

async function hiddenEncryption(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground, { environment: { REQUIRE_ENCRYPTION: "false" } });
  const withoutEncryption = (value: unknown): unknown => {
    if (Array.isArray(value)) {
      return value.filter((each) => each?.type !== "m.room.encryption").map(withoutEncryption);
    }
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, withoutEncryption(each)]));
  };
  using _hidden = subject.homeserver.addFault({
    kind: "rewrite",
    when: ({ path }) => /\/(sync|messages|members|state)/.test(path),
    rewrite: ({ status, body }) => ({ status, body: withoutEncryption(body) }),
  });
  await subject.start();
  await subject.meet();
  assert.match(await subject.ask("start", 1), /\bon\b/);
  const answers = subject.talk.seen.events.filter(({ sender, type }) =>
    sender === subject.operatorId && type === "m.room.message"
  );
  assert.ok(answers.length > 1 && answers.every(({ how }) => how === "decrypted"), "something was said in clear");
  await ground.alice.sendRaw(subject.talk.roomId, "m.room.message", { msgtype: "m.text", body: "stop" }, {
    encrypted: false,
  });
  const { lost, doubled } = await subject.tally();
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 });
  assert.equal((await subject.state()).replicas, 1);
  return "answered encrypted; the clear stop has no effect";
}

async function handedOverByAnother(ground: Ground): Promise<string> {
  const { person: anna } = await newcomer(ground, "anna");
  await using _anna = anna;
  const mallory = await ground.testbed.person(`mallory-${crypto.randomUUID().slice(0, 8)}`);
  const environment = { ALLOWED_USERS: `${ground.alice.userId},${anna.userId}` };
  await using subject = await Subject.ready(ground, { environment });
  const roomId = await anna.createRoom([mallory.userId]);
  await mallory.join(roomId);
  await sees(anna, roomId, 2);
  await anna.say(roomId, "hello");
  await anna.invite(roomId, subject.operatorId);
  await sees(anna, roomId, 3);
  await mallory.forwardRoomKey(roomId, subject.operatorId);
  // Anything that follows is read after it.
  await subject.meet();
  const eventId = await anna.say(roomId, "start");
  await anna.next(({ about }) => about === eventId, patienceMs);
  assert.equal((await subject.state()).replicas, 1);
  return "carried out";
}

async function slowClaim(ground: Ground): Promise<string> {
  const anna = await newcomer(ground, "anna");
  await using phone = anna.person;
  const environment = { ALLOWED_USERS: `${ground.alice.userId},${phone.userId}` };
  await using subject = await Subject.ready(ground, { environment });
  const quick = await phone.createRoom([subject.operatorId]);
  await sees(phone, quick, 2);
  const answer = (person: Person, eventId: string) => person.next(({ about }) => about === eventId, patienceMs);
  await answer(phone, await phone.say(quick, "status"));

  const { person: bob } = await newcomer(ground, "bob");
  await using _bob = bob;
  const { roomId: slow } = subject.talk;
  await ground.alice.invite(slow, bob.userId);
  await bob.until(() => bob.invitations.has(slow) || undefined);
  await bob.join(slow);
  await ground.alice.untilJoined(slow, [bob.userId]);
  let claims = 0;
  const held = Promise.withResolvers<void>();
  await subject.homeserver.setFault({
    kind: "silent",
    when: (asked) => {
      if (!is("/keys/claim")(asked) || claims++ > 0) return false;
      held.resolve();
      return true;
    },
  });
  const late = await subject.send("status", 0);
  await held.promise;
  // A new phone: its devices must be queried before its message is judged, and its keys claimed before the answer.
  await using tablet = await anna.another();
  await sees(tablet, quick, 2);
  const begin = performance.now();
  const eventId = await tablet.say(quick, "status");
  await answer(tablet, eventId);
  const ms = performance.now() - begin;
  await subject.homeserver.clearFault();
  await subject.answerTo(late);
  assert.ok(ms < 8_000, `answered after ${ms.toFixed(0)} ms`);
  return `another room: answered after ${(ms / 1000).toFixed(1)} s; the slow one later`;
}

async function removedDevice(ground: Ground): Promise<string> {
  const anna = await newcomer(ground, "anna");
  await using phone = anna.person;
  await using tablet = await anna.another();
  const environment = { ALLOWED_USERS: `${ground.alice.userId},${phone.userId}` };
  await using subject = await Subject.ready(ground, { environment });
  const roomId = await phone.createRoom([subject.operatorId]);
  await sees(phone, roomId, 2);
  await sees(tablet, roomId, 2);
  for (const each of [phone, tablet]) {
    const eventId = await each.say(roomId, "status");
    await each.next(({ about }) => about === eventId, patienceMs);
  }
  const content = await tablet.crypto.encrypt(roomId, phone.members(roomId, "join"), "m.room.message", {
    msgtype: "m.text",
    body: "start",
  });
  const asked = Promise.withResolvers<void>();
  const untold = subject.homeserver.addFault({
    kind: "rewrite",
    when: is("/keys/query"),
    rewrite: ({ status, body }) => {
      if (!(phone.userId in (body.device_keys ?? {}))) return { status, body };
      asked.resolve();
      const { [phone.userId]: _, ...device_keys } = body.device_keys;
      return { status, body: { ...body, device_keys } };
    },
  });
  await removeDevice(phone, tablet, anna.password);
  await asked.promise;
  // After this answer, the operator has received everything else about it, too.
  await subject.ask("status", 0);
  await subject.running.kill();
  await subject.start();
  await phone.sendRaw(roomId, "m.room.encrypted", content, crypto.randomUUID());
  await subject.ask("status", 0);
  assert.equal((await subject.state()).replicas, 0);
  untold[Symbol.dispose]();
  await subject.untilLogged(/refused .*(deleted-device|unknown-device)|(deleted-device|unknown-device)/);
  await subject.ask("status", 0);
  assert.equal((await subject.state()).replicas, 0);
  return "pending until the devices are told, then refused; no effect";
}

async function removeDevice(phone: Person, device: Person, password: string): Promise<void> {
  const path = `/devices/${encodeURIComponent(device.deviceId)}`;
  const auth = { type: "m.login.password", identifier: { type: "m.id.user", user: phone.userId }, password };
  const asked = await phone.api.request("DELETE", path, {}).catch((refused) => refused.body);
  await phone.api.request("DELETE", path, { auth: { ...auth, session: asked?.session } });
}

/** Runs a unit test against the sandbox in a separate process, for input that no real server can be made to send. */
async function unitTest(file: string, name: string): Promise<string> {
  const root = fileURLToPath(new URL("../../../", import.meta.url));
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "--filter", name, file],
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.ok(success && /ok \| [1-9]\d* passed/.test(output), output);
  return /ok \| (.*?) \(/.exec(output)?.[1] ?? "";
}

export const cryptoRows: readonly HostileRow[] = [
  {
    number: "2a",
    input: "a member's homeserver answers a claim with a key id without a colon",
    before: "exit 1 at every start",
    where: "real",
    run: (ground) =>
      spoiltKeys(ground, "/keys/claim", (body, user) => {
        body.one_time_keys[user] = { DEVICE: { "no colon": { key: "x" } } };
      }),
  },
  {
    number: "2b",
    input: "a member's homeserver answers a query with a string in the place of the devices",
    before: "exit 1 at every start",
    where: "real",
    run: (ground) => spoiltKeys(ground, "/keys/query", (body, user) => body.device_keys[user] = "devices"),
  },
  {
    number: "4",
    input: "a session's hour ends between sharing and encrypting; the clock is set back",
    before: "the WebAssembly panics",
    where: "sandbox: no server moves the clock of the operator between two of its requests",
    run: async () => {
      const said = await unitTest("tests/session/room_encryption_test.ts", "whatever the clock does");
      return `encrypted with a new session (${said})`;
    },
  },
  {
    number: "6a",
    input: "room keys of a stranger without a common room",
    before: "60,000: store +149 MB, memory +211 MiB",
    where: "real",
    limitMs: LIMIT_MS,
    run: strangersKeys,
  },
  {
    number: "6b",
    input: "room keys of a member who is not allowed",
    before: "60,000: store +149 MB, memory +211 MiB",
    where: "real",
    limitMs: LIMIT_MS,
    run: membersKeys,
  },
  {
    number: "6c",
    input: "m.room_key.withheld in clear, of a stranger",
    before: "all are kept",
    where: "real",
    limitMs: LIMIT_MS,
    run: withheldKeys,
  },
  {
    number: "6d",
    input: "room keys of an allowed user",
    before: "all are kept",
    where: "real",
    limitMs: LIMIT_MS,
    run: allowedKeys,
  },
  {
    number: "11",
    input: "m.room.encryption is hidden; then a clear stop, with REQUIRE_ENCRYPTION=false",
    before: "answered in clear, and the stop is obeyed",
    where: "real",
    run: hiddenEncryption,
  },
  {
    number: "12",
    input: "a member hands an allowed user's Megolm session over before that user does",
    before: "every later command is refused as mismatched-sender",
    where: "real",
    run: handedOverByAnother,
  },
  {
    number: "22",
    input: "another room's /keys/claim hangs",
    before: "commands wait, up to 25 s",
    where: "real",
    run: slowClaim,
  },
  {
    number: "27",
    input: "a device is removed; a restart before /keys/query tells; its command",
    before: "carried out",
    where: "real",
    run: removedDevice,
  },
];
