import assert from "node:assert/strict";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import { logOf } from "./log.ts";
import { alice, mallory, type RoomChanges, self, settled, World } from "./fakes.ts";

function emptyWorld(): World {
  const world = new World();
  world.rooms.clear();
  return world;
}

Deno.test("Operator answers invitations, also those that waited for its start", async (t) => {
  const rows: [call: string, inviters: string[], refusals: string[]][] = [
    ["join", [alice], []],
    ["leave", [mallory], ["invitation"]],
    ["leave", [alice, mallory], ["invitation"]],
    ["leave", [], ["invitation"]],
  ];
  for (const [call, inviters, refusals] of rows) {
    for (const when of ["before", "after"]) {
      await t.step(`${JSON.stringify(inviters)} ${when} the start: ${call}`, async () => {
        const world = emptyWorld();
        const invite = () => void (world.invitations = [{ roomId: "!new", inviters }]);
        if (when === "before") invite();
        await using running = world.start();
        await settled();
        if (when === "after") invite();
        running.operator.roomsChanged();
        await settled();
        assert.deepEqual(world.membershipCalls, [`${call} !new`]);
        assert.deepEqual(world.refusals, refusals);
        assert.equal(world.sent.size, 0);
      });
    }
  }
});

Deno.test("Operator leaves rooms that no allowed user is in", async (t) => {
  const rows: [calls: string[], name: string, facts: RoomChanges][] = [
    [[], "an allowed user is there", { joined: [self, mallory, alice] }],
    [["leave !r"], "strangers only", { joined: [self, mallory] }],
    [["leave !r"], "nobody", { joined: [self] }],
    [[], "members not told in full", { joined: [] }],
    [[], "not joined", { joined: [self], membership: "leave" }],
  ];
  for (const [calls, name, facts] of rows) {
    await t.step(`${name}: ${JSON.stringify(calls)}`, async () => {
      const world = emptyWorld();
      await using running = world.start();
      await settled();
      world.room("!r", facts);
      running.operator.roomsChanged();
      await settled();
      assert.deepEqual(world.membershipCalls, calls);
    });
  }
});

Deno.test("Operator follows no room's upgrade, but an allowed user's own invitation to the new room", async () => {
  const world = emptyWorld();
  world.room("!old");
  await using running = world.start();
  const content = { body: "This room has been replaced", replacement_room: "!new" };
  await running.receive("", { roomId: "!old", json: { type: "m.room.tombstone", state_key: "", content } });
  running.operator.roomsChanged();
  await settled();
  assert.deepEqual(world.membershipCalls, []);
  world.invitations = [{ roomId: "!new", inviters: [alice] }];
  running.operator.roomsChanged();
  await settled();
  assert.deepEqual(world.membershipCalls, ["join !new"]);
});

Deno.test("Operator leaves a room that turns out to have no allowed user after joining", async () => {
  const world = emptyWorld();
  world.invitations = [{ roomId: "!new", inviters: [alice] }];
  await using running = world.start();
  await settled();
  world.room("!new", { joined: [self, mallory] });
  running.operator.roomsChanged();
  await settled();
  assert.deepEqual(world.membershipCalls, ["join !new", "leave !new"]);
});

