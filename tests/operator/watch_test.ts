/** What a watch spares, and what it must not be believed: it may be behind, fall silent, or break. */

import assert from "node:assert/strict";
import { unlessAborted } from "../../lib/async.ts";
import { TransientError } from "../../lib/errors.ts";
import { alice, settled, World } from "./fakes.ts";

const on = "clawdbot is on (1 replica), starting…";
const off = "clawdbot is off";

/** A world in which pods take their time. Records the requests to the API server. */
function slowWorld(): { readonly world: World; readonly calls: string[] } {
  const world = new World();
  world.isPrompt = false;
  const calls: string[] = [];
  world.before = record(calls);
  return { world, calls };
}

function record(calls: string[]): World["before"] {
  return (call) => {
    if (["scaler.read", "scale", "diagnose"].includes(call)) calls.push(call);
  };
}

/** Holds back what the watch shows from now on. */
function holdWatch(world: World, calls: string[]): { readonly release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  world.before = (call, detail, signal) => {
    if (call !== "watched") return record(calls)(call, detail, signal);
    return unlessAborted(promise, signal ?? assert.fail());
  };
  return { release: resolve };
}

Deno.test("A command to a watched target whose watch is behind is refused the change, and decided by a read", async (t) => {
  const rows: [command: string, before: number, meanwhile: number[], said: string, effects: number[], was: number][] = [
    ["start", 0, [1], "clawdbot is already running (1/1 ready)", [], 1],
    ["start", 0, [5], "clawdbot is already running (5/5 ready)", [], 5],
    ["start", 0, [1, 0], on, [1], 0],
    ["stop", 1, [0], "clawdbot is already off", [], 0],
    ["stop", 1, [3], off, [0], 3],
    ["stop", 1, [0, 1], off, [0], 1],
  ];
  for (const [command, before, meanwhile, said, effects, was] of rows) {
    await t.step(`${command} at ${before}, then ${meanwhile.join(", ")}: ${said}`, async () => {
      const world = new World();
      const calls: string[] = [];
      world.setScale(before);
      await using running = world.start();
      await settled();
      holdWatch(world, calls);
      for (const count of meanwhile) world.setScale(count);
      await running.receive(command);
      assert.deepEqual(calls, ["scale", "scaler.read", ...effects.map(() => "scale")]);
      assert.deepEqual([world.texts, world.effects], [[said], effects]);
      assert.equal(world.records[0]?.before, was);
    });
  }
});

Deno.test("A command that a watch shows to be carried out already is decided by a read", async (t) => {
  const rows = [["start", 1, 0, on, 1], ["stop", 0, 1, off, 0]] as const;
  for (const [command, shown, now, said, effect] of rows) {
    await t.step(`${command} at ${shown}, then ${now}: ${said}`, async () => {
      const world = new World();
      const calls: string[] = [];
      world.setScale(shown);
      await using running = world.start();
      await settled();
      holdWatch(world, calls);
      world.setScale(now);
      await running.receive(command);
      assert.deepEqual(calls, ["scaler.read", "scale"]);
      assert.deepEqual([world.texts, world.effects], [[said], [effect]]);
    });
  }
});

Deno.test("A change whose outcome is unknown is decided by a read, whatever the watch shows", async () => {
  const { world, calls } = slowWorld();
  await using running = world.start();
  await settled();
  holdWatch(world, calls);
  const { before } = world;
  world.before = (call, ...rest) => {
    if (call !== "scale") return before(call, ...rest);
    world.before = before;
    world.setScale(5);
    throw new TransientError("Cannot reach the API server: timeout");
  };
  await running.receive("start");
  await world.clock.advance(1_000);
  assert.deepEqual(calls, ["scaler.read"]);
  assert.deepEqual(world.texts, [
    "Somebody else scaled clawdbot from 0 to 5 replicas after you sent `start`. I've left it unchanged.",
  ]);
});

Deno.test("A new version with the same counts wakes nothing, and a change is based on it", async () => {
  const world = new World();
  const calls: string[] = [];
  await using running = world.start();
  // With a timer, each pass of the loop ends in a wait.
  await running.receive("start 2h");
  await world.clock.advance(120_000);
  world.before = record(calls);
  const { waits } = world.clock;
  waits.length = 0;
  for (let version = 10; version < 20; version += 1) {
    world.replace({ ...world.scale, resourceVersion: `${version}` });
    await settled();
  }
  assert.deepEqual([calls, waits], [[], []]);
  await running.receive("stop");
  assert.deepEqual([calls, world.effects], [["scale"], [1, 0]]);
});

Deno.test("A start without a watch is told to be ready although its status is asked for all the time", async () => {
  const { world } = slowWorld();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  world.setPods({ ready: 1 });
  for (let asked = 0; asked < 4; asked += 1) {
    await world.clock.advance(500);
    await running.receive("status");
  }
  assert.deepEqual(world.story.filter((line) => line.startsWith("✎")), ["✎ clawdbot is ready (took 1 s)"]);
});

