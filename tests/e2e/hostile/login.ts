/** Changes of login, device, identity and homeserver while nobody is watching. */

import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { encodeRecoveryKey } from "../../../lib/config/mod.ts";
import { httpJson } from "../../../testbed/mod.ts";
import { FaultProxy } from "../../../testbed/proxy.ts";
import { OperatorProcess } from "../../operator_process.ts";
import { refuseRefresh } from "../faults/login.ts";
import { eventually, type Ground, patienceMs, Subject } from "../faults/subject.ts";
import type { HostileRow } from "./row.ts";

/** What others see of the operator: its devices with keys, its master key, and the devices signed under it. */
interface Seen {
  readonly devices: readonly string[];
  readonly signed: readonly string[];
  readonly masterKey: string | undefined;
}

async function seen({ alice }: Ground, { operatorId }: Subject): Promise<Seen> {
  const answer = await alice.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
  const devices = answer.device_keys[operatorId] ?? {};
  const selfSigning = Object.keys(answer.self_signing_keys?.[operatorId]?.keys ?? {})[0] ?? "";
  return {
    devices: Object.keys(devices).sort(),
    signed: Object.keys(devices).filter((id) => selfSigning in (devices[id].signatures?.[operatorId] ?? {})).sort(),
    masterKey: Object.values<string>(answer.master_keys?.[operatorId]?.keys ?? {})[0],
  };
}

function store({ folder }: Subject): string {
  return join(folder, "store");
}

/** Number of crypto databases. More than one if one was set aside. */
function cryptoStores(subject: Subject): number {
  return [...Deno.readDirSync(store(subject))].filter(({ name }) => /^crypto-\d+\.sqlite3$/.test(name)).length;
}

