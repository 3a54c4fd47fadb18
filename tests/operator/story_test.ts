import assert from "node:assert/strict";
import { CredentialError, PermissionError } from "../../lib/errors.ts";
import type { Problem } from "../../lib/scaler/mod.ts";
import { alice, clawdbot, Killed, ollama, room, self, settled, transactionIdOf, World } from "./fakes.ts";

const on = "clawdbot is on (1 replica), starting…";
const off = "clawdbot is off";
const bob = "@bob:example.org";
const image: Problem = {
  kind: "image",
  certain: true,
  reason: "ImagePullBackOff",
  image: "claw:0",
  message: "denied",
};

function slowWorld(...given: ConstructorParameters<typeof World>): World {
  const world = new World(...given);
  world.isPrompt = false;
  return world;
}

Deno.test("Operator edits a start's one answer when the target is ready, with and without a watch", async (t) => {
  for (const mayWatch of [true, false]) {
    await t.step(mayWatch ? "watch" : "no watch", async () => {
      const world = slowWorld();
      world.mayWatch = mayWatch;
      await using running = world.start();
      await running.receive("start");
      await world.clock.advance(13_500);
      assert.deepEqual(world.story, [on]);
      world.setPods({ ready: 1 });
      await world.clock.advance(1_000);
      assert.deepEqual(world.story, [on, `✎ clawdbot is ready (took ${mayWatch ? 13 : 14} s)`]);
      await world.clock.advance(600_000);
      assert.equal(world.story.length, 2);
      assert.equal(world.remembered?.messages.length, 0);
      assert.deepEqual(world.durations, [`clawdbot ${mayWatch ? 13_500 : 14_000}`]);
      const [, { answer, replaces } = assert.fail()] = [...world.sent.values()];
      assert.equal(replaces, `$${transactionIdOf({ eventId: "$event1", kind: "answer", sequence: 0 })}`);
      assert.deepEqual(answer.mentions, undefined);
    });
  }
});

Deno.test("Operator makes few requests to the cluster when idle, and at most one read a second otherwise", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  let reads = 0, diagnoses = 0;
  world.before = (call) => {
    reads += call === "scaler.read" ? 1 : 0;
    diagnoses += call === "diagnose" ? 1 : 0;
  };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(10_000);
  assert.ok(reads >= 10 && reads <= 13, `${reads}`);
  assert.ok(diagnoses >= 5 && diagnoses <= 6, `${diagnoses}`);
  world.setPods({ ready: 1 });
  await world.clock.advance(1_000);
  reads = 0;
  await world.clock.advance(3_600_000);
  assert.equal(reads, 1);
});

Deno.test("Operator calls the sender when a start took long", async () => {
  const world = slowWorld();
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(42_000);
  world.setPods({ ready: 1 });
  await settled();
  assert.deepEqual(world.story, [
    on,
    "✎ clawdbot is ready (took 42 s)",
    `! ${alice}: clawdbot is ready`,
  ]);
  assert.deepEqual([...world.sent.values()].at(-1)?.answer.mentions, [alice]);
});

Deno.test("Operator reports certain problems at once, and again when there is another one", async () => {
  const world = slowWorld();
  await using running = world.start();
  await running.receive("start");
  const why = "the image `claw:0` can't be pulled (`ImagePullBackOff`: denied)";
  world.diagnosis = { problems: [{ ...image, certain: false, reason: "ErrImagePull" }], missingPermission: undefined };
  await world.clock.advance(4_000);
  assert.deepEqual(world.story, [on]);
  world.diagnosis = { problems: [image], missingPermission: undefined };
  await world.clock.advance(2_000);
  const said = `clawdbot isn't ready (0/1): ${why}. Still watching.`;
  const alert = `! ${alice}: clawdbot isn't ready: its image can't be pulled`;
  assert.deepEqual(world.story, [on, `✎ ${said}`, alert]);
  await world.clock.advance(60_000);
  assert.equal(world.story.length, 3);
  world.diagnosis = {
    problems: [{ kind: "crash", certain: true, reason: "CrashLoopBackOff", exitCode: 1, restarts: 2 }],
    missingPermission: undefined,
  };
  await world.clock.advance(2_000);
  assert.deepEqual(world.story.slice(3), [
    "✎ clawdbot isn't ready (0/1): it keeps crashing (`CrashLoopBackOff`, exit code 1, 2 restarts). Still watching.",
  ]);
  // In a crash loop it is ready for moments.
  world.setPods({ ready: 1 });
  await world.clock.advance(5_000);
  world.setPods({ ready: 0 });
  await world.clock.advance(60_000);
  assert.equal(world.story.length, 4);
  world.setPods({ ready: 1 });
  await world.clock.advance(30_000);
  assert.deepEqual(world.story.slice(4), [
    "✎ clawdbot is ready (took 2 min)",
    `! ${alice}: clawdbot is ready`,
  ]);
});

