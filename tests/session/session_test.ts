import assert from "node:assert/strict";
import { OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";
import { Secret } from "../../lib/config/mod.ts";
import { ConfigError, CredentialError, RejectedError, TransientError } from "../../lib/errors.ts";
import { type Json, list, object, objects } from "../../lib/json.ts";
import type { Payload } from "../../lib/session/mod.ts";
import { openStore } from "../../lib/store/mod.ts";
import { type Answered, FaultProxy, type StandingFault } from "../../testbed/proxy.ts";
import { never, World } from "./world.ts";

function body(payload: Payload | undefined): unknown {
  return payload?.kind === "undecryptable" ? payload.why : payload?.content.body;
}

Deno.test("Session reads what an allowed user says, encrypted, with the facts of the device", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await alice.say(roomId, "start");
  const [payload] = await running.read(1);
  assert.ok(payload?.kind === "decrypted");
  assert.equal(payload.content.body, "start");
  assert.equal(payload.ciphertext.messageIndex, 0);
  const { device, devices, ...facts } = payload.senderFacts;
  assert.deepEqual(facts, {
    deviceId: alice.deviceId,
    mismatchedSender: false,
    authenticityNotGuaranteed: false,
    forwardedBy: undefined,
    identity: undefined,
  });
  assert.equal(device?.sameKeysAsSession, true);
  assert.deepEqual(devices, [{ deviceId: alice.deviceId, ed25519: device?.ed25519, crossSignedByOwner: false }]);
  assert.equal(device?.deleted, false);
  assert.equal(device?.crossSignedByOwner, false);
});

Deno.test("Session.read() decrypts an event again only when the crypto has learnt something", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await alice.say(roomId, "start");
  const [event] = await running.until(() => running.events().length > 0 ? running.events() : undefined);
  assert.ok(event);
  const payloads: Payload[] = [];
  const read = async (): Promise<number> => {
    const payload = await running.session.read(event, never);
    payloads.push(payload);
    assert.ok(payload.kind === "decrypted");
    return payload.senderFacts.devices.length;
  };
  // A sync that was under way may still bring news.
  for (let place = 0; place < 5; place += 1) assert.equal(await read(), 1);
  assert.equal(payloads.at(-1), payloads.at(-2), "the same object");

  running.changed.clear();
  await world.phoneOf("alice", "pw");
  await running.until(() => running.changed.has(alice.userId) || undefined);
  assert.equal(await read(), 2, "a device that came in between");
});

Deno.test("Session.read() keeps nothing that was found before the crypto learnt something else", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await alice.say(roomId, "start");
  const [event] = await running.until(() => running.events().length > 0 ? running.events() : undefined);
  assert.ok(event);
  const devices = async (): Promise<number> => {
    const payload = await running.session.read(event, never);
    assert.ok(payload.kind === "decrypted");
    return payload.senderFacts.devices.length;
  };
  running.changed.clear();

  // The identity is looked at before and after the devices: the second time is held up.
  const [looked, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { getIdentity } = OlmMachine.prototype;
  let times = 0;
  OlmMachine.prototype.getIdentity = async function (user) {
    if (this.userId.toString() === running.session.self && user.toString() === alice.userId && ++times === 2) {
      looked.resolve();
      await goOn.promise;
    }
    return await getIdentity.call(this, user);
  };
  try {
    const early = devices();
    await looked.promise;
    await world.phoneOf("alice", "pw");
    await running.until(() => running.changed.has(alice.userId) || undefined);
    goOn.resolve();
    assert.equal(await early, 1);
  } finally {
    OlmMachine.prototype.getIdentity = getIdentity;
  }
  assert.equal(await devices(), 2);
});

Deno.test("Session.send() is read by everyone in the room, and costs one request once keys are shared", async () => {
  await using world = new World();
  const [alice, bob] = [await world.person("alice"), await world.person("bob")];
  await using running = (await world.open()).sync();
  const roomId = await alice.createRoom(["@toggle:localhost", "@bob:localhost"]);
  await running.joined(roomId);
  await running.joinedBy(bob, roomId);
  const heard = [alice, bob].map((person) => person.next((message) => message.body === "hello"));
  await running.say(roomId, "hello");
  for (const message of await Promise.all(heard)) assert.equal(message.encrypted, true);

  const mine = (): number =>
    world.homeserver.requests.entries.filter(({ userId, template }) =>
      userId === "@toggle:localhost" && !template.endsWith("/sync")
    ).length;
  const before = mine();
  await running.say(roomId, "again");
  assert.equal(mine() - before, 1);
});

