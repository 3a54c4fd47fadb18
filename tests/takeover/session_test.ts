import assert from "node:assert/strict";
import { join } from "node:path";
import type { Json } from "../../lib/session/mod.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { takeOver } from "../../lib/takeover/mod.ts";
import { Api } from "../../sandbox/person/mod.ts";
import { never, Running, World } from "../session/world.ts";
import { alter, DATABASE, DEVICE, type Kind, kinds, leaveOldStore, surroundings, USER } from "./old.ts";

/** The device of an old store at the homeserver, and the store itself in our folder. */
async function oldDevice(world: World, kind: Kind, deviceKeys: unknown = surroundings(kind).deviceKeys): Promise<Api> {
  const api = new Api(world.homeserver.url, never);
  const identifier = { type: "m.id.user", user: "toggle" };
  const login = { type: "m.login.password", identifier, password: "secret", device_id: DEVICE };
  api.token = String((await api.request("POST", "/login", login))["access_token"]);
  const { oneTimeKeys } = surroundings(kind);
  await api.request("POST", "/keys/upload", { device_keys: deviceKeys, one_time_keys: oneTimeKeys });
  leaveOldStore(world.folder, kind, api.token);
  return api;
}

async function openTakenOver(world: World): Promise<Running> {
  const store: Store = await openStore({ folder: world.folder, holder: { host: "test", pid: Deno.pid } });
  await store.openCrypto();
  await takeOver({ store, folder: world.folder, homeserver: world.homeserver.url, user: "toggle" });
  return new Running(store, await world.openSession(store));
}

/** What the operator has asked of the homeserver since the device was taken over, by path. */
function asked(world: World, since: number): string[] {
  return world.homeserver.requests.entries.slice(since).filter(({ userId }) => userId === USER)
    .map(({ method, template }) => `${method} ${template.replace("/_matrix/client/v3", "")}`);
}

for (const kind of kinds) {
  Deno.test(`Session continues as the device of a store of kind "${kind}", from where that one stopped`, async () => {
    await using world = new World();
    const old = await oldDevice(world, kind);
    const alice = await world.person("alice");
    const roomId = await alice.createRoom([USER]);
    await old.request("POST", `/join/${roomId}`, {});
    await alice.until(() => alice.members(roomId).includes(USER) || undefined);
    const clear = { msgtype: "m.text", body: "the old one has heard this" };
    await alice.api.request("PUT", `/rooms/${roomId}/send/m.room.message/clear`, clear);
    const { next_batch: token } = await old.request("GET", "/sync");
    alter(join(world.folder, DATABASE), "UPDATE synctokens SET token = ?", String(token));
    await alice.say(roomId, "nobody has heard this");
    const other = await alice.createRoom([USER]);

    const begin = world.homeserver.requests.entries.length;
    await using running = (await openTakenOver(world)).sync();
    const [payload, ...others] = await running.read(1);
    assert.deepEqual(others, []);
    assert.ok(payload?.kind === "decrypted", JSON.stringify(payload));
    assert.equal(payload.content.body, "nobody has heard this");
    assert.equal(payload.senderFacts.device?.sameKeysAsSession, true);
    const requests = asked(world, begin);
    const keys = requests.filter((request) => request.startsWith("POST /keys/"));
    assert.deepEqual(keys.slice(0, 2), ["POST /keys/query", "POST /keys/upload"]);
    assert.equal(requests.filter((request) => request === "GET /sync").length > 0, true);
    assert.ok(!requests.includes("POST /login"));
    assert.deepEqual(running.session.joinedRooms(), [roomId]);
    assert.deepEqual(running.session.invitations().map((each) => each.roomId), [other]);
    assert.deepEqual(running.store.rooms.joinedMembers(roomId), [alice.userId, USER]);
    assert.equal(running.store.rooms.tokenIsAdopted(), false);

    const heard = alice.next((message) => message.body === "heard");
    await running.say(roomId, "heard");
    assert.equal((await heard).encrypted, true);
    const listed = await alice.api.request("POST", "/keys/query", { device_keys: { [USER]: [] } });
    const { unsigned: _, ...device } =
      (listed["device_keys"] as Record<string, Record<string, Json>>)[USER]?.[DEVICE] ?? {};
    assert.deepEqual(device, surroundings(kind).deviceKeys);
  });
}

Deno.test("Session uploads nothing for a device that was taken over where the homeserver lists other keys", async () => {
  await using world = new World();
  const { deviceKeys } = surroundings("libolm");
  const old = await oldDevice(world, "vodozemac", deviceKeys);
  const begin = world.homeserver.requests.entries.length;
  await using running = await openTakenOver(world);
  const requests = asked(world, begin);
  assert.equal(requests[0], "POST /keys/query");
  assert.ok(requests.indexOf("POST /keys/upload") > requests.indexOf("POST /login"), requests.join("\n"));
  assert.notEqual(running.store.account.load()?.deviceId, DEVICE);
  const { device_keys: listed } = await old.request("POST", "/keys/query", { device_keys: { [USER]: [] } });
  const { unsigned: _, ...listedKeys } = (listed as Record<string, Record<string, Json>>)[USER]?.[DEVICE] ?? {};
  assert.deepEqual(listedKeys, deviceKeys);
});

Deno.test("openSession() starts with a new device after an unfinished takeover", async () => {
  await using world = new World();
  await oldDevice(world, "vodozemac");
  {
    await using store = await openStore({ folder: world.folder, holder: { host: "test", pid: Deno.pid } });
    await store.openCrypto();
    await takeOver({ store, folder: world.folder, homeserver: world.homeserver.url, user: "toggle" });
    store.account.clear();
  }
  await using running = await world.open();
  assert.notEqual(running.store.account.load()?.deviceId, DEVICE);
});
