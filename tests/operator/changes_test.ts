import assert from "node:assert/strict";
import { alice, room, self, settled, World } from "./fakes.ts";

const second = "!second:example.org";

Deno.test("Operator announces a change by somebody else once, in the rooms of the last commands", async (t) => {
  const said = `! ${alice}: clawdbot was scaled from 1 to 3 replicas by somebody else (\`kubectl-edit\`)`;
  for (const lives of [1, 2]) {
    await t.step(`${lives} lives`, async () => {
      const world = new World();
      world.room(second);
      world.room("!third:example.org");
      {
        await using running = world.start();
        await running.receive("start", { roomId: second });
        await running.receive("start");
        await world.clock.advance(120_000);
        world.sent.clear();
        if (lives === 1) {
          world.setScale(3, "clawdbot", "kubectl-edit");
          await settled();
          world.setPods({ available: 2 });
          await settled();
        }
      }
      // Also what happened while the operator was down.
      if (lives === 2) world.setScale(3, "clawdbot", "kubectl-edit");
      await using _running = world.start();
      await settled();
      assert.deepEqual([...world.sent.values()].map(({ roomId }) => roomId), [room, second]);
      assert.deepEqual(world.story, [said, said]);
    });
  }
});

Deno.test("Operator mentions only joined users, and sends nothing to rooms that it has left", async () => {
  const world = new World();
  world.room(second);
  await using running = world.start();
  await running.receive("start", { roomId: second });
  await running.receive("start");
  await world.clock.advance(120_000);
  world.sent.clear();
  world.room(second, { membership: "leave" });
  world.room(room, { joined: ["@bob:example.org", self] });
  world.setScale(0);
  await settled();
  assert.deepEqual(world.story, ["! clawdbot was scaled from 1 to 0 replicas by somebody else"]);
  assert.deepEqual([...world.sent.values()].at(0)?.answer.mentions, []);
});

Deno.test("Operator is silent about changes that it can't see, its own, and those that concern no room", async (t) => {
  const rows: [name: string, commands: string[], mayWatch: boolean][] = [
    ["no watch", ["start"], false],
    ["never commanded", [], true],
  ];
  for (const [name, commands, mayWatch] of rows) {
    await t.step(name, async () => {
      const world = new World();
      world.mayWatch = mayWatch;
      await using running = world.start();
      for (const command of commands) await running.receive(command);
      await world.clock.advance(120_000);
      world.sent.clear();
      world.setScale(5);
      await world.clock.advance(120_000);
      assert.deepEqual(world.story, []);
    });
  }
  await t.step("its own, seen before its answer is written down", async () => {
    const world = new World();
    world.before = async (call) => {
      if (call === "read") await settled();
    };
    await using running = world.start();
    for (const command of ["start", "stop", "start", "stop"]) {
      await running.receive(command);
      await settled();
    }
    await world.clock.advance(120_000);
    assert.ok(world.story.every((line) => !line.startsWith("!")), world.story.join());
    assert.equal(world.effects.length, 4);
  });
});

Deno.test("Operator takes nothing that a watch shows late for news", async () => {
  const world = new World();
  await using running = world.start();
  await settled();
  const { promise: late, resolve: arrive } = Promise.withResolvers<void>();
  world.before = (call) => call === "watched" ? late : undefined;
  await running.receive("start");
  await world.clock.advance(1_000);
  await running.receive("stop");
  await world.clock.advance(120_000);
  const { length } = world.story;
  world.before = () => {};
  arrive();
  await settled();
  assert.equal(world.story.length, length);
});

Deno.test("Operator notices within minutes that it may watch", async () => {
  const world = new World();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(120_000);
  world.mayWatch = true;
  await world.clock.advance(300_000);
  world.sent.clear();
  world.setScale(2);
  await settled();
  assert.equal(world.story.length, 1);
});

Deno.test("Operator keeps following a start whose count somebody else has changed", async () => {
  const world = new World();
  world.isPrompt = false;
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(4_000);
  world.setScale(2, "clawdbot", "hpa");
  await world.clock.advance(4_000);
  world.setPods({ ready: 2 });
  await settled();
  assert.deepEqual(world.story.slice(1), [
    `! ${alice}: clawdbot was scaled from 1 to 2 replicas by somebody else (\`hpa\`)`,
    "✎ clawdbot is ready (took 8 s)",
  ]);
});

Deno.test("Operator misses no change that arrives during the last read of its own", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start");
  await settled();
  world.sent.clear();
  const looked = Promise.withResolvers<void>();
  const lookedAt = Promise.withResolvers<void>();
  world.before = (call) => {
    if (call !== "diagnose") return;
    lookedAt.resolve();
    return looked.promise;
  };
  world.setPods({ ready: 0 });
  await world.clock.advance(1_000);
  await lookedAt.promise;
  await world.clock.advance(60_000);
  world.setScale(3, "clawdbot", "kubectl-edit");
  await settled();
  looked.resolve();
  await settled();
  assert.deepEqual(world.story, [
    `! ${alice}: clawdbot was scaled from 1 to 3 replicas by somebody else (\`kubectl-edit\`)`,
  ]);
});

Deno.test("Operator attributes no other count to itself", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(4_000);
  world.setScale(3, "clawdbot", "kubectl");
  await settled();
  world.setScale(0);
  await settled();
  assert.deepEqual(world.story.slice(-2), [
    `! ${alice}: clawdbot was scaled from 1 to 3 replicas by somebody else (\`kubectl\`)`,
    `! ${alice}: clawdbot was scaled from 3 to 0 replicas by somebody else`,
  ]);
});
