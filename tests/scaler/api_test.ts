import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { ConflictError, NotFoundError, PermissionError, RejectedError, TransientError } from "../../lib/errors.ts";
import { errorOf } from "../../lib/scaler/api.ts";
import { KubernetesApi, KubernetesScaler } from "../../lib/scaler/mod.ts";
import type { Effect } from "../../sandbox/kubernetes/mod.ts";
import { atSandbox, extendedRole, patient, target } from "./at_sandbox.ts";

Deno.test("KubernetesApi.request() checks the signal first", async () => {
  await using at = await atSandbox();
  const reason = new Error("the program ends");
  await assert.rejects(at.scaler.read(target, AbortSignal.abort(reason)), reason);
  assert.deepEqual(at.sandbox.requests, []);
});

Deno.test("KubernetesApi.request() ends at once when aborted, whatever the server does", async (t) => {
  for (const effect of ["silence", "stall"] as const) {
    await t.step(effect, async () => {
      await using at = await atSandbox();
      at.sandbox.fault({ effect });
      const controller = new AbortController();
      const reason = new Error("the program ends");
      const reading = at.scaler.read(target, controller.signal);
      queueMicrotask(() => controller.abort(reason));
      await assert.rejects(reading, reason);
    });
  }
});

Deno.test("KubernetesApi.request() makes a TransientError of what time may cure", async (t) => {
  const html = { answer: 200, body: "<html>Please log in</html>" };
  const rows: [effect: Effect, says: RegExp, retryAfterMs: number][] = [
    ["silence", /no answer within 1 s$/, 0],
    ["stall", /no answer within 1 s$/, 0],
    ["drop", /at http:\/\/127\.0\.0\.1:\d+: \w+/, 0],
    [{ answer: 429, headers: { "retry-after": "3" } }, /answered 429 \(SandboxFault\)$/, 3_000],
    [{ answer: 503, body: "no healthy upstream" }, /answered 503$/, 0],
    [html, /answered no Kubernetes object$/, 0],
    [{ answer: 200, body: "[" }, /answered no Kubernetes object$/, 0],
    [{ answer: 200, body: "null" }, /answered no Kubernetes object$/, 0],
    [{ answer: 200, body: '{"kind":"Deployment"}' }, /is not a deployment$/, 0],
  ];
  for (const [effect, says, retryAfterMs] of rows) {
    await t.step(JSON.stringify(effect), async () => {
      await using at = await atSandbox();
      const hasty = new KubernetesScaler(new KubernetesApi(at.cluster, { deadlineMs: 1_000 }));
      at.sandbox.fault({ effect, times: 1 });
      const scaler = effect === "silence" || effect === "stall" ? hasty : at.scaler;
      await assert.rejects(scaler.read(target, patient), (error: Error) => {
        assert.ok(error instanceof TransientError, error.name);
        assert.match(error.message, says);
        assert.match(error.message, /^Cannot get deployments\.apps "clawdbot" in namespace "agents"( at http:\S+)?: /);
        assert.equal(error.retryAfterMs, retryAfterMs);
        return true;
      });
      assert.equal((await at.scaler.read(target, patient)).desired, 0);
    });
  }
});

Deno.test("KubernetesApi.request() names why there is no connection", async () => {
  await using at = await atSandbox();
  await at.sandbox[Symbol.asyncDispose]();
  await assert.rejects(at.scaler.read(target, patient), (error: Error) => {
    assert.ok(error instanceof TransientError);
    assert.match(error.message, / at http:\/\/127\.0\.0\.1:\d+: tcp connect error: Connection refused$/);
    return true;
  });
});

Deno.test("KubernetesApi.request() takes nothing from a redirection", async () => {
  await using at = await atSandbox();
  at.sandbox.fault({ times: 1, effect: { answer: 307, headers: { location: "/version" }, body: "" } });
  await assert.rejects(at.scaler.read(target, patient), /got 307, and not from a Kubernetes API/);
  assert.equal(at.sandbox.requests.length, 1);
});

Deno.test("KubernetesApi.request() rereads refused credentials, once", async (t) => {
  await t.step("and continues with new ones", async () => {
    await using at = await atSandbox();
    const { resourceVersion } = await at.scaler.read(target, patient);
    await at.sandbox.writeKubeconfig(at.kubeconfig, at.sandbox.adminToken);
    at.sandbox.revoke(at.token);
    await at.scaler.scale(target, 1, resourceVersion, patient);
    await at.scaler.read(target, patient);
    const users = at.sandbox.requests.map(({ user }) => user);
    assert.deepEqual(users, ["system:serviceaccount:agents:operator", "", "admin", "admin"]);
  });
  await t.step("and throws if they are the same", async () => {
    await using at = await atSandbox();
    at.sandbox.revoke(at.token);
    await assert.rejects(at.scaler.read(target, patient), (error: Error) => {
      assert.ok(error instanceof TransientError);
      assert.match(error.message, /refused the credentials of sandbox: they are wrong or have expired$/);
      assert.ok(!error.message.includes(at.token));
      return true;
    });
    assert.equal(at.sandbox.requests.length, 1);
  });
  await t.step("and says so where the new one is refused too", async () => {
    await using at = await atSandbox();
    at.sandbox.revoke(at.token);
    await at.sandbox.writeKubeconfig(at.kubeconfig, "nonsense");
    await assert.rejects(at.scaler.read(target, patient), /refused the credentials/);
    assert.equal(at.sandbox.requests.length, 2);
  });
});