Deno.test("Session.send() is read by a device and a member that come later", async () => {
  await using world = new World();
  const [alice, bob] = [await world.person("alice"), await world.person("bob")];
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  for (const text of ["one", "two"]) await running.say(roomId, text);

  running.changed.clear();
  const tablet = await world.phoneOf("alice", "pw");
  await running.until(() => running.changed.has(alice.userId) || undefined);
  const onTablet = tablet.next(({ body }) => body === "three");
  await running.say(roomId, "three");
  assert.equal((await onTablet).encrypted, true);

  await alice.invite(roomId, bob.userId);
  await running.joinedBy(bob, roomId);
  const atBobs = bob.next(({ body }) => body === "four");
  await running.say(roomId, "four");
  assert.equal((await atBobs).encrypted, true);
});

Deno.test("Session.send() shares the key with a member whose devices were known before", async () => {
  await using world = new World();
  const [alice, bob] = [await world.person("alice"), await world.person("bob")];
  await using running = (await world.open()).sync();
  const [withBob, without] = [
    await alice.createRoom(["@toggle:localhost", bob.userId]),
    await alice.createRoom(["@toggle:localhost"]),
  ];
  for (const room of [withBob, without]) await running.joined(room);
  await running.joinedBy(bob, withBob);
  for (const room of [withBob, without, without]) await running.say(room, "all here");

  const handed = () =>
    world.homeserver.requests.entries.filter(({ userId, path }) =>
      userId === "@toggle:localhost" && path.includes("/sendToDevice/")
    ).length;
  const before = handed();
  await running.say(without, "still all here");
  assert.equal(handed(), before);
  // As a sync answer would, if it did not say besides that his devices are to be looked at.
  running.store.rooms.updateMembers(without, [[bob.userId, true]]);
  await running.say(without, "bob, too");
  assert.equal(handed(), before + 1);
});

Deno.test("Session.send() rotates a room's session after the number of messages that the room sets", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  world.homeserver.attacks.inject(roomId, {
    type: "m.room.encryption",
    sender: alice.userId,
    state_key: "",
    content: { algorithm: "m.megolm.v1.aes-sha2", rotation_period_msgs: 2 },
  });
  await running.until(() => running.store.rooms.get(roomId)?.encryption?.rotationPeriodMessages === 2 || undefined);
  for (const text of ["1", "2", "3", "4", "5"]) await running.say(roomId, text);
  const page = await alice.api.request("GET", `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=5`);
  const events = page["chunk"] as { content: { session_id: string } }[];
  const sessions = events.map(({ content }) => content.session_id).reverse();
  const [first, , second, , third] = sessions;
  assert.deepEqual(sessions, [first, first, second, second, third]);
  assert.equal(new Set(sessions).size, 3);
});

Deno.test("Session.send() shares no key with a user who leaves while keys are claimed", async () => {
  await using world = new World();
  const [alice, bob] = [await world.person("alice"), await world.person("bob")];
  await using running = (await world.open()).sync();
  const roomId = await alice.createRoom(["@toggle:localhost", "@bob:localhost"]);
  await running.joined(roomId);
  await running.joinedBy(bob, roomId);
  const claim = world.homeserver.fault({ path: "/keys/claim", userId: "@toggle:localhost", delayMs: Infinity });
  const claiming = world.homeserver.requests.next(({ template }) => template === "/keys/claim", never);
  const heard = alice.next((message) => message.body === "hello");
  const sent = running.say(roomId, "hello");
  await claiming;
  await bob.leave(roomId);
  await running.until(() => !running.store.rooms.isJoined(roomId, bob.userId) || undefined);
  claim[Symbol.dispose]();
  await sent;
  assert.equal((await heard).encrypted, true);
  const later = await alice.createRoom(["@bob:localhost"]);
  await bob.until(() => bob.invitations.has(later) || undefined);
  const page = await alice.api.request("GET", `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=1`);
  const [event] = page["chunk"] as { type: string }[];
  assert.equal(event?.type, "m.room.encrypted");
  assert.equal(await bob.crypto.decrypt(roomId, event), undefined);
});

