/** Schedules, with commands, timers, other people's changes, restarts and a clock that is set. */

import assert from "node:assert/strict";
import { PermissionError, TransientError } from "../../lib/errors.ts";
import { logOf } from "./log.ts";
import { Killed, room, settled, World } from "./fakes.ts";

const second = 1_000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;
/** A Thursday in winter, 07:00 in Berlin. */
const morningMs = Date.parse("2026-01-08T06:00Z");
const upTime = {
  ...{ alias: "clawdbot", days: [1, 2, 3, 4, 5], fromMinute: 8 * 60, toMinute: 18 * 60, timeZone: "Europe/Berlin" },
  text: "Mon-Fri 08:00-18:00 Europe/Berlin",
};

/** A world at seven in the morning, where the target is up in working hours; it has been commanded before. */
async function workday(changes: ConstructorParameters<typeof World>[0] = {}): Promise<World> {
  const world = new World({ schedule: [upTime], ...changes });
  world.clock.nowMs = morningMs - minute;
  await using running = world.start();
  await running.receive("stop");
  await world.clock.advance(minute);
  world.sent.clear();
  return world;
}

/** Goes on to a time of the clock in Berlin, on that Thursday. */
function until(world: World, time: string): Promise<void> {
  const [hours = 0, minutes = 0] = time.split(":").map(Number);
  return world.clock.advance(morningMs + (hours - 7) * hour + minutes * minute - world.clock.nowMs);
}

const started = "clawdbot is on (1 replica), as scheduled; stops at 18:00";
const stopped = "clawdbot is off, as scheduled; starts on Fri at 08:00";

Deno.test("Operator starts and stops a target by its schedule, also across restarts, announces and records it", async (t) => {
  for (const runs of [1, 4]) {
    await t.step(`${runs} lives between two edges`, async () => {
      const world = await workday();
      const live = async (time: string): Promise<void> => {
        const stepMs = (morningMs + (Number(time.slice(0, 2)) - 7) * hour - world.clock.nowMs) / runs;
        for (let run = 0; run < runs; run += 1) {
          await using _running = world.start();
          await world.clock.advance(run === runs - 1 ? stepMs - 1 : stepMs);
        }
      };
      await live("08:00");
      assert.deepEqual(world.effects, []);
      {
        await using _running = world.start();
        await world.clock.advance(1);
        assert.deepEqual(world.effects, [1]);
        assert.deepEqual(world.story, [started]);
      }
      await live("18:00");
      await using _running = world.start();
      assert.deepEqual(world.effects, [1]);
      await world.clock.advance(1);
      assert.deepEqual(world.effects, [1, 0]);
      await until(world, "23:00");
      assert.deepEqual(world.story, [started, stopped]);
      assert.deepEqual([...world.sent.values()].map(({ answer }) => [answer.form, answer.mentions, answer.roomId]), [
        ["notice", [], room],
        ["notice", [], room],
      ]);
      assert.deepEqual(world.notes, [
        "clawdbot SwitchedOn: An up-time of the schedule begins: replicas 0 → 1",
        "clawdbot SwitchedOff: An up-time of the schedule ends: replicas 1 → 0",
      ]);
      assert.deepEqual(world.wakeUps, ["clawdbot by schedule"]);
    });
  }
});

Deno.test("Operator's first start acts on nothing that has begun or ended before", async (t) => {
  const rows = [["12:00", 0, [1, 0]], ["12:00", 1, [0, 1, 0]], ["20:00", 1, [0]]] as const;
  for (const [time, scale, effects] of rows) {
    await t.step(`at ${time}, ${scale === 0 ? "off" : "on"}`, async () => {
      const world = new World({ schedule: [upTime] });
      world.clock.nowMs = morningMs;
      await until(world, time);
      world.setScale(scale);
      await using _running = world.start();
      await until(world, time === "12:00" ? "17:59" : "23:59");
      assert.deepEqual(world.effects, []);
      await until(world, `${24 + 19}:00`);
      assert.deepEqual(world.effects, effects);
    });
  }
});

