import assert from "node:assert/strict";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import type { RoomFacts } from "../../lib/operator/mod.ts";
import { alice, mallory, rest, self, World } from "./fakes.ts";

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
        await rest();
        if (when === "after") invite();
        running.operator.roomsChanged();
        await rest();
        assert.deepEqual(world.membershipCalls, [`${call} !new`]);
        assert.deepEqual(world.refusals, refusals);
        assert.equal(world.said.size, 0);
      });
    }
  }
});

Deno.test("Operator leaves rooms that no allowed user is in", async (t) => {
  const rows: [calls: string[], name: string, facts: Partial<RoomFacts>][] = [
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
      await rest();
      world.room("!r", facts);
      running.operator.roomsChanged();
      await rest();
      assert.deepEqual(world.membershipCalls, calls);
    });
  }
});

Deno.test("Operator follows no room's upgrade, but an allowed user's own invitation to the new room", async () => {
  const world = emptyWorld();
  world.room("!old");
  await using running = world.start();
  const content = { body: "This room has been replaced", replacement_room: "!new" };
  await running.receive("", { roomId: "!old", event: { type: "m.room.tombstone", state_key: "", content } });
  running.operator.roomsChanged();
  await rest();
  assert.deepEqual(world.membershipCalls, []);
  world.invitations = [{ roomId: "!new", inviters: [alice] }];
  running.operator.roomsChanged();
  await rest();
  assert.deepEqual(world.membershipCalls, ["join !new"]);
});

Deno.test("Operator leaves a room that it has joined and that turns out to have no allowed user in it", async () => {
  const world = emptyWorld();
  world.invitations = [{ roomId: "!new", inviters: [alice] }];
  await using running = world.start();
  await rest();
  world.room("!new", { joined: [self, mallory] });
  running.operator.roomsChanged();
  await rest();
  assert.deepEqual(world.membershipCalls, ["join !new", "leave !new"]);
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
  await rest();
  assert.deepEqual(world.membershipCalls, ["join !1", "join !2"]);
  await world.clock.advance(3_000);
  assert.deepEqual(world.membershipCalls, ["join !1", "join !2", "join !1", "join !1"]);
  assert.deepEqual(world.clock.waits, [1_000, 2_000]);
});

Deno.test("Operator does not repeat what the homeserver refused, until it is invited anew", async () => {
  const world = emptyWorld();
  const invite = () => void (world.invitations = [{ roomId: "!1", inviters: [alice] }]);
  world.before = (call) => {
    if (call === "join") throw new RejectedError("Cannot join: 403", 403, "M_FORBIDDEN");
  };
  invite();
  await using running = world.start();
  await rest();
  running.operator.roomsChanged();
  await rest();
  assert.deepEqual(world.membershipCalls, ["join !1"]);
  world.invitations = [];
  running.operator.roomsChanged();
  await rest();
  invite();
  running.operator.roomsChanged();
  await rest();
  assert.deepEqual(world.membershipCalls, ["join !1", "join !1"]);
});
