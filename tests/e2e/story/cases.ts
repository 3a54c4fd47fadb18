/** The stories: what happens to a target, and how the operator reports it. */

import assert from "node:assert/strict";
import { rings } from "./transcript.ts";
import type { Scene, Setting, World } from "./world.ts";

/** A story. Targets that it leaves on are turned off afterwards. */
export interface Case {
  /** Subject. */
  readonly name: string;
  /** How the operator is run. */
  readonly setting: Setting;
  /** Runs the story. Throws if it is reported wrongly. Returns a note to print below the transcript. */
  run(world: World, scene: Scene): Promise<string | void>;
}

const extended: Setting = { role: "extended" };
const impatient: Setting = { role: "extended", environment: { START_TIMEOUT: "15s" } };
/** A window that starts in half an hour and lasts half an hour. */
const beginsAtMs = Math.floor(Date.now() / 60_000 + 30) * 60_000;
const endsAtMs = beginsAtMs + 30 * 60_000;
const day = new Date(beginsAtMs).toUTCString().slice(0, 3);
const [begins, ends] = [beginsAtMs, endsAtMs].map((ms) => new Date(ms).toISOString().slice(11, 16));
const scheduled: Setting = {
  role: "extended",
  // Where events don't tell their age, the operator's clock makes commands as old as it is ahead.
  environment: { SCHEDULE: `${day} ${begins}-${ends} UTC`, MAX_COMMAND_AGE: "3h" },
};
const base: Setting = { role: "base", environment: { START_TIMEOUT: "15s" } };

/** Echo, answer, and three edits of the answer. */
const MAX_MESSAGES = 5;
/** Time within which a certain failure must be reported after the cluster knows of it. */
const PROMPT_MS = 5_000;

// deno-lint-ignore no-explicit-any
type Loose = any;

/** Matches a pod with a container that waits for this reason. */
const waitsFor = (reason: string) => ({ status }: Loose) =>
  status.containerStatuses?.some(({ state }: Loose) => state.waiting?.reason === reason) === true;
const refused = ({ status }: Loose) => status.conditions?.some(({ type }: Loose) => type === "ReplicaFailure") === true;

/**
 * Waits until the cluster knows of a failure, and until the operator reports it in the answer and in one short message
 * that notifies, in any order.
 */
async function told(
  scene: Scene,
  knowing: Promise<number>,
  words: RegExp,
  line: RegExp,
): Promise<string> {
  const [knownAt, toldAt] = await Promise.all([knowing, scene.rings(line), scene.hears(words)]);
  const ms = toldAt - knownAt;
  assert.ok(ms <= PROMPT_MS, `told ${ms.toFixed(0)} ms after the cluster knew`);
  const alerts = scene.events.filter(rings).length;
  assert.equal(alerts, 1, "phones rang more than once");
  assert.ok(scene.sent <= MAX_MESSAGES + alerts, `${scene.sent} messages`);
  return `told ${ms.toFixed(0)} ms after the cluster knew; ${scene.sent} messages sent`;
}