/** Runs the operator until it exits, with other variables and arguments. */
async function runToEnd(
  subject: Subject,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<number> {
  const { options } = subject;
  await using running = new OperatorProcess({
    ...options,
    args,
    environment: { ...options.environment, ...environment },
  });
  return await running.untilEnded();
}

/** Restarts the operator with other variables and waits until it is ready. */
async function restart(subject: Subject, environment: Readonly<Record<string, string>> = {}): Promise<void> {
  await subject.running[Symbol.asyncDispose]();
  await subject.start({ ...subject.options, environment: { ...subject.options.environment, ...environment } });
}

/** Resets the identity like someone who has the password but not the recovery key. */
async function resetElsewhere(subject: Subject): Promise<void> {
  const elsewhere = { CRYPTO_STORE_PATH: join(subject.folder, "elsewhere"), RECOVERY_KEY: "" };
  assert.equal(await runToEnd(subject, ["--reset-identity"], elsewhere), 0);
}

async function identityReset(ground: Ground): Promise<string> {
  const recoveryKey = encodeRecoveryKey(crypto.getRandomValues(new Uint8Array(32)));
  await using subject = await Subject.create(ground, { environment: { RECOVERY_KEY: recoveryKey } });
  await subject.start();
  assert.equal(await subject.running.stop(), 0);
  await resetElsewhere(subject);
  const { masterKey } = await seen(ground, subject);
  await Deno.remove(store(subject), { recursive: true });
  for (let start = 0; start < 2; start += 1) {
    await restart(subject);
    assert.match(await subject.log(), /may have been reset elsewhere: make a new one with --reset-identity/);
  }
  assert.equal((await seen(ground, subject)).masterKey, masterKey, "the identity was replaced");
  await subject.meet();
  await subject.endBySignal();
  return "ready unsigned, at each start; names --reset-identity";
}

async function unsignedUnderCrossSigned(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  const elsewhere = { CRYPTO_STORE_PATH: join(subject.folder, "elsewhere") };
  await subject.start({ ...subject.options, environment: { ...subject.options.environment, ...elsewhere } });
  await subject.running.stop();
  const strict = { SENDER_TRUST: "cross-signed" };
  const environment = { ...subject.options.environment, ...strict };
  subject.running = new OperatorProcess({ ...subject.options, environment });
  await subject.untilLogged(/refusing commands: .*not signed by the account's own identity/);
  const { status, text: reason } = await subject.running.probe("readyz");
  assert.equal(status, 503);
  assert.match(reason, /RECOVERY_KEY.*--reset-identity/);
  assert.equal((await subject.running.probe("healthz")).status, 200);
  await subject.running.stop();
  assert.equal(await runToEnd(subject, ["--reset-identity"], strict), 0);
  await restart(subject, strict);
  assert.equal(await subject.running.stop(), 0);
  return "/readyz 503 with what to do; ready after --reset-identity";
}

async function listedLate(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  const begin = performance.now();
  let listed = false;
  using _late = subject.homeserver.addFault({
    kind: "rewrite",
    when: ({ path }) => path.endsWith("/keys/query"),
    rewrite: ({ status, body }) => {
      listed ||= performance.now() - begin > 8_000;
      if (!listed && body.device_keys?.[subject.operatorId]) body.device_keys[subject.operatorId] = {};
      return { status, body };
    },
  });
  await subject.start();
  assert.equal(subject.homeserver.arrivedSince(begin, isLogin), 1, "logins");
  assert.equal((await seen(ground, subject)).devices.length, 1, "devices");
  await subject.meet();
  await subject.endBySignal();
  return "waits until it is listed; one login, one device";
}

function isLogin({ method, path }: { readonly method: string; readonly path: string }): boolean {
  return method === "POST" && path.endsWith("/login");
}

async function hundredDays(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  // Requested only once: the next poll comes after the wait.
  using _wish = subject.homeserver.addFault({
    kind: "answer",
    status: 429,
    headers: { "retry-after": "8640000" },
    body: { errcode: "M_LIMIT_EXCEEDED" },
    when: ({ path }) => path.endsWith("/sync"),
  });
  const { alice } = ground;
  const path = `/rooms/${encodeURIComponent(subject.talk.roomId)}/state/m.room.member/${
    encodeURIComponent(alice.userId)
  }`;
  await alice.request("PUT", path, { membership: "join", displayname: "Alice, so that the poll ends" });
  await subject.untilLogged(/trying again in 300 s: .*429 M_LIMIT_EXCEEDED/);
  assert.equal((await subject.running.probe("healthz")).status, 200);
  await subject.endBySignal();
  return "waits 5 min at most; /healthz knows of the wait; SIGTERM ends it at once";
}

/** Every second request gets a 429 with a wait of 700 ms. */
async function rateLimited(ground: Ground): Promise<string> {
  await using subject = await Subject.create(ground);
  const begin = performance.now();
  using _limit = subject.homeserver.addFault({
    kind: "answer",
    status: 429,
    body: { errcode: "M_LIMIT_EXCEEDED", error: "Too Many Requests", retry_after_ms: 700 },
    when: () => subject.homeserver.arrivedSince(begin) % 2 === 1,
  });
  await subject.start();
  const readyMs = performance.now() - begin;
  await subject.meet();
  const answersMs: number[] = [];
  for (const [text, effects] of [["start", 1], ["status", 0], ["stop", 1], ["status", 0]] as const) {
    const sent = performance.now();
    await subject.ask(text, effects);
    answersMs.push(performance.now() - sent);
  }
  const seconds = (ms: number) => (ms / 1_000).toFixed(1);
  const most = Math.max(...answersMs);
  assert.ok(readyMs < 30_000, `ready after ${seconds(readyMs)} s`);
  assert.ok(most < 8_000, `answered after ${answersMs.map(seconds)} s`);
  await subject.endBySignal();
  return `ready after ${seconds(readyMs)} s, answers after ${seconds(Math.min(...answersMs))} to ${seconds(most)} s`;
}

async function takeKeys({ alice }: Ground, { operatorId }: Subject, device: string, count: number): Promise<void> {
  const claim = { one_time_keys: { [operatorId]: { [device]: "signed_curve25519" } } };
  for (let times = 0; times < count; times += 1) await alice.request("POST", "/keys/claim", claim);
}

/** A volume restored from a backup. Since the backup, others have used one-time keys and commands were given. */
async function restoredVolume(ground: Ground, rounds: number): Promise<Subject> {
  await using resources = new AsyncDisposableStack();
  const subject = resources.use(await Subject.ready(ground));
  await subject.ask("start", 1);
  assert.equal(await subject.running.stop(), 0);
  await cp(store(subject), join(subject.folder, "backup"), { recursive: true });
  await subject.start();
  const [device = ""] = (await seen(ground, subject)).devices;
  for (let round = 0; round < rounds; round += 1) {
    await takeKeys(ground, subject, device, 40);
    await subject.ask("status", 0);
  }
  await subject.ask("stop", 1);
  await subject.ask("start", 1);
  await subject.ask("stop", 1);
  await subject.running.kill();
  await Deno.remove(store(subject), { recursive: true });
  await cp(join(subject.folder, "backup"), store(subject), { recursive: true });
  resources.move();
  return subject;
}

async function restoredBackup(ground: Ground): Promise<string> {
  await using subject = await restoredVolume(ground, 3);
  const before = await seen(ground, subject);
  // Must not be executed: it is sent before the operator has detected the restored backup.
  await subject.talk.send("start");
  await subject.start();
  assert.match(await subject.log(), /by a new device, .*restored from a backup/);
  const after = await seen(ground, subject);
  const [device = ""] = after.devices.filter((id) => !before.devices.includes(id));
  assert.ok(after.signed.includes(device), "the new device is signed");
  assert.equal(after.masterKey, before.masterKey);
  assert.equal(cryptoStores(subject), 2);
  await ground.alice.untilKnown(subject.operatorId, after.devices, patienceMs);
  assert.match(await subject.ask("start", 1), /is on/);
  const { lost, doubled } = await subject.finish();
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 });
  return "a new device, signed; what was sent before has no effect; answers can be read";
}