Deno.test("Operator reports at the start timeout what is pending and which permission is missing, and keeps watching", async (t) => {
  for (const mayWatch of [true, false]) {
    await t.step(mayWatch ? "watch" : "no watch", async () => {
      const world = slowWorld({ startTimeoutMs: 60_000 });
      world.mayWatch = mayWatch;
      world.diagnosis = { problems: [], missingPermission: 'list pods in namespace "clawdbot"' };
      await using running = world.start();
      await running.receive("start");
      await world.clock.advance(60_000);
      const said = "clawdbot isn't ready after 1 min (0/1). I can't see why: that needs permission to " +
        'list pods in namespace "clawdbot" (see "extended" in the docs). Still watching.';
      assert.deepEqual(world.story, [on, `✎ ${said}`, `! ${alice}: clawdbot still isn't ready`]);
      await world.clock.advance(600_000);
      assert.equal(world.story.length, 3);
      world.setPods({ ready: 1 });
      await world.clock.advance(mayWatch ? 0 : 10_000);
      assert.equal(world.story.length, 5);
      assert.deepEqual(world.story.slice(3), ["✎ clawdbot is ready (took 11 min)", `! ${alice}: clawdbot is ready`]);
    });
  }
});

Deno.test("Operator shows provisional problems after 10 s, and alerts at the start timeout", async () => {
  const world = slowWorld({ startTimeoutMs: 60_000 });
  const message = "0/1 nodes are available: 1 Insufficient memory.";
  const obstacle = { kind: "unschedulable", certain: false, reason: "Unschedulable", message } as const;
  world.diagnosis = { problems: [obstacle], missingPermission: undefined };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(9_999);
  assert.deepEqual(world.story, [on]);
  await world.clock.advance(1);
  assert.deepEqual(world.story, [
    on,
    "✎ clawdbot is on (1 replica), starting… Not scheduled yet: 0/1 nodes are available: 1 Insufficient memory.",
  ]);
  await world.clock.advance(50_000);
  assert.deepEqual(world.story.slice(2), [
    `✎ clawdbot isn't ready (0/1): no node can run it (\`Unschedulable\`: ${message}). Still watching.`,
    `! ${alice}: clawdbot isn't ready: no node can run it`,
  ]);
});

Deno.test("Operator reports partial readiness of several replicas once", async () => {
  const world = slowWorld({ startReplicas: 4 });
  await using running = world.start();
  await running.receive("start");
  for (const ready of [1, 2, 3, 4]) {
    world.setPods({ ready });
    await world.clock.advance(2_000);
  }
  assert.deepEqual(world.story, [
    "clawdbot is on (4 replicas), starting…",
    "✎ clawdbot is on (4 replicas, 2 ready), starting…",
    "✎ clawdbot is ready (took 6 s)",
  ]);
});

Deno.test("Operator lets a second start join the first", async () => {
  const world = slowWorld();
  world.room(room, { joined: [alice, bob, self] });
  world.room("!second:example.org", { joined: [alice, self] });
  world.pins.set(bob, { kind: "identity", masterKey: "master", sinceMs: 0 });
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(2_000);
  await running.receive("start", { sender: bob });
  await running.receive("start", { roomId: "!second:example.org" });
  const starting = "clawdbot is already starting (0/1 ready)";
  assert.deepEqual(world.story, [on, starting, starting]);
  assert.deepEqual(world.effects, [1]);
  await world.clock.advance(38_000);
  world.setPods({ ready: 1 });
  await settled();
  const ready = "clawdbot is ready (took 40 s)";
  const news = [...world.sent.values()].slice(3).map(({ roomId, about, plain }) => `${roomId} ${about} ${plain}`);
  assert.deepEqual(
    news.toSorted(),
    [
      `!room:example.org $event1 ${alice}, ${bob}: clawdbot is ready`,
      `!room:example.org $event1 ${ready}`,
      `!second:example.org $event3 ${alice}: clawdbot is ready`,
      `!second:example.org $event3 ${ready}`,
    ].toSorted(),
  );
});

