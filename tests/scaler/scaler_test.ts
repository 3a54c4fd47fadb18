import assert from "node:assert/strict";
import { ConflictError, NotFoundError, PermissionError, TransientError } from "../../lib/errors.ts";
import type { Scaler } from "../../lib/operator/mod.ts";
import type { KubernetesScaler, Scale } from "../../lib/scaler/mod.ts";
import { scaleOf } from "../../lib/scaler/workloads.ts";
import { atSandbox, patient, target, untilReady } from "./at_sandbox.ts";

/** The checker refuses this line if the class does not satisfy the operator's port. */
const satisfiesPort: (scaler: KubernetesScaler) => Scaler = (scaler) => scaler;

Deno.test("KubernetesScaler leads a Deployment from 0 to ready and back, with the base Role", async () => {
  await using at = await atSandbox();
  const scaler = satisfiesPort(at.scaler);
  const off = await scaler.read(target, patient);
  assert.deepEqual([off.desired, off.current, off.ready, off.available], [0, 0, 0, 0]);

  at.sandbox.durations.observeMs = 200;
  await scaler.scale(target, 1, off.resourceVersion, patient);
  const starting = await scaler.read(target, patient);
  assert.deepEqual([starting.desired, starting.ready, starting.settled], [1, 0, false]);

  await untilReady(at.sandbox, 1);
  const on = await scaler.read(target, patient);
  assert.ok(on.generation > off.generation);
  assert.deepEqual({ ...on, resourceVersion: "", generation: 0 }, {
    desired: 1,
    current: 1,
    ready: 1,
    available: 1,
    settled: true,
    resourceVersion: "",
    generation: 0,
    manager: "openclaw-toggle",
  });
  await scaler.scale(target, 0, on.resourceVersion, patient);
  assert.equal((await scaler.read(target, patient)).desired, 0);
});

Deno.test("KubernetesScaler reads and scales a StatefulSet", async () => {
  await using at = await atSandbox();
  at.sandbox.create({ resource: "statefulsets", namespace: "agents", name: "clawdbot" });
  await untilReady(at.sandbox, 0);
  const set = { ...target, kind: "statefulset" } as const;
  const { resourceVersion, desired } = await at.scaler.read(set, patient);
  await at.scaler.scale(set, 2, resourceVersion, patient);
  assert.deepEqual([desired, (await at.scaler.read(set, patient)).desired], [0, 2]);
  assert.equal((await at.scaler.read(target, patient)).desired, 0);
});

Deno.test("KubernetesScaler.scale() carries the resourceVersion and our name", async () => {
  await using at = await atSandbox();
  const { resourceVersion } = await at.scaler.read(target, patient);
  await at.scaler.scale(target, 1, resourceVersion, patient);
  await assert.rejects(at.scaler.scale(target, 0, resourceVersion, patient), ConflictError);
  assert.equal((await at.scaler.read(target, patient)).desired, 1);
  const patches = at.sandbox.requests.filter(({ method }) => method === "PATCH").map(({ path }) => path);
  const path = "/apis/apps/v1/namespaces/agents/deployments/clawdbot/scale?fieldManager=openclaw-toggle";
  assert.deepEqual(patches, [path, path]);
});

Deno.test("KubernetesScaler.scale() never acts twice when its answer is lost", async () => {
  await using at = await atSandbox();
  const { resourceVersion } = await at.scaler.read(target, patient);
  at.sandbox.fault({ method: "PATCH", times: 1, effect: "lose" });
  // Deno's fetch sends the request again by itself where the connection had been used before: then it is a conflict.
  const lost = (error: Error) => error instanceof ConflictError || error instanceof TransientError;
  await assert.rejects(at.scaler.scale(target, 1, resourceVersion, patient), lost);
  await assert.rejects(at.scaler.scale(target, 1, resourceVersion, patient), ConflictError);
  assert.equal((await at.scaler.read(target, patient)).desired, 1);
});