Deno.test("Session.send() sends no message that nobody could read because its key was refused", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  {
    const answer = { status: 403, body: { errcode: "M_FORBIDDEN", error: "no" } };
    using _refused = world.homeserver.fault({ path: /\/sendToDevice\//, userId: "@toggle:localhost", answer });
    await assert.rejects(running.say(roomId, "unreadable"), RejectedError);
  }
  const heard = alice.next((message) => message.body !== undefined);
  await running.say(roomId, "hello");
  assert.equal((await heard).body, "hello");
});

Deno.test("Session is also addressed by its display name, if the homeserver gives it", async () => {
  await using world = new World();
  const names = ["@toggle:localhost", "toggle"];
  {
    using _away = world.homeserver.fault({ path: "/profile/{userId}/displayname", answer: { status: 502 } });
    await using running = await world.open();
    assert.deepEqual(running.session.names, names);
  }
  const owner = await world.phoneOf("toggle", "secret");
  await owner.api.request("PUT", "/profile/%40toggle%3Alocalhost/displayname", { displayname: "The Claw" });
  await using running = await world.open();
  assert.deepEqual(running.session.names, [...names, "The Claw"]);
});

Deno.test("Session.send() with the same transaction id says it once", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  assert.equal(await running.say(roomId, "once", "t1"), await running.say(roomId, "once", "t1"));
});

Deno.test("Session.send() asks again where the homeserver does not say as which event it was sent", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  const path = "/rooms/{roomId}/send/{type}/{transactionId}";
  const heard = alice.next(({ body }) => body === "once");
  {
    using _lost = world.homeserver.fault({ path, times: 1, after: true, answer: { status: 200, body: {} } });
    await assert.rejects(running.say(roomId, "once", "t1"), TransientError);
  }
  assert.equal(await running.say(roomId, "once", "t1"), (await heard).eventId);
});

Deno.test("Session never sends in clear into a room that was encrypted, whatever settings it is given", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const [encrypted, clear] = [
    await alice.createRoom(["@toggle:localhost"]),
    await alice.createRoom(["@toggle:localhost"], { encrypted: false }),
  ];
  const empty = { type: "m.room.encryption", sender: alice.userId, state_key: "", content: {} };
  {
    await using running = (await world.open()).sync();
    for (const roomId of [encrypted, clear]) {
      await running.joined(roomId);
      world.homeserver.attacks.inject(roomId, empty);
    }
    await running.until(() => running.session.room(clear)?.encrypted || undefined);
    await assert.rejects(running.say(clear, "secret"), RejectedError);
    assert.equal(running.session.room(clear)?.sendProblem, "unusable-encryption");
  }
  await using again = (await world.open()).sync();
  await assert.rejects(again.say(clear, "secret"), RejectedError);
  const heard = alice.next(({ body }) => body === "secret");
  await again.say(encrypted, "secret");
  assert.equal((await heard).encrypted, true, "by the last settings that could be used");
});

Deno.test("Session delivers messages from after its own join, none from before", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await alice.createRoom(["@toggle:localhost"], { encrypted: false });
  await alice.say(roomId, "before");
  await running.joined(roomId);
  await alice.say(roomId, "after 1");
  await alice.say(roomId, "after 2");
  assert.deepEqual((await running.read(2)).map(body), ["after 1", "after 2"]);
});

Deno.test("Session settles what was said before its store existed", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const roomId = await alice.createRoom(["@toggle:localhost"], { encrypted: false });
  {
    await using running = (await world.open()).sync();
    await running.joined(roomId);
    await alice.say(roomId, "old");
    await running.read(1);
  }
  await Deno.remove(world.folder, { recursive: true });
  await using anew = (await world.open()).sync();
  await anew.until(() => anew.session.joinedRooms().includes(roomId) || undefined);
  await alice.say(roomId, "new");
  assert.deepEqual((await anew.read(1)).map(body), ["new"]);
});

Deno.test("Session starts an initial sync if the homeserver no longer knows its token, but not after a few refusals", async (t) => {
  const rows: [what: string, refusals: number, seen: string[]][] = [
    ["refused four times", 4, ["meanwhile", "afterwards"]],
    ["refused for good", Infinity, ["afterwards"]],
  ];
  for (const [what, refusals, seen] of rows) {
    await t.step(what, async () => {
      await using world = new World();
      const alice = await world.person("alice");
      let roomId;
      {
        await using running = (await world.open()).sync();
        roomId = await running.roomWith(alice);
      }
      await alice.say(roomId, "meanwhile");
      await using running = await world.open();
      if (refusals === Infinity) running.store.rooms.setSyncToken("of another life");
      const answer = { status: 400, body: { errcode: "M_INVALID_PARAM" } };
      const fault = { path: "/sync", userId: "@toggle:localhost", times: refusals, answer };
      using _refused = refusals === Infinity ? undefined : world.homeserver.fault(fault);
      let synced = 0;
      running.sync(() => synced += 1);
      await running.until(() => synced > 0 || undefined);
      await alice.say(roomId, "afterwards");
      assert.deepEqual((await running.read(seen.length)).map(body), seen);
      // What is known of the room comes anew with the first sync.
      assert.ok(running.store.rooms.isJoined(roomId, alice.userId));
      await running.say(roomId, "answer");
      await alice.until(() => alice.messages(roomId).some((message) => message.body === "answer") || undefined);
    });
  }
});

