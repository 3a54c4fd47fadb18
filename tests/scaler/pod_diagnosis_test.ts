import assert from "node:assert/strict";
import fc from "fast-check";
import type { Problem } from "../../lib/scaler/mod.ts";

import { oneLine, problemsOf } from "../../lib/scaler/pod_diagnosis.ts";
import { type Json, list, object } from "../../lib/json.ts";

const HASH = "5d4f8c7b9";

/** A Deployment in the midst of its rollout, as the API server of v1.35 tells it. */
function deployment(status: Json = {}, generation = 2): Json {
  return {
    kind: "Deployment",
    metadata: { name: "clawdbot", generation },
    spec: { replicas: 1 },
    status: {
      observedGeneration: 2,
      replicas: 1,
      updatedReplicas: 1,
      unavailableReplicas: 1,
      terminatingReplicas: 0,
      conditions: [
        condition("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
        progressing(`ReplicaSet "clawdbot-${HASH}" is progressing.`),
      ],
      ...status,
    },
  };
}

function condition(type: string, status: string, reason: string, message: string): Json {
  return { type, status, reason, message, lastTransitionTime: "2026-01-01T00:00:00Z" };
}

function progressing(message: string, status = "True", reason = "ReplicaSetUpdated"): Json {
  return condition("Progressing", status, reason, message);
}

/** A pod of the present ReplicaSet. */
function pod(status: Json, metadata: Json = {}): Json {
  return {
    metadata: { labels: { "pod-template-hash": HASH }, creationTimestamp: "2026-01-01T00:00:00Z", ...metadata },
    status: { phase: "Pending", ...status },
  };
}

/** A container's status, as the kubelet writes it. */
function container(state: Json, more: Json = {}): Json {
  return { name: "agent", image: "example/agent:1", ready: false, restartCount: 0, state, lastState: {}, ...more };
}

const waiting = (reason: string, message?: string) => ({ waiting: { reason, ...(message && { message }) } });
const ended = (exitCode: number, reason = "Error", message = "") => ({
  terminated: { exitCode, reason, startedAt: "2026-01-01T00:00:00Z", finishedAt: "2026-01-01T00:00:01Z", message },
});
const running = { running: { startedAt: "2026-01-01T00:00:02Z" } };
const backOff = waiting(
  "CrashLoopBackOff",
  "back-off 10s restarting failed container=agent pod=clawdbot-5d4f8c7b9-x_agents(1)",
);
const withContainer = (state: Json, more: Json = {}) => pod({ containerStatuses: [container(state, more)] });
const unschedulable = pod({
  conditions: [condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available: 1 Insufficient memory.")],
});
const missingImage = withContainer(waiting("ImagePullBackOff", 'Back-off pulling image "example/agent:1"'));
const imageProblem: Problem = {
  kind: "image",
  certain: true,
  reason: "ImagePullBackOff",
  message: 'Back-off pulling image "example/agent:1"',
  image: "example/agent:1",
};

Deno.test("problemsOf() lists what keeps a container from being ready, and which problems are certain", async (t) => {
  const configError = 'configmap "agent" not found';
  const rows: [name: string, pod: Json, found: readonly Problem[]][] = [
    ["ready", withContainer(running, { ready: true, restartCount: 5, lastState: ended(1) }), []],
    ["creating", withContainer(waiting("ContainerCreating")), [{
      kind: "other",
      certain: false,
      reason: "ContainerCreating",
    }]],
    ["no image, first try", withContainer(waiting("ErrImagePull", "not found")), [
      { ...imageProblem, certain: false, reason: "ErrImagePull", message: "not found" },
    ]],
    ["no image", missingImage, [imageProblem]],
    ["no such name of an image", withContainer(waiting("InvalidImageName", "bad"), { image: "Agent" }), [
      { kind: "image", certain: true, reason: "InvalidImageName", message: "bad", image: "Agent" },
    ]],
    ["no ConfigMap", withContainer(waiting("CreateContainerConfigError", configError)), [
      { kind: "container-config", certain: true, reason: "CreateContainerConfigError", message: configError },
    ]],
    [
      "a ConfigMap that is late",
      withContainer(
        waiting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
      ),
      [{
        kind: "container-config",
        certain: false,
        reason: "CreateContainerConfigError",
        message: "failed to sync configmap cache: timed out waiting for the condition",
      }],
    ],
    ["first crash", withContainer(ended(1, "Error", "Traceback: token=secret")), [
      { kind: "crash", certain: false, reason: "Error", exitCode: 1, restarts: 0 },
    ]],
    ["running after the first crash", withContainer(running, { restartCount: 1, lastState: ended(1) }), [
      { kind: "crash", certain: false, reason: "Error", exitCode: 1, restarts: 1 },
    ]],
    ["second crash", withContainer(ended(2), { restartCount: 1, lastState: ended(1) }), [
      { kind: "crash", certain: true, reason: "Error", exitCode: 2, restarts: 1 },
    ]],
    ["back-off", withContainer(backOff, { restartCount: 1, lastState: ended(2) }), [
      { kind: "crash", certain: true, reason: "CrashLoopBackOff", exitCode: 2, restarts: 1 },
    ]],
    ["ends well, and is not to end", withContainer(backOff, { restartCount: 3, lastState: ended(0, "Completed") }), [
      { kind: "crash", certain: true, reason: "CrashLoopBackOff", exitCode: 0, restarts: 3 },
    ]],
    ["a word that nobody knows", withContainer(waiting("constructor")), [
      { kind: "other", certain: false, reason: "constructor" },
    ]],
    ["running after many", withContainer(running, { restartCount: 7, lastState: ended(1) }), [
      { kind: "crash", certain: false, reason: "Error", exitCode: 1, restarts: 7 },
    ]],
    ["out of memory", withContainer(backOff, { restartCount: 2, lastState: ended(137, "OOMKilled") }), [
      { kind: "out-of-memory", certain: true, reason: "OOMKilled", exitCode: 137, restarts: 2 },
    ]],
    ["out of memory for the first time", withContainer(ended(137, "OOMKilled")), [
      { kind: "out-of-memory", certain: false, reason: "OOMKilled", exitCode: 137, restarts: 0 },
    ]],
    ["no such program", withContainer(ended(128, "StartError", 'exec: "agnet": executable file not found in $PATH')), [
      {
        kind: "crash",
        certain: false,
        reason: "StartError",
        message: 'exec: "agnet": executable file not found in $PATH',
        exitCode: 128,
        restarts: 0,
      },
    ]],
    [
      "created again after its node went",
      withContainer(waiting("ContainerCreating"), { restartCount: 1, lastState: ended(255, "Unknown") }),
      [
        { kind: "crash", certain: false, reason: "Unknown", exitCode: 255, restarts: 1 },
      ],
    ],
    ["unschedulable", unschedulable, [
      {
        kind: "unschedulable",
        certain: false,
        reason: "Unschedulable",
        message: "0/1 nodes are available: 1 Insufficient memory.",
      },
    ]],
    [
      "running, and its probe fails",
      pod({
        phase: "Running",
        conditions: [condition("Ready", "False", "ContainersNotReady", "containers with unready status: [agent]")],
        containerStatuses: [container(running)],
      }),
      [{
        kind: "other",
        certain: false,
        reason: "ContainersNotReady",
        message: "containers with unready status: [agent]",
      }],
    ],
    [
      "an init container that crashes",
      pod({
        initContainerStatuses: [
          container(ended(0, "Completed"), { ready: true }),
          container(backOff, { restartCount: 4, lastState: ended(3) }),
        ],
        containerStatuses: [container(waiting("PodInitializing"))],
      }),
      [
        { kind: "crash", certain: true, reason: "CrashLoopBackOff", exitCode: 3, restarts: 4 },
        { kind: "other", certain: false, reason: "PodInitializing" },
      ],
    ],
    [
      "a sidecar that has no image",
      pod({
        initContainerStatuses: [container(waiting("ImagePullBackOff"), { image: "example/proxy" })],
        containerStatuses: [container(running, { ready: true })],
      }),
      [{ kind: "image", certain: true, reason: "ImagePullBackOff", image: "example/proxy" }],
    ],
  ];
  for (const [name, each, found] of rows) {
    await t.step(name, () => assert.deepEqual(problemsOf("deployment", deployment(), [each]), found));
  }
});

Deno.test("problemsOf() considers only live pods of the current revision", async (t) => {
  const old = { labels: { "pod-template-hash": "6c6c6c6c6c" }, creationTimestamp: "2025-12-01T00:00:00Z" };
  const newer = { labels: { "pod-template-hash": "7b7b7b7b7b" }, creationTimestamp: "2026-02-01T00:00:00Z" };
  const broken = (metadata: Json, status: Json = {}) =>
    pod({
      containerStatuses: [container(waiting("ImagePullBackOff", 'Back-off pulling image "example/agent:1"'))],
      ...status,
    }, metadata);
  const done = progressing(
    `ReplicaSet "clawdbot-${HASH}" has successfully progressed.`,
    "True",
    "NewReplicaSetAvailable",
  );
  const without = { conditions: [] };
  const rows: [name: string, workload: Json, pods: readonly Json[], found: readonly Problem[]][] = [
    ["of an earlier ReplicaSet", deployment(), [withContainer(running, { ready: true }), broken(old)], []],
    ["terminating", deployment(), [
      broken({ ...pod({}).metadata as Json, deletionTimestamp: "2026-01-01T00:00:00Z" }),
    ], []],
    ["evicted", deployment(), [broken(pod({}).metadata as Json, { phase: "Failed", reason: "Evicted" })], []],
    ["of the one that is named", deployment(), [missingImage, { ...unschedulable, metadata: newer }], [imageProblem]],
    [
      "the one that is named has none: the newest",
      deployment({ conditions: [done] }),
      [broken(newer)],
      [
        imageProblem,
      ],
    ],
    ["no condition: the newest", deployment(without), [
      pod({ containerStatuses: [container(running, { ready: true })] }),
      broken(newer),
    ], [
      imageProblem,
    ]],
    ["no condition, the newest is well", deployment(without), [pod({}, newer), broken(old)], []],
    ["an earlier one comes back, and has no pods yet", deployment({ updatedReplicas: 0 }), [missingImage], []],
    ["a status that lags", deployment({}, 3), [missingImage], []],
    ["no status at all", { metadata: { generation: 1 }, spec: { replicas: 1 } }, [missingImage], []],
    ["nothing is wanted", { ...deployment(), spec: { replicas: 0 } }, [missingImage], []],
    ["several of a kind are told once", deployment(), [missingImage, missingImage], [imageProblem]],
  ];
  for (const [name, workload, pods, found] of rows) {
    await t.step(name, () => assert.deepEqual(problemsOf("deployment", workload, pods), found));
  }
});

Deno.test("problemsOf() takes the pods of an earlier revision for present where they are not going to be replaced", async (t) => {
  const of = (revision: string, name = "clawdbot-0") => ({
    ...missingImage,
    metadata: { name, labels: { "controller-revision-hash": revision } },
  });
  const set = (spec: Json) => ({
    metadata: { generation: 1 },
    spec: { replicas: 2, ...spec },
    status: { observedGeneration: 1, updateRevision: "clawdbot-7f", currentRevision: "clawdbot-6e" },
  });
  const parallel = { podManagementPolicy: "Parallel" };
  const partition = (from: number) => ({ type: "RollingUpdate", rollingUpdate: { partition: from } });
  const rows: [name: string, spec: Json, pod: Json, isPresent: boolean][] = [
    ["of the new revision", {}, of("clawdbot-7f"), true],
    ["in order: it is waited for", {}, of("clawdbot-6e"), true],
    ["all at a time: it is replaced", parallel, of("clawdbot-6e"), false],
    ["all at a time, of the new revision", parallel, of("clawdbot-7f"), true],
    ["OnDelete", { ...parallel, updateStrategy: { type: "OnDelete" } }, of("clawdbot-6e"), true],
    ["below the partition", { ...parallel, updateStrategy: partition(1) }, of("clawdbot-6e"), true],
    ["above it", { ...parallel, updateStrategy: partition(1) }, of("clawdbot-6e", "clawdbot-1"), false],
    ["a partition that is none", { ...parallel, updateStrategy: partition(-1) }, of("clawdbot-6e"), false],
  ];
  for (const [name, spec, pod, isPresent] of rows) {
    await t.step(`StatefulSet, ${name}`, () => {
      assert.deepEqual(problemsOf("statefulset", set(spec), [pod]), isPresent ? [imageProblem] : []);
    });
  }
  await t.step("Deployment, paused with a pending change", () => {
    const paused = { ...deployment({ updatedReplicas: 0 }), spec: { replicas: 1, paused: true } };
    assert.deepEqual(problemsOf("deployment", paused, [missingImage]), [imageProblem]);
  });
});

Deno.test("problemsOf() reads a Deployment's conditions, in the words of the API server", async (t) => {
  const quota = `pods "clawdbot-${HASH}-" is forbidden: exceeded quota: memory, requested: limits.memory=2Gi, used: ` +
    "limits.memory=4Gi, limited: limits.memory=4Gi";
  const denied = 'pods "clawdbot-" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true';
  const webhook = 'Internal error occurred: failed calling webhook "pods.example.org": context deadline exceeded';
  const failure = (message: string, more: Json = {}) =>
    deployment({
      updatedReplicas: 0,
      replicas: 0,
      conditions: [condition("ReplicaFailure", "True", "FailedCreate", message)],
      ...more,
    });
  const overdue = `ReplicaSet "clawdbot-${HASH}" has timed out progressing.`;
  const ending = pod({}, { deletionTimestamp: "2026-01-01T00:00:00Z" });
  const reason = "FailedCreate";
  const rows: [name: string, workload: Json, pods: readonly Json[], found: readonly Problem[]][] = [
    ["quota", failure(quota), [], [{ kind: "quota", certain: true, reason, message: quota }]],
    ["quota that a pod still holds", failure(quota), [ending], [{
      kind: "quota",
      certain: false,
      reason,
      message: quota,
    }]],
    ["quota that a pod still holds, by the status", failure(quota, { terminatingReplicas: 1 }), [], [
      { kind: "quota", certain: false, reason, message: quota },
    ]],
    ["admission", failure(denied), [], [{ kind: "other", certain: true, reason, message: denied }]],
    ["a webhook that is away", failure(webhook), [], [{ kind: "other", certain: false, reason, message: webhook }]],
    ["no failure any more", deployment({ conditions: [condition("ReplicaFailure", "False", "", "")] }), [], []],
    ["too late", deployment({ conditions: [progressing(overdue, "False", "ProgressDeadlineExceeded")] }), [], [
      { kind: "other", certain: false, reason: "ProgressDeadlineExceeded", message: overdue },
    ]],
    [
      "too late, and why",
      deployment({ conditions: [progressing(overdue, "False", "ProgressDeadlineExceeded")] }),
      [unschedulable, missingImage],
      [
        imageProblem,
        {
          kind: "unschedulable",
          certain: false,
          reason: "Unschedulable",
          message: "0/1 nodes are available: 1 Insufficient memory.",
        },
        { kind: "other", certain: false, reason: "ProgressDeadlineExceeded", message: overdue },
      ],
    ],
    ["a failure of an earlier generation", { ...failure(quota), metadata: { generation: 3 } }, [], []],
  ];
  for (const [name, workload, pods, found] of rows) {
    await t.step(name, () => assert.deepEqual(problemsOf("deployment", workload, pods), found));
  }
});

Deno.test("oneLine() makes a line of a message, and shows no signed address", () => {
  assert.equal(oneLine("  one\n\ttwo\u202e\u0000three  "), "one two three");
  assert.equal(oneLine('Get "https://r.example/v2/a?sig=s3cret&x=1": denied'), 'Get "https://r.example/v2/a": denied');
  const cut = oneLine("🦞".repeat(400));
  assert.ok(cut.length <= 300 && cut.endsWith("…") && cut.isWellFormed());
  assert.ok(new TextEncoder().encode(oneLine("€".repeat(400))).length <= 1_024);
});

Deno.test("messages of a hundred thousand characters cost no time", () => {
  const begin = performance.now();
  oneLine("http://".repeat(20_000));
  problemsOf("deployment", deployment({ conditions: [progressing(`replicaset "${"a".repeat(100_000)}`)] }), [pod({})]);
  assert.ok(performance.now() - begin < 500, `${performance.now() - begin} ms`);
});

Deno.test("problemsOf() never throws, for any object", () => {
  // Objects that are sound in most places, and in some anything that JSON can bring: no negative zero, for one.
  const junk = fc.json().map((json): unknown => JSON.parse(json));
  const spoilt = (value: unknown): fc.Arbitrary<unknown> => {
    const sound = Array.isArray(value)
      ? fc.tuple(...value.map(spoilt))
      : typeof value === "object" && value !== null
      ? fc.record(Object.fromEntries(Object.entries(value).map(([key, each]) => [key, spoilt(each)])))
      : fc.constant(value);
    return fc.oneof({ weight: 12, arbitrary: sound }, { weight: 1, arbitrary: junk });
  };
  const crashing = pod({
    conditions: [condition("Ready", "False", "ContainersNotReady", "x")],
    initContainerStatuses: [container(ended(1))],
    containerStatuses: [
      container(backOff, { restartCount: 2, lastState: ended(1) }),
      container(waiting("ErrImagePull", "x")),
    ],
  });
  fc.assert(fc.property(
    fc.constantFrom("deployment" as const, "statefulset" as const),
    spoilt(deployment()),
    spoilt([crashing, unschedulable, missingImage]),
    (kind, workload, pods) => {
      for (const found of problemsOf(kind, object(workload), list(pods).map(object))) {
        assert.ok(found.reason !== "" && (found.message?.length ?? 0) <= 300);
        assert.deepEqual(JSON.parse(JSON.stringify(found)), found);
      }
    },
  ));
});
