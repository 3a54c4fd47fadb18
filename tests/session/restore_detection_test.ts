/** A volume that was restored from a backup: the store is of the past, and the homeserver remembers the time since. */

import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { Secret } from "../../lib/config/mod.ts";
import { CredentialError, TransientError } from "../../lib/errors.ts";
import { logIn } from "../../lib/session/login.ts";
import { HomeserverClient } from "../../lib/session/mod.ts";
import type { Person } from "../../sandbox/person/mod.ts";
import { never, type Running, World } from "./world.ts";

const self = "@toggle:localhost";

/** A backup of the store. `restore` replaces the present store by it, or copies its files over the present ones. */
async function backUp(world: World): Promise<AsyncDisposable & { restore(over?: boolean): Promise<void> }> {
  const copy = await Deno.makeTempDir();
  const copied = (from: string, to: string) => cp(from, to, { recursive: true });
  await copied(world.folder, copy);
  return {
    restore: async (over = false) => {
      if (!over) await Deno.remove(world.folder, { recursive: true });
      await copied(copy, world.folder);
    },
    [Symbol.asyncDispose]: () => Deno.remove(copy, { recursive: true }),
  };
}

function deviceOf({ store }: Running): string | undefined {
  return store.account.load()?.deviceId;
}

/** Opens a session, closes it, and returns its device. */
async function deviceOfNext(world: World): Promise<string | undefined> {
  await using running = await world.open();
  return deviceOf(running);
}

/** A store whose backup has an unsettled command and an unsent answer; the run after it has settled another one. */
async function restored(world: World, alice: Person): Promise<{ device: string | undefined; roomId: string }> {
  let [roomId, device]: [string, string | undefined] = ["", ""];
  {
    await using running = (await world.open()).sync();
    roomId = await running.roomWith(alice);
    device = deviceOf(running);
    await running.session.ensureIdentity(undefined, false, never);
    await alice.say(roomId, "before the backup");
    await running.read(1);
    running.store.journal.queueAnswer({ kind: "answer", sequence: 0, roomId, eventId: "$old" });
  }
  await using backup = await backUp(world);
  {
    await using running = (await world.open()).sync();
    await alice.say(roomId, "after the backup");
    await running.read(2);
  }
  await backup.restore();
  return { device, roomId };
}

async function listensOnlyToWhatComesNow(running: Running, alice: Person, roomId: string): Promise<void> {
  await running.until(() => running.session.joinedRooms().includes(roomId) || undefined);
  assert.deepEqual([running.events(), running.store.journal.roomsWithUnsentAnswers()], [[], []]);
  const deviceId = deviceOf(running);
  await alice.until(() => alice.members(roomId, "join").length === 2 || undefined);
  assert.ok(deviceId);
  alice.crypto.forgetSession(roomId);
  await alice.say(roomId, "now");
  const [payload, ...others] = await running.read(1);
  assert.deepEqual(others, []);
  assert.ok(payload?.kind === "decrypted", JSON.stringify(payload));
  assert.equal(payload.content.body, "now");
}

Deno.test("openSession() notices a restored backup: a new device, signed, and no command of before", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const { device, roomId } = await restored(world, alice);
  await using running = (await world.open()).sync();
  assert.notEqual(deviceOf(running), device);
  assert.ok((await running.session.ensureIdentity(undefined, false, never)).signed);
  await listensOnlyToWhatComesNow(running, alice, roomId);
});

Deno.test("openSession() notices a restored backup also where its tokens are refused", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const { device = "", roomId } = await restored(world, alice);
  world.homeserver.attacks.revokeTokens(self, device, false);
  await using running = (await world.open()).sync();
  assert.notEqual(deviceOf(running), device);
  await listensOnlyToWhatComesNow(running, alice, roomId);
});

Deno.test("openSession() keeps the keys of a later device if a backup was copied over them", async () => {
  await using world = new World();
  const device = await deviceOfNext(world);
  await using backup = await backUp(world);
  world.homeserver.attacks.deleteDevice(self, device ?? "");
  const later = await deviceOfNext(world);
  await backup.restore(true);
  const keys = await Deno.readFile(`${world.folder}/crypto-2.sqlite3`);
  const last = await deviceOfNext(world);
  assert.equal(new Set([device, later, last]).size, 3);
  assert.deepEqual(await Deno.readFile(`${world.folder}/crypto-2.sqlite3`), keys);
});

