/** What lasts of targets, and that what the first version wrote is read. */

import assert from "node:assert/strict";
import { type TargetDocument, TargetStates } from "../../lib/operator/target_state.ts";
import { alice, clawdbot, ollama, room, settled, World } from "./fakes.ts";

const text = { plain: "clawdbot is on (1 replica), starting…", html: "on" };

/** As the first version wrote it: two hours' worth of a start that goes on, and a target that is no more. */
function firstDocument(nowMs: number) {
  return {
    targets: {
      clawdbot: {
        place: "deployment/clawdbot/clawdbot",
        known: { replicas: 1 },
        beforeStop: 3,
        startedBy: alice,
        rooms: [room],
        timer: { dueAtMs: nowMs + 7_200_000, roomId: room, user: alice, warned: false },
        change: { before: 0, after: 1, atMs: nowMs - 5_000, told: "failing", obstacles: ["image claw:0"], late: false },
      },
      former: { place: "deployment/former/former", known: { replicas: 1 } },
      nowhere: { known: { replicas: 1 } },
    },
    stories: [{
      eventId: "$start",
      roomId: room,
      users: [alice],
      lines: [
        { target: "clawdbot", text, watched: true },
        { target: "former", text: { plain: "former", html: "former" }, watched: true },
      ],
      answered: true,
      edits: 2,
      alerts: 1,
    }],
  };
}

Deno.test("TargetStates reads the first version's document, and drops workloads that are no longer targets", () => {
  const saves: TargetDocument[] = [];
  const states = new TargetStates({
    load: () => firstDocument(0),
    save: (document) => void saves.push(document),
  }, [clawdbot, ollama]);
  const workload = "deployment/clawdbot/clawdbot";
  const { timer, rollout, ...rest } = states.of(workload);
  assert.deepEqual(rest, { expectedReplicas: 1, replicasBeforeStop: 3, startedBy: alice, rooms: [room] });
  assert.deepEqual(timer, { dueAtMs: 7_200_000, roomId: room, user: alice, warned: false });
  assert.deepEqual(rollout, {
    ...{ before: 0, after: 1, atMs: -5_000, told: "failing", late: false },
    problems: ["image claw:0"],
  });
  assert.deepEqual(states.of("deployment/former/former"), {});
  const [message] = states.following(workload);
  assert.deepEqual(message?.lines.map(({ workload, state }) => [workload, state]), [
    [workload, "followed"],
    ["deployment/former/former", "final"],
  ]);
  assert.deepEqual([message?.edits, message?.alerts], [2, 1]);

  states.save();
  assert.deepEqual(saves, [], "nothing has changed yet");
  states.change(workload, { startedBy: undefined });
  states.save();
  assert.deepEqual(saves.map(({ version, targets }) => [version, Object.keys(targets)]), [[2, [workload]]]);
});

Deno.test("TargetStates reads what it has written", () => {
  let saved: object | undefined;
  const store = { load: () => saved, save: (document: object) => void (saved = structuredClone(document)) };
  const first = new TargetStates(store, [clawdbot]);
  first.change("deployment/clawdbot/clawdbot", { replicasBeforeStop: 2 });
  first.save();
  assert.deepEqual(new TargetStates(store, [clawdbot]).of("deployment/clawdbot/clawdbot"), { replicasBeforeStop: 2 });
  assert.deepEqual(new TargetStates(store, [ollama]).of("deployment/clawdbot/clawdbot"), {});
});

Deno.test("Operator resumes a start, its message and its timer from the first version's document", async () => {
  const world = new World();
  world.isPrompt = false;
  world.setScale(1);
  const first = firstDocument(world.clock.nowMs);
  world.remembered = first as unknown as typeof world.remembered;
  await using _running = world.start();
  world.setPods({ ready: 1 });
  await world.clock.advance(30_000);
  assert.deepEqual(world.story, [
    "✎ clawdbot is ready (took 35 s); stops automatically in 2 h\nformer",
    `! ${alice}: clawdbot is ready`,
  ]);
  const [edit, alert] = [...world.sent.values()].map(({ answer }) => answer.sequence);
  assert.deepEqual([edit, alert], [2, 1]);
  await world.clock.advance(7_200_000);
  assert.deepEqual(world.effects, [0]);
  assert.match(world.story.at(-1) ?? "", /its time is up/);
});

Deno.test("Operator reports a stop by timer that the first version had begun", async () => {
  const world = new World();
  const { clawdbot: { change: _, ...target } } = firstDocument(world.clock.nowMs).targets;
  const timer = { ...target.timer, dueAtMs: world.clock.nowMs - 1_000, warned: true, before: 1 };
  world.remembered = { targets: { clawdbot: { ...target, timer } }, stories: [] } as unknown as typeof world.remembered;
  await using _running = world.start();
  await settled();
  assert.deepEqual(world.effects, []);
  assert.deepEqual(world.story, [`! ${alice}: clawdbot is off: its time is up`]);
});