async function keyConflict(ground: Ground): Promise<string> {
  await using subject = await restoredVolume(ground, 1);
  const [device = ""] = (await seen(ground, subject)).devices;
  using _hidden = subject.homeserver.addFault({
    kind: "answer",
    status: 404,
    body: { errcode: "M_NOT_FOUND" },
    when: ({ method, path }) => method === "GET" && path.includes("store_counter"),
  });
  const begin = performance.now();
  // Leaves the newest keys, which the backup doesn't contain.
  await takeKeys(ground, subject, device, 30);
  await subject.start();
  await subject.untilLogged(/replaced the one-time keys/);
  await eventually("new one-time keys", async () => {
    const claim = { one_time_keys: { [subject.operatorId]: { [device]: "signed_curve25519" } } };
    const { one_time_keys } = await ground.alice.request("POST", "/keys/claim", claim);
    return Object.keys(one_time_keys[subject.operatorId]?.[device] ?? {}).length > 0;
  });
  const uploads = subject.homeserver.arrivedSince(begin, ({ path }) => path.endsWith("/keys/upload"));
  assert.ok(uploads <= 20, `${uploads} uploads`);
  assert.doesNotMatch(await subject.log(), /gave up a request of the crypto/);
  await subject.endBySignal();
  return `a warning; new ones after ${uploads} uploads`;
}

async function asAdministrator({ testbed: { homeserver } }: Ground, path: string, body: unknown): Promise<void> {
  const password = crypto.randomUUID();
  const { userId } = await homeserver.register(`admin-${crypto.randomUUID()}`, password, { admin: true });
  const login = { type: "m.login.password", identifier: { type: "m.id.user", user: userId }, password };
  const { access_token } = await httpJson("POST", `${homeserver.url}/_matrix/client/v3/login`, { body: login });
  await httpJson("PUT", homeserver.url + path, { authorization: `Bearer ${access_token}`, body });
}

/** Synapse's account lock (M_USER_LOCKED), while the operator runs and across a restart. */
async function lockedAccount(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { devices } = await seen(ground, subject);
  const lock = (locked: boolean) =>
    asAdministrator(ground, `/_synapse/admin/v2/users/${encodeURIComponent(subject.operatorId)}`, { locked });
  await lock(true);
  await subject.running.stop();
  subject.running = new OperatorProcess(subject.options);
  await subject.untilLogged(/trying again in \d+ s: .*M_USER_LOCKED: the account is locked/);
  await lock(false);
  await subject.running.untilReady();
  assert.deepEqual((await seen(ground, subject)).devices, devices);
  assert.equal(cryptoStores(subject), 1);
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return "is waited for; the same device goes on";
}