Deno.test("A start that a watch shows costs one change, and diagnoses while it isn't ready", async () => {
  const { world, calls } = slowWorld();
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(999);
  assert.deepEqual(calls, ["scale"]);
  await world.clock.advance(3_001);
  assert.deepEqual(calls, ["scale", "diagnose", "diagnose"]);
  world.setPods({ ready: 1 });
  await settled();
  assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 4 s)"]);
  await running.receive("stop");
  await world.clock.advance(600_000);
  assert.deepEqual(calls, ["scale", "diagnose", "diagnose", "scale"]);
});

Deno.test("A watch that is behind never has a start told to be ready", async (t) => {
  await t.step("as it was before it was stopped and started again", async () => {
    const { world, calls } = slowWorld();
    world.isPrompt = true;
    world.setScale(1);
    world.isPrompt = false;
    await using running = world.start();
    await settled();
    const { release } = holdWatch(world, calls);
    await running.receive("stop");
    world.setPods({ ready: 0 });
    await running.receive("start");
    await world.clock.advance(30_000);
    assert.deepEqual(world.story, [off, on]);
    // What it shows first is long past.
    world.setPods({ ready: 1 });
    release();
    await settled();
    assert.deepEqual(world.story, [off, on, "✎ clawdbot is ready (took 30 s)"]);
  });
  await t.step("as it was before somebody asked for what was under way", async () => {
    const { world, calls } = slowWorld();
    world.isPrompt = true;
    world.setScale(1);
    await using running = world.start();
    await settled();
    holdWatch(world, calls);
    world.setPods({ ready: 0 });
    await running.receive("start");
    await world.clock.advance(30_000);
    assert.deepEqual(world.story, ["clawdbot is already starting (0/1 ready)"]);
  });
});

Deno.test("A start is told to be ready within 10 s if the watch has fallen silent, and within 1 s if it breaks", async (t) => {
  await t.step("silent", async () => {
    const { world, calls } = slowWorld();
    await using running = world.start();
    await settled();
    holdWatch(world, calls);
    await running.receive("start");
    await world.clock.advance(12_000);
    world.setPods({ ready: 1 });
    await world.clock.advance(8_000);
    assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 20 s)"]);
  });
  await t.step("broken", async () => {
    const { world, calls } = slowWorld();
    await using running = world.start();
    await running.receive("start");
    await world.clock.advance(5_000);
    assert.ok(!calls.includes("scaler.read"), calls.join());
    world.before = (call, ...rest) => {
      if (call === "watch") throw new TransientError("Cannot watch: the connection broke");
      return record(calls)(call, ...rest);
    };
    // The watch breaks at the next change, and that one isn't seen.
    world.setPods({ available: 0 });
    await settled();
    assert.ok(calls.includes("scaler.read"), "it isn't read at once");
    world.setPods({ ready: 1 });
    await world.clock.advance(1_000);
    assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 6 s)"]);
    world.setScale(0);
    await world.clock.advance(60_000);
    assert.deepEqual(world.story.slice(2), [
      "✎ clawdbot was turned on (1 replica), but somebody else scaled it to 0 after 1 min. Send `start` to try again.",
      `! ${alice}: clawdbot was scaled from 1 to 0 replicas by somebody else`,
    ]);
  });
});

Deno.test("A start whose target is deleted meanwhile is read until it is there again, and told to be ready", async () => {
  const { world } = slowWorld();
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(3_000);
  const { scale } = world;
  world.replace(undefined);
  await world.clock.advance(20_000);
  assert.match(world.story.slice(1).join(), /^✎ Can't tell whether clawdbot is ready: there's no deployment clawdbot/);
  world.replace({ ...scale, generation: 1, resourceVersion: "100" });
  await world.clock.advance(16_000);
  world.setPods({ ready: 1 });
  await world.clock.advance(10_000);
  assert.match(world.story.slice(4).join(), /^✎ clawdbot is ready \(took \d+ s\)/);
});

Deno.test("A stop that isn't watched is read after 1 s, 3 s, 7 s and so on until the pods are gone, and after a minute", async (t) => {
  const rows = [[0, [1, 60]], [5, [1, 3, 7, 60]], [100, [1, 3, 7, 15, 30, 45, 60]]] as const;
  for (const [goneAfterSeconds, readAfterSeconds] of rows) {
    await t.step(`gone after ${goneAfterSeconds} s`, async () => {
      const { world, calls } = slowWorld();
      world.mayWatch = false;
      world.setScale(1);
      await using running = world.start();
      await running.receive("stop");
      world.setPods({ current: 1 });
      const reads: number[] = [];
      for (let seconds = 0; seconds <= 90; seconds += 1) {
        if (seconds === goneAfterSeconds) world.setPods({ current: 0 });
        calls.length = 0;
        await world.clock.advance(seconds === 0 ? 0 : 1_000);
        if (calls.length > 0) reads.push(seconds);
      }
      assert.deepEqual(reads, readAfterSeconds);
    });
  }
});
