/**
 * The contract's cases on what keeps pods from being ready, and on what tells whose pods they are.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  call,
  type ContractCase,
  deployment,
  type KubernetesUnderTest,
  type Loose,
  podsOf,
  scale,
  stream,
  until,
  workloads,
} from "./kubernetes_http.ts";

/** Name of the container in every pod. */
const CONTAINER = "agent";

/** What a container says when it has failed. */
interface Failure {
  readonly image: string;
  /** Reasons in the order in which they come; others may come between them. */
  readonly reasons: readonly string[];
  readonly message: RegExp;
  readonly phase: "Pending" | "Running";
  readonly restartCount?: number;
  readonly terminated?: { readonly exitCode: number; readonly reason: string };
}

const notFound = (image: string) =>
  `rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/${image}": ` +
  `failed to resolve reference "docker.io/${image}": docker.io/${image}: not found`;
const backOff = /^back-off \d\S*s restarting failed container=agent pod=case-\S+_\S+\([0-9a-f-]{36}\)$/;

const failures: readonly Failure[] = [
  {
    image: "example/missing:1",
    reasons: ["ContainerCreating", "ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"],
    message: new RegExp(`^Back-off pulling image "example/missing:1": ErrImagePull: ${notFound("example/missing:1")}$`),
    phase: "Pending",
  },
  {
    image: "example/Agent",
    reasons: ["ContainerCreating", "InvalidImageName"],
    message: new RegExp(
      '^Failed to apply default image tag "example/Agent": couldn\'t parse image name "example/Agent": ' +
        "invalid reference format: repository name \\(example/Agent\\) must be lowercase$",
    ),
    phase: "Pending",
  },
  {
    image: "example/misconfigured",
    reasons: ["ContainerCreating", "CreateContainerConfigError"],
    message: /^configmap "agent" not found$/,
    phase: "Pending",
  },
  {
    image: "example/crash",
    reasons: [
      "ContainerCreating",
      "running",
      "terminated",
      "running",
      "CrashLoopBackOff",
      "running",
      "CrashLoopBackOff",
    ],
    message: backOff,
    phase: "Running",
    restartCount: 2,
    terminated: { exitCode: 1, reason: "Error" },
  },
  {
    image: "example/oom",
    reasons: ["ContainerCreating", "running", "terminated", "running", "CrashLoopBackOff"],
    message: backOff,
    phase: "Running",
    restartCount: 1,
    terminated: { exitCode: 137, reason: "OOMKilled" },
  },
];