/** A homeserver that reports a lock only as a wrong token and password. */
async function refusedForAWhile(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { devices } = await seen(ground, subject);
  const answer = (status: number, errcode: string, login: boolean) =>
    subject.homeserver.addFault({
      ...{ kind: "answer", status, body: { errcode, error: "" } },
      when: (asked) => isLogin(asked) === login,
    });
  {
    using _token = answer(401, "M_UNKNOWN_TOKEN", false);
    using _login = answer(403, "M_FORBIDDEN", true);
    await subject.running.kill();
    for (let start = 0; start < 2; start += 1) assert.equal(await runToEnd(subject, []), 1);
  }
  assert.match(await subject.log(), /Nothing was set aside/);
  assert.equal(cryptoStores(subject), 1);
  await subject.start();
  assert.deepEqual((await seen(ground, subject)).devices, devices);
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return "exit 1 with the reason, nothing set aside; then the same device goes on";
}

async function loggedOut(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const before = await seen(ground, subject);
  await subject.running.stop();
  const { url } = ground.testbed.homeserver;
  const login = {
    ...{ type: "m.login.password", password: subject.password },
    identifier: { type: "m.id.user", user: subject.operatorId },
  };
  const { access_token } = await httpJson("POST", `${url}/_matrix/client/v3/login`, { body: login });
  await httpJson("POST", `${url}/_matrix/client/v3/logout/all`, { authorization: `Bearer ${access_token}`, body: {} });
  await subject.start();
  const after = await seen(ground, subject);
  assert.equal(after.masterKey, before.masterKey);
  assert.notDeepEqual(after.devices, before.devices);
  assert.deepEqual(after.signed, after.devices);
  await ground.alice.untilKnown(subject.operatorId, [...after.devices], patienceMs);
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return "a new device, signed by the same identity, without RECOVERY_KEY";
}

async function moved(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { devices } = await seen(ground, subject);
  await using other = await FaultProxy.start({ url: ground.testbed.homeserver.url });
  await subject.running.stop();
  const begin = performance.now();
  await restart(subject, { MATRIX_HOMESERVER: other.url });
  assert.match(await subject.log(), new RegExp(`from ${subject.homeserver.url} to ${other.url}`));
  assert.equal(other.arrivedSince(begin, isLogin), 0, "logins");
  assert.deepEqual((await seen(ground, subject)).devices, devices);
  assert.match(await subject.ask("start", 1), /is on/);
  await subject.finish();
  return "the same device goes on there; logged before the token is sent";
}

async function movedWrongly(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  const { devices } = await seen(ground, subject);
  await using other = await FaultProxy.start({ url: ground.testbed.homeserver.url });
  await other.setFault({ kind: "answer", status: 401, body: { errcode: "M_UNKNOWN_TOKEN" } });
  await subject.running.stop();
  const begin = performance.now();
  assert.equal(await runToEnd(subject, [], { MATRIX_HOMESERVER: other.url }), 1);
  assert.match(
    await subject.log(),
    new RegExp(`at ${other.url}, .*moved from ${subject.homeserver.url}:.*Nothing was`),
  );
  assert.equal(other.arrivedSince(begin, isLogin), 0, "logins: the password is not for that server");
  await subject.start();
  assert.deepEqual((await seen(ground, subject)).devices, devices);
  await subject.endBySignal();
  return "exit 1 naming both, nothing set aside; back at the old URL the same device goes on";
}

