import assert from "node:assert/strict";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Person } from "../../sandbox/person/mod.ts";

/** Two persons in an encrypted room of a homeserver whose clock the test moves. */
async function room(): Promise<
  { homeserver: Homeserver; anna: Person; bert: Person; roomId: string; clock: { aheadMs: number } } & AsyncDisposable
> {
  await using held = new AsyncDisposableStack();
  const clock = { aheadMs: 0 };
  const homeserver = held.use(new Homeserver({ now: () => Date.now() + clock.aheadMs }));
  const login = async (user: string) => {
    homeserver.register(user, "secret");
    return held.use(await Person.login({ url: homeserver.url, user, password: "secret" }));
  };
  const [anna, bert] = [await login("anna"), await login("bert")];
  const roomId = await anna.createRoom([bert.userId]);
  await bert.until(() => bert.invitations.has(roomId) || undefined);
  await bert.join(roomId);
  await anna.until(() => anna.members(roomId).length === 2 || undefined);
  const moved = held.move();
  return { homeserver, anna, bert, roomId, clock, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

const syncOf = (person: Person) => person.api.request("GET", "/sync?timeout=0");

Deno.test("Attacks.replay() makes the same ciphertext come again under a new event id, and it decrypts", async () => {
  await using world = await room();
  const { homeserver, anna, bert, roomId } = world;
  const first = bert.next(({ body }) => body === "stop");
  const eventId = await anna.say(roomId, "stop");
  await first;
  const second = bert.next(({ body }) => body === "stop");
  const replayed = homeserver.attacks.replay(roomId, eventId);
  assert.notEqual(replayed, eventId);
  const { eventId: seen, encrypted, sender } = await second;
  assert.deepEqual([seen, encrypted, sender], [replayed, true, anna.userId]);
});

Deno.test("Attacks.duplicate() delivers an event again under its own id", async () => {
  await using world = await room();
  const { homeserver, anna, bert, roomId } = world;
  const eventId = await anna.say(roomId, "stop");
  await bert.until(() => bert.messages(roomId).find(({ body }) => body === "stop"));
  const again = bert.next((message) => message.eventId === eventId);
  homeserver.attacks.duplicate(roomId, eventId);
  await again;
});

Deno.test("Attacks.inject() says anything in anybody's name, of any age", async () => {
  await using world = await room();
  const { homeserver, anna, bert, roomId } = world;
  const heard = bert.next(({ body }) => body === "I never said that");
  const content = { msgtype: "m.text", body: "I never said that" };
  homeserver.attacks.inject(roomId, { type: "m.room.message", sender: anna.userId, content, ageMs: 60_000 });
  assert.deepEqual([(await heard).sender, (await heard).encrypted], [anna.userId, false]);
  // deno-lint-ignore no-explicit-any -- the assertion is what checks the shape
  const body = await syncOf(bert) as any;
  const { age } = body.rooms.join[roomId].timeline.events.at(-1).unsigned;
  assert.ok(age >= 60_000 && age < 120_000, `${age}`);
});

Deno.test("Homeserver counts ages by its own clock", async () => {
  await using world = await room();
  const { anna, bert, roomId, clock } = world;
  await anna.say(roomId, "long ago");
  clock.aheadMs = 3_600_000;
  // deno-lint-ignore no-explicit-any -- the assertion is what checks the shape
  const body = await syncOf(bert) as any;
  assert.ok(body.rooms.join[roomId].timeline.events.at(-1).unsigned.age >= 3_600_000);
});

Deno.test("Attacks.forgeInvitation() shows made-up inviters, and the room can be joined", async () => {
  await using world = await room();
  const { homeserver, anna, bert } = world;
  const trap = await anna.createRoom([]);
  const member = (sender: string) => ({
    type: "m.room.member",
    state_key: bert.userId,
    sender,
    content: { membership: "invite" },
  });
  const forged = [member("@friend:localhost"), member(anna.userId)];
  homeserver.attacks.forgeInvitation(trap, bert.userId, anna.userId, forged);
  assert.deepEqual(await bert.until(() => bert.invitations.get(trap)), forged);
  await bert.join(trap);
});

Deno.test("Attacks.publishDevice() adds a device that others then encrypt for", async () => {
  await using world = await room();
  const { homeserver, anna, bert } = world;
  const keys = { user_id: anna.userId, device_id: "EVIL", algorithms: [], keys: { "ed25519:EVIL": "A" } };
  homeserver.attacks.publishDevice(anna.userId, "EVIL", keys);
  const wanted = { device_keys: { [anna.userId]: [] } };
  // deno-lint-ignore no-explicit-any -- the assertion is what checks the shape
  const { device_keys } = await bert.api.request("POST", "/keys/query", wanted) as any;
  assert.deepEqual(Object.keys(device_keys[anna.userId]).sort(), [anna.deviceId, "EVIL"].sort());
});

Deno.test("Attacks.resetPassword() lets an administrator log in as a user and speak encrypted", async () => {
  await using world = await room();
  const { homeserver, anna, bert, roomId } = world;
  homeserver.attacks.resetPassword(anna.userId, "taken over");
  await using evil = await Person.login({ url: homeserver.url, user: "anna", password: "taken over" });
  const heard = bert.next(({ body }) => body === "stop");
  await evil.say(roomId, "stop");
  assert.deepEqual([(await heard).sender, (await heard).encrypted], [anna.userId, true]);
});

Deno.test("Attacks.publishIdentity() replaces a user's identity without being asked for a password", async () => {
  await using world = await room();
  const { homeserver, anna, bert } = world;
  await anna.crypto.bootstrapIdentity("secret");
  const master_key = { user_id: anna.userId, usage: ["master"], keys: { "ed25519:AAAA": "AAAA" } };
  homeserver.attacks.publishIdentity(anna.userId, { master_key });
  const wanted = { device_keys: { [anna.userId]: [] } };
  // deno-lint-ignore no-explicit-any -- the assertion is what checks the shape
  const { master_keys } = await bert.api.request("POST", "/keys/query", wanted) as any;
  assert.deepEqual(master_keys[anna.userId].keys, master_key.keys);
});

Deno.test("Attacks.revokeTokens() and deleteDevice() end a session softly, hard, or with its device", async (t) => {
  const rows = [
    {
      name: "soft",
      soft: true,
      device: true,
      act: ({ attacks }: Homeserver, { userId, deviceId }: Person) => attacks.revokeTokens(userId, deviceId, true),
    },
    {
      name: "hard",
      soft: false,
      device: true,
      act: ({ attacks }: Homeserver, { userId, deviceId }: Person) => attacks.revokeTokens(userId, deviceId, false),
    },
    {
      name: "device",
      soft: false,
      device: false,
      act: ({ attacks }: Homeserver, { userId, deviceId }: Person) => attacks.deleteDevice(userId, deviceId),
    },
  ];
  for (const { name, soft, device, act } of rows) {
    await t.step(name, async () => {
      await using world = await room();
      const { homeserver, anna, bert } = world;
      act(homeserver, bert);
      await assert.rejects(
        () => bert.api.request("GET", "/account/whoami"),
        (error: { body: Record<string, unknown> }) => {
          assert.deepEqual([error.body["errcode"], error.body["soft_logout"]], ["M_UNKNOWN_TOKEN", soft]);
          return true;
        },
      );
      const wanted = { device_keys: { [bert.userId]: [] } };
      // deno-lint-ignore no-explicit-any -- the assertion is what checks the shape
      const { device_keys } = await anna.api.request("POST", "/keys/query", wanted) as any;
      assert.equal(bert.deviceId in device_keys[bert.userId], device);
    });
  }
});

Deno.test("Homeserver.issueLoginToken() gives a token for one login", async () => {
  await using homeserver = new Homeserver();
  const userId = homeserver.register("anna", "secret");
  const login = async () => {
    const body = JSON.stringify({ type: "m.login.token", token });
    return await (await fetch(`${homeserver.url}/_matrix/client/v3/login`, { method: "POST", body })).json();
  };
  const token = homeserver.issueLoginToken(userId);
  assert.equal((await login()).user_id, userId);
  assert.equal((await login()).errcode, "M_FORBIDDEN");
});

Deno.test("Homeserver serves its address at .well-known", async () => {
  await using homeserver = new Homeserver();
  const { "m.homeserver": told } = await (await fetch(`${homeserver.url}/.well-known/matrix/client`)).json();
  assert.equal(told.base_url, homeserver.url);
});
