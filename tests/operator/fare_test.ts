import assert from "node:assert/strict";
import { nextStep, type Standing } from "../../lib/operator/fare.ts";
import type { Change, Diagnosis, Scale } from "../../lib/operator/ports.ts";

const change: Change = { before: 0, after: 1, atMs: 0, told: "nothing", late: false };
const stop: Change = { ...change, before: 1, after: 0 };
const ready: Scale = {
  ...{ desired: 1, current: 1, ready: 1, available: 1 },
  ...{ settled: true, resourceVersion: "1", generation: 1 },
};
const starting: Scale = { ...ready, ready: 0, available: 0 };
const off: Scale = { ...starting, desired: 0, current: 0 };
const image = { kind: "image", certain: true, reason: "ImagePullBackOff", image: "claw:0" } as const;
const crash = { kind: "crash", certain: true, reason: "CrashLoopBackOff" } as const;
const clear: Diagnosis = { problems: [], missingPermission: undefined };
const hindered: Diagnosis = { problems: [image], missingPermission: undefined };
const perhaps: Diagnosis = { problems: [{ ...image, certain: false }], missingPermission: undefined };
const failing: Change = { ...change, told: "failing", obstacles: ["image claw:0"] };

/** A step in short: for how long to wait; or what is told, `!` where people are called, and what is remembered of it. */
function inShort(standing: Partial<Standing>): string {
  const step = nextStep({
    ...{ alias: "clawdbot", change, scale: starting, diagnosis: clear, afterMs: 5_000, readyForMs: 0 },
    ...{ stopsInMs: undefined, watched: true, startTimeoutMs: 600_000, ...standing },
  });
  if (step.kind !== "tell") return step.kind === "wait" ? `wait ${step.forMs}` : "over";
  const words = step.text.plain.replace(/^clawdbot is /, "").replace(/ (after|, after|\().*/, "");
  return `${step.calls ? "! " : ""}${words} → ${step.change.told}${step.change.late ? ", late" : ""}`;
}

Deno.test("nextStep() tells what has changed, and nothing else", async (t) => {
  const rows: [name: string, standing: Partial<Standing>, step: string][] = [
    ["starting", {}, "wait 2000"],
    ["starting, unwatched", { watched: false }, "wait 1000"],
    ["starting, the status speaks of what was before", { scale: { ...ready, settled: false } }, "wait 2000"],
    ["ready", { scale: ready }, "ready, → ready"],
    ["ready, just in time", { scale: ready, afterMs: 30_000 }, "ready, → ready"],
    ["ready, after a while", { scale: ready, afterMs: 30_001 }, "! ready, → ready"],
    ["ready for a moment after a failure", { scale: ready, change: failing, readyForMs: 10_000 }, "wait 20000"],
    ["the same, unwatched", { scale: ready, change: failing, readyForMs: 10_000, watched: false }, "wait 1000"],
    ["ready after a failure", { scale: ready, change: failing, readyForMs: 30_000 }, "! ready, → ready"],
    ["perhaps hindered", { diagnosis: perhaps }, "wait 2000"],
    ["certainly hindered", { diagnosis: hindered }, "! not ready → failing"],
    ["hindered as before", { diagnosis: hindered, change: failing }, "wait 2000"],
    [
      "hindered by something else",
      { diagnosis: hindered, change: { ...failing, obstacles: ["crash "] } },
      "not ready → failing",
    ],
    [
      "hindered as before the last time",
      { diagnosis: hindered, change: { ...failing, obstacles: ["image claw:0", "crash "] } },
      "wait 2000",
    ],
    [
      "hindered by one more",
      { diagnosis: { ...hindered, problems: [image, crash] }, change: failing },
      "not ready → failing",
    ],
    ["late", { afterMs: 600_000 }, "! not ready → failing, late"],
    ["late, and told to be failing", { afterMs: 600_000, change: failing }, "not ready → failing, late"],
    ["late, and told so", { afterMs: 700_000, change: { ...failing, late: true } }, "wait 10000"],
    ["half of them ready", { scale: { ...ready, desired: 2 } }, "now on → partly"],
    [
      "half of them ready, and told so",
      { scale: { ...ready, desired: 2 }, change: { ...change, told: "partly" } },
      "wait 2000",
    ],
    ["told to be ready", { scale: ready, change: { ...change, told: "ready" } }, "wait 55000"],
    ["told to be ready a minute ago", { change: { ...change, told: "ready" }, afterMs: 60_000 }, "over"],
    [
      "crashing soon after it was ready",
      { diagnosis: hindered, change: { ...change, told: "ready" } },
      "! not ready → failing",
    ],
    ["stopping", { change: stop, scale: { ...off, current: 1 } }, "wait 55000"],
    ["stopping, unwatched", { change: stop, scale: { ...off, current: 1 }, watched: false }, "wait 1000"],
    ["off, unwatched", { change: stop, scale: off, watched: false }, "wait 55000"],
    ["off for a minute", { change: stop, scale: off, afterMs: 60_000 }, "over"],
  ];
  for (const [name, standing, step] of rows) {
    await t.step(`${name}: ${step}`, () => assert.equal(inShort(standing), step));
  }
});