/** Several successive logins each encounter an unresponsive Kubernetes API. Only one of them probes it. */
async function earlierLogins(ground: Ground): Promise<string> {
  await using subject = await Subject.ready(ground);
  using _refresh = refuseRefresh(subject);
  await subject.kubernetes.setFault({ kind: "answer", status: 503, body: "down" });
  const logins = 4;
  for (let login = 1; login <= logins; login += 1) {
    let old: string | undefined;
    using _ended = subject.homeserver.addFault({
      kind: "answer",
      status: 401,
      body: { errcode: "M_UNKNOWN_TOKEN", soft_logout: true },
      when: ({ authorization }) => {
        if (authorization !== "") old ??= authorization;
        return authorization !== "" && authorization === old;
      },
    });
    const { alice } = ground;
    const path = `/rooms/${encodeURIComponent(subject.talk.roomId)}/state/m.room.member/`;
    await alice.request("PUT", path + encodeURIComponent(alice.userId), {
      membership: "join",
      displayname: `A ${login}`,
    });
    await eventually(`login ${login}`, async () => {
      return ((await subject.log()).match(/main: ready:/g)?.length ?? 0) > login;
    });
  }
  const begin = performance.now();
  const isProbe = ({ path }: { readonly path: string }) => path === "/version";
  await eventually("a probe", () => subject.kubernetes.arrivedSince(begin, isProbe) > 0);
  // Probes by all logins would arrive within the duration of the logins.
  await eventually("the next probe", () => subject.kubernetes.arrivedSince(performance.now() - 5_000, isProbe) === 0);
  const probes = subject.kubernetes.arrivedSince(begin, isProbe);
  assert.equal(probes, 1);
  await subject.kubernetes.clearFault();
  await subject.endBySignal();
  return `after ${logins} logins: one probe a round`;
}

export const loginRows: readonly HostileRow[] = [
  {
    number: "1b",
    input: "SENDER_TRUST=cross-signed, and the own device is not signed",
    before: "/readyz 200, commands carried out, then exit 1",
    where: "real",
    run: unsignedUnderCrossSigned,
  },
  {
    number: "3",
    input: "RECOVERY_KEY, and the identity was reset meanwhile",
    before: "exit 1 at every start",
    where: "real",
    run: identityReset,
  },
  {
    number: "5",
    input: "at the first start /keys/query lags 8 s behind /keys/upload",
    before: "two devices logged in, exit 1",
    where: "real",
    run: listedLate,
  },
  {
    number: "13",
    input: "Retry-After: 8640000, once, to a sync",
    before: "silent for 100 days",
    where: "real",
    run: hundredDays,
  },
  {
    number: "18a",
    input: "a volume restored from a backup, after one-time keys were claimed",
    before: "commands have effects, no answer can be read",
    where: "real",
    run: restoredBackup,
  },
  {
    number: "18b",
    input: "the same where the account has no counter: other one-time keys under the same ids",
    before: "/keys/upload refused again and again",
    where: "real",
    synapseOnly: "Dendrite takes other keys under the same ids, so no conflict is met",
    run: keyConflict,
  },
  {
    number: "19a",
    input: "the account is locked for a while (M_USER_LOCKED)",
    before: "exit 1 at every start",
    where: "real",
    synapseOnly: "Dendrite locks no account; where one is, the specification's M_USER_LOCKED is what is waited for",
    run: lockedAccount,
  },
  {
    number: "19b",
    input: "token and password are refused for a while",
    before: "crypto set aside for nothing",
    where: "real",
    run: refusedForAWhile,
  },
  {
    number: "19c",
    input: "logged out everywhere",
    before: "the new device is unsigned",
    where: "real",
    run: loggedOut,
  },
  {
    number: "20a",
    input: "MATRIX_HOMESERVER is changed to another URL of the same homeserver",
    before: "exit 2",
    where: "real",
    run: moved,
  },
  {
    number: "20b",
    input: "the same, to one that refuses the token",
    before: "exit 2",
    where: "real",
    run: movedWrongly,
  },
  {
    number: "24",
    input: "429 with 700 ms to every second request",
    before: "ready after 47 to 55 s, answers after 11 to 15 s",
    where: "real",
    run: rateLimited,
  },
  {
    number: "25",
    input: "four logins end while the Kubernetes API is down",
    before: "each one's probe goes on",
    where: "real",
    run: earlierLogins,
  },
];
