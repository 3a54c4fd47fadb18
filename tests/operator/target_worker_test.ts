/** How a target's worker deals with the world: interruptions, failures, what lasts, and what it costs. */

import assert from "node:assert/strict";
import { CredentialError, NotFoundError, PermissionError, RejectedError, StoreError } from "../../lib/errors.ts";
import { TransientError } from "../../lib/errors.ts";
import type { Intent } from "../../lib/operator/mod.ts";
import { logOf } from "./log.ts";
import { alice, clawdbot, Killed, ollama, settled, transactionIdOf, World } from "./fakes.ts";

const on = "clawdbot is on (1 replica), starting…";
const waiting = "The Kubernetes API isn't answering. Still trying to start clawdbot…";
const intent: Intent = { before: 0, after: 1, resourceVersion: "1", generation: 1, atMs: 1_000_000_000 };

function slowWorld(...given: ConstructorParameters<typeof World>): World {
  const world = new World(...given);
  world.isPrompt = false;
  return world;
}

Deno.test("A command costs one change, and a read before it unless a watch spares it, and is written down twice", async (t) => {
  for (const mayWatch of [true, false]) {
    await t.step(mayWatch ? "watch" : "no watch", async () => {
      const world = new World();
      world.mayWatch = mayWatch;
      const calls: string[] = [];
      world.before = (call) => void calls.push(call);
      world.onDurable = (call) => void calls.push(call);
      await using running = world.start();
      await settled();
      calls.length = 0;
      await running.receive("start");
      const isCounted = (call: string) => ["scaler.read", "saveCommand", "scale", "transaction"].includes(call);
      const upToAnswer = calls.slice(calls.indexOf("claim"), calls.indexOf("send")).filter(isCounted);
      const read = mayWatch ? [] : ["scaler.read"];
      assert.deepEqual(upToAnswer, [...read, "saveCommand", "scale", "transaction"]);
    });
  }
});

Deno.test("A command that is submitted when a look hangs doesn't wait for it", async () => {
  const world = slowWorld();
  await using running = world.start();
  await running.receive("start");
  world.before = (call, _detail, signal) =>
    call === "diagnose"
      ? new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)))
      : undefined;
  await world.clock.advance(2_000);
  await running.receive("stop");
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("A failed read is retried after any failure, until the target is ready", async (t) => {
  const errors = [
    new TransientError("Cannot reach it"),
    new RejectedError("Got 404, and not from a Kubernetes API", 404, ""),
    new CredentialError("It refuses us"),
    new NotFoundError("Cannot read: not found"),
    new PermissionError("get", "deployments.apps"),
    new Error("of a kind that nobody knows"),
  ];
  for (const error of errors) {
    await t.step(error.message, async () => {
      const world = slowWorld();
      await using running = world.start();
      await running.receive("start");
      world.before = (call) => {
        if (call === "scaler.read" || call === "diagnose") throw error;
      };
      await world.clock.advance(5_000);
      world.before = () => {};
      world.setPods({ ready: 1 });
      await world.clock.advance(15_000);
      assert.match(world.story.join("\n"), /^clawdbot is on .*\n✎ clawdbot is ready \(took \d+ s\)$/);
    });
  }
});

Deno.test("An unknown failure of one look, one Event, or one command's read ends nothing else", async () => {
  const world = slowWorld({ targets: [clawdbot, ollama] });
  const unknown = new Error("of a kind that nobody knows");
  world.before = (call, detail) => {
    if (call === "record" || call === "watch" || (call === "scaler.read" && detail === "ollama")) throw unknown;
  };
  await using running = world.start();
  await running.receive("start ollama");
  await running.receive("start clawdbot");
  await world.clock.advance(30_000);
  assert.deepEqual(world.effects, [1]);
  assert.match(world.story.join("\n"), /Can't start ollama: the Kubernetes API didn't answer within 30 s/);
  world.before = () => {};
  await running.receive("start ollama");
  assert.deepEqual(world.effects, [1, "ollama 1"]);
});

Deno.test("An internal error at one command is reported, and the next command is carried out", async () => {
  const world = new World();
  await using running = world.start();
  const { scale } = world;
  world.scales.set("clawdbot", {
    ...scale,
    get generation(): number {
      throw new TypeError("a fault");
    },
  });
  await running.receive("start");
  assert.match(world.texts.join(), /Can't start clawdbot: internal error/);
  assert.equal(world.outcome(1), "failed");
  world.scale = scale;
  await running.receive("start");
  assert.deepEqual(world.effects, [1]);
});

Deno.test("A store that fails, and a panic of the WebAssembly, end it", async (t) => {
  for (
    const error of [new StoreError("Cannot write: disk full", "/data"), new WebAssembly.RuntimeError("unreachable")]
  ) {
    await t.step(error.message, async () => {
      const world = new World();
      world.mayWatch = false;
      world.before = (call) => {
        if (call === "scaler.read") throw error;
      };
      await using running = world.start();
      await running.receive("start");
      assert.equal(await running.ended, error);
    });
  }
});

Deno.test("A hanging call is reported after 5 s, in an answer that the outcome edits", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call) => call === "scaler.read" ? hanging : undefined;
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(4_999);
  assert.deepEqual(world.story, []);
  await world.clock.advance(1);
  assert.deepEqual(world.story, [waiting]);
  await world.clock.advance(3_000);
  goOn();
  await settled();
  await settled();
  assert.deepEqual(world.story, [waiting, `✎ ${on}`]);
  world.setPods({ ready: 1 });
  await world.clock.advance(2_000);
  assert.deepEqual(world.story.slice(2), ["✎ clawdbot is ready (took 1 s)"]);
});

