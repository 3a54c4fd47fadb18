/**
 * What keeps workloads from being ready, as the sandbox plays it and the port tells it.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Target } from "../../lib/config/mod.ts";
import type { Problem } from "../../lib/scaler/mod.ts";
import { type AtSandbox, atSandbox, baseRole, patient } from "./at_sandbox.ts";
import type { Rule } from "../../sandbox/kubernetes/mod.ts";

const everything: readonly Rule[] = [{ resources: ["*"], verbs: ["*"] }];
const failing = { alias: "agent", namespace: "agents", name: "agent" };

/** What is in a target's way as soon as that is as wanted; it is asked for whenever something changes. */
async function problemsWhen(
  { sandbox, scaler }: AtSandbox,
  target: Target,
  wanted: (first: Problem | undefined) => boolean,
): Promise<readonly Problem[]> {
  for (;;) {
    const changed = Promise.withResolvers<void>();
    using _listening = sandbox.onChange(() => changed.resolve());
    const { problems } = await scaler.diagnose(target, await scaler.read(target, patient), patient);
    if (wanted(problems[0])) return problems;
    await changed.promise;
  }
}

Deno.test("KubernetesScaler.diagnose() reports failures of Deployments and StatefulSets", async (t) => {
  const rows: [image: string, certain: boolean, told: Partial<Problem>][] = [
    ["example/missing:1", true, { kind: "image", reason: "ImagePullBackOff", image: "example/missing:1" }],
    ["example/Invalid", true, { kind: "image", reason: "InvalidImageName", image: "example/Invalid" }],
    ["example/misconfigured", true, { kind: "container-config", reason: "CreateContainerConfigError" }],
    ["example/crash", true, { kind: "crash", exitCode: 1 }],
    ["example/oom", true, { kind: "out-of-memory", reason: "OOMKilled", exitCode: 137 }],
    ["example/flap", true, { kind: "crash", exitCode: 1 }],
    ["example/pending", false, { kind: "unschedulable", reason: "Unschedulable" }],
    ["example/unready", false, { kind: "other", reason: "ContainersNotReady" }],
  ];
  for (const kind of ["deployment", "statefulset"] as const) {
    for (const [image, certain, told] of rows) {
      await t.step(`${kind} ${image}`, async () => {
        await using at = await atSandbox({ rules: everything });
        Object.assign(at.sandbox.durations, { runMs: 10, backOffMs: 30 });
        at.sandbox.create({ ...failing, resource: `${kind}s`, image, replicas: 1 });
        const isTold = (first?: Problem) =>
          first?.certain === certain && first.kind === told.kind && first.reason !== "ContainerCreating";
        const [first, ...others] = await problemsWhen(at, { ...failing, kind }, isTold);
        assert.deepEqual({ ...first, ...told }, first);
        assert.deepEqual(others, []);
      });
    }
  }
});

Deno.test("KubernetesScaler.diagnose() reports a quota with the base Role", async () => {
  const rules: Rule[] = baseRole.map((rule) => ({ ...rule, resourceNames: ["clawdbot", "agent"] }));
  await using at = await atSandbox({ rules });
  using _quota = at.sandbox.limitPods("agents", 0);
  at.sandbox.create({ ...failing, replicas: 1 });
  const [first] = await problemsWhen(at, { ...failing, kind: "deployment" }, (first) => first !== undefined);
  assert.deepEqual([first?.kind, first?.certain, first?.reason], ["quota", true, "FailedCreate"]);
  assert.match(first?.message ?? "", /^pods "agent-\w+-\w*" is forbidden: exceeded quota: compute, requested: pods=1/);
});