Deno.test({
  name: "KubernetesApi.request() leaves no timer and no connection behind",
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using at = await atSandbox();
    await at.scaler.read(target, patient);
  },
});

Deno.test("KubernetesApi shows server and context", async () => {
  await using at = await atSandbox();
  const api = new KubernetesApi(at.cluster);
  assert.deepEqual([api.server, api.context], [at.sandbox.url, "sandbox"]);
});

/** An API server that answers every request with a watch whose bytes come one by one, and then breaks it off. */
async function breakingOff(text: string) {
  const server = createServer((_, response) => {
    response.writeHead(200);
    for (const byte of new TextEncoder().encode(text)) response.write(Uint8Array.of(byte));
    response.write("{", () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = Deno.createHttpClient({});
  return {
    api: apiAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, client),
    [Symbol.asyncDispose]: async () => {
      client.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function apiAt(server: string, client: Deno.HttpClient): KubernetesApi {
  const connect = () => Promise.resolve({ server, client, headers: [], [Symbol.dispose]: () => {} });
  return new KubernetesApi({ context: "test", server, connect, invalidateCredentials: () => {} });
}

Deno.test("KubernetesApi.watch() puts lines together, and ends where the connection breaks", async () => {
  const events = [{ type: "ADDED", object: { name: "🦞" } }, { type: "MODIFIED", object: {} }];
  await using at = await breakingOff(events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  const call = { verb: "watch", resource: "pods", method: "GET", path: "/api/v1/pods?x=y" } as const;
  const begun = { type: "BEGUN", object: {} };
  assert.deepEqual(await Array.fromAsync(at.api.watch(call, patient)), [begun, ...events]);
});

Deno.test("KubernetesApi leaves no listener on the caller's signal", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  const { signal } = new AbortController();
  const watching = at.scaler.watch(target, signal);
  await watching.next();
  const change = watching.next();
  const { resourceVersion } = await at.scaler.read(target, signal);
  await at.scaler.scale(target, 1, resourceVersion, signal);
  await change;
  await watching.return();
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

Deno.test("KubernetesApi.request() can be tried again where a renewal has closed its client", async () => {
  const client = Deno.createHttpClient({});
  client.close();
  const call = { verb: "get", resource: "pods", method: "GET", path: "/api/v1/pods" } as const;
  await assert.rejects(apiAt("http://127.0.0.1", client).request(call, patient), TransientError);
});

const action = { verb: "patch", resource: 'deployments.apps/scale "clawdbot" in namespace "agents"' };
const NOW_MS = Date.parse("2026-03-01T12:00:00Z");

function statusBody(reason: string): string {
  return JSON.stringify({ kind: "Status", status: "Failure", reason, message: "a secret of the cluster" });
}

Deno.test("errorOf() makes the class that fits, and says what was tried", async (t) => {
  const cannot = `Cannot patch ${action.resource}: `;
  const notKubernetes = (status: number) => `${cannot}got ${status}, and not from a Kubernetes API; check its address`;
  const rows: [status: number, body: string, type: new (...given: never[]) => Error, message: string][] = [
    [403, statusBody("Forbidden"), PermissionError, `${cannot}not permitted`],
    [404, statusBody("NotFound"), NotFoundError, `${cannot}not found`],
    [409, statusBody("Conflict"), ConflictError, `${cannot}it has changed since it was read`],
    [422, statusBody("Invalid"), RejectedError, `${cannot}the Kubernetes API answered 422 (Invalid)`],
    [429, statusBody("TooManyRequests"), TransientError, `${cannot}the Kubernetes API answered 429 (TooManyRequests)`],
    [500, statusBody("InternalError"), TransientError, `${cannot}the Kubernetes API answered 500 (InternalError)`],
    [500, '{"kind":"Status"}', TransientError, `${cannot}the Kubernetes API answered 500`],
    [503, "<html>Bad gateway", TransientError, `${cannot}the Kubernetes API answered 503`],
    [302, "", TransientError, notKubernetes(302)],
    [403, "<html>Your company's proxy says no", TransientError, notKubernetes(403)],
    [404, "404 page not found", TransientError, notKubernetes(404)],
    [404, '{"kind":"Sta', TransientError, notKubernetes(404)],
    [404, "null", TransientError, notKubernetes(404)],
    [400, "Bad Request", TransientError, notKubernetes(400)],
    [429, "slow down", TransientError, notKubernetes(429)],
    [401, statusBody("Unauthorized"), TransientError, `${cannot}the Kubernetes API answered 401 (Unauthorized)`],
    [400, statusBody("Very bad\n"), RejectedError, `${cannot}the Kubernetes API answered 400`],
    [400, '{"kind":"Status","reason":{"a":1}}', RejectedError, `${cannot}the Kubernetes API answered 400`],
  ];
  for (const [status, body, type, message] of rows) {
    await t.step(`${status} ${body.slice(0, 60)}`, () => {
      const error = errorOf(action, { status, body, headers: new Headers() }, NOW_MS);
      assert.ok(error instanceof type, error.name);
      assert.equal(error.message, message);
    });
  }
});

Deno.test("errorOf() keeps verb and resource of a forbidden request", () => {
  const error = errorOf(action, { status: 403, body: statusBody("Forbidden"), headers: new Headers() }, NOW_MS);
  assert.ok(error instanceof PermissionError);
  assert.deepEqual([error.verb, error.resource], [action.verb, action.resource]);
});
