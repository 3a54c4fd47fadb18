/** How rooms' sessions are made, shared and given up. */

import assert from "node:assert/strict";
import { OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import type { Person } from "../../sandbox/person/mod.ts";
import { never, type Running, World } from "./world.ts";

const HOUR_MS = 3_600_000;

/** The clock of this process, which the Rust crypto reads, too, can be set until it is disposed of. */
function settableClock(): { shift(ms: number): void } & Disposable {
  const { now } = Date;
  let offsetMs = 0;
  Date.now = () => now() + offsetMs;
  return { shift: (ms) => void (offsetMs += ms), [Symbol.dispose]: () => void (Date.now = now) };
}

async function sessionIds(person: Person, roomId: string, howMany: number): Promise<string[]> {
  const page = await person.api.request("GET", `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=${howMany}`);
  const events = page["chunk"] as { content: { session_id: string } }[];
  return events.map(({ content }) => content.session_id).reverse();
}

/** A room whose sessions live for an hour. */
async function hourlyRoom(world: World, running: Running, alice: Person): Promise<string> {
  const roomId = await running.roomWith(alice);
  const content = { algorithm: "m.megolm.v1.aes-sha2", rotation_period_ms: HOUR_MS };
  world.homeserver.attacks.inject(roomId, { type: "m.room.encryption", sender: alice.userId, state_key: "", content });
  await running.until(() => running.store.rooms.get(roomId)?.encryption?.rotationPeriodMs === HOUR_MS || undefined);
  return roomId;
}

Deno.test("Session.send() encrypts with a session that holds, whatever the clock does", async (t) => {
  const rows: [name: string, shiftMs: number, when: "while the key is handed over" | "between two messages"][] = [
    ["the hour ends", HOUR_MS + 1, "while the key is handed over"],
    ["the clock is set back", -2 * HOUR_MS, "while the key is handed over"],
    ["the hour ends", HOUR_MS + 1, "between two messages"],
    ["the hour is about to end", HOUR_MS - 10_000, "between two messages"],
    ["the clock is set back", -2 * HOUR_MS, "between two messages"],
  ];
  for (const [name, shiftMs, when] of rows) {
    await t.step(`${name} ${when}`, async () => {
      await using world = new World();
      const alice = await world.person("alice");
      await using running = (await world.open()).sync();
      const roomId = await hourlyRoom(world, running, alice);
      using clock = settableClock();
      if (when === "between two messages") await running.say(roomId, "before");
      else {
        const handing = world.homeserver.requests.next(({ template }) => template.startsWith("/sendToDevice/"), never);
        handing.then(() => clock.shift(shiftMs));
      }
      if (when === "between two messages") clock.shift(shiftMs);
      const heard = alice.next(({ body }) => body === "after");
      await running.say(roomId, "after");
      assert.equal((await heard).encrypted, true);
      if (when === "between two messages") assert.equal(new Set(await sessionIds(alice, roomId, 2)).size, 2);
    });
  }
});

Deno.test("Session.send() shares keys only with signed devices, and refuses while our own is unsigned", async () => {
  await using world = new World();
  world.onlySignedDevices = true;
  const [alice, bob] = [await world.person("alice", { crossSigning: true }), await world.person("bob")];
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await alice.invite(roomId, bob.userId);
  await running.joinedBy(bob, roomId);
  assert.equal(running.session.isSigned, false);
  assert.equal(running.session.room(roomId)?.sendProblem, "own-device-unsigned");
  await assert.rejects(running.say(roomId, "hello"), { constructor: RejectedError, code: "OWN_DEVICE_UNSIGNED" });

  await running.session.ensureIdentity(undefined, false, never);
  assert.equal(running.session.isSigned, true);
  assert.equal(running.session.room(roomId)?.sendProblem, undefined);
  const heard = alice.next(({ body }) => body === "hello");
  await running.say(roomId, "hello");
  assert.equal((await heard).encrypted, true);
  const page = await bob.api.request("GET", `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=1`);
  const [event] = page["chunk"] as Record<string, unknown>[];
  assert.equal(await bob.crypto.decrypt(roomId, event ?? {}), undefined);
});

Deno.test("Session.send() asks the crypto again who lacks the room's session, only if that may have changed", async (t) => {
  await using world = new World();
  const [alice, bob, carol] = [await world.person("alice"), await world.person("bob"), await world.person("carol")];
  await using running = (await world.open()).sync();
  // Their devices are known before they come into the room, so that only who is in it changes.
  for (const other of [bob, carol]) await running.say(await running.roomWith(other), "hello");
  const roomId = await running.roomWith(alice);
  await running.say(roomId, "first");
  const { shareRoomKey } = OlmMachine.prototype;
  let asked = 0;
  OlmMachine.prototype.shareRoomKey = function (...parameters) {
    asked += 1;
    return shareRoomKey.apply(this, parameters);
  };
  using _restored = { [Symbol.dispose]: () => void (OlmMachine.prototype.shareRoomKey = shareRoomKey) };
  /** Says it, has it read, and returns whether the crypto was asked. */
  const heardBy = async (person: Person, body: string): Promise<boolean> => {
    const before = asked;
    const heard = person.next((message) => message.body === body);
    await running.say(roomId, body);
    assert.equal((await heard).encrypted, true);
    return asked > before;
  };
  await t.step("it has not", async () => assert.equal(await heardBy(alice, "second"), false));
  await t.step("a device has come", async () => {
    running.changed.clear();
    const tablet = await world.phoneOf("alice", "pw");
    await running.until(() => running.changed.has(alice.userId) || undefined);
    assert.equal(await heardBy(tablet, "to the tablet"), true);
  });
  await t.step("a member has come", async () => {
    await alice.invite(roomId, bob.userId);
    await running.joinedBy(bob, roomId);
    assert.equal(await heardBy(bob, "to Bob"), true);
  });
  await t.step("a member has gone, and another has come", async () => {
    await alice.invite(roomId, carol.userId);
    await carol.until(() => carol.invitations.has(roomId) || undefined);
    const before = await sessionIds(alice, roomId, 1);
    const answer = { status: 502, body: {} };
    const away = world.homeserver.fault({ path: "/sync", userId: running.session.self, answer });
    await alice.api.request("POST", `/rooms/${encodeURIComponent(roomId)}/kick`, { user_id: bob.userId });
    await carol.join(roomId);
    away[Symbol.dispose]();
    await running.until(() => running.store.rooms.isJoined(roomId, carol.userId) || undefined);
    assert.equal(await heardBy(carol, "without Bob"), true);
    assert.notDeepEqual(await sessionIds(alice, roomId, 1), before);
  });
  await t.step("a minute has passed", async () => {
    await heardBy(alice, "before");
    using clock = settableClock();
    clock.shift(60_000);
    assert.equal(await heardBy(alice, "a minute later"), true);
  });
});

Deno.test("Session.send() uses a session for as many messages as the room permits, and not once more", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  const content = { algorithm: "m.megolm.v1.aes-sha2", rotation_period_msgs: 2 };
  world.homeserver.attacks.inject(roomId, { type: "m.room.encryption", sender: alice.userId, state_key: "", content });
  await running.until(() => running.store.rooms.get(roomId)?.encryption?.rotationPeriodMessages === 2 || undefined);
  for (const body of ["1", "2", "3", "4", "5"]) await running.say(roomId, body);
  const used = await sessionIds(alice, roomId, 5);
  assert.deepEqual(used.map((id) => used.indexOf(id)), [0, 0, 2, 2, 4]);
});