Deno.test("A command reported as waiting edits the same answer after a kill", async (t) => {
  const rows: [name: string, downMs: number, end: string, effects: number[]][] = [
    ["soon", 1_000, on, [1]],
    [
      "late",
      3_600_000,
      "I was away when you sent `start`, 1 h ago. Send it again if you still want it.",
      [],
    ],
  ];
  for (const [name, downMs, end, effects] of rows) {
    await t.step(name, async () => {
      const world = slowWorld();
      world.mayWatch = false;
      world.before = (call) => {
        if (call === "scaler.read") throw new TransientError("Cannot reach it");
      };
      {
        await using running = world.start();
        await running.receive("start");
        await world.clock.advance(6_000);
        assert.deepEqual(world.story, [waiting]);
      }
      world.before = () => {};
      world.clock.nowMs += downMs;
      await using _running = world.start();
      await settled();
      assert.deepEqual(world.story, [waiting, `✎ ${end}`]);
      assert.deepEqual(world.effects, effects);
      assert.equal(
        [...world.sent.values()].at(-1)?.replaces,
        `$${transactionIdOf({ eventId: "$event1", kind: "answer", sequence: 0 })}`,
      );
    });
  }
});

Deno.test("A command that failed at two targets alerts for each, and leaves nothing behind", async () => {
  const world = new World({ targets: [clawdbot, ollama] });
  world.mayWatch = false;
  world.before = (call) => {
    if (call === "scaler.read") throw new TransientError("Cannot reach it");
  };
  await using running = world.start();
  await running.receive("start all");
  await world.clock.advance(30_000);
  await settled();
  const alerts = world.story.filter((line) => line.startsWith("!"));
  assert.deepEqual(alerts.toSorted(), [
    `! ${alice}: Can't start clawdbot`,
    `! ${alice}: Can't start ollama`,
  ]);
  assert.deepEqual(world.remembered?.messages, []);
});

Deno.test("A command that waits at one target, and then at another, says so of both in one message", async () => {
  const world = slowWorld({ targets: [clawdbot, ollama] });
  world.mayWatch = false;
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call) => call === "scaler.read" ? hanging : undefined;
  await using running = world.start();
  await running.receive("stop ollama");
  await world.clock.advance(2_000);
  await running.receive("start all");
  await world.clock.advance(5_000);
  const waitingFor = (alias: string) => `The Kubernetes API isn't answering. Still trying to start ${alias}…`;
  assert.deepEqual(world.story.slice(1), [waitingFor("clawdbot")]);
  goOn();
  world.before = (call, detail) => {
    if (call === "scaler.read" && detail === "ollama") throw new TransientError("Cannot reach it");
  };
  await settled();
  await world.clock.advance(6_000);
  assert.equal(world.story.at(-1), `✎ ${on}\n${waitingFor("ollama")}`);
});

Deno.test("A waiting status is reported as waiting, and edited, also across a kill", async () => {
  const world = new World();
  world.before = (call) => {
    if (call === "scaler.read") throw new TransientError("Cannot reach it");
  };
  {
    await using running = world.start();
    await running.receive("status");
    await world.clock.advance(6_000);
  }
  world.before = () => {};
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.story, [
    "The Kubernetes API isn't answering. Still trying to check clawdbot…",
    "✎ clawdbot is off",
  ]);
});

Deno.test("A half-done command is finished at the workload that it was meant for, even if its alias has changed", async (t) => {
  const workload = "deployment/clawdbot/clawdbot";
  const elsewhere = { ...clawdbot, namespace: "elsewhere" };
  const renamed = { ...clawdbot, alias: "claw" };
  const rows = [
    ["the same name", [clawdbot], on],
    ["another name", [renamed], on.replace("clawdbot", "claw")],
    ["its name is another one's", [elsewhere, renamed], on.replace("clawdbot", "claw")],
    [
      "no target any more",
      [elsewhere],
      "I was restarted while handling `start`, and clawdbot is no longer one of my targets. I've left it unchanged.",
    ],
  ] as const;
  for (const [name, targets, said] of rows) {
    await t.step(name, async () => {
      const world = new World();
      world.scales.set("claw", world.scale);
      const { seq } = world.receive("start");
      world.store.journal.saveCommand(seq, { command: "start", parts: [{ target: clawdbot.alias, workload, intent }] });
      await using _running = world.start(undefined, targets);
      await settled();
      assert.deepEqual(world.texts, [said]);
      assert.equal(world.effects.length, said.includes("no longer") ? 0 : 1);
    });
  }
});