Deno.test("Session drops a sync token that is too long to send back", async (t) => {
  const refusing = (status: number): StandingFault => ({
    kind: "answer",
    status,
    body: "<html>too long</html>",
    when: ({ url }) => url.includes("since=refused"),
  });
  const rows: [what: string, token: string, fault: StandingFault | undefined][] = [
    ["no request can hold it", "x".repeat(100_000), undefined],
    ["a proxy finds the request too long, with 414", "refused", refusing(414)],
    ["a proxy finds the request too long, with 431", "refused", refusing(431)],
    ["a proxy finds the request too long, with 400", "refused", refusing(400)],
  ];
  for (const [what, token, fault] of rows) {
    await t.step(what, async () => {
      await using world = new World();
      await using proxy = await FaultProxy.start({ url: world.homeserver.url });
      world.url = proxy.url;
      using _fault = fault && proxy.addFault(fault);
      const alice = await world.person("alice");
      await using running = await world.open();
      running.store.rooms.setSyncToken(token);
      running.sync();
      const roomId = await running.roomWith(alice);
      await alice.say(roomId, "afterwards");
      assert.deepEqual((await running.read(1)).map(body), ["afterwards"]);
    });
  }
});

Deno.test("Session does not take a sync token that is too long to be given back", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using proxy = await FaultProxy.start({ url: world.homeserver.url });
  world.url = proxy.url;
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  let answers = 0;
  await proxy.setFault({
    kind: "rewrite",
    when: ({ path }) => path.endsWith("/sync"),
    rewrite: ({ status, body }) => ({ status, body: answers++ < 7 ? { ...body, next_batch: "💥".repeat(400) } : body }),
  });
  await alice.say(roomId, "meanwhile");
  // What was said is not lost, as it would be if syncing began anew.
  assert.deepEqual((await running.read(1)).map(body), ["meanwhile"]);
  assert.ok(answers > 7);
});

Deno.test("Session requests less if a sync response is too large, and still knows all members", async (t) => {
  const large = {
    kind: "answer",
    status: 200,
    body: { filler: "x".repeat(17 * 1_048_576) },
    when: ({ url, path }) => path.endsWith("/sync") && !url.includes("lazy_load_members"),
  } satisfies StandingFault;
  /** A room of Alice, Bert and the operator, which has joined it and isn't running any more. */
  const known = async (world: World) => {
    const [alice, bert] = [await world.person("alice"), await world.person("bert")];
    const roomId = await alice.createRoom(["@toggle:localhost", bert.userId]);
    await bert.join(roomId);
    await using running = (await world.open()).sync();
    await running.joined(roomId);
    return { alice, bert, roomId };
  };
  await t.step("at its first sync", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    world.url = proxy.url;
    const { alice, bert, roomId } = await known(world);
    await Deno.remove(world.folder, { recursive: true });
    let refused = 0;
    const when: typeof large.when = (request) => {
      const isWhole = large.when(request);
      refused += Number(isWhole);
      return isWhole;
    };
    await proxy.setFault({ ...large, when });
    await using running = (await world.open()).sync();
    await running.until(() => running.session.joinedRooms().includes(roomId) || undefined);
    assert.deepEqual(running.store.rooms.joinedMembers(roomId).sort(), [
      alice.userId,
      bert.userId,
      running.session.self,
    ]);
    await alice.say(roomId, "command");
    assert.deepEqual((await running.read(1)).map(body), ["command"]);
    await running.say(roomId, "answer");
    const hasRead = () => bert.messages(roomId).some((message) => message.body === "answer") || undefined;
    await bert.until(hasRead);
    // What follows is asked for in the same way: each answer that is too large costs memory.
    assert.equal(refused, 1);
  });
  await t.step("after it was away, with somebody gone meanwhile", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    world.url = proxy.url;
    const { alice, bert, roomId } = await known(world);
    await bert.leave(roomId);
    for (const text of ["1", "2", "3"]) await alice.say(roomId, text);
    await proxy.setFault(large);
    await using running = (await world.open()).sync();
    assert.deepEqual((await running.read(3)).map(body), ["1", "2", "3"]);
    assert.deepEqual(running.store.rooms.joinedMembers(roomId).sort(), [alice.userId, running.session.self]);
  });
});

