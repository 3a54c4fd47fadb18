/**
 * The contract's cases on who may do what, and on how a Kubernetes API server says no.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type Answer,
  assertStatus,
  baseRole,
  call,
  type ContractCase,
  deployment,
  podsOf,
  ready,
  scale,
  watch,
  workloads,
} from "./kubernetes_http.ts";

/** The cases. */
export const accessCases: readonly ContractCase[] = [
  {
    name: "version names the release, also to anybody",
    async run(cluster) {
      const { status, json } = await call(cluster, { path: "/version", token: null });
      assert.equal(status, 200);
      assert.match(json.gitVersion, /^v1\.\d+/);
    },
  },
  {
    name: "an unknown token is 401 with a Status, whatever is asked",
    async run(cluster, name) {
      for (const path of [workloads(cluster, name), "/version"]) {
        const answer = await call(cluster, { path, token: "nonsense" });
        assertStatus(answer, 401, "Unauthorized");
      }
    },
  },
  {
    name: "no token is 403 for system:anonymous",
    async run(cluster, name) {
      const answer = await call(cluster, { path: workloads(cluster, name), token: null });
      assertStatus(answer, 403, "Forbidden");
      assert.match(answer.json.message, /User "system:anonymous" cannot get/);
    },
  },
  {
    name: "creating the same name again is 409 AlreadyExists",
    async run(cluster, name) {
      const again = await call(cluster, { method: "POST", path: workloads(cluster), body: deployment(name, 0) });
      assertStatus(again, 409, "AlreadyExists");
    },
  },
  {
    name: "a negative count is 422 Invalid",
    async run(cluster, name) {
      assertStatus(await scale(cluster, name, -1), 422, "Invalid");
    },
  },
  {
    name: "a patch that is no JSON is 400, one of another content type 415",
    async run(cluster, name) {
      const path = `${workloads(cluster, name)}/scale`;
      assertStatus(await call(cluster, { method: "PATCH", path, text: '{"spec":' }), 400, "BadRequest");
      const contentType = "application/json";
      const other = await call(cluster, { method: "PATCH", path, text: "{}", contentType });
      assertStatus(other, 415, "UnsupportedMediaType");
    },
  },
  {
    name: "an unknown Deployment is 404 NotFound, with its name, to read and to scale",
    async run(cluster) {
      for (
        const answer of [await call(cluster, { path: workloads(cluster, "nobody") }), await scale(cluster, "nobody", 1)]
      ) {
        assertStatus(answer, 404, "NotFound");
        assert.deepEqual(answer.json.details, { name: "nobody", group: "apps", kind: "deployments" });
      }
    },
  },
  {
    name: "an unknown kind is 404 without a name, an unknown method 405",
    async run(cluster, name) {
      const unknown = await call(cluster, { path: `/apis/apps/v1/namespaces/${cluster.namespace}/wishes/x` });
      assertStatus(unknown, 404, "NotFound");
      assert.equal(unknown.json.details.name, undefined);
      const method = await call(cluster, { method: "DELETE", path: `${workloads(cluster, name)}/scale` });
      assertStatus(method, 405, "MethodNotAllowed");
    },
  },
  {
    name: "the base Role is enough to read and to scale its target",
    async run(cluster, name) {
      const token = await cluster.makeToken(baseRole(name));
      assert.equal((await call(cluster, { path: workloads(cluster, name), token })).status, 200);
      assert.equal((await call(cluster, { path: `${workloads(cluster, name)}/scale`, token })).status, 200);
      assert.equal((await scale(cluster, name, 1, { token })).status, 200);
    },
  },
  {
    name: "what no rule permits is 403 Forbidden, naming user, verb and resource, before 404",
    async run(cluster, name) {
      const token = await cluster.makeToken(baseRole(name));
      const direct = { method: "PATCH", path: workloads(cluster, name), body: { spec: { replicas: 3 } }, token };
      const rows: [Answer, RegExp][] = [
        [await call(cluster, direct), /cannot patch resource "deployments" in API group "apps"/],
        [
          await scale(cluster, "nobody", 1, { token }),
          /cannot patch resource "deployments\/scale" in API group "apps"/,
        ],
        [await call(cluster, { path: podsOf(cluster, name), token }), /cannot list resource "pods" in API group ""/],
        [await call(cluster, { path: workloads(cluster), token }), /cannot list resource "deployments"/],
      ];
      for (const [answer, words] of rows) {
        assertStatus(answer, 403, "Forbidden");
        assert.match(answer.json.message, words);
      }
    },
  },
  {
    name: "a Role that names its target permits a watch of that name only",
    async run(cluster, name) {
      const rule = { apiGroups: ["apps"], resources: ["deployments"], resourceNames: [name], verbs: ["watch"] };
      const token = await cluster.makeToken([rule]);
      for await (const { type, object } of watch(cluster, name, undefined, token)) {
        assert.deepEqual([type, object.metadata.name], ["ADDED", name]);
        break;
      }
      assertStatus(await call(cluster, { path: `${workloads(cluster)}?watch=1`, token }), 403, "Forbidden");
    },
  },
  {
    name: "SelfSubjectAccessReview tells what is permitted and what is not",
    async run(cluster, name) {
      const token = await cluster.makeToken(baseRole(name));
      const target = { namespace: cluster.namespace, group: "apps", resource: "deployments", name };
      const rows: [Record<string, string>, boolean][] = [
        [{ ...target, verb: "get" }, true],
        [{ ...target, verb: "patch", subresource: "scale" }, true],
        [{ ...target, verb: "patch" }, false],
        [{ ...target, verb: "get", name: "nobody" }, false],
        [{ ...target, verb: "watch" }, false],
        [{ namespace: cluster.namespace, verb: "list", resource: "pods" }, false],
      ];
      for (const [resourceAttributes, allowed] of rows) {
        const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        const body = {
          apiVersion: "authorization.k8s.io/v1",
          kind: "SelfSubjectAccessReview",
          spec: { resourceAttributes },
        };
        const { status, json } = await call(cluster, { method: "POST", path, body, token });
        assert.deepEqual([status, json.status.allowed], [201, allowed], JSON.stringify(resourceAttributes));
      }
    },
  },
  {
    name: "SelfSubjectReview tells the user's name",
    async run(cluster, name) {
      const token = await cluster.makeToken(baseRole(name));
      const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
      const body = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
      const { status, json } = await call(cluster, { method: "POST", path, body, token });
      assert.equal(status, 201);
      assert.match(json.status.userInfo.username, new RegExp(`^system:serviceaccount:${cluster.namespace}:`));
    },
  },
  {
    name: "an Event can be created with a generated name, and found by the object that it is about",
    async run(cluster, name) {
      const path = `/api/v1/namespaces/${cluster.namespace}/events`;
      const involvedObject = { apiVersion: "apps/v1", kind: "Deployment", namespace: cluster.namespace, name };
      const time = new Date().toISOString();
      const body = {
        metadata: { generateName: `${name}.` },
        involvedObject,
        type: "Normal",
        reason: "ScaledByChat",
        message: "from 0 to 1",
        action: "ScaledByChat",
        source: { component: "tester" },
        reportingComponent: "tester",
        reportingInstance: "tester-1",
        eventTime: time.replace("Z", "000Z"),
        firstTimestamp: time,
        lastTimestamp: time,
        count: 1,
      };
      const token = await cluster.makeToken([{ apiGroups: [""], resources: ["events"], verbs: ["create"] }]);
      const created = await call(cluster, { method: "POST", path, body, token });
      assert.equal(created.status, 201, JSON.stringify(created.json));
      assert.match(created.json.metadata.name, new RegExp(`^${name}\\.[a-z0-9]{5}$`));
      const found = await call(cluster, { path: `${path}?fieldSelector=involvedObject.name%3D${name}` });
      const messages = found.json.items.map(({ message }: { message: string }) => message);
      assert.ok(messages.includes("from 0 to 1"), messages.join());
      const lacking = [{ reportingComponent: "" }, { reportingInstance: "" }, { action: "" }, { reason: "" }, {
        involvedObject: { ...involvedObject, namespace: "" },
      }, { eventTime: null, involvedObject: { ...involvedObject, namespace: "elsewhere" } }];
      for (const change of lacking) {
        assertStatus(
          await call(cluster, { method: "POST", path, body: { ...body, ...change }, token }),
          422,
          "Invalid",
        );
      }
    },
  },
  {
    name: "pods can be listed by label with permission to list them, and cannot be watched with it",
    async run(cluster, name) {
      const token = await cluster.makeToken([{ apiGroups: [""], resources: ["pods"], verbs: ["list"] }]);
      await scale(cluster, name, 1);
      await ready(cluster, name);
      const listed = await call(cluster, { path: podsOf(cluster, name), token });
      assert.deepEqual([listed.status, listed.json.items.length], [200, 1]);
      const watched = await call(cluster, { path: `${podsOf(cluster, name)}&watch=1`, token });
      assertStatus(watched, 403, "Forbidden");
    },
  },
];
