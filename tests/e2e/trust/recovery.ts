/** The operator's own identity survives a lost volume if there is a recovery key, and is never replaced silently. */

import assert from "node:assert/strict";
import { join } from "node:path";
import type { PublishedUser } from "../../../testbed/phone.ts";
import { OperatorProcess, projectRoot } from "../../operator_process.ts";
import type { Case, Story } from "./story.ts";
import type { World } from "./world.ts";

const secretTypes = ["master", "self_signing", "user_signing"].map((name) => `m.cross_signing.${name}`);

/** An account for an operator with a recovery key. */
class Keeper {
  readonly userId: string;
  recoveryKey: string;
  readonly name: string;
  readonly #world: World;
  readonly #environment: Readonly<Record<string, string>>;

  private constructor(
    world: World,
    name: string,
    userId: string,
    recoveryKey: string,
    environment: Record<string, string>,
  ) {
    this.#world = world;
    this.name = name;
    this.userId = userId;
    this.recoveryKey = recoveryKey;
    this.#environment = environment;
  }

  static async create(world: World, name: string): Promise<Keeper> {
    const { userId, localpart, password } = await world.account(name);
    const recoveryKey = await world.newRecoveryKey();
    return new Keeper(world, name, userId, recoveryKey, {
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      CRYPTO_STORE_PATH: join(world.testbed.folder, `store-${name}`),
      CRYPTO_STORE_KEY: "", // a key file
    });
  }

  start(more: Readonly<Record<string, string>> = {}, args: readonly string[] = []): OperatorProcess {
    return this.#world.run({ ...this.#environment, RECOVERY_KEY: this.recoveryKey, ...more }, args);
  }

  /** Starts the operator, waits until it is ready, and stops it. Returns the first log line that matches, or "". */
  async runOnce(what: RegExp, more: Readonly<Record<string, string>> = {}): Promise<string> {
    await using run = this.start(more);
    await run.untilReady();
    assert.equal(await run.stop(), 0);
    return run.lines.find((line) => what.test(line)) ?? "";
  }

  /** Replaces the recovery key by running the program. Returns the old one. */
  async rotate(): Promise<string> {
    const old = this.recoveryKey;
    const { homeserver } = this.#world.testbed;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "main.ts", "--rotate-recovery-key"],
      cwd: projectRoot,
      env: { ...this.#environment, MATRIX_HOMESERVER: homeserver.url, ALLOWED_USERS: "@a:b", RECOVERY_KEY: old },
    }).output();
    const text = new TextDecoder();
    assert.equal(code, 0, text.decode(stderr));
    this.recoveryKey = text.decode(stdout).trim();
    this.#world.secrets.add(this.recoveryKey).add(this.recoveryKey.replaceAll(" ", ""));
    return old;
  }

  async loseVolume(): Promise<void> {
    await Deno.remove(this.#environment["CRYPTO_STORE_PATH"] ?? "", { recursive: true });
  }

  /** Returns what Alice's phone shows of the operator. */
  seen(): Promise<PublishedUser> {
    return this.#world.alice.published(this.userId);
  }

  /** Returns which secrets are in the account data, and in which form. */
  async stored(): Promise<string[]> {
    const ask = await this.#world.administrator.as(this.userId);
    const types = ["m.secret_storage.default_key", ...secretTypes];
    return await Promise.all(
      types.map((type) =>
        ask("GET", `/user/${encodeURIComponent(this.userId)}/account_data/${type}`)
          .then((data) => JSON.stringify(data), () => "")
      ),
    );
  }

  /** Opens the account's secret storage in mautrix-go with the recovery key. Returns the master key in it. */
  async restoredElsewhere(key = this.recoveryKey): Promise<string> {
    const phone = await this.#world.login(this.name);
    return await phone.restoreIdentity(key);
  }
}

async function losesVolume(world: World, story: Story): Promise<void> {
  const keeper = await Keeper.create(world, "keeper");
  await keeper.runOnce(/identity/);
  const first = await keeper.seen();
  const [device] = first.devices;
  story.add("first start with RECOVERY_KEY", show(first), "");
  assert.ok(first.masterKey && first.devices.length === 1 && device?.signedByOwner);

  await keeper.loseVolume();
  const line = await keeper.runOnce(/restored/);
  const second = await keeper.seen();
  const fresh = second.devices.filter(({ deviceId }) => deviceId !== device.deviceId);
  story.add("volume lost, start with RECOVERY_KEY", show(second), line);
  assert.equal(second.masterKey, first.masterKey);
  assert.deepEqual(fresh.map(({ signedByOwner }) => signedByOwner), [true]);

  const elsewhere = await keeper.restoredElsewhere();
  story.add(
    "another client opens the secret storage",
    elsewhere === first.masterKey ? "the same identity" : elsewhere,
    "",
  );
  assert.equal(elsewhere, first.masterKey);

  const old = await keeper.rotate();
  story.add("--rotate-recovery-key", "another client opens the secret storage with the new key only", "");
  assert.notEqual(keeper.recoveryKey, old);
  assert.equal(await keeper.restoredElsewhere(), first.masterKey);
  await assert.rejects(keeper.restoredElsewhere(old));

  await refusesWrongKey(world, story, keeper, first);
  await goesOnWithoutKey(story, keeper, first);
  await resets(story, keeper, first);
}