Deno.test("Session completes the members of a room that sync has listed in part", async (t) => {
  /** Alice's room with Bert and us, of whose members a sync has told none but us. */
  const incomplete = async (world: World, proxy: FaultProxy) => {
    const [alice, bert] = [await world.person("alice"), await world.person("bert")];
    world.url = proxy.url;
    const running = (await world.open()).sync();
    using _fault = proxy.addFault({
      kind: "rewrite",
      when: ({ path }) => path.endsWith("/sync"),
      rewrite: withoutMembers,
    });
    const roomId = await alice.createRoom([running.session.self, bert.userId]);
    await bert.until(() => bert.invitations.has(roomId) || undefined);
    await bert.join(roomId);
    await running.joined(roomId);
    // The list of members is asked for before the room's history.
    await running.until(() => running.store.rooms.roomsWithGaps().length === 0 || undefined);
    return { alice, bert, running, roomId };
  };
  const isListing = ({ path }: { readonly path: string }) => path.endsWith("/joined_members");

  await t.step("after a join, so that all get keys", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    const begin = performance.now();
    const { alice, bert, running: opened, roomId } = await incomplete(world, proxy);
    await using running = opened;
    const everybody = [alice.userId, bert.userId, running.session.self];
    assert.deepEqual(running.store.rooms.joinedMembers(roomId).sort(), everybody);
    assert.equal(running.session.room(roomId)?.nameOf(alice.userId), "alice");
    await running.say(roomId, "answer");
    for (const person of [alice, bert]) {
      await person.until(() => person.messages(roomId).some((message) => message.body === "answer") || undefined);
    }
    assert.equal(proxy.arrivedSince(begin, isListing), 1);
  });
  await t.step("a member who isn't listed has left, and gets no more keys", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    const { alice, running: opened, roomId } = await incomplete(world, proxy);
    await using running = opened;
    running.store.rooms.updateMembers(roomId, [["@gone:localhost", true]]);
    await running.session.refreshMembers(roomId, never);
    assert.ok(!running.store.rooms.isJoined(roomId, "@gone:localhost"));
    assert.ok(running.store.rooms.isJoined(roomId, alice.userId));
  });
  await t.step("a sync response meanwhile wins", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    const { alice, bert, running: opened, roomId } = await incomplete(world, proxy);
    await using running = opened;
    await running.session.refreshMembers(roomId, never);
    const carol = await world.person("carol");
    await alice.invite(roomId, carol.userId);
    const [listed, mayAnswer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    using _slow = proxy.addFault({
      kind: "rewrite",
      when: isListing,
      rewrite: async (answer) => {
        listed.resolve();
        await mayAnswer.promise;
        return answer;
      },
    });
    const refreshed = running.session.refreshMembers(roomId, never);
    await listed.promise;
    await bert.leave(roomId);
    await running.until(() => !running.store.rooms.isJoined(roomId, bert.userId) || undefined);
    await running.joinedBy(carol, roomId);
    mayAnswer.resolve();
    await refreshed;
    const present = [alice.userId, carol.userId, running.session.self];
    assert.deepEqual(running.store.rooms.joinedMembers(roomId).sort(), present);
  });
  await t.step("a list without ourselves is none", async () => {
    await using world = new World();
    await using proxy = await FaultProxy.start({ url: world.homeserver.url });
    const { running: opened, roomId } = await incomplete(world, proxy);
    await using running = opened;
    using _fault = proxy.addFault({ kind: "answer", status: 200, body: { joined: {} }, when: isListing });
    await assert.rejects(running.session.refreshMembers(roomId, never), TransientError);
  });
});

Deno.test("Session survives sync responses that are all too large, with any status", async (t) => {
  for (const status of [200, 400]) {
    await t.step(`with ${status}`, async () => {
      await using world = new World();
      world.maxFailures = 2;
      const alice = await world.person("alice");
      await using proxy = await FaultProxy.start({ url: world.homeserver.url });
      world.url = proxy.url;
      let roomId: string;
      {
        await using running = (await world.open()).sync();
        roomId = await running.roomWith(alice);
      }
      await alice.say(roomId, "meanwhile");
      let times = 0;
      await proxy.setFault({
        kind: "answer",
        status,
        body: { filler: "x".repeat(17 * 1_048_576) },
        when: ({ path }) => path.endsWith("/sync") && times++ < 8,
      });
      await using running = (await world.open()).sync();
      // Nothing was forgotten, so nothing is lost.
      assert.deepEqual((await running.read(1)).map(body), ["meanwhile"]);
    });
  }
});