Deno.test("Operator does what commands, timers, other people and the schedule say, in this order", async (t) => {
  type Step = readonly [time: string, what: string];
  const rows: [name: string, steps: readonly Step[], effects: readonly string[], autoStopMs?: number][] = [
    ["a start before an up-time lasts until its end", [["07:30", "start"]], ["07:30 1", "18:00 0"]],
    ["a stop lasts until the next begin", [["09:00", "stop"]], ["08:00 1", "09:00 0", "+1 08:00 1"]],
    ["a start outside lasts until the end of the next up-time", [["19:00", "start"]], [
      ...["08:00 1", "18:00 0"],
      ...["19:00 1", "+1 18:00 0"],
    ]],
    ["or for its own time", [["19:00", "start 2h"]], [
      ...["08:00 1", "18:00 0"],
      ...["19:00 1", "21:00 0", "+1 08:00 1"],
    ]],
    ["or for AUTO_STOP", [["19:00", "start"]], [
      ...["08:00 1", "18:00 0"],
      ...["19:00 1", "23:00 0", "+1 08:00 1"],
    ], 4 * hour],
    ["AUTO_STOP doesn't count in an up-time", [["09:00", "stop"], ["10:00", "start"]], [
      ...["08:00 1", "09:00 0", "10:00 1"],
      "18:00 0",
    ], 4 * hour],
    ["nor in one that begins before it is over", [["07:00", "start"]], ["07:00 1", "18:00 0"], 4 * hour],
    ["a time that was asked for does", [["10:00", "start 2h"]], ["08:00 1", "12:00 0", "+1 08:00 1"]],
    ["also beyond the end", [["17:00", "start 3h"]], ["08:00 1", "20:00 0", "+1 08:00 1"]],
    ["an extend goes beyond the end", [["17:00", "extend 1h"]], ["08:00 1", "19:00 0", "+1 08:00 1"]],
    ["a time that is over as an up-time begins doesn't stop it", [["07:00", "start 1h"]], ["07:00 1", "18:00 0"]],
    ["what somebody does with kubectl stands until the next edge", [["09:00", "=0"]], ["08:00 1", "+1 08:00 1"]],
    ["also outside", [["19:00", "=3"]], ["08:00 1", "18:00 0", "+1 18:00 0"]],
    ["an autoscaler's count is stopped, too", [["09:00", "=5"]], ["08:00 1", "18:00 0", "+1 08:00 1"]],
  ];
  for (const [name, steps, effects, autoStopMs] of rows) {
    await t.step(`${name}: ${steps.flat().join(" ")}`, async () => {
      const world = await workday({ autoStopMs });
      const seen: string[] = [];
      world.before = (call, detail) => {
        if (call !== "scale") return;
        const minutes = Math.round((world.clock.nowMs - morningMs) / minute) + 7 * 60;
        const [days, hours] = [Math.floor(minutes / 60 / 24), Math.floor(minutes / 60) % 24];
        const time = `${`${hours}`.padStart(2, "0")}:${`${minutes % 60}`.padStart(2, "0")}`;
        seen.push(`${days === 0 ? "" : `+${days} `}${time} ${detail.split(" ")[1]}`);
      };
      await using running = world.start();
      for (const [time, what] of steps) {
        await until(world, time);
        if (what.startsWith("=")) world.setScale(Number(what.slice(1)));
        else await running.receive(what);
        await settled();
      }
      await until(world, `${24 + 7}:00`);
      const first = seen.length;
      await world.clock.advance(12 * hour);
      // The next day is as any other from the first edge on that does something.
      const next = effects.filter((effect) => effect.startsWith("+1"));
      assert.deepEqual(seen.slice(0, first), effects.filter((effect) => !effect.startsWith("+1")));
      if (next.length > 0) assert.equal(seen[first], next[0]);
    });
  }
});