Deno.test("Session.send() takes few requests for many members, whom it trusts or not", async (t) => {
  for (const onlySignedDevices of [false, true]) {
    await t.step(onlySignedDevices ? "signed devices alone" : "all devices", async () => {
      await using world = new World();
      world.onlySignedDevices = onlySignedDevices;
      const alice = await world.person("alice", { crossSigning: true });
      const others = [];
      for (let count = 0; count < 12; count += 1) others.push(await world.person(`member${count}`));
      await using running = (await world.open()).sync();
      await running.session.ensureIdentity(undefined, false, never);
      const roomId = await running.roomWith(alice);
      for (const other of others) {
        await alice.invite(roomId, other.userId);
        await running.joinedBy(other, roomId);
      }
      const mine = (): string[] =>
        world.homeserver.requests.entries.filter(({ userId, template }) =>
          userId === "@toggle:localhost" && /^.(keys|sendToDevice)/.test(template)
        ).map(({ template }) => template);
      const before = mine().length;
      await running.say(roomId, "hello");
      const requests = mine().slice(before);
      assert.ok(requests.length <= 5, requests.join(", "));
    });
  }
});

Deno.test("Session.send() rejects an answer that can't be encrypted, and sends the next", async (t) => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await t.step("for a reason that only the crypto knows", async () => {
    const { shareRoomKey } = OlmMachine.prototype;
    OlmMachine.prototype.shareRoomKey = () => Promise.reject(new Error("something that nobody has thought of"));
    try {
      await assert.rejects(running.say(roomId, "one"), { constructor: RejectedError, code: "ENCRYPTION_FAILED" });
    } finally {
      OlmMachine.prototype.shareRoomKey = shareRoomKey;
    }
  });
  await t.step("as the room has never had a usable setting", async () => {
    const other = await alice.createRoom([running.session.self], { encrypted: false });
    await running.joined(other);
    running.store.rooms.setEncrypted(other);
    assert.equal(running.session.room(other)?.sendProblem, "unusable-encryption");
    await assert.rejects(running.say(other, "two"), { constructor: RejectedError, code: "UNUSABLE_ENCRYPTION" });
  });
  const heard = alice.next(({ body }) => body === "three");
  await running.say(roomId, "three");
  assert.equal((await heard).encrypted, true);
});