Deno.test("A half-done command for two targets is finished at both when their names were exchanged", async () => {
  const world = new World();
  const one = { ...clawdbot, alias: "two" }, two = { ...clawdbot, alias: "one", namespace: "elsewhere" };
  for (const alias of ["one", "two"]) world.scales.set(alias, world.scale);
  const { seq } = world.receive("start all");
  world.store.journal.saveCommand(seq, {
    command: "start",
    parts: [
      { target: "one", workload: "deployment/clawdbot/clawdbot", intent },
      { target: "two", workload: "deployment/elsewhere/clawdbot" },
    ],
  });
  await using _running = world.start(undefined, [one, two]);
  await settled();
  assert.deepEqual(world.effects.toSorted(), ["one 1", "two 1"]);
  assert.deepEqual(world.texts, [`${on.replace("clawdbot", "two")}\n${on.replace("clawdbot", "one")}`]);
});

Deno.test("A timer that isn't permitted to stop its target does so once it is permitted", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start 10m");
  world.before = (call) => {
    if (call === "scale") throw new PermissionError("patch", "deployments.apps/scale");
  };
  await world.clock.advance(30 * 60_000);
  const told = world.story.slice(2);
  assert.equal(told.length, 1);
  world.before = () => {};
  await world.clock.advance(60_000);
  assert.deepEqual(world.effects, [1, 0]);
  assert.match(world.story.at(-1) ?? "", /its time was up 20 min ago/);
});

Deno.test("A target that is deleted and created again is watched again within seconds", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(120_000);
  world.before = (call) => {
    if (call === "watch") throw new NotFoundError("Cannot get: not found");
  };
  world.setPods({ available: 0 });
  await world.clock.advance(20_000);
  world.before = () => {};
  await world.clock.advance(5_000);
  world.sent.clear();
  world.setScale(3, "clawdbot", "kubectl");
  await settled();
  assert.deepEqual(world.story, [
    `! ${alice}: clawdbot was scaled from 1 to 3 replicas by somebody else (\`kubectl\`)`,
  ]);
});

Deno.test("An autoscaler's minimum is announced at each start without a notification", async () => {
  const world = slowWorld();
  await using running = world.start();
  await running.receive("start");
  world.setScale(2, "clawdbot", "kube-controller-manager");
  await settled();
  world.setPods({ ready: 2 });
  await world.clock.advance(2_000);
  assert.deepEqual(world.story.slice(1), [
    "clawdbot was scaled from 1 to 2 replicas by somebody else (`kube-controller-manager`)",
    "✎ clawdbot is ready (took 0 s)",
  ]);
});

Deno.test("No request is made while a watch runs and nothing changes", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start 12h");
  await world.clock.advance(120_000);
  let calls = 0;
  world.before = () => void (calls += 1);
  await world.clock.advance(3_600_000);
  assert.equal(calls, 0);
});

Deno.test("Lines about commands speak of nothing that isn't known", async () => {
  const lines = await logOf(async () => {
    const world = new World({ targets: [clawdbot, ollama] });
    world.mayWatch = false;
    await using running = world.start();
    for (const command of ["help", "status ollama", "start", "stop ollama"]) await running.receive(command);
    world.before = (call) => {
      if (call === "scaler.read") throw new PermissionError("get", "deployments.apps");
    };
    await running.receive("stop");
  });
  const audit = lines.filter((line) => line.includes(` by "${alice}"`) || line.includes(` by ${alice}`));
  assert.deepEqual(audit.map((line) => line.replaceAll('"', "").replaceAll("'", "")), [
    `help by ${alice}: done`,
    `status ollama by ${alice}: done (0)`,
    `start clawdbot by ${alice}: done (0 → 1)`,
    `stop ollama by ${alice}: already (0 → 0)`,
    `stop clawdbot by ${alice}: failed`,
  ]);
  assert.deepEqual(lines.filter((line) => line.includes("undefined")), []);
});

Deno.test("Killed at a message that says it waits, it says so once", async (t) => {
  for (
    const point of ["saveCommand", "queueAnswer", "transaction", "save"].flatMap((
      call,
    ) => [`before ${call}`, `after ${call}`])
  ) {
    await t.step(point, async () => {
      const world = slowWorld();
      world.mayWatch = false;
      world.receive("start");
      world.before = (call) => {
        if (call === "scaler.read") throw new TransientError("Cannot reach it");
      };
      {
        await using running = world.start(point);
        await world.clock.advance(6_000);
        assert.ok(await running.ended instanceof Killed);
      }
      world.before = () => {};
      await using _running = world.start();
      await settled();
      await settled();
      assert.deepEqual(world.effects, [1]);
      const answers = world.story.filter((line) => line !== waiting);
      assert.deepEqual(answers.map((line) => line.replace("✎ ", "")), [on]);
      assert.ok(world.story.length <= 2, world.story.join());
    });
  }
});