Deno.test("Session fills a gap from the room's history, in order, also when that fails at first", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const roomId = await alice.createRoom(["@toggle:localhost"], { encrypted: false });
  {
    await using running = (await world.open()).sync();
    await running.joined(roomId);
    await alice.say(roomId, "0");
    await running.read(1);
    for (const event of running.events()) running.store.journal.settle(event.seq, "done", []);
  }
  const sent = Array.from({ length: 230 }, (_, index) => String(index + 1));
  for (const text of sent) await alice.say(roomId, text);
  using _fault = world.homeserver.fault({ path: /\/messages$/, times: 2, answer: { status: 502 } });
  await using running = (await world.open()).sync();
  const read = await running.read(sent.length);
  assert.deepEqual(read.map(body), sent);
});

Deno.test("Session fills a room's gap while another room's history cannot be had", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const rooms = [1, 2].map(() => alice.createRoom(["@toggle:localhost"], { encrypted: false }));
  const [one = "", other = ""] = (await Promise.all(rooms)).sort();
  {
    await using running = (await world.open()).sync();
    for (const roomId of [one, other]) {
      await running.joined(roomId);
      await alice.say(roomId, "0");
    }
    await running.read(2);
    for (const event of running.events()) running.store.journal.settle(event.seq, "done", []);
  }
  for (const roomId of [one, other]) for (let text = 1; text <= 60; text += 1) await alice.say(roomId, String(text));
  // Whichever is asked for first fails for ever.
  using broken = world.homeserver.fault({ path: /\/messages$/, times: 1, delayMs: Infinity });
  await using running = (await world.open()).sync();
  const read = await running.read(60);
  assert.equal(read.length, 60);
  assert.equal(broken.hits, 1);
  assert.equal(running.store.rooms.gaps().length, 1);
});

Deno.test("Session is the same device after a restart and reads what was sent meanwhile", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const roomId = await alice.createRoom(["@toggle:localhost"]);
  let device: string | undefined;
  {
    await using running = (await world.open()).sync();
    await running.joined(roomId);
    device = running.store.account.load()?.deviceId;
  }
  await alice.until(() => alice.members(roomId, "join").length === 2 || undefined);
  await alice.say(roomId, "meanwhile");
  await using again = (await world.open()).sync();
  assert.equal(again.store.account.load()?.deviceId, device);
  assert.deepEqual((await again.read(1)).map(body), ["meanwhile"]);
});

Deno.test("Session says of a message whose key it does not have that there is none", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  {
    using _held = world.homeserver.fault({ path: /\/sendToDevice\//, times: 1, answer: { status: 200 } });
    await alice.say(roomId, "start");
  }
  const [unread] = await running.read(1);
  assert.deepEqual(unread, {
    kind: "undecryptable",
    why: { kind: "no-key" },
    sessionId: unread?.kind === "undecryptable" ? unread.sessionId : "",
  });
});

Deno.test("openSession() says what is wrong with a login", async (t) => {
  await using world = new World();
  await using store = await openStore({ folder: world.folder, holder: { host: "test", pid: 1 } });
  await store.openCrypto();
  await t.step("a wrong password", async () => {
    await assert.rejects(
      world.openSession(store, { method: "password", user: "toggle", password: new Secret("wrong") }),
      (error) => {
        assert.ok(error instanceof CredentialError);
        assert.match(error.message, /refuses user or password; see MATRIX_USER, MATRIX_PASSWORD/);
        assert.doesNotMatch(error.message, /wrong/);
        return true;
      },
    );
    assert.equal(store.account.load(), undefined);
  });
  await t.step("a homeserver that is away", async () => {
    await world.homeserver.offline();
    await assert.rejects(world.openSession(store), TransientError);
    world.homeserver.online();
  });
  await t.step("a store of another account", async () => {
    store.account.save({
      homeserver: world.homeserver.url,
      userId: "@other:localhost",
      deviceId: "D",
      accessToken: "t",
    });
    await assert.rejects(world.openSession(store), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /^MATRIX_USER: the store .* belongs to @other:localhost \(got "toggle"\)/);
      return true;
    });
  });
});

Deno.test("openSession() logs in again as the same device after a soft logout", async () => {
  await using world = new World();
  const device = await (async () => {
    await using running = await world.open();
    return running.store.account.load()?.deviceId;
  })();
  world.homeserver.attacks.revokeTokens("@toggle:localhost", device ?? "", true);
  await using running = await world.open();
  assert.equal(running.store.account.load()?.deviceId, device);
});