Deno.test("a slow claim of one room's keys holds up nothing in another", async () => {
  await using world = new World();
  const [alice, bob] = [await world.person("alice"), await world.person("bob")];
  await using running = (await world.open()).sync();
  const quick = await running.roomWith(alice);
  await running.say(quick, "keys are here");
  const slow = await running.roomWith(alice);
  await alice.invite(slow, bob.userId);
  await running.joinedBy(bob, slow);

  const claim = world.homeserver.fault({
    path: "/keys/claim",
    userId: "@toggle:localhost",
    delayMs: Infinity,
    times: 1,
  });
  const claiming = world.homeserver.requests.next(({ template }) => template === "/keys/claim", never);
  const late = running.say(slow, "late");
  await claiming;

  // A new phone of Alice, so that the sender is looked up and keys are claimed for the answer.
  running.changed.clear();
  const tablet = await world.phoneOf("alice", "pw");
  await running.until(() => running.changed.has(alice.userId) || undefined);
  await tablet.until(() => tablet.members(quick, "join").length === 2 || undefined);
  await tablet.say(quick, "status");
  const [payload] = await running.read(1);
  assert.ok(payload?.kind === "decrypted");
  assert.equal(payload.senderFacts.deviceId, tablet.deviceId);
  const heard = tablet.next(({ body }) => body === "quick");
  await running.say(quick, "quick");
  assert.equal((await heard).encrypted, true);

  const atBobs = bob.next(({ body }) => body === "late");
  claim[Symbol.dispose]();
  await late;
  assert.equal((await atBobs).encrypted, true);
});

