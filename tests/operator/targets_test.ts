import assert from "node:assert/strict";
import { TransientError } from "../../lib/errors.ts";
import { alice, clawdbot, Killed, ollama, room, self, settled, World } from "./fakes.ts";

const both = { targets: [clawdbot, ollama] };
const on = (alias: string) => `${alias} is on (1 replica), starting…`;
const overtaken = (alias: string) => `${alice} turned ${alias} off after 0 s, before it was ready`;
const off = (alias: string) => `${alias} is off`;

Deno.test("Operator switches the target that is named, or the first, or all", async (t) => {
  const rows: [command: string, said: string, effects: (number | string)[]][] = [
    ["start", on("clawdbot"), [1]],
    ["start ollama", on("ollama"), ["ollama 1"]],
    ["on ALL", `${on("clawdbot")}\n${on("ollama")}`, [1, "ollama 1"]],
    ["stop all", "clawdbot is already off\nollama is already off", []],
    ["status", "clawdbot · off\nollama · off", []],
    ["status all", "clawdbot · off\nollama · off", []],
    ["status ollama", "ollama is off", []],
    ["stop olama", "There's no target `olama`. Use `clawdbot`, `ollama` or `all`.", []],
    ["stop it now", "Unknown command: stop it now. Send `help` for a list of commands.", []],
  ];
  for (const [command, said, effects] of rows) {
    await t.step(`${command}: ${said}`, async () => {
      const world = new World(both);
      await using running = world.start();
      await running.receive(command);
      assert.deepEqual(world.texts, [said]);
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator ignores an unknown target in messages that aren't addressed to it", async () => {
  const world = new World(both);
  world.room(room, { joined: [alice, self, "@bob:example.org"] });
  await using running = world.start();
  await running.receive("stop it");
  await running.receive("Claw, stop it");
  assert.equal(world.texts.length, 1);
});

Deno.test("Operator audits each target, and a refusal once", async () => {
  const world = new World(both);
  world.setScale(2, "ollama");
  await using running = world.start();
  await running.receive("start all");
  assert.deepEqual(world.records.map(({ target, outcome }) => `${target} ${outcome}`).toSorted(), [
    "clawdbot done",
    "ollama already",
  ]);
  assert.equal(world.outcome(1), "done+already");
  assert.deepEqual([...world.replicas], [["clawdbot", 1], ["ollama", 2]]);

  let reads = 0;
  world.before = (call) => {
    // It is read when it arrives, and again right before it would be carried out.
    if (call === "read" && (reads += 1) > 1) world.room(room, { membership: "leave" });
  };
  await running.receive("stop all");
  assert.equal(world.outcome(2), "not-joined");
  assert.deepEqual(world.refusals, ["not-joined"]);
  assert.deepEqual(world.effects, [1]);
});

Deno.test("Operator has no target wait for another, and answers when all are done", async () => {
  const world = new World(both);
  world.isPrompt = false;
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call, detail) => call === "scale" && detail.startsWith("clawdbot") ? hanging : undefined;
  await using running = world.start();
  await running.receive("start all");
  await running.receive("stop ollama");
  assert.deepEqual(world.effects, ["ollama 1", "ollama 0"]);
  assert.deepEqual(world.texts, [off("ollama")]);
  goOn();
  await settled();
  assert.deepEqual(world.effects, ["ollama 1", "ollama 0", 1]);
  assert.deepEqual(world.texts, [off("ollama"), `${on("clawdbot")}\n${overtaken("ollama")}`]);
});

Deno.test("Operator reports all targets even if one can't be read", async () => {
  const world = new World(both);
  world.mayWatch = false;
  world.isPrompt = false;
  world.before = (call, detail) => {
    if (call === "scaler.read" && detail === "ollama") throw new TransientError("Cannot reach it");
  };
  await using running = world.start();
  await running.receive("start all");
  await world.clock.advance(30_000);
  await settled();
  const waiting = `${on("clawdbot")}\nThe Kubernetes API isn't answering. Still trying to start ollama…`;
  const [first, text = "", alert] = world.story;
  assert.deepEqual([first, alert], [waiting, `! ${alice}: Can't start ollama`]);
  assert.ok(text.startsWith(`✎ ${on("clawdbot")}\nCan't start ollama: the Kubernetes API didn't answer`), text);
});

Deno.test("Operator killed between two targets changes each once, even if the first was changed meanwhile", async (t) => {
  const points = ["saveCommand", "scale", "settle"].flatMap((call) => [`before ${call}`, `after ${call}`]);
  for (const point of points) {
    await t.step(`killed ${point}`, async () => {
      const world = new World(both);
      world.isPrompt = false;
      world.receive("start all");
      {
        await using running = world.start(point);
        await settled();
        assert.ok(await running.ended instanceof Killed);
      }
      await using _running = world.start();
      await settled();
      assert.deepEqual(world.effects.toSorted(), [1, "ollama 1"]);
      assert.deepEqual(world.texts, [`${on("clawdbot")}\n${on("ollama")}`]);
    });
  }

  await t.step("the first was done, and undone by another command", async () => {
    const world = new World(both);
    world.mayWatch = false;
    world.isPrompt = false;
    world.before = (call, detail, signal) => {
      if (call !== "scaler.read" || detail !== "ollama") return;
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    };
    world.receive("start all");
    world.receive("stop clawdbot");
    {
      await using running = world.start("after settle");
      await settled();
      assert.ok(await running.ended instanceof Killed);
    }
    assert.deepEqual(world.effects, [1, 0]);
    world.before = () => {};
    await using _running = world.start();
    await settled();
    assert.deepEqual(world.effects, [1, 0, "ollama 1"]);
    assert.deepEqual(world.texts, [off("clawdbot"), `${overtaken("clawdbot")}\n${on("ollama")}`]);
  });
});