Deno.test("Operator reports the rollout of a target that somebody else has started when a start is sent", async () => {
  const world = slowWorld();
  world.setScale(1);
  await using running = world.start();
  await running.receive("start");
  world.setPods({ ready: 1 });
  await world.clock.advance(1_000);
  assert.deepEqual(world.story, ["clawdbot is already starting (0/1 ready)", "✎ clawdbot is ready (took 0 s)"]);
});

Deno.test("Operator says in a start's answer that a stop has overtaken it", async () => {
  const world = slowWorld();
  world.room(room, { joined: [alice, bob, self] });
  world.pins.set(bob, { kind: "identity", masterKey: "master", sinceMs: 0 });
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(5_000);
  await running.receive("stop", { sender: bob });
  assert.deepEqual(world.story, [
    on,
    `✎ ${bob} turned clawdbot off after 5 s, before it was ready`,
    off,
  ]);
  await world.clock.advance(600_000);
  assert.equal(world.story.length, 3);
  assert.equal(world.clock.sleeping, 0);
});

Deno.test("Operator says in a start's answer that it was undone, also where a stop comes before that was seen", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  world.setScale(0);
  await running.receive("stop");
  assert.deepEqual(world.story, [
    on,
    "✎ clawdbot was turned off after 0 s, before it was ready",
    "clawdbot is already off",
  ]);
});

Deno.test("Operator keeps reporting a start whose count somebody else has changed before the next command", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  world.setScale(2);
  await running.receive("start 1h");
  world.setPods({ ready: 2 });
  await world.clock.advance(1_000);
  assert.deepEqual(world.story, [
    on,
    "clawdbot is already starting (0/2 ready). Stops automatically in 1 h.",
    "✎ clawdbot is ready (took 1 s); stops automatically in 1 h",
  ]);
  assert.equal([...world.sent.values()].at(-1)?.about, "$event1");
});