/** The cases. */
export const failureCases: readonly ContractCase[] = [
  ...failures.map((failure): ContractCase => ({
    name: `a pod of ${failure.image} comes to ${failure.reasons.at(-1)}, and is never ready`,
    async run(cluster, name) {
      await setImage(cluster, name, failure.image);
      const { json: { metadata } } = await call(cluster, { path: podsOf(cluster, name) });
      const events = stream(cluster, `${podsOf(cluster, name)}&watch=1&resourceVersion=${metadata.resourceVersion}`);
      await scale(cluster, name, 1);
      const seen: string[] = [];
      for await (const { object: pod } of events) {
        const [container] = pod.status.containerStatuses ?? [];
        if (container === undefined) continue;
        const { waiting, running } = container.state;
        const state = waiting?.reason ?? (running ? "running" : "terminated");
        if (seen.at(-1) !== state) seen.push(state);
        assert.deepEqual(seen, failure.reasons.slice(0, seen.length));
        assert.deepEqual([container.ready, container.name], [false, CONTAINER]);
        if (seen.length < failure.reasons.length) continue;
        assertFailed(pod, container, failure);
        break;
      }
    },
  })),
  {
    name: "a pod that flaps is ready while it runs, and the Deployment counts it then",
    async run(cluster, name) {
      await setImage(cluster, name, "example/flap");
      await scale(cluster, name, 1);
      await until(cluster, name, ({ status }) => status?.readyReplicas === 1);
      await until(cluster, name, ({ status }) => status?.unavailableReplicas === 1);
    },
  },
  {
    name: "a pod that fits no node is Pending, and the scheduler says why; it has no container yet",
    async run(cluster, name) {
      await setImage(cluster, name, "example/pending");
      await scale(cluster, name, 1);
      const pod = await podUntil(cluster, name, ({ status }) => status.conditions !== undefined);
      const [condition] = pod.status.conditions;
      assert.deepEqual([condition.type, condition.status, condition.reason], [
        "PodScheduled",
        "False",
        "Unschedulable",
      ]);
      assert.match(condition.message, /^0\/1 nodes are available: 1 Insufficient memory\. .*preemption: /);
      assert.deepEqual([pod.status.phase, pod.status.containerStatuses], ["Pending", undefined]);
    },
  },
  {
    name: "pods bear the hash of their ReplicaSet, which owns them and which the Progressing condition names",
    async run(cluster, name) {
      const path = workloads(cluster);
      await call(cluster, { method: "POST", path, body: deployment(`${name}-new`, 1) });
      const progress = conditionNamed("Progressing");
      const under = await until(cluster, `${name}-new`, (object) => progress(object)?.reason === "ReplicaSetUpdated");
      const [, set = ""] = /^ReplicaSet "(\S+)" is progressing\.$/.exec(progress(under)?.message ?? "") ?? [];
      assert.match(set, new RegExp(`^${name}-new-[a-z0-9]+$`));
      const pod = await podUntil(cluster, name, ({ metadata }) => metadata.name.startsWith(`${set}-`), `${name}-new`);
      const [owner] = pod.metadata.ownerReferences;
      assert.deepEqual([owner.kind, owner.name, owner.controller], ["ReplicaSet", set, true]);
      assert.equal(pod.metadata.labels["pod-template-hash"], set.slice(`${name}-new-`.length));
      const done = await until(cluster, `${name}-new`, ({ status }) => status?.readyReplicas === 1);
      const available = conditionNamed("Available")(done);
      assert.deepEqual([available?.status, available?.reason, available?.message], [
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
      ]);
    },
  },
  {
    name: "a Deployment that was complete at 0 still says so of itself while its pod does not get ready",
    async run(cluster, name) {
      await until(
        cluster,
        name,
        (object) => conditionNamed("Progressing")(object)?.reason === "NewReplicaSetAvailable",
      );
      await scale(cluster, name, 1);
      const [available, progress] = [conditionNamed("Available"), conditionNamed("Progressing")];
      const starting = await until(cluster, name, (object) => available(object)?.status === "False");
      assert.equal(available(starting)?.reason, "MinimumReplicasUnavailable");
      assert.equal(available(starting)?.message, "Deployment does not have minimum availability.");
      assert.deepEqual([progress(starting)?.status, progress(starting)?.reason], ["True", "NewReplicaSetAvailable"]);
      assert.match(progress(starting)?.message, /^ReplicaSet "\S+" has successfully progressed\.$/);
    },
  },
  {
    name: "a changed template makes another ReplicaSet; the pod of the former stays until the new one is ready",
    async run(cluster, name) {
      await scale(cluster, name, 1);
      await until(cluster, name, ({ status }) => status?.readyReplicas === 1);
      await setImage(cluster, name, "example/missing:1");
      const named = conditionNamed("Progressing");
      const rolling = await until(cluster, name, (object) => named(object)?.reason === "ReplicaSetUpdated");
      const { status } = await until(cluster, name, (each) => each.status?.updatedReplicas === 1);
      assert.deepEqual([status.replicas, status.readyReplicas, status.unavailableReplicas], [2, 1, 1]);
      const { json } = await call(cluster, { path: podsOf(cluster, name) });
      const hashes = json.items.map(({ metadata }: Loose) => metadata.labels["pod-template-hash"]);
      assert.equal(new Set(hashes).size, 2);
      assert.ok(hashes.some((hash: string) => named(rolling)?.message.includes(`"${name}-${hash}"`)), hashes.join());
    },
  },
  {
    name: "quota refuses pods: ReplicaFailure with the API's sentence, gone when none is wanted any more",
    async run(cluster, name) {
      const path = `/api/v1/namespaces/${cluster.namespace}/resourcequotas`;
      const body = { apiVersion: "v1", kind: "ResourceQuota", metadata: { name }, spec: { hard: { pods: "0" } } };
      assert.equal((await call(cluster, { method: "POST", path, body })).status, 201);
      try {
        if (cluster.server === "real") await enforced(cluster, path, name);
        await scale(cluster, name, 1);
        const failure = conditionNamed("ReplicaFailure");
        const refused = await until(cluster, name, (object) => failure(object) !== undefined);
        const { status, reason, message } = failure(refused) ?? {};
        assert.deepEqual([status, reason], ["True", "FailedCreate"]);
        const words =
          `^pods "${name}-\\S+" is forbidden: exceeded quota: ${name}, requested: pods=1, used: pods=\\d+, ` +
          "limited: pods=0$";
        assert.match(message, new RegExp(words));
        assert.deepEqual([refused.status.replicas, refused.status.unavailableReplicas], [undefined, 1]);
        await scale(cluster, name, 0);
        await until(cluster, name, (each) => each.spec.replicas === 0 && failure(each) === undefined);
      } finally {
        await call(cluster, { method: "DELETE", path: `${path}/${name}` });
      }
    },
  },
];