async function refusesWrongKey(world: World, story: Story, keeper: Keeper, first: PublishedUser): Promise<void> {
  const before = await keeper.stored();
  for (const lost of [false, true]) {
    if (lost) await keeper.loseVolume();
    await using run = keeper.start({ RECOVERY_KEY: await world.newRecoveryKey() });
    const code = await run.untilEnded();
    const line = run.lines.find((line) => /RECOVERY_KEY/.test(line)) ?? "";
    story.add(`${lost ? "volume lost, " : ""}another RECOVERY_KEY`, `exit code ${code}`, line);
    assert.equal(code, 2);
    assert.match(line, /RECOVERY_KEY.*doesn't open the secret storage/);
    assert.equal((await keeper.seen()).masterKey, first.masterKey);
    assert.deepEqual(await keeper.stored(), before, "something was replaced");
  }
}

async function goesOnWithoutKey(story: Story, keeper: Keeper, first: PublishedUser): Promise<void> {
  await keeper.loseVolume();
  const known = (await keeper.seen()).devices.map(({ deviceId }) => deviceId);
  const line = await keeper.runOnce(/not signed/, { RECOVERY_KEY: "" });
  const sight = await keeper.seen();
  const fresh = sight.devices.filter(({ deviceId }) => !known.includes(deviceId));
  story.add("volume lost, no RECOVERY_KEY", show(sight), line);
  assert.match(line, /warn/i);
  assert.equal(sight.masterKey, first.masterKey);
  assert.deepEqual(fresh.map(({ signedByOwner }) => signedByOwner), [false]);
}

async function resets(story: Story, keeper: Keeper, first: PublishedUser): Promise<void> {
  await using run = keeper.start({ RECOVERY_KEY: "" }, ["--reset-identity"]);
  const code = await run.untilEnded();
  const sight = await keeper.seen();
  story.add(
    "--reset-identity",
    `exit code ${code}; ${show(sight)}`,
    run.lines.find((line) => /identity/.test(line)) ?? "",
  );
  assert.equal(code, 0);
  assert.ok(sight.masterKey !== undefined && sight.masterKey !== first.masterKey);
}

function show({ masterKey, devices }: PublishedUser): string {
  const signed = devices.filter(({ signedByOwner }) => signedByOwner).length;
  return `identity ${masterKey?.slice(0, 8) ?? "(none)"}…, ${signed} of ${devices.length} devices signed`;
}

/** Points at which a first start is killed: requests, as the homeserver logs them, and times in milliseconds. */
const requests = [
  /\/keys\/upload/,
  /\/keys\/device_signing\/upload/,
  /\/keys\/signatures\/upload/,
  /default_key/,
  /m\.cross_signing\.master/,
  /m\.cross_signing\.self_signing/,
];
const moments = [500, 1_000];

async function isKilled(world: World, story: Story): Promise<void> {
  const points: (RegExp | number)[] = [
    ...world.testbed.homeserver.requestLog === undefined ? [] : requests,
    ...moments,
  ];
  const outcomes = points.map((_, index) => index);
  // Two at a time, because a start mostly waits.
  const next = async () => {
    for (let index = outcomes.shift(); index !== undefined; index = outcomes.shift()) {
      await isKilledAt(world, story, `keeper${index}`, points[index] ?? 0);
    }
  };
  await Promise.all([next(), next()]);
}

async function isKilledAt(world: World, story: Story, name: string, point: RegExp | number): Promise<void> {
  const keeper = await Keeper.create(world, name);
  {
    await using run = keeper.start();
    await (typeof point === "number"
      ? new Promise((resolve) => setTimeout(resolve, point))
      : untilRequested(world, keeper.userId, point));
    await run.kill();
  }
  const left = show(await keeper.seen());
  const secrets = (await keeper.stored()).filter((data) => data !== "").length;
  await keeper.runOnce(/identity/);
  const sight = await keeper.seen();
  const at = typeof point === "number" ? `${point} ms after its start` : `after ${point.source.replaceAll("\\", "")}`;
  story.add(`first start killed ${at}`, show(sight), `at the kill: ${left}, ${secrets} of 4 secrets stored`);
  assert.ok(sight.masterKey !== undefined);
  assert.deepEqual(sight.devices.filter(({ signedByOwner }) => !signedByOwner), []);
  assert.equal(await keeper.restoredElsewhere(), sight.masterKey);
}

async function untilRequested({ testbed }: World, userId: string, request: RegExp): Promise<void> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const lines = (await Deno.readTextFile(testbed.homeserver.requestLog ?? "")).split("\n");
    const wanted = (line: string) =>
      line.includes(`{${userId}} Processed request`) && /"(POST|PUT) /.test(line) && request.test(line);
    if (lines.some(wanted)) return;
    if (performance.now() > deadline) throw new Error(`${userId} has not requested ${request} within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

export const recoveryCases: readonly Case[] = [
  { name: "its identity survives a lost volume, and is replaced by nothing but --reset-identity", run: losesVolume },
  { name: "killed while it makes its identity, it completes it at the next start", run: isKilled },
];