/** The cases, ordered by their settings to restart the operator rarely. */
export const cases: readonly Case[] = [
  {
    name: "a start that becomes ready",
    setting: extended,
    async run(_world, scene) {
      await scene.says("start");
      await scene.hears(/^clawdbot is ready \(took \d+ s\)$/);
      assert.ok(scene.sent <= MAX_MESSAGES, `${scene.sent} messages`);
      assert.equal(scene.events.filter(rings).length, 0);
      assert.match(await scene.asks("status clawdbot"), /^clawdbot is running: 1\/1 ready, up \d+ s$/);
      return `${scene.sent} messages sent, two of them about the status`;
    },
  },
  {
    name: "a start that takes more than 30 s",
    setting: extended,
    async run(_world, scene) {
      await scene.says("start sleepy");
      await scene.rings(/: sleepy is ready$/);
      await scene.hears(/^sleepy is ready \(took 3\d s\)$/);
      assert.equal(scene.events.filter(rings).length, 1);
      assert.ok(scene.sent <= MAX_MESSAGES + 1, `${scene.sent} messages`);
      return `${scene.sent} messages sent`;
    },
  },
  {
    name: "its image is missing",
    setting: extended,
    async run(world, scene) {
      const knowing = world.knows("missing", waitsFor("ImagePullBackOff"));
      await scene.says("start missing");
      const words =
        /^missing isn't ready \(0\/1\): the image `example\/missing:1` can't be pulled \(`ImagePullBackOff`/;
      const note = await told(scene, knowing, words, /missing isn't ready: its image can't be pulled$/);
      assert.match(await scene.asks("status missing"), /missing is starting: 0\/1 ready; the image .* can't be pulled/);
      return note;
    },
  },
  {
    name: "it crashes",
    setting: extended,
    async run(world, scene) {
      const knowing = world.knows("crash", waitsFor("CrashLoopBackOff"));
      await scene.says("start crash");
      const words = /: it keeps crashing \(`(CrashLoopBackOff|Error)`, exit code 1, \d+ restarts?\b/;
      return await told(scene, knowing, words, /crash isn't ready: it keeps crashing$/);
    },
  },
  {
    name: "it runs out of memory",
    setting: extended,
    async run(world, scene) {
      const knowing = world.knows("memory", waitsFor("CrashLoopBackOff"));
      await scene.says("start memory");
      const words = /: it runs out of memory \(`OOMKilled`, exit code 137, \d+ restarts?\b/;
      return await told(scene, knowing, words, /memory isn't ready: it runs out of memory$/);
    },
  },
  {
    name: "a stop while it starts",
    setting: extended,
    async run(_world, scene) {
      await scene.says("start slow");
      await scene.hears(/^slow is on/);
      await scene.says("stop slow");
      await scene.hears(/^slow is off$/);
      await scene.hears(/turned slow off after \d+ s, before it was ready$/);
    },
  },
  {
    name: "a second start joins the first",
    setting: extended,
    async run(_world, scene) {
      await scene.says("start slow");
      await scene.hears(/^slow is on/);
      await scene.says("start slow");
      await scene.hears(/^slow is already starting \(0\/1 ready\)/);
      await scene.hears(/^slow is ready \(took \d+ s\)$/);
      assert.equal(scene.events.filter(rings).length, 0);
    },
  },
  {
    name: "somebody scales it with kubectl",
    setting: extended,
    async run({ testbed, namespace }, scene) {
      await scene.says("start shared");
      await scene.hears(/^shared is ready/);
      const scale = (replicas: number) =>
        testbed.workloads.scaleTarget(namespace, "shared", replicas, { manager: "kubectl" });
      await scale(3);
      await scene.rings(/shared was scaled from 1 to 3 replicas by somebody else \(`kubectl`\)$/);
      // At a count of 0, the API server drops the owner of the field and doesn't record the next one's.
      await scale(0);
      await scene.rings(/shared was scaled from 3 to 0 replicas by somebody else$/);
      await scale(1);
      await scene.rings(/shared was scaled from 0 to 1 replica by somebody else$/);
    },
  },
  {
    name: "a GitOps tool undoes a stop",
    setting: extended,
    async run({ testbed, namespace }, scene) {
      await scene.says("start");
      await scene.hears(/^clawdbot is ready/);
      await scene.says("stop");
      await scene.hears(/^clawdbot is off/);
      const path = `/apis/apps/v1/namespaces/${namespace}/deployments/clawdbot?fieldManager=argocd-controller`;
      await testbed.cluster.request("PATCH", path, { spec: { replicas: 1 } });
      const by = "somebody else \\(`argocd-controller`\\)";
      await scene.hears(new RegExp(`^clawdbot was turned off, but ${by} scaled it to 1 after`));
    },
  },
  {
    name: "an autoscaler has its minimum; a stop it lets be",
    setting: extended,
    async run({ testbed, namespace }, scene) {
      await scene.says("start scaled");
      await scene.hears(/^scaled is ready/);
      await testbed.workloads.autoscale(namespace, "scaled", 2);
      await scene.hears(/scaled was scaled from 1 to 2 replicas by somebody else \(`kube-controller-manager`\)/);
      assert.equal(scene.events.filter(rings).length, 0);
      assert.match(await scene.asks("stop scaled"), /^scaled is off/);
      await testbed.workloads.untilAutoscalerRests(namespace, "scaled");
      assert.match(await scene.asks("status scaled"), /^scaled is off/);
    },
  },
  {
    name: "the cluster's Events name who did it",
    setting: extended,
    async run({ testbed, namespace, alice }, scene) {
      await scene.says("start");
      await scene.hears(/^clawdbot is ready/);
      const wanted = ["clawdbot", "openclaw-toggle", "SwitchedOn"] as const;
      const { type, reason, message } = await testbed.records.untilEvent(namespace, ...wanted);
      assert.ok(message.includes(alice.userId), message);
      assert.equal(type, "Normal");
      return `kubectl get events: ${type} ${reason}: ${message}`;
    },
  },
  {
    name: "it stops by itself, warned of, across two restarts",
    setting: extended,
    async run(world, scene) {
      if (world.clock === undefined) return "not run: there is no libfaketime here";
      try {
        await scene.says("start 2h");
        await scene.hears(/clawdbot is ready \(took \d+ s\); stops automatically in (2 h|1 h 59 min)$/);
        await world.restart(extended, 6_720); // 1 h 52 min later
        await scene.rings(/clawdbot stops automatically in [78] min\. Send `extend clawdbot 1h`/);
        await world.restart(extended, 7_500); // 13 min after that
        await scene.rings(
          /clawdbot is off: its time was up \d+ min( \d+ s)? ago/,
        );
      } finally {
        await world.restart(extended, 0);
      }
    },
  },
  {
    name: "it is started and stopped by its schedule, across kills, and a clock that is set back",
    setting: scheduled,
    async run(world, scene) {
      if (world.clock === undefined) return "not run: there is no libfaketime here";
      try {
        assert.match(await scene.asks("stop clawdbot"), /^clawdbot is already off; starts (on \w+ )?at \d\d:\d\d$/);
        const secondsTo = (ms: number) => Math.round((ms - Date.now()) / 1_000);
        await world.restart(scheduled, secondsTo(beginsAtMs) - 3);
        await scene.hears(/^clawdbot is on \(1 replica\), as scheduled; stops (on \w+ )?at \d\d:\d\d$/);
        assert.match(await scene.asks("start clawdbot"), /^clawdbot is already .*Stops (on \w+ )?at \d\d:\d\d\.$/);
        await world.restart(scheduled, secondsTo(endsAtMs) + 600);
        await scene.hears(
          /^clawdbot is off, scheduled for 10 min( \d+ s)? ago, but I couldn't stop it on time; starts /,
        );
        const before = scene.events.length;
        await world.restart(scheduled, secondsTo(beginsAtMs) + 60);
        assert.match(await scene.asks("status clawdbot"), /^clawdbot is off; starts /);
        const since = scene.events.slice(before).filter(({ content }) => `${content.body}`.includes("schedule"));
        assert.deepEqual(since, []);
        const wanted = ["clawdbot", "openclaw-toggle", "SwitchedOff"] as const;
        const { message } = await world.testbed.records.untilEvent(world.namespace, ...wanted);
        return `kubectl get events: SwitchedOff: ${message}`;
      } finally {
        await world.restart(extended, 0);
      }
    },
  },
  {
    name: "no node can run it",
    setting: impatient,
    async run(_world, scene) {
      await scene.says("start pending");
      const words = /^pending isn't ready \(0\/1\): no node can run it \(`Unschedulable`: .*Insufficient memory/;
      await scene.hears(/pending is on \(1 replica\), starting… Not scheduled yet: .*Insufficient memory/);
      await scene.hears(words);
      await scene.rings(/pending isn't ready: no node can run it$/);
      assert.ok(scene.sent <= MAX_MESSAGES + 1, `${scene.sent} messages`);
    },
  },
  {
    name: "two targets with all, a Deployment and a StatefulSet",
    setting: { role: "extended", targets: ["clawdbot", "store"] },
    async run(_world, scene) {
      await scene.says("start all");
      await scene.hears(/^clawdbot is ready \(took \d+ s\)\nstore is ready \(took \d+ s\)$/);
      const table = /^clawdbot · running · 1\/1 ready, .*\nstore · running · 1\/1 ready, /;
      assert.match(await scene.asks("status"), table);
      assert.match(
        await scene.asks("stop all"),
        /^clawdbot is off\nstore is off$/,
      );
      assert.match(
        await scene.asks("start clawd"),
        /^There's no target `clawd`\. Use `clawdbot`, `store`/,
      );
    },
  },
  {
    name: "a start that becomes ready",
    setting: base,
    async run(_world, scene) {
      await scene.says("start");
      await scene.hears(/^clawdbot is ready \(took \d+ s\)$/);
      assert.ok(scene.sent <= MAX_MESSAGES, `${scene.sent} messages`);
      return `${scene.sent} messages sent`;
    },
  },
  {
    name: "its image is missing",
    setting: base,
    async run({ namespace }, scene) {
      await scene.says("start missing");
      const permission = `permission to list pods in namespace "${namespace}"`;
      await scene.hears(new RegExp(`^missing isn't ready after 1\\d s .*${permission}`));
      await scene.rings(/missing still isn't ready$/);
      assert.ok(scene.sent <= MAX_MESSAGES + 1, `${scene.sent} messages`);
    },
  },
  {
    name: "quota is used up",
    setting: base,
    async run(world, scene) {
      await world.testbed.workloads.limitPods(world.namespace, 0);
      const knowing = world.knows("clawdbot", refused, "deployments");
      await scene.says("start");
      return await told(
        scene,
        knowing,
        /: its pods would exceed the namespace's quota \(`FailedCreate`: .*exceeded quota: compute/,
        /clawdbot isn't ready: its pods would exceed the namespace's quota$/,
      );
    },
  },
  {
    name: "quota is used up",
    setting: extended,
    async run(world, scene) {
      const knowing = world.knows("clawdbot", refused, "deployments");
      await scene.says("start");
      return await told(
        scene,
        knowing,
        /: its pods would exceed the namespace's quota \(`FailedCreate`: .*exceeded quota: compute/,
        /clawdbot isn't ready: its pods would exceed the namespace's quota$/,
      );
    },
  },
];