Deno.test("Operator reports in the answer who has undone a change within a minute, and mentions the sender", async (t) => {
  const rows: [
    command: string,
    before: number,
    now: number,
    afterMs: number,
    manager: string | undefined,
    said: string,
  ][] = [
    [
      "start",
      0,
      0,
      12_000,
      "keda-operator",
      "clawdbot was turned on (1 replica), but somebody else (`keda-operator`) scaled it to 0 after 12 s. Send `start` to try again.",
    ],
    [
      "start",
      0,
      0,
      12_000,
      "argocd-controller",
      "clawdbot was turned on (1 replica), but somebody else (`argocd-controller`) scaled it to 0 after 12 s. It will do so again until it is told to leave `spec.replicas` alone.",
    ],
    [
      "stop",
      2,
      3,
      50_000,
      undefined,
      "clawdbot was turned off, but somebody else scaled it to 3 after 50 s. Send `stop` to try again.",
    ],
  ];
  for (const [command, before, now, afterMs, manager, said] of rows) {
    for (const mayWatch of [true, false]) {
      await t.step(`${command}, ${mayWatch ? "watch" : "no watch"}: ${said}`, async () => {
        const world = new World();
        world.mayWatch = mayWatch;
        world.setScale(before);
        await using running = world.start();
        await running.receive(command);
        await world.clock.advance(afterMs);
        world.setScale(now, "clawdbot", manager);
        await world.clock.advance(mayWatch ? 100 : 60_000);
        const told = [
          `✎ ${mayWatch ? said : said.replace(/after \d+ s/, "after 1 min")}`,
          `! ${alice}: clawdbot was scaled from ${world.effects[0]} to ${now} replicas by somebody else${
            manager === undefined ? "" : ` (\`${manager}\`)`
          }`,
        ];
        assert.deepEqual(world.story.slice(-2), told);
        await world.clock.advance(600_000);
        assert.deepEqual(world.story.slice(-2), told);
      });
    }
  }
});

Deno.test("Operator reports several targets in one answer, each with its own result", async () => {
  const world = slowWorld({ targets: [clawdbot, ollama] });
  await using running = world.start();
  await running.receive("start all");
  world.setPods({ ready: 1 }, "ollama");
  await world.clock.advance(2_000);
  world.setPods({ ready: 1 });
  await world.clock.advance(2_000);
  assert.deepEqual(world.story, [
    `${on}\n${on.replace("clawdbot", "ollama")}`,
    `✎ ${on}\nollama is ready (took 0 s)`,
    "✎ clawdbot is ready (took 2 s)\nollama is ready (took 0 s)",
  ]);
});

Deno.test("Operator's answer to all has the news of those that did not wait", async () => {
  const world = slowWorld({ targets: [clawdbot, ollama] });
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  world.before = (call, detail) => call === "scale" && detail.startsWith("clawdbot") ? hanging : undefined;
  await using running = world.start();
  await running.receive("start all");
  world.setPods({ ready: 1 }, "ollama");
  await world.clock.advance(3_000);
  assert.deepEqual(world.story, []);
  goOn();
  await settled();
  assert.deepEqual(world.story, [`${on}\nollama is ready (took 0 s)`]);
});

Deno.test("Operator reports that a target can't be read after a while, and keeps trying", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  world.before = (call) => {
    if (call === "scaler.read") throw new PermissionError("get", "deployments.apps");
  };
  await world.clock.advance(5_000);
  assert.deepEqual(world.story, [on]);
  await world.clock.advance(30_000);
  const told = [
    on,
    "✎ Can't tell whether clawdbot is ready: I'm not allowed to get `deployments`. My Role lacks that permission. Still trying.",
    `! ${alice}: Can't tell whether clawdbot is ready`,
  ];
  assert.deepEqual(world.story, told);
  await world.clock.advance(300_000);
  assert.deepEqual(world.story, told);
  world.before = () => {};
  await world.clock.advance(16_000);
  assert.deepEqual(world.story.slice(3), ["✎ clawdbot is on (1 replica), starting…"]);
  world.setPods({ ready: 1 });
  await world.clock.advance(10_000);
  assert.match(world.story.slice(4).join(), /^✎ clawdbot is ready \(took 5 min( \d+ s)?\),! .*: clawdbot is ready$/);
});

Deno.test("Operator killed during a rollout resumes its messages, and repeats none", async (t) => {
  const calls = ["save", "queueAnswer", "transaction", "send", "markSent", "scaler.read", "diagnose"];
  const points = calls.flatMap((call) => [`before ${call}`, `after ${call}`]);
  // A watch spares the reads.
  const rows = [true, false].flatMap((mayWatch) =>
    points.filter((point) => !mayWatch || !point.includes("scaler.read")).map((point) => ({ mayWatch, point }))
  );
  let killed = 0;
  for (const { mayWatch, point } of rows) {
    await t.step(`killed ${point}, ${mayWatch ? "watch" : "no watch"}`, async () => {
      const world = slowWorld();
      world.mayWatch = mayWatch;
      {
        await using running = world.start();
        await running.receive("start");
      }
      world.diagnosis = { problems: [image], missingPermission: undefined };
      {
        // It dies on the way from the first failure to its being told.
        await using running = world.start(point);
        await world.clock.advance(2_000);
        running.stop();
        killed += await running.ended instanceof Killed ? 1 : 0;
      }
      await using _running = world.start();
      await world.clock.advance(2_000);
      world.diagnosis = { problems: [], missingPermission: undefined };
      world.setPods({ ready: 1 });
      await world.clock.advance(100_000);
      const kinds = world.story.map((line) =>
        line.startsWith("✎") ? line.replace(/\(.*/, "") : line.replace(/: its .*/, "")
      );
      assert.deepEqual(kinds, [
        on,
        "✎ clawdbot isn't ready ",
        `! ${alice}: clawdbot isn't ready`,
        "✎ clawdbot is ready ",
        `! ${alice}: clawdbot is ready`,
      ]);
      assert.deepEqual(world.effects, [1]);
    });
  }
  assert.equal(killed, rows.length);
});

Deno.test("Operator measures from the time of the change after a restart", async () => {
  const world = slowWorld();
  {
    await using running = world.start();
    await running.receive("start");
  }
  world.clock.nowMs += 25_000;
  world.setPods({ ready: 1 });
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 25 s)"]);
});

Deno.test("Operator says in a status for how long a target has been ready, and why it is not", async () => {
  const world = slowWorld();
  await using running = world.start();
  await running.receive("start");
  world.setPods({ ready: 1, available: 1 });
  await world.clock.advance(11_520_000);
  await running.receive("status");
  assert.equal(world.story.at(-1), "clawdbot is running: 1/1 ready, up 3 h 12 min");
  world.setPods({ ready: 0, available: 0 });
  await settled();
  world.diagnosis = { problems: [image], missingPermission: undefined };
  await running.receive("status");
  assert.equal(
    world.story.at(-1),
    "clawdbot is starting: 0/1 ready; the image `claw:0` can't be pulled (`ImagePullBackOff`: denied)",
  );
  world.setPods({ ready: 1, available: 1 });
  await world.clock.advance(60_000);
  await running.receive("status");
  assert.equal(world.story.at(-1), "clawdbot is running: 1/1 ready, up 1 min");
});

Deno.test("Operator starts as many as are configured, or as there were before the last stop by chat", async (t) => {
  const rows: [startReplicas: number | "previous", commands: string[], effects: number[]][] = [
    [3, ["start", "stop", "start"], [3, 0, 3]],
    ["previous", ["start"], [1]],
    ["previous", ["=2", "stop", "stop", "start"], [0, 2]],
    ["previous", ["=2", "stop", "=5", "=0", "start"], [0, 2]],
  ];
  for (const [startReplicas, commands, effects] of rows) {
    await t.step(`${startReplicas}: ${commands.join(", ")}`, async () => {
      const world = new World({ startReplicas });
      for (const command of commands) {
        // A life each: what counts is remembered.
        await using running = world.start();
        await settled();
        if (command.startsWith("=")) world.setScale(Number(command.slice(1)));
        else await running.receive(command);
        await settled();
      }
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator notes on a target who has changed it, and lives without the permission", async () => {
  const world = new World();
  await using running = world.start();
  await running.receive("start");
  await running.receive("status");
  await running.receive("on");
  assert.deepEqual(world.notes, [`clawdbot SwitchedOn: ${alice} sent start in ${room}: replicas 0 → 1`]);
  let tries = 0;
  world.before = (call) => {
    if (call !== "record") return;
    tries += 1;
    throw new PermissionError("create", "events");
  };
  await running.receive("stop");
  await running.receive("start");
  assert.deepEqual([world.effects, tries], [[1, 0, 1], 1], "forbidden once, it is not tried at each change");
  await world.clock.advance(300_000);
  world.before = () => {};
  await running.receive("stop");
  assert.equal(world.notes.at(-1), `clawdbot SwitchedOff: ${alice} sent stop in ${room}: replicas 1 → 0`);
});

Deno.test("Operator lives with credentials that a cluster refuses for a while", async () => {
  const world = slowWorld();
  world.before = (call) => {
    if (["diagnose", "record", "watch"].includes(call)) throw new CredentialError("Cannot ask: refused");
  };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(5_000);
  world.setPods({ ready: 1 });
  await world.clock.advance(1_000);
  assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 6 s)"]);
});

Deno.test("Operator answers when the cluster refuses its credentials, and keeps running", async () => {
  const world = slowWorld();
  world.mayWatch = false;
  await using running = world.start();
  await running.receive("start");
  world.before = (call) => {
    if (call === "scaler.read") throw new CredentialError("Cannot get it: refused");
  };
  await world.clock.advance(2_000);
  await running.receive("stop");
  world.before = () => {};
  await running.receive("stop");
  assert.deepEqual(world.texts.slice(1), [
    "Can't stop clawdbot: the Kubernetes API rejected the request (`Unauthorized`).",
    "clawdbot is off",
  ]);
});

Deno.test("Operator killed during its start reports nothing twice", async () => {
  const world = slowWorld();
  world.receive("start");
  {
    await using running = world.start("after scale");
    await settled();
    assert.ok(await running.ended instanceof Killed);
  }
  world.clock.nowMs += 10_000;
  await using _running = world.start();
  world.setPods({ ready: 1 });
  await world.clock.advance(2_000);
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.story, [on, "✎ clawdbot is ready (took 10 s)"]);
});

Deno.test("Operator forgets what it was telling of targets that are no longer its own", async () => {
  const world = slowWorld({ targets: [clawdbot, ollama] });
  {
    await using running = world.start();
    await running.receive("start all");
  }
  const later = slowWorld({ targets: [clawdbot] });
  later.remembered = world.remembered;
  later.setScale(1);
  {
    await using _running = later.start();
    later.setPods({ ready: 1 });
    await settled();
    assert.deepEqual(later.story, [`✎ clawdbot is ready (took 0 s)\n${on.replace("clawdbot", "ollama")}`]);
    await later.clock.advance(60_000);
  }
  assert.deepEqual(later.remembered?.messages, []);
  assert.deepEqual(Object.keys(later.remembered?.targets ?? {}), ["deployment/clawdbot/clawdbot"]);
});

Deno.test("Operator attributes a change with an unknown outcome to nobody", async () => {
  const world = new World();
  world.before = (call, _detail, signal) => {
    if (call === "scale") {
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    }
  };
  await using running = world.start();
  await running.receive("start");
  await world.clock.advance(30_000);
  assert.match(world.story.join(), /Can't tell whether clawdbot was started/);
  const { length } = world.story;
  world.setScale(1);
  await world.clock.advance(60_000);
  assert.equal(world.story.length, length);
});