function assertFailed(pod: Loose, container: Loose, failure: Failure): void {
  assert.match(container.state.waiting.message, failure.message);
  assert.equal(pod.status.phase, failure.phase);
  assert.equal(container.restartCount, failure.restartCount ?? 0);
  const { exitCode, reason, startedAt, finishedAt } = container.lastState.terminated ?? {};
  const expected = failure.terminated ?? { exitCode: undefined, reason: undefined };
  assert.deepEqual({ exitCode, reason }, expected);
  assert.equal(typeof startedAt, failure.terminated ? "string" : "undefined");
  assert.equal(typeof finishedAt, typeof startedAt);
  const readiness = pod.status.conditions.find(({ type }: Loose) => type === "Ready");
  const { status, reason: why, message } = readiness;
  const unready = `containers with unready status: [${CONTAINER}]`;
  assert.deepEqual([status, why, message], ["False", "ContainersNotReady", unready]);
  const scheduled = pod.status.conditions.find(({ type }: Loose) => type === "PodScheduled");
  assert.equal(scheduled.status, "True");
}

/** A condition of a workload by its type. */
export function conditionNamed(type: string): (object: Loose) => Loose | undefined {
  return ({ status }) => status?.conditions?.find((each: Loose) => each.type === type);
}

/** Changes the image of a Deployment, at whatever count. */
async function setImage(cluster: KubernetesUnderTest, name: string, image: string): Promise<void> {
  const body = { spec: { template: { spec: { containers: [{ name: CONTAINER, image }] } } } };
  const { status, json } = await call(cluster, { method: "PATCH", path: workloads(cluster, name), body });
  assert.equal(status, 200, JSON.stringify(json));
  await until(cluster, name, (object) => object.status?.observedGeneration === object.metadata.generation);
}

async function podUntil(
  cluster: KubernetesUnderTest,
  name: string,
  holds: (pod: Loose) => boolean,
  app = name,
): Promise<Loose> {
  for await (const { object } of stream(cluster, `${podsOf(cluster, app)}&watch=1`)) if (holds(object)) return object;
  throw new Error("the watch ended");
}

/** A quota counts once its controller has written what is used. */
async function enforced(cluster: KubernetesUnderTest, path: string, name: string): Promise<void> {
  for await (const { object } of stream(cluster, `${path}?watch=1&fieldSelector=metadata.name%3D${name}`)) {
    if (object.status?.hard?.pods !== undefined) return;
  }
}