Deno.test("Operator reports the next scheduled change, and the schedule in help", async () => {
  const world = await workday();
  await using running = world.start();
  for (const words of ["status", "start", "status", "start", "extend 1h", "stop", "help"]) await running.receive(words);
  const help = world.texts.at(-1) ?? "";
  assert.deepEqual(world.texts.slice(0, -1), [
    "clawdbot is off; starts at 08:00",
    "clawdbot is on (1 replica), starting… Stops at 18:00.",
    "clawdbot is running: 1/1 ready, up 0 s; stops at 18:00",
    "clawdbot is already running (1/1 ready). Stops at 18:00.",
    "Extended: clawdbot now stops automatically in 12 h",
    "clawdbot is off; starts at 08:00",
  ]);
  assert.deepEqual(world.story.filter((line) => line.startsWith("✎")), [
    "✎ clawdbot is ready (took 0 s); stops at 18:00",
  ]);
  assert.match(help, /\nclawdbot is scheduled to be on: Mon-Fri 08:00-18:00 Europe\/Berlin\.\nCommands win/);
});

Deno.test("Operator makes up for the latest edge that it has missed, once", async () => {
  const world = await workday();
  world.clock.nowMs += 3 * hour;
  for (let run = 0; run < 3; run += 1) {
    await using _running = world.start();
    await world.clock.advance(minute);
  }
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.story, [
    "clawdbot is on (1 replica), scheduled for 2 h ago, but I couldn't start it on time; stops at 18:00",
  ]);
  // Nobody is up over several days.
  world.clock.nowMs += 3 * day;
  await using _running = world.start();
  await world.clock.advance(hour);
  assert.deepEqual(world.effects, [1, 0]);
});

Deno.test("Operator does not make up for an edge after which a command or somebody else's change came", async (t) => {
  const later = (words: string) => (world: World) =>
    void world.receive(words, { receivedAtMs: world.clock.nowMs + 2 * hour - minute });
  const rows: [name: string, whileDown: (world: World) => void, effects: readonly number[]][] = [
    ["nothing", () => {}, [0]],
    ["a start, which the operator finds as it comes back", later("start"), []],
    ["a start for an hour", later("start 1h"), [0]],
    ["kubectl", (world) => world.setScale(2), []],
    ["a status", later("status"), [0]],
    ["a start that is too old", (world) => void world.receive("start"), [0]],
  ];
  for (const mayWatch of [true, false]) {
    for (const [name, whileDown, effects] of rows) {
      await t.step(`${name}${mayWatch ? "" : ", without a watch"}`, async () => {
        const world = await workday();
        world.mayWatch = mayWatch;
        world.setScale(1);
        {
          await using running = world.start();
          await running.receive("start");
          await until(world, "17:00");
        }
        whileDown(world);
        world.clock.nowMs += 2 * hour;
        // Reading takes longer than looking at the target.
        const read = Promise.withResolvers<void>();
        world.before = (call) => call === "read" ? read.promise : undefined;
        await using _running = world.start();
        await world.clock.advance(10 * second);
        assert.deepEqual(world.effects, name === "nothing" || name === "kubectl" ? effects : []);
        read.resolve();
        await world.clock.advance(10 * second);
        assert.deepEqual(world.effects, name === "a start for an hour" ? [] : effects);
        await world.clock.advance(2 * hour);
        assert.deepEqual(world.effects, effects);
      });
    }
  }
});

Deno.test("Operator does not wait for ever for messages that can't be read", async () => {
  const world = await workday();
  world.receive("start");
  world.clock.nowMs += 2 * hour;
  world.before = (call) => {
    if (call === "read") throw new TransientError("Cannot reach it");
  };
  await using _running = world.start();
  await world.clock.advance(29 * second);
  assert.deepEqual(world.effects, []);
  await world.clock.advance(2 * second);
  assert.deepEqual(world.effects, [1]);
});

Deno.test("Operator does nothing for an edge that the next one undoes within a minute", async () => {
  const world = await workday();
  world.setScale(1);
  {
    await using running = world.start();
    await running.receive("start");
    await until(world, "17:00");
  }
  // Down until right before the next morning.
  world.clock.nowMs = morningMs + day + hour - 30 * second;
  await using _running = world.start();
  await world.clock.advance(hour);
  assert.deepEqual(world.effects, []);
});