Deno.test("a sender's device change is remembered across a restart, until the devices are queried", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const tablet = await world.phoneOf("alice", "pw");
  let untold: Disposable;
  {
    await using running = (await world.open()).sync();
    const roomId = await running.roomWith(alice);
    await tablet.until(() => tablet.members(roomId, "join").length === 2 || undefined);
    await tablet.say(roomId, "status");
    const [payload] = await running.read(1);
    assert.ok(payload?.kind === "decrypted" && payload.senderFacts.device?.deleted === false);
    for (const { seq } of running.events()) running.store.journal.settle(seq, "seen", []);
    await tablet.say(roomId, "start");
    await running.until(() => running.events().length === 1 || undefined);

    // The tablet goes. That is told by sync; what devices Alice has now, is not.
    const token = running.store.rooms.syncToken();
    untold = await onlyOurDevices(world, alice);
    world.homeserver.attacks.deleteDevice(alice.userId, tablet.deviceId);
    await running.until(() => running.store.cryptoNotes.staleUsers().includes(alice.userId) || undefined);
    await running.until(() => running.store.rooms.syncToken() !== token || undefined);
  }
  await using running = await world.open();
  const [event] = running.events();
  assert.ok(event);
  await assert.rejects(running.session.read(event, never), TransientError);
  untold[Symbol.dispose]();
  const payload = await running.session.read(event, never);
  assert.ok(payload.kind === "decrypted");
  assert.notEqual(payload.senderFacts.device?.deleted, false);
  assert.deepEqual(running.store.cryptoNotes.staleUsers(), []);
});

/** From now on the homeserver answers every query with our own devices alone. */
async function onlyOurDevices(world: World, asked: Person): Promise<Disposable> {
  const self = "@toggle:localhost";
  const { device_keys } = await asked.api.request("POST", "/keys/query", { device_keys: { [self]: [] } });
  const answer = { status: 200, body: { device_keys } };
  return world.homeserver.fault({ path: "/keys/query", userId: self, answer });
}

Deno.test("a decrypted message marks its room as encrypted for good, whatever the homeserver says", async (t) => {
  await using world = new World();
  const alice = await world.person("alice");
  let roomId = "";
  for (const life of ["as soon as it is read", "after a restart"]) {
    await t.step(life, async () => {
      await using running = (await world.open()).sync();
      if (roomId === "") {
        roomId = await alice.createRoom([running.session.self], { encrypted: false });
        await running.joined(roomId);
        assert.equal(running.session.room(roomId)?.encrypted, false);
        await alice.until(() => alice.members(roomId, "join").length === 2 || undefined);
        const text = { msgtype: "m.text", body: "status" };
        const content = await alice.crypto.encrypt(roomId, alice.members(roomId, "join"), "m.room.message", text);
        await alice.sendRaw(roomId, "m.room.encrypted", content, crypto.randomUUID());
        const [payload] = await running.read(1);
        assert.equal(payload?.kind, "decrypted");
      }
      assert.equal(running.session.room(roomId)?.encrypted, true);
      const sent = await running.say(roomId, "secret");
      const page = await alice.api.request("GET", `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=5`);
      const events = page["chunk"] as { event_id: string; type: string }[];
      assert.equal(events.find(({ event_id }) => event_id === sent)?.type, "m.room.encrypted");
    });
  }
});

Deno.test("a room that is left takes its Megolm sessions with it", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const rooms = [await running.roomWith(alice), await running.roomWith(alice), await running.roomWith(alice)];
  for (const [index, room] of rooms.entries()) {
    await alice.say(room, "status");
    await running.read(index + 1);
  }
  const known = (): string[] => running.store.megolm.rooms(Date.now()).sort();
  assert.deepEqual(known(), [...rooms].sort());
  const [byUs, byThem, kept] = rooms as [string, string, string];
  await running.session.leave(byUs, never);
  assert.deepEqual(known(), [byThem, kept].sort());
  await alice.api.request("POST", `/rooms/${encodeURIComponent(byThem)}/kick`, { user_id: running.session.self });
  await running.until(() => known().length === 1 || undefined);
  assert.deepEqual(known(), [kept]);
});