Deno.test("openSession() takes no later state of the same store for a restored one", async () => {
  await using world = new World();
  const devices = new Set<string | undefined>();
  for (const path of [undefined, "/user/{userId}/account_data/{type}", undefined, undefined]) {
    // Its raise is lost once: the store is ahead then, not behind.
    using _lost = path === undefined
      ? undefined
      : world.homeserver.fault({ method: "PUT", path, answer: { status: 403, body: { errcode: "M_FORBIDDEN" } } });
    await using running = await world.open();
    devices.add(deviceOf(running));
    await running.session.restoreDetection.raise(never);
  }
  assert.equal(devices.size, 1);
});

Deno.test("openSession() recovers from a restored backup even if it is interrupted", async (t) => {
  const cuts: [path: string, method: string, after: boolean][] = [
    ["/user/{userId}/account_data/{type}", "GET", false],
    ["/login", "POST", false],
    ["/login", "POST", true],
    ["/keys/query", "POST", false],
    ["/keys/upload", "POST", false],
    ["/keys/upload", "POST", true],
    ["/user/{userId}/account_data/{type}", "PUT", false],
    ["/user/{userId}/account_data/{type}", "PUT", true],
  ];
  for (const [path, method, after] of cuts) {
    await t.step(`${method} ${path}, ${after ? "done but unanswered" : "not done"}`, async () => {
      await using world = new World();
      const alice = await world.person("alice");
      const { device, roomId } = await restored(world, alice);
      {
        using _cut = world.homeserver.fault({ path, method, after, times: 1, answer: { status: 502 } });
        await assert.rejects(world.open(), TransientError);
      }
      await using running = (await world.open()).sync();
      assert.notEqual(deviceOf(running), device);
      await listensOnlyToWhatComesNow(running, alice, roomId);
    });
  }
});

Deno.test("openSession() by a token cannot go on with a restored backup, and says so", async () => {
  await using world = new World();
  using requests = new HomeserverClient(world.homeserver.url);
  const byPassword = { method: "password", user: "toggle", password: new Secret("secret") } as const;
  const { accessToken } = await logIn(requests, byPassword, undefined, never);
  world.login = { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
  await (await world.open())[Symbol.asyncDispose]();
  await using backup = await backUp(world);
  await (await world.open())[Symbol.asyncDispose]();
  await backup.restore();
  await assert.rejects(world.open(), (error) => {
    assert.ok(error instanceof CredentialError);
    assert.match(error.message, /restored from a backup; log in for a new token/);
    return true;
  });
});

Deno.test("a conflict of one-time keys is warned of, and other keys are made", async () => {
  await using world = new World();
  const { requests } = world.homeserver;
  const alice = await world.person("alice");
  const uploads = () => requests.entries.filter(({ template }) => template === "/keys/upload");
  /** Others use one-time keys up until the operator makes new ones, which it does when it next hears of something. */
  const useUp = async (running: Running, uploaded: number): Promise<(number | undefined)[]> => {
    const before = uploads().length;
    const claim = { one_time_keys: { [self]: { [deviceOf(running) ?? ""]: "signed_curve25519" } } };
    for (let times = 0; times < 40; times += 1) await alice.api.request("POST", "/keys/claim", claim);
    await alice.say(roomId, "listen");
    while (uploads().length < before + uploaded) {
      await requests.next(({ template }) => template === "/keys/upload", late);
    }
    // Waits for its turn after them.
    await running.say(roomId, "done");
    return uploads().slice(before).map(({ status }) => status);
  };
  const late = AbortSignal.timeout(60_000);
  let roomId = "";
  {
    await using running = (await world.open()).sync();
    roomId = await running.roomWith(alice);
  }
  await using backup = await backUp(world);
  {
    await using running = (await world.open()).sync();
    assert.ok((await useUp(running, 1)).every((status) => status === 200));
  }
  await backup.restore();
  // The counter does not tell.
  using _hidden = world.homeserver.fault({
    method: "GET",
    path: "/user/{userId}/account_data/{type}",
    answer: { status: 404, body: { errcode: "M_NOT_FOUND" } },
  });
  await using running = (await world.open()).sync();
  const statuses = await useUp(running, 3);
  assert.deepEqual([statuses[0], statuses.at(-1)], [400, 200], String(statuses));
  assert.ok((await useUp(running, 1)).every((status) => status === 200));
});