Deno.test("Operator asks for a room's members before it leaves, because sync may have left some out", async (t) => {
  const incomplete = () => {
    const world = emptyWorld();
    world.room("!r", { joined: [self, mallory] });
    world.listedMembers.set("!r", [self, mallory, alice]);
    return world;
  };
  await t.step("an allowed user is in it after all", async () => {
    const world = incomplete();
    await using running = world.start();
    await settled();
    assert.deepEqual(world.membershipCalls, []);
    assert.ok(world.rooms.get("!r")?.isJoined(alice));
    world.room("!r", { joined: [self, mallory] });
    world.listedMembers.delete("!r");
    running.operator.roomsChanged();
    await settled();
    assert.deepEqual(world.membershipCalls, ["leave !r"], "when the allowed user has left");
  });
  await t.step("the homeserver can't tell for a while", async () => {
    const world = incomplete();
    let failures = 2;
    world.before = (call) => {
      if (call === "refreshMembers" && failures-- > 0) throw new TransientError("Cannot list the members: 502");
    };
    await using _running = world.start();
    await world.clock.advance(3_000);
    assert.deepEqual(world.clock.waits, [1_000, 2_000]);
    assert.deepEqual(world.membershipCalls, []);
    assert.ok(world.rooms.get("!r")?.isJoined(alice));
    assert.equal(world.clock.sleeping, 0);
  });
  await t.step("the homeserver refuses to tell", async () => {
    const world = emptyWorld();
    world.room("!r", { joined: [self, mallory] });
    let asked = 0;
    world.before = (call) => {
      if (call !== "refreshMembers") return;
      asked += 1;
      throw new RejectedError("Cannot list the members: 403", 403, "M_FORBIDDEN");
    };
    await using running = world.start();
    await settled();
    running.operator.roomsChanged();
    await settled();
    assert.deepEqual([asked, world.membershipCalls], [1, []]);
    assert.equal(world.clock.sleeping, 0);
  });
  await t.step("an allowed user comes while it is asking", async () => {
    const world = emptyWorld();
    world.room("!r", { joined: [self, mallory] });
    world.before = (call) => {
      if (call === "refreshMembers") world.room("!r", { joined: [self, mallory, alice] });
    };
    await using _running = world.start();
    await settled();
    assert.deepEqual(world.membershipCalls, []);
  });
  await t.step("no invitation is looked at so closely", async () => {
    const world = emptyWorld();
    const asked: string[] = [];
    world.before = (call, roomId) => void (call === "refreshMembers" && asked.push(roomId));
    world.invitations = [{ roomId: "!i", inviters: [mallory] }];
    await using _running = world.start();
    await settled();
    assert.deepEqual([asked, world.membershipCalls], [[], ["leave !i"]]);
  });
});

Deno.test("Operator tries again after passing failures, and does not keep other rooms waiting", async () => {
  const world = emptyWorld();
  world.invitations = [{ roomId: "!1", inviters: [alice] }, { roomId: "!2", inviters: [alice] }];
  let failures = 2;
  world.before = (call, roomId) => {
    if (call !== "join" || roomId !== "!1" || failures === 0) return;
    failures -= 1;
    throw new TransientError("Cannot join: 502");
  };
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.membershipCalls, ["join !1", "join !2"]);
  await world.clock.advance(3_000);
  assert.deepEqual(world.membershipCalls, ["join !1", "join !2", "join !1", "join !1"]);
  assert.deepEqual(world.clock.waits, [1_000, 2_000]);
});

Deno.test("Operator retries a refused join for an hour, and checks the invitation before each attempt", async (t) => {
  const refuse = (world: World) => {
    world.before = (call) => {
      if (call === "join") throw new RejectedError("Cannot join: 403", 403, "M_FORBIDDEN");
    };
  };
  const invited = () => {
    const world = emptyWorld();
    world.invitations = [{ roomId: "!1", inviters: [alice] }];
    return world;
  };
  await t.step("it works a moment later", async () => {
    const world = invited();
    refuse(world);
    await using _running = world.start();
    await settled();
    world.before = () => {};
    await world.clock.advance(1_000);
    assert.deepEqual(world.membershipCalls, ["join !1", "join !1"]);
    assert.equal(world.rooms.get("!1")?.membership, "join");
  });
  await t.step("a stranger's invitation comes on top", async () => {
    const world = invited();
    refuse(world);
    await using _running = world.start();
    await settled();
    world.invitations = [{ roomId: "!1", inviters: [alice, mallory] }];
    await world.clock.advance(1_000);
    assert.deepEqual(world.membershipCalls, ["join !1", "leave !1"]);
  });
  await t.step("it is withdrawn", async () => {
    const world = invited();
    refuse(world);
    await using _running = world.start();
    await settled();
    world.invitations = [];
    await world.clock.advance(3_600_000);
    assert.deepEqual(world.membershipCalls, ["join !1"]);
    assert.equal(world.clock.sleeping, 0);
  });
  await t.step("it never works: given up until the next invitation", async () => {
    const world = invited();
    refuse(world);
    await using running = world.start();
    await world.clock.advance(2 * 3_600_000);
    const tries = world.membershipCalls.length;
    assert.ok(tries > 5 && tries < 30, `${tries} tries`);
    assert.equal(world.clock.sleeping, 0);
    running.operator.roomsChanged();
    await settled();
    assert.equal(world.membershipCalls.length, tries);
    world.invitations = [];
    running.operator.roomsChanged();
    await settled();
    world.invitations = [{ roomId: "!1", inviters: [alice] }];
    running.operator.roomsChanged();
    await settled();
    assert.equal(world.membershipCalls.length, tries + 1);
  });
  await t.step("a homeserver that is away for hours has refused nothing", async () => {
    const world = invited();
    world.before = (call) => {
      if (call === "join") throw new TransientError("Cannot join: 502");
    };
    await using _running = world.start();
    await world.clock.advance(3 * 3_600_000);
    world.before = () => {};
    await world.clock.advance(300_000);
    assert.equal(world.rooms.get("!1")?.membership, "join");
  });
});