Deno.test("openSession() continues as a new device when the old one is gone", async (t) => {
  const losses: [how: string, lose: (world: World, device: string) => void][] = [
    ["its token is refused for good", (world, device) => {
      world.homeserver.attacks.deleteDevice("@toggle:localhost", device);
    }],
    ["it was deleted, and its token ended softly", (world, device) => {
      world.homeserver.attacks.revokeTokens("@toggle:localhost", device, true);
      world.homeserver.attacks.deleteDevice("@toggle:localhost", device);
      world.softly = true;
    }],
  ];
  for (const [how, lose] of losses) {
    await t.step(how, async () => {
      await using world = new World();
      const alice = await world.person("alice");
      const roomId = await alice.createRoom(["@toggle:localhost"]);
      let old: string;
      {
        await using running = (await world.open()).sync();
        await running.joined(roomId);
        old = running.store.account.load()?.deviceId ?? "";
      }
      lose(world, old);
      using _soft = world.softly
        ? world.homeserver.fault({
          path: "/keys/query",
          times: 1,
          answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN", soft_logout: true } },
        })
        : undefined;
      await using running = (await world.open()).sync();
      assert.notEqual(running.store.account.load()?.deviceId, old);
      await running.until(() => running.session.joinedRooms().includes(roomId) || undefined);
      await alice.until(() => alice.members(roomId, "join").length === 2 || undefined);
      alice.crypto.forgetSession(roomId);
      await alice.say(roomId, "start");
      const payload = (await running.read(1)).at(-1);
      assert.equal(body(payload), "start");
      assert.ok(Array.from(Deno.readDirSync(world.folder)).some(({ name }) => name === "crypto-1.sqlite3"));
    });
  }
});

Deno.test("Session takes its own membership from the section of the response that lists the room", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  assert.ok(running.session.room(roomId)?.isJoined("@toggle:localhost"));
});

Deno.test("Session reports to-device verification requests, once per response and sender", async () => {
  await using world = new World();
  await using running = (await world.open()).sync();
  const device = running.store.account.load()?.deviceId ?? "";
  for (const _ of [1, 2]) {
    world.homeserver.attacks.sendToDevice("@toggle:localhost", device, {
      type: "m.key.verification.request",
      sender: "@mallory:localhost",
      content: { from_device: "M", methods: ["m.sas.v1"], transaction_id: "t", timestamp: Date.now() },
    });
  }
  await running.until(() => running.askedToVerify.length > 0 || undefined);
  assert.deepEqual(new Set(running.askedToVerify), new Set(["@mallory:localhost"]));
});

Deno.test("Session accepts five requests of a user to verify it in ten minutes, and refuses the sixth", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const device = running.store.account.load()?.deviceId ?? "";
  const send = (type: string, content: Record<string, unknown>): void =>
    world.homeserver.attacks.sendToDevice(running.session.self, device, { type, sender: alice.userId, content });
  const answers: string[] = [];
  for (let count = 1; count <= 6; count += 1) {
    const answered = world.homeserver.requests.next(
      ({ path }) => /sendToDevice.*m\.key\.verification\./.test(path),
      AbortSignal.timeout(60_000),
    );
    const id = { transaction_id: `t${count}` };
    const from_device = alice.deviceId;
    send("m.key.verification.request", { ...id, from_device, methods: ["m.sas.v1"], timestamp: Date.now() });
    answers.push((await answered).path.match(/m\.key\.verification\.(\w+)/)?.[1] ?? "");
    send("m.key.verification.cancel", { ...id, code: "m.user", reason: "" });
  }
  assert.deepEqual(answers, ["ready", "ready", "ready", "ready", "ready", "cancel"]);
});

Deno.test("Session.leave() declines an invitation", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await alice.createRoom(["@toggle:localhost"]);
  const [invitation] = await running.until(() =>
    running.session.invitations().length === 1 ? running.session.invitations() : undefined
  );
  assert.deepEqual(invitation, { roomId, inviters: [alice.userId] });
  await running.session.leave(roomId, never);
  assert.deepEqual(running.session.invitations(), []);
  assert.equal(running.session.room(roomId), undefined);
});

Deno.test("Session.leave() forgets an invitation that the homeserver does not let it decline", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const answer = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Not a known room" } };
  const refuse = { path: "/rooms/{roomId}/leave", userId: running.session.self, answer };
  const roomId = await alice.createRoom(["@toggle:localhost"]);
  await running.until(() => running.session.invitation(roomId));
  {
    using _refused = world.homeserver.fault(refuse);
    await assert.rejects(running.session.leave(roomId, never), RejectedError);
  }
  assert.deepEqual(running.session.invitations(), []);
  const joined = await running.roomWith(alice);
  using _refused = world.homeserver.fault(refuse);
  await assert.rejects(running.session.leave(joined, never), RejectedError);
  assert.equal(running.session.room(joined)?.membership, "join", "where we are, we are");
});

