/**
 * The contract's cases on counts, resourceVersions, watches and pods.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  assertStatus,
  call,
  type ContractCase,
  deployment,
  get,
  isOff,
  type Loose,
  podsOf,
  ready,
  scale,
  settled,
  stream,
  until,
  watch,
  workloads,
} from "./kubernetes_http.ts";

/** The cases. */
export const rolloutCases: readonly ContractCase[] = [
  {
    name: "a scale at 0 has an empty spec and a status of 0",
    async run(cluster, name) {
      const { status, json } = await call(cluster, { path: `${workloads(cluster, name)}/scale` });
      assert.equal(status, 200);
      assert.equal(`${json.apiVersion} ${json.kind}`, "autoscaling/v1 Scale");
      assert.deepEqual(json.spec, {});
      assert.deepEqual(json.status, { replicas: 0, selector: `app=${name}` });
      assert.equal(typeof json.metadata.resourceVersion, "string");
    },
  },
  {
    name: "a Deployment at 0 says so in its spec and has no counts in its status",
    async run(cluster, name) {
      const { spec, status } = await settled(cluster, name);
      assert.equal(spec.replicas, 0);
      for (const count of ["replicas", "readyReplicas", "availableReplicas"]) {
        assert.equal(status[count], undefined, count);
      }
    },
  },
  {
    name: "a Deployment created without a count wants 1",
    async run(cluster, name) {
      const body = deployment(`${name}-bare`, undefined);
      const { json } = await call(cluster, { method: "POST", path: workloads(cluster), body });
      assert.equal(json.spec.replicas, 1);
    },
  },
  {
    name: "a merge patch of the scale sets the count, and scale and Deployment share the resourceVersion",
    async run(cluster, name) {
      const { status, json } = await scale(cluster, name, 1);
      assert.equal(status, 200);
      assert.equal(json.kind, "Scale");
      assert.deepEqual(json.spec, { replicas: 1 });
      const events = watch(cluster, name, json.metadata.resourceVersion);
      assert.equal((await ready(cluster, name)).spec.replicas, 1);
      for await (const { object } of events) {
        assert.ok(Number(object.metadata.resourceVersion) > Number(json.metadata.resourceVersion));
        break;
      }
    },
  },
  {
    name: "a patch with the present resourceVersion is accepted, with an old one 409 Conflict",
    async run(cluster, name) {
      const { metadata: { resourceVersion } } = await settled(cluster, name);
      assert.equal((await scale(cluster, name, 1, { resourceVersion })).status, 200);
      const stale = await scale(cluster, name, 0, { resourceVersion });
      assertStatus(stale, 409, "Conflict");
      assert.deepEqual(stale.json.details, { name, group: "apps", kind: "deployments" });
      assert.equal((await get(cluster, name)).spec.replicas, 1);
    },
  },
  {
    name: "a change of the status alone makes a resourceVersion old",
    async run(cluster, name) {
      const { json: { metadata: { resourceVersion } } } = await scale(cluster, name, 1);
      await ready(cluster, name);
      assertStatus(await scale(cluster, name, 0, { resourceVersion }), 409, "Conflict");
    },
  },
  {
    name: "setting the count that is there already leaves resourceVersion and generation",
    async run(cluster, name) {
      await scale(cluster, name, 1);
      const { metadata: { resourceVersion, generation } } = await ready(cluster, name);
      assert.equal((await scale(cluster, name, 1, { resourceVersion })).json.metadata.resourceVersion, resourceVersion);
      assert.equal((await get(cluster, name)).metadata.generation, generation);
    },
  },
  {
    name: "each change of the spec is a new generation, which observedGeneration reaches",
    async run(cluster, name) {
      const before = await settled(cluster, name);
      await scale(cluster, name, 1);
      const after = await ready(cluster, name);
      assert.equal(after.metadata.generation, before.metadata.generation + 1);
      assert.equal(after.status.observedGeneration, after.metadata.generation);
    },
  },
  {
    name: "counts of a finished start are 1, those of a finished stop are absent",
    async run(cluster, name) {
      await scale(cluster, name, 1);
      const { status: on } = await ready(cluster, name);
      assert.deepEqual([on.replicas, on.readyReplicas, on.availableReplicas], [1, 1, 1]);
      await scale(cluster, name, 0);
      const { status: off } = await until(cluster, name, isOff);
      assert.deepEqual([off.replicas, off.readyReplicas, off.availableReplicas], [undefined, undefined, undefined]);
    },
  },
  {
    name: "while a pod starts, the Deployment counts it as existing and as unavailable, not as ready",
    async run(cluster, name) {
      const from = (await settled(cluster, name)).metadata.resourceVersion;
      const events = watch(cluster, name, from);
      await scale(cluster, name, 1);
      for await (const { object: { status } } of events) {
        if (status.readyReplicas === 1) assert.fail("it was ready without having existed");
        if (status.replicas !== 1) continue;
        assert.deepEqual([status.unavailableReplicas, status.availableReplicas], [1, undefined]);
        break;
      }
    },
  },
  {
    name: "a watch by name tells changes of that Deployment, up to its readiness, and of no other",
    async run(cluster, name) {
      const other = `${name}-other`;
      await call(cluster, { method: "POST", path: workloads(cluster), body: deployment(other, 0) });
      const events = watch(cluster, name, (await settled(cluster, name)).metadata.resourceVersion);
      await scale(cluster, other, 1);
      await scale(cluster, name, 1);
      for await (const { type, object } of events) {
        assert.deepEqual([type, object.kind, object.metadata.name], ["MODIFIED", "Deployment", name]);
        if (object.status.readyReplicas === 1) break;
      }
    },
  },
  {
    name:
      "a patch with the resourceVersion that a watch tells is accepted, and is the generation after the one it tells",
    async run(cluster, name) {
      const { metadata } = await settled(cluster, name);
      const events = watch(cluster, name, metadata.resourceVersion);
      // That is told, too, although no count and no generation changes.
      const body = { metadata: { labels: { changes: "nothing" } } };
      assert.equal((await call(cluster, { method: "PATCH", path: workloads(cluster, name), body })).status, 200);
      let told: Loose | undefined;
      for await (const { object } of events) {
        if (told === undefined) {
          const { resourceVersion, generation } = told = object.metadata as Loose;
          assert.notEqual(resourceVersion, metadata.resourceVersion);
          assert.equal(generation, metadata.generation);
          assert.equal((await scale(cluster, name, 1, { resourceVersion })).status, 200);
          assertStatus(await scale(cluster, name, 2, { resourceVersion }), 409, "Conflict");
        } else {
          assert.deepEqual([object.metadata.generation, object.spec.replicas], [told["generation"] + 1, 1]);
          break;
        }
      }
    },
  },
  {
    name: "a watch tells that its Deployment is deleted, and ends by itself after timeoutSeconds",
    async run(cluster, name) {
      const events = watch(cluster, name, (await settled(cluster, name)).metadata.resourceVersion);
      await call(cluster, { method: "DELETE", path: workloads(cluster, name) });
      for await (const { type } of events) if (type === "DELETED") break;
      let after = 0;
      const query = `watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D${name}`;
      const { text } = await call(cluster, { path: `${workloads(cluster)}?${query}` });
      for (const line of text.split("\n")) after += line === "" ? 0 : 1;
      assert.equal(after, 0);
    },
  },
  {
    name: "pods are found by label, tell how they are, and are gone after a stop",
    async run(cluster, name) {
      await scale(cluster, name, 1);
      await ready(cluster, name);
      const { json } = await call(cluster, { path: podsOf(cluster, name) });
      const [pod] = json.items;
      assert.deepEqual([json.kind, json.items.length, pod.status.phase], ["PodList", 1, "Running"]);
      const readiness = pod.status.conditions.find((each: { type: string }) => each.type === "Ready");
      assert.equal(readiness.status, "True");
      const [container] = pod.status.containerStatuses;
      assert.deepEqual([container.ready, container.restartCount], [true, 0]);
      assert.ok(container.state.running.startedAt);

      const from = json.metadata.resourceVersion;
      const events = stream(cluster, `${podsOf(cluster, name)}&watch=1&resourceVersion=${from}`);
      await scale(cluster, name, 0);
      const seen: string[] = [];
      for await (const { type, object } of events) {
        seen.push(type === "MODIFIED" && object.metadata.deletionTimestamp ? "TERMINATING" : type);
        if (type === "DELETED") break;
      }
      assert.ok(seen.includes("TERMINATING"), seen.join());
      assert.equal((await call(cluster, { path: podsOf(cluster, name) })).json.items.length, 0);
    },
  },
  {
    name:
      "managedFields name who set the count; a scale to 0 erases that, later scales are not named, direct writes are",
    async run(cluster, name) {
      const managers = async () => {
        const { managedFields = [] } = (await get(cluster, name)).metadata;
        // deno-lint-ignore no-explicit-any
        const owns = managedFields.filter(({ fieldsV1 }: any) => fieldsV1?.["f:spec"]?.["f:replicas"]);
        return owns.map(({ manager, subresource = "directly" }: Record<string, string>) => `${manager} ${subresource}`);
      };
      const steps: [replicas: number, manager: string, path: "/scale" | "", then: string[]][] = [
        [1, "one", "/scale", ["one scale"]],
        [2, "two", "/scale", ["two scale"]],
        [0, "three", "/scale", []],
        [1, "four", "/scale", []],
        [2, "five", "", ["five directly"]],
        [3, "six", "/scale", ["six scale"]],
        [0, "seven", "", ["seven directly"]],
      ];
      for (const [replicas, manager, suffix, then] of steps) {
        const path = `${workloads(cluster, name)}${suffix}?fieldManager=${manager}`;
        assert.equal((await call(cluster, { method: "PATCH", path, body: { spec: { replicas } } })).status, 200);
        assert.deepEqual(await managers(), then, `after ${manager}`);
      }
    },
  },
  {
    name: "an apply owns the count that it sets, and is refused where another manager does, unless forced",
    async run(cluster, name) {
      const apply = (query: string, replicas: number) => {
        const { apiVersion, kind, metadata, spec: { selector, template } } = deployment(name, 0);
        const text = JSON.stringify({ apiVersion, kind, metadata, spec: { replicas, selector, template } });
        const contentType = "application/apply-patch+yaml";
        return call(cluster, { method: "PATCH", path: `${workloads(cluster, name)}?${query}`, text, contentType });
      };
      await scale(cluster, name, 1, { query: "?fieldManager=somebody" });
      const refused = await apply("fieldManager=gitops", 2);
      assertStatus(refused, 409, "Conflict");
      assert.match(refused.json.message, /conflict with "somebody"/);
      assert.equal((await apply("fieldManager=gitops&force=true", 2)).status, 200);
      // deno-lint-ignore no-explicit-any
      const owner = (await get(cluster, name)).metadata.managedFields.find((each: any) =>
        each.fieldsV1["f:spec"]?.["f:replicas"]
      );
      assert.deepEqual([owner.manager, owner.operation, owner.subresource], ["gitops", "Apply", undefined]);
      assert.match(owner.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    },
  },
  {
    name: "a StatefulSet is read, scaled and watched like a Deployment; its pods bear number and revision",
    async run(cluster, name) {
      const path = `/apis/apps/v1/namespaces/${cluster.namespace}/statefulsets`;
      const { spec } = deployment(name, 0);
      const body = {
        apiVersion: "apps/v1",
        kind: "StatefulSet",
        metadata: { name },
        spec: { ...spec, serviceName: name },
      };
      assert.equal((await call(cluster, { method: "POST", path, body })).status, 201);
      assert.deepEqual((await call(cluster, { path: `${path}/${name}/scale` })).json.spec, {});
      const to = (replicas: number) =>
        call(cluster, { method: "PATCH", path: `${path}/${name}/scale`, body: { spec: { replicas } } });
      const patched = await to(2);
      assert.deepEqual([patched.status, patched.json.spec], [200, { replicas: 2 }]);
      const from = patched.json.metadata.resourceVersion;
      const rule = { apiGroups: ["apps"], resources: ["statefulsets"], resourceNames: [name], verbs: ["watch"] };
      const token = await cluster.makeToken([rule]);
      const query = `watch=1&fieldSelector=metadata.name%3D${name}&resourceVersion=${from}`;
      const events = stream(cluster, `${path}?${query}`, token)[Symbol.asyncIterator]();
      // deno-lint-ignore no-explicit-any
      const until = async (holds: (object: any) => boolean) => {
        for (;;) {
          const { value } = await events.next();
          if (holds(value.object)) return value.object;
        }
      };
      const on = await until(({ status, metadata }) =>
        status.readyReplicas === 2 && status.observedGeneration === metadata.generation
      );
      assert.deepEqual([on.spec.replicas, on.status.replicas, on.status.availableReplicas], [2, 2, 2]);
      assert.equal(on.status.conditions, undefined);
      const { json: { items } } = await call(cluster, { path: podsOf(cluster, name) });
      const pods = items.toSorted((a: Loose, b: Loose) => a.metadata.name < b.metadata.name ? -1 : 1);
      for (const [index, { metadata }] of pods.entries()) {
        const [owner] = metadata.ownerReferences;
        assert.deepEqual([metadata.name, owner.kind, owner.name], [`${name}-${index}`, "StatefulSet", name]);
        assert.equal(metadata.labels["controller-revision-hash"], on.status.updateRevision);
        assert.equal(metadata.labels["apps.kubernetes.io/pod-index"], `${index}`);
      }
      assert.equal(pods.length, 2);
      await to(0);
      await until(({ status, metadata }) => status.replicas === 0 && status.observedGeneration === metadata.generation);
      await events.return?.(undefined);
    },
  },
  {
    name: "a quiet watch that allows bookmarks ends by itself, and a watch can begin at any bookmark that came",
    async run(cluster, name) {
      let from = (await settled(cluster, name)).metadata.resourceVersion;
      const query = `watch=1&fieldSelector=metadata.name%3D${name}&allowWatchBookmarks=true&timeoutSeconds=4`;
      const { text } = await call(cluster, { path: `${workloads(cluster)}?${query}&resourceVersion=${from}` });
      for (const line of text.split("\n").filter((line) => line !== "")) {
        const { type, object } = JSON.parse(line);
        assert.deepEqual([type, object.kind, object.metadata.name], ["BOOKMARK", "Deployment", undefined]);
        from = object.metadata.resourceVersion;
      }
      const events = watch(cluster, name, from);
      await scale(cluster, name, 1);
      for await (const { type, object } of events) {
        assert.deepEqual([type, object.spec.replicas], ["MODIFIED", 1]);
        break;
      }
    },
  },
];