Deno.test("KubernetesScaler's errors name what is missing or not permitted", async (t) => {
  const place = 'deployments.apps "clawdbot" in namespace "agents"';
  await t.step("a Deployment that is not there", async () => {
    await using at = await atSandbox({ rules: [{ resources: ["*"], verbs: ["*"] }] });
    const nobody = { ...target, name: "nobody" };
    await assert.rejects(at.scaler.read(nobody, patient), (error: Error) => {
      assert.ok(error instanceof NotFoundError);
      assert.equal(error.message, 'Cannot get deployments.apps "nobody" in namespace "agents": not found');
      return true;
    });
  });
  const rows: [verb: string, resource: string, act: (scaler: KubernetesScaler) => Promise<unknown>][] = [
    ["get", place, (scaler) => scaler.read(target, patient)],
    ["patch", place.replace(".apps", ".apps/scale"), (scaler) => scaler.scale(target, 1, "100", patient)],
  ];
  for (const [verb, resource, act] of rows) {
    await t.step(`no permission to ${verb}`, async () => {
      await using at = await atSandbox({ rules: [] });
      await assert.rejects(act(at.scaler), (error: Error) => {
        assert.ok(error instanceof PermissionError);
        assert.deepEqual([error.verb, error.resource], [verb, resource]);
        return true;
      });
    });
  }
});

Deno.test("scaleOf() fills in omitted fields, and rejects nonsense", async (t) => {
  const counts = { desired: 0, current: 0, ready: 0, available: 0 };
  const zero: Scale = { ...counts, settled: true, resourceVersion: "5", generation: 2 };
  const metadata = { resourceVersion: "5", generation: 2 };
  const observed = { observedGeneration: 2 };
  const held = (manager: string, time: string) => ({
    manager,
    time: `2026-01-01T${time}:00Z`,
    fieldsV1: { "f:spec": { "f:replicas": {} } },
  });
  const rows: [name: string, object: Record<string, unknown>, scale: Scale | undefined][] = [
    ["absent counts are 0", { metadata, spec: { replicas: 0 }, status: observed }, zero],
    ["absent replicas is 1", { metadata, spec: {}, status: observed }, { ...zero, desired: 1 }],
    ["no status yet", { metadata, spec: { replicas: 0 } }, { ...zero, settled: false }],
    ["a status that lags", { metadata, spec: { replicas: 0 }, status: { observedGeneration: 1 } }, {
      ...zero,
      settled: false,
    }],
    [
      "all counts",
      { metadata, spec: { replicas: 4 }, status: { ...observed, replicas: 3, readyReplicas: 2, availableReplicas: 1 } },
      { ...zero, desired: 4, current: 3, ready: 2, available: 1 },
    ],
    [
      "the latest of those who hold the count",
      {
        metadata: {
          ...metadata,
          managedFields: [held("kubectl", "01:00"), held("flux", "03:00"), held("hpa", "02:00")],
        },
        spec: { replicas: 0 },
        status: observed,
      },
      { ...zero, manager: "flux" },
    ],
    [
      "nobody who holds the count",
      {
        metadata: { ...metadata, managedFields: [{ ...held("kubectl", "01:00"), fieldsV1: { "f:spec": {} } }, null] },
        spec: { replicas: 0 },
        status: observed,
      },
      zero,
    ],
    ["an empty object", {}, undefined],
    ["no resourceVersion", { metadata: { generation: 1 }, spec: {} }, undefined],
    ["metadata that is text", { metadata: "x" }, undefined],
    ["a count that is text", { metadata, spec: { replicas: "1" } }, undefined],
    ["a negative count", { metadata, spec: { replicas: 1 }, status: { readyReplicas: -1 } }, undefined],
    ["a count with a fraction", { metadata, spec: { replicas: 1 }, status: { availableReplicas: 0.5 } }, undefined],
  ];
  for (const [name, object, scale] of rows) await t.step(name, () => assert.deepEqual(scaleOf(object), scale));
});