Deno.test("Operator handles no edge twice when the clock is set back, and resumes afterwards", async (t) => {
  for (const backMs of [10 * minute, 2 * hour, 2 * day]) {
    await t.step(`by ${backMs / minute} min`, async () => {
      const world = await workday();
      {
        await using _running = world.start();
        await until(world, "08:01");
        assert.deepEqual(world.effects, [1]);
        world.clock.nowMs -= backMs;
        await world.clock.advance(backMs);
        assert.deepEqual(world.effects, [1]);
      }
      await using _running = world.start();
      await until(world, "18:00");
      assert.deepEqual(world.effects, [1, 0]);
    });
  }
  await t.step("by a year, in which it was wrong", async () => {
    const world = await workday();
    world.clock.nowMs += 365 * day;
    {
      await using _running = world.start();
      await world.clock.advance(minute);
    }
    world.clock.nowMs -= 365 * day;
    world.effects.length = 0;
    world.setScale(0);
    await using _running = world.start();
    await until(world, "08:00");
    assert.deepEqual(world.effects, [1]);
  });
});

Deno.test("Operator killed while it follows the schedule does it once, and says so once", async (t) => {
  const points = ["save", "scale", "scaler.read", "transaction", "queueAnswer"];
  for (const point of points.flatMap((call) => [`before ${call}`, `after ${call}`])) {
    await t.step(`killed ${point}`, async () => {
      const world = await workday();
      {
        await using running = world.start();
        await until(world, "07:59");
        await running.operator[Symbol.asyncDispose]();
      }
      {
        await using running = world.start(point);
        await world.clock.advance(2 * minute);
        assert.ok(await running.ended instanceof Killed);
      }
      {
        await using _running = world.start();
        await world.clock.advance(minute);
      }
      await using _running = world.start();
      await until(world, "09:00");
      assert.deepEqual(world.effects, [1]);
      assert.deepEqual(world.story, [started]);
    });
  }
});

Deno.test("Operator retries a scheduled change, and reports once that it isn't permitted", async () => {
  const world = await workday();
  world.before = (call) => {
    if (call === "scale") throw new PermissionError("patch", "deployments.apps/scale");
  };
  await using _running = world.start();
  await until(world, "09:00");
  const refused = "Can't start clawdbot: I'm not allowed to patch `deployments/scale`. My Role lacks that permission.";
  assert.deepEqual(world.story, [refused]);
  world.before = () => {};
  await until(world, "09:10");
  assert.deepEqual(world.effects, [1]);
  assert.match(world.story[1] ?? "", /^clawdbot is on \(1 replica\), scheduled for 1 h( \d min)? ago, but I couldn't/);
});

Deno.test("Operator forgets about an edge that can't be followed when a command comes", async () => {
  const world = await workday();
  world.before = (call) => {
    if (call === "scale") throw new TransientError("Cannot reach it");
  };
  await using running = world.start();
  await until(world, "08:10");
  await running.receive("stop");
  world.before = () => {};
  await until(world, "12:00");
  assert.deepEqual(world.effects, []);
  assert.deepEqual(world.story, ["clawdbot is already off; starts on Fri at 08:00"]);
});

Deno.test("Operator logs what its schedule and timers do, besides commands", async () => {
  const world = await workday();
  const lines = await logOf(async () => {
    await using running = world.start();
    await until(world, "09:00");
    await running.receive("start 1h");
    await until(world, "10:01");
  });
  assert.deepEqual(lines.filter((line) => line.startsWith("turned")), [
    "turned on clawdbot (schedule): An up-time of the schedule begins: replicas 0 → 1",
    "turned off clawdbot (timer): The time is over that @alice:example.org has set: replicas 1 → 0",
  ]);
});

Deno.test("Operator follows each target's own schedule", async () => {
  const world = new World({
    targets: [
      { alias: "clawdbot", kind: "deployment", namespace: "clawdbot", name: "clawdbot" },
      { alias: "ollama", kind: "statefulset", namespace: "models", name: "ollama" },
    ],
    schedule: [upTime, { ...upTime, alias: "ollama", fromMinute: 9 * 60, toMinute: 10 * 60, text: "Mon-Fri 9-10" }],
  });
  world.clock.nowMs = morningMs;
  await using _running = world.start();
  await until(world, "20:00");
  assert.deepEqual(world.effects, [1, "ollama 1", "ollama 0", 0]);
  assert.equal(world.clock.nowMs, morningMs + 13 * hour);
});
