import assert from "node:assert/strict";
import * as answers from "../../lib/commands/mod.ts";
import type { Text } from "../../lib/commands/mod.ts";
import type { Problem } from "../../lib/scaler/mod.ts";

Deno.test("notReady() says what is in the way, in the cluster's own words", async (t) => {
  const rows: [problem: Omit<Problem, "certain">, words: string][] = [
    [
      { kind: "image", reason: "ImagePullBackOff", image: "ghcr.io/claw:1", message: "not found" },
      "its image cannot be pulled (`ImagePullBackOff`, image `ghcr.io/claw:1`, not found)",
    ],
    [
      { kind: "container-config", reason: "CreateContainerConfigError", message: 'secret "claw" not found' },
      'its container cannot be set up (`CreateContainerConfigError`, secret "claw" not found)',
    ],
    [
      { kind: "crash", reason: "CrashLoopBackOff", exitCode: 1, restarts: 3 },
      "it crashes (`CrashLoopBackOff`, exit code 1, restarts: 3)",
    ],
    [
      { kind: "out-of-memory", reason: "OOMKilled", exitCode: 137, restarts: 0 },
      "it runs out of memory (`OOMKilled`, exit code 137)",
    ],
    [
      { kind: "unschedulable", reason: "Unschedulable", message: "0/3 nodes" },
      "no node can take it (`Unschedulable`, 0/3 nodes)",
    ],
    [
      { kind: "quota", reason: "FailedCreate", message: "exceeded quota" },
      "the cluster permits no more pods (`FailedCreate`, exceeded quota)",
    ],
    [{ kind: "other", reason: "ContainerCreating" }, "the cluster reports (`ContainerCreating`)"],
  ];
  for (const [problem, words] of rows) {
    await t.step(words, () => {
      const why = { problems: [{ ...problem, certain: true }], missingPermission: undefined };
      const { plain } = answers.notReady("clawdbot", { ready: 0, desired: 1 }, 14_000, why);
      assert.equal(plain, `clawdbot is not ready after 14 s (0/1 ready): ${words}. I keep watching it.`);
    });
  }
});

Deno.test("notReady() says whether it has seen nothing in the way, or could not look", () => {
  const said = (missingPermission: string | undefined): string =>
    answers.notReady("clawdbot", { ready: 0, desired: 1 }, 600_000, { problems: [], missingPermission }).plain;
  const head = "clawdbot is not ready after 10 min (0/1 ready), and";
  assert.equal(said(undefined), `${head} I see nothing in its way. I keep watching it.`);
  assert.equal(
    said("list pods"),
    `${head} what I may look at does not say why. I could tell more with permission to list pods. I keep watching it.`,
  );
});

Deno.test("starting() says what a start waits for", async (t) => {
  const rows: [problems: Omit<Problem, "certain">[], counts: { ready: number; desired: number }, words: string][] = [
    [[], { ready: 0, desired: 1 }, "clawdbot is on (1 replica), starting…"],
    [[], { ready: 2, desired: 4 }, "clawdbot is on (4 replicas, 2 ready), starting…"],
    [
      [{ kind: "unschedulable", reason: "Unschedulable", message: "0/1 nodes are available: 1 Insufficient memory" }],
      { ready: 0, desired: 1 },
      "clawdbot is on (1 replica), starting… not scheduled yet: 0/1 nodes are available: 1 Insufficient memory",
    ],
    [
      [{ kind: "image", reason: "ErrImagePull" }, { kind: "crash", reason: "Error" }],
      { ready: 0, desired: 1 },
      "clawdbot is on (1 replica), starting… image not pulled yet: `ErrImagePull`; it has crashed: `Error`",
    ],
  ];
  for (const [problems, counts, words] of rows) {
    await t.step(words, () => {
      const all = problems.map((each) => ({ ...each, certain: false }));
      assert.equal(answers.starting("clawdbot", counts, all).plain, words);
    });
  }
});

Deno.test("what rings is one short line", async (t) => {
  const rows: [text: Text, words: string][] = [
    [answers.readyAlert("clawdbot"), "clawdbot is ready now"],
    [answers.notReadyAlert("clawdbot", []), "clawdbot isn't ready yet"],
    [answers.notReadyAlert("clawdbot", [{ kind: "other" }]), "clawdbot isn't ready yet"],
    [
      answers.notReadyAlert("clawdbot", [{ kind: "crash" }, { kind: "crash" }, { kind: "image" }]),
      "clawdbot isn't ready: it crashes; its image cannot be pulled",
    ],
    [answers.failedAlert("start", "clawdbot"), "Couldn't start clawdbot"],
    [answers.failedAlert("status", "clawdbot"), "Couldn't look at clawdbot"],
    [answers.unreadableAlert("clawdbot"), "Can't see how clawdbot is doing"],
  ];
  for (const [text, words] of rows) await t.step(words, () => assert.equal(text.plain, words));
});

Deno.test("what is being waited for is named", () => {
  assert.equal(
    answers.unanswered("stop", "clawdbot", "Kubernetes API").plain,
    "The Kubernetes API isn't answering. Still trying to stop clawdbot…",
  );
  assert.equal(
    answers.unreadable("clawdbot", { kind: "not-found", target: "deployment clawdbot in namespace claw" }).plain,
    "Can't see how clawdbot is doing: there is no deployment clawdbot in namespace claw. Still trying.",
  );
});

Deno.test("what is said of progress is modest in HTML, and lets nothing foreign into it", async (t) => {
  const image: Problem = { kind: "image", certain: true, reason: "<i>", message: `${"x".repeat(400)}\nline` };
  const rows: [text: Text, html: RegExp][] = [
    [answers.ready("clawdbot", 14_000, undefined), /^<b>clawdbot<\/b> is ready, after 14 s$/],
    [answers.reasons({ problems: [image] }), /^its image cannot be pulled \(<code>&#60;i&#62;<\/code>, x{300}…\)$/],
    [
      answers.changedByOthers("claw", { before: 1, now: 2, manager: "<b>" }),
      /^<b>claw<\/b> was scaled from 1 to 2 by somebody else \(<code>&#60;b&#62;<\/code>\)$/,
    ],
    [
      answers.mentioning(["@a:h"], answers.ready("claw", 0, undefined)),
      /^<a href="https:\/\/matrix\.to\/#\/%40a%3Ah">@a:h<\/a>: <b>claw<\/b> is ready, after 0 s$/,
    ],
  ];
  for (const [text, html] of rows) await t.step(text.plain.slice(0, 60), () => assert.match(text.html, html));
});

Deno.test("timeLeft() counts begun minutes as whole ones", async (t) => {
  const rows: [ms: number, words: string][] = [
    [59_999, "59 s"],
    [60_000, "1 min"],
    [473_000, "8 min"],
    [7_198_000, "2 h"],
    [2_820_001, "48 min"],
  ];
  for (const [ms, words] of rows) await t.step(`${ms} ms: ${words}`, () => assert.equal(answers.timeLeft(ms), words));
});