Deno.test("Session reports a cut-off history until it is accepted, and then not again for an hour", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  running.isReady = false;
  running.store.rooms.recordCutOffHistory(roomId);
  await alice.say(roomId, "one");
  await running.read(1);
  assert.equal(running.store.journal.cutOffHistories().length, 1);
  running.isReady = true;
  await alice.say(roomId, "two");
  await running.until(() => running.cutOff.length > 0 || undefined);
  assert.deepEqual([running.cutOff, running.store.journal.cutOffHistories()], [[roomId], []]);
  running.store.rooms.recordCutOffHistory(roomId);
  await alice.say(roomId, "three");
  await running.read(3);
  assert.deepEqual([running.cutOff, running.store.journal.cutOffHistories().length], [[roomId], 1]);
});

Deno.test("Session is addressed by a name that it is given while it runs", async (t) => {
  await using world = new World();
  const alice = await world.person("alice");
  const owner = await world.phoneOf("toggle", "secret");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  const asked = () =>
    world.homeserver.requests.entries.filter(({ template, userId, method }) =>
      method === "GET" && template.startsWith("/profile/") && userId === "@toggle:localhost"
    ).length;
  const before = asked();
  await alice.say(roomId, "start");
  await running.read(1);
  assert.equal(asked(), before, "a command asks nobody for a name");
  await t.step("as soon as somebody uses it", async () => {
    await owner.api.request("PUT", "/profile/%40toggle%3Alocalhost/displayname", { displayname: "The Claw" });
    await alice.say(roomId, "The Claw: status");
    await running.read(2);
    assert.ok(running.session.names.includes("The Claw"));
  });
  await t.step("in a room, by its state", async () => {
    world.homeserver.attacks.inject(roomId, {
      type: "m.room.member",
      sender: alice.userId,
      state_key: running.session.self,
      content: { membership: "join", displayname: "Room Claw" },
    });
    await running.until(() => running.session.names.includes("Room Claw") || undefined);
  });
});

Deno.test("Session.run() makes no calls after it has ended", async () => {
  for (const ends of [false, true]) {
    await using world = new World();
    await using running = (await world.open()).sync();
    if (ends) await running.end();
    // The crypto learns of her devices from the query that this makes.
    const alice = await world.person("alice");
    assert.equal((await running.session.published(alice.userId, never)).devices.length, 1);
    if (ends) await new Promise((resolve) => setTimeout(resolve, 0));
    else await running.until(() => running.changed.size > 0 || undefined);
    assert.deepEqual([...running.changed], ends ? [] : [alice.userId]);
  }
});

Deno.test("Session reports messages and typing in rooms with an agent, and the sender of an event", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  const agent = await world.person("clawd");
  await using running = (await world.open()).sync();
  const roomId = await running.roomWith(alice);
  await alice.say(roomId, "is anybody there?");
  await running.read(1);
  assert.deepEqual(running.active, [], "no agent is there");

  await alice.invite(roomId, agent.userId);
  await running.joinedBy(agent, roomId);
  const eventId = await agent.say(roomId, "I am");
  await running.until(() => running.active.includes(agent.userId) || undefined);
  await alice.say(roomId, "good");
  await running.until(() => running.active.includes(alice.userId) || undefined);
  assert.deepEqual(running.refused, [], "an agent is no stranger");
  assert.deepEqual(running.events().map(({ sender }) => sender), [alice.userId, alice.userId]);

  await agent.type(roomId, true);
  await running.until(() => running.typing.get(roomId)?.length === 1 || undefined);
  await agent.type(roomId, false);
  await running.until(() => running.typing.get(roomId)?.length === 0 || undefined);

  assert.equal(await running.session.senderOf(roomId, eventId, never), agent.userId);
  assert.equal(await running.session.senderOf(roomId, "$unheard-of", never), undefined);
});

/** The answer to a sync without the members of rooms, except for ourselves. */
function withoutMembers({ status, body }: Answered): Answered {
  const isOthers = (event: Json) => event["type"] === "m.room.member" && event["state_key"] !== "@toggle:localhost";
  const rest = (part: unknown) => ({
    ...object(part),
    events: list(object(part)["events"]).map(object).filter((event) => !isOthers(event)),
  });
  const join = objects(object(object(body)["rooms"])["join"]).map(([roomId, room]) => [
    roomId,
    { ...room, state: rest(room["state"]), timeline: rest(room["timeline"]) },
  ]);
  return {
    status,
    body: { ...object(body), rooms: { ...object(object(body)["rooms"]), join: Object.fromEntries(join) } },
  };
}