Deno.test("Operator accepts an allowed user's invitation while any number of strangers' hang", async () => {
  const world = emptyWorld();
  const strangers = Array.from({ length: 1_000 }, (_, index) => ({ roomId: `!${index}`, inviters: [mallory] }));
  world.invitations = [...strangers, { roomId: "!wanted", inviters: [alice] }];
  world.before = (call, _roomId, signal) =>
    call === "leave" ? new Promise<void>((_, reject) => signal?.addEventListener("abort", reject)) : undefined;
  {
    await using _running = world.start();
    await settled();
    assert.ok(world.membershipCalls.includes("join !wanted"));
    assert.ok(world.membershipCalls.length <= 5, "a bounded number at a time");
  }
});

Deno.test("Operator gives up refused declines at once, with one warning for all, without delaying others", async () => {
  const world = emptyWorld();
  const strangers = Array.from({ length: 3_000 }, (_, index) => ({ roomId: `!${index}`, inviters: [mallory] }));
  world.invitations = [...strangers, { roomId: "!wanted", inviters: [alice] }];
  world.room("!talk");
  world.before = (call) => {
    if (call === "leave") throw new RejectedError("Cannot leave: 404 M_NOT_FOUND", 404, "M_NOT_FOUND");
  };
  const lines = await logOf(async () => {
    await using running = world.start();
    await settled();
    running.stop();
    await running.ended;
  });
  const calls = world.membershipCalls;
  assert.equal(new Set(calls).size, 3_001);
  assert.equal(calls.length, 3_001, "each once");
  assert.ok(calls.indexOf("join !wanted") < 10, "the join does not wait for the declines");
  assert.deepEqual(world.clock.waits, []);
  assert.deepEqual(lines.filter((line) => line.includes("!") && line.includes("404")).length, 1);
});

Deno.test("Operator continues with other declines while the homeserver can't answer one", async () => {
  const world = emptyWorld();
  world.invitations = ["!1", "!2", "!3"].map((roomId) => ({ roomId, inviters: [mallory] }));
  world.before = (call, roomId) => {
    if (call === "leave" && roomId === "!1") throw new TransientError("Cannot leave: 502");
  };
  await using running = world.start();
  await world.clock.advance(60_000);
  assert.deepEqual(world.refusals, ["invitation", "invitation"]);
  assert.ok(world.membershipCalls.length < 15, `${world.membershipCalls.length} tries in a minute`);
  world.before = () => {};
  await world.clock.advance(20_000);
  running.operator.roomsChanged();
  await settled();
  assert.deepEqual(world.refusals, ["invitation", "invitation", "invitation"]);
  assert.equal(world.clock.sleeping, 0);
});

Deno.test("Operator accepts other invitations while one hangs, and leaves rooms meanwhile", async () => {
  const world = emptyWorld();
  world.room("!alone", { joined: [self, mallory] });
  world.invitations = ["!1", "!2", "!3"].map((roomId) => ({ roomId, inviters: [alice] }));
  world.before = (call, roomId, signal) =>
    call === "join" && roomId === "!1"
      ? new Promise<void>((_, reject) => signal?.addEventListener("abort", reject))
      : undefined;
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.membershipCalls.toSorted(), ["join !1", "join !2", "join !3", "leave !alone"]);
});

Deno.test("Operator reviews 10,000 rooms in slices, without blocking anything else", async () => {
  const world = emptyWorld();
  for (let index = 0; index < 10_000; index += 1) world.room(`!${index}`, { joined: [self, alice] });
  world.room("!last", { joined: [self] });
  const { rooms } = world;
  const get = rooms.get.bind(rooms);
  let looks = 0;
  rooms.get = (roomId) => {
    looks += 1;
    return get(roomId);
  };
  await using running = world.start();
  let most = 0;
  while (!world.membershipCalls.includes("leave !last")) {
    looks = 0;
    await settled();
    most = Math.max(most, looks);
  }
  assert.ok(most <= 1_000, `${most} rooms in one turn of the event loop`);
  assert.deepEqual(world.membershipCalls, ["leave !last"]);
  running.stop();
});
