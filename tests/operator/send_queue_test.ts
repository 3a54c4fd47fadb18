import assert from "node:assert/strict";
import { RejectedError, TokenRefused, TransientError } from "../../lib/errors.ts";
import type { Answer } from "../../lib/session/mod.ts";
import { room, settled, transactionIdOf, World } from "./fakes.ts";

const second = "!second:example.org";

/** Writes an answer down as an earlier run would have left it. */
function leave(world: World, changes: Partial<Answer>): Answer {
  const text = { plain: `${changes.kind} ${changes.eventId}` };
  const plain: Answer = {
    kind: "answer",
    sequence: 0,
    roomId: room,
    eventId: "$a",
    form: "notice",
    text,
    reply: true,
  };
  const answer = { ...plain, ...changes };
  world.store.journal.queueAnswer(answer);
  return answer;
}

Deno.test("Operator sends what an earlier run has left, in order within a room, rooms independently", async () => {
  const world = new World();
  world.before = (call, roomId) => {
    if (call === "send" && roomId === room && world.clock.nowMs < 1_000_003_000) throw new TransientError("502");
  };
  for (const eventId of ["$1", "$2"]) {
    leave(world, { kind: "answer", eventId });
    leave(world, { kind: "answer", eventId, roomId: second, sequence: 1 });
  }
  await using _running = world.start();
  await settled();
  assert.deepEqual([...world.sent.values()].map(({ roomId, about }) => `${roomId} ${about}`), [
    `${second} $1`,
    `${second} $2`,
  ]);
  await world.clock.advance(3_000);
  await settled();
  assert.deepEqual(world.clock.waits, [1_000, 2_000]);
  assert.deepEqual([...world.sent.values()].slice(2).map(({ roomId, about }) => `${roomId} ${about}`), [
    `${room} $1`,
    `${room} $2`,
  ]);
});

Deno.test("Operator waits as long as the homeserver asks", async () => {
  const world = new World();
  world.before = (call) => {
    if (call !== "send") return;
    world.before = () => {};
    throw new TransientError("429", { retryAfterMs: 7_000 });
  };
  world.rooms.clear();
  leave(world, {});
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.clock.waits, [7_000]);
});

Deno.test("Operator edits by the event id of what was said", async () => {
  const world = new World();
  const first = leave(world, { kind: "answer", eventId: "$1" });
  leave(world, { kind: "edit", eventId: "$1" });
  leave(world, { kind: "edit", eventId: "$2" });
  await using _running = world.start();
  await settled();
  assert.deepEqual([...world.sent.values()].map(({ replaces }) => replaces), [
    undefined,
    `$${transactionIdOf(first)}`,
    undefined,
  ]);
});

Deno.test("Operator drops refused answers, and sends the others", async () => {
  const world = new World();
  world.before = (call) => {
    if (call !== "send") return;
    world.before = () => {};
    throw new RejectedError("Cannot send: 403", 403, "M_FORBIDDEN");
  };
  const refused = leave(world, { eventId: "$1" });
  const next = leave(world, { eventId: "$2" });
  await using _running = world.start();
  await settled();
  assert.equal(world.stateOf(refused), "dropped");
  assert.equal(world.stateOf(next), "sent");
});

Deno.test("Operator drops answers that could not be sent for 24 h", async () => {
  const world = new World();
  world.before = (call) => {
    if (call === "send") throw new TransientError("502", { retryAfterMs: 3_600_000 });
  };
  const left = leave(world, {});
  await using _running = world.start();
  await world.clock.advance(86_400_000);
  await settled();
  assert.equal(world.stateOf(left), "unsent");
  await world.clock.advance(3_600_000);
  await settled();
  assert.equal(world.stateOf(left), "dropped");
  assert.equal(world.sent.size, 0);
});

Deno.test("Operator drops an answer that fails for an unknown reason, and nothing else comes to harm", async () => {
  const world = new World();
  const text = "your device is not verified";
  world.before = (call, roomId) => {
    if (call === "send" && roomId === room) throw new Error(text);
  };
  const first = leave(world, { eventId: "$1" });
  leave(world, { eventId: "$2", roomId: second });
  {
    await using running = world.start();
    await settled();
    assert.equal(world.stateOf(first), "unsent", "it is tried again first");
    assert.deepEqual([...world.sent.values()].map(({ roomId }) => roomId), [second]);
    await world.clock.advance(60_000);
    assert.deepEqual(world.clock.waits, [1_000, 2_000, 4_000, 8_000]);
    assert.equal(world.stateOf(first), "dropped");
    running.stop();
    assert.equal(await running.ended, undefined);
  }
});

Deno.test("Operator keeps an answer that fails for an unknown reason during shutdown, and exits cleanly", async () => {
  const world = new World();
  world.before = (call) => {
    if (call === "send") throw new Error("a reason that nobody thought of");
  };
  const kept = leave(world, { eventId: "$1" });
  await using running = world.start();
  await settled();
  running.stop();
  assert.equal(await running.ended, undefined);
  assert.equal(world.stateOf(kept), "unsent");
});

Deno.test("Operator ends at once, without dropping the answer, when the login has ended", async () => {
  const world = new World();
  const ended = new TokenRefused(false);
  world.before = (call) => {
    if (call === "send") throw ended;
  };
  const kept = leave(world, { eventId: "$1" });
  await using running = world.start();
  assert.equal(await running.ended, ended);
  assert.equal(world.stateOf(kept), "unsent");
});

/** How often it was looked for something in a room. */
function looks(world: World): () => number {
  let count = 0;
  const { before } = world;
  world.before = (call, detail, signal) => {
    if (call === "findSent") count += 1;
    return before(call, detail, signal);
  };
  return () => count;
}

Deno.test("Operator looks for an answer before it sends it again, and never in the ordinary case", async (t) => {
  await t.step("what an earlier run has left: the first one of each room", async () => {
    const world = new World();
    const count = looks(world);
    const [sent, next] = [leave(world, { eventId: "$1" }), leave(world, { eventId: "$2" })];
    world.sent.set(transactionIdOf(sent), {
      ...{ roomId: room, kind: "answer", about: "$1", plain: "sent before", answer: sent, replaces: undefined },
    });
    await using running = world.start();
    await settled();
    assert.deepEqual([world.stateOf(sent), world.stateOf(next), count()], ["sent", "sent", 1]);
    await running.receive("status");
    assert.deepEqual([world.sent.size, count()], [3, 1]);
  });
  await t.step("one whose answer was lost", async () => {
    const world = new World();
    let lost = 0;
    world.before = (call) => {
      if (call === "said" && ++lost === 1) throw new TransientError("no answer within 30 s");
    };
    const count = looks(world);
    const left = leave(world, {});
    await using running = world.start();
    await settled();
    assert.equal(world.stateOf(left), "unsent");
    await world.clock.advance(1_000);
    assert.deepEqual([world.stateOf(left), lost, count()], ["sent", 1, 2]);
    await running.receive("status");
    assert.equal(count(), 2);
  });
  await t.step("while the room cannot be looked into, it is not sent", async () => {
    const world = new World();
    let down = true;
    world.before = (call) => {
      if (call === "findSent" && down) throw new TransientError("502");
    };
    const left = leave(world, {});
    await using _running = world.start();
    await settled();
    assert.deepEqual([world.stateOf(left), world.sent.size], ["unsent", 0]);
    down = false;
    await world.clock.advance(1_000);
    assert.equal(world.stateOf(left), "sent");
  });
});
