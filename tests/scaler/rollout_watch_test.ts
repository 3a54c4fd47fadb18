import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PermissionError, TransientError } from "../../lib/errors.ts";
import type { Rollouts } from "../../lib/operator/mod.ts";
import type { ApiOptions, KubernetesScaler, Scale } from "../../lib/scaler/mod.ts";
import type { Effect, Rule } from "../../sandbox/kubernetes/mod.ts";
import { type AtSandbox, atSandbox, baseRole, extendedRole, patient, target } from "./at_sandbox.ts";

/** The checker refuses this line if the class does not satisfy the operator's port. */
const satisfiesPort: (rollouts: KubernetesScaler) => Rollouts = (rollouts) => rollouts;

/** Everything told until the count of ready pods is so; a deletion is left out. */
async function toldUntil(ready: number, watching: AsyncIterator<Scale | undefined>): Promise<Scale[]> {
  const told: Scale[] = [];
  for (;;) {
    const { value }: IteratorResult<Scale | undefined> = await watching.next();
    if (value === undefined) continue;
    told.push(value);
    if (value.ready === ready && value.desired === ready && value.settled) return told;
  }
}

async function scaleTo(at: AtSandbox, replicas: number): Promise<void> {
  const { resourceVersion } = await at.scaler.read(target, patient);
  await at.scaler.scale(target, replicas, resourceVersion, patient);
}

/** Does something to the Deployment as somebody else. */
async function asAdmin({ sandbox }: AtSandbox, method: "PATCH" | "DELETE", patch?: unknown): Promise<void> {
  const response = await fetch(`${sandbox.url}/apis/apps/v1/namespaces/agents/deployments/clawdbot`, {
    method,
    headers: { authorization: `Bearer ${sandbox.adminToken}`, "content-type": "application/merge-patch+json" },
    body: patch === undefined ? null : JSON.stringify(patch),
  });
  assert.equal(response.status, 200, await response.text());
}

/** Requests for the target itself by method and query, as they came. */
function asked(at: AtSandbox): string[] {
  return at.sandbox.requests.map(({ path }) => path.includes("watch=") ? "watch" : "get");
}

const status = (code: number) => ({
  kind: "Status",
  apiVersion: "v1",
  metadata: {},
  status: "Failure",
  code,
  reason: "X",
});
const line = (type: string, object: unknown) => ({ answer: 200, body: `${JSON.stringify({ type, object })}\n` });

Deno.test("KubernetesScaler.watch() yields a target's counts, and then each change, also of the version alone", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  const watching = satisfiesPort(at.scaler).watch(target, patient)[Symbol.asyncIterator]();
  const told = await toldUntil(0, watching);
  assert.equal(told.length, 1);
  await asAdmin(at, "PATCH", { metadata: { labels: { changes: "nothing" } } });
  const [labelled] = await toldUntil(0, watching);
  assert.notEqual(labelled?.resourceVersion, told[0]?.resourceVersion);
  assert.deepEqual({ ...labelled, resourceVersion: "" }, { ...told[0], resourceVersion: "" });
  // That version is the present one.
  await at.scaler.scale(target, 2, labelled?.resourceVersion ?? "", patient);
  told.push(...await toldUntil(2, watching));
  const versions = told.map(({ resourceVersion }) => resourceVersion);
  assert.ok(told.length >= 3, versions.join());
  assert.equal(new Set(versions).size, versions.length);
  assert.equal(told.at(-1)?.manager, "openclaw-toggle");
  await watching.return?.();
});

Deno.test("KubernetesScaler.watch() asks for its target alone, from the version that it has read", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  const { resourceVersion } = await at.scaler.read(target, patient);
  at.sandbox.fault({ path: /watch=/, effect: { answer: 500 } });
  await assert.rejects(at.scaler.watch(target, patient).next(), TransientError);
  assert.equal(
    at.sandbox.requests.at(-1)?.path,
    "/apis/apps/v1/namespaces/agents/deployments?fieldSelector=metadata.name%3Dclawdbot" +
      `&resourceVersion=${resourceVersion}&watch=true&allowWatchBookmarks=true&timeoutSeconds=180`,
  );
});

Deno.test("KubernetesScaler.watch() restarts when a watch ends, and yields what it missed", async (t) => {
  // Silence is noticed at the deadline. Where it isn't waited for, a slow machine has all the time.
  const brief = { deadlineMs: 3_000, watchSeconds: 0 };
  const rows: [name: string, effect: Effect, times: number, options?: ApiOptions][] = [
    ["the server ends it", { answer: 200, body: "" }, 1],
    ["the server ends it after a bookmark", line("BOOKMARK", { metadata: { resourceVersion: "9" } }), 5],
    ["the version is gone", { answer: 410 }, 1],
    ["the version is gone, says an event", line("ERROR", status(410)), 1],
    ["it falls silent", "stall", 1, brief],
  ];
  for (const [name, effect, times, options] of rows) {
    await t.step(name, async () => {
      await using at = await atSandbox({ rules: extendedRole, ...options });
      at.sandbox.fault({ path: /watch=/, times, effect });
      const watching = at.scaler.watch(target, patient);
      await toldUntil(0, watching);
      const next = toldUntil(1, watching);
      await scaleTo(at, 1);
      await next;
      await watching.return();
    });
  }
});

Deno.test("KubernetesScaler.watch() throws, for the caller to back off, if watches end at once", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  at.sandbox.fault({ path: /watch=/, effect: { answer: 200, body: "" } });
  const watching = at.scaler.watch(target, patient);
  const beganMs = performance.now();
  await toldUntil(0, watching);
  await assert.rejects(watching.next(), (error: Error) => {
    assert.ok(error instanceof TransientError);
    assert.match(error.message, /^Cannot watch deployments\.apps "clawdbot" in namespace "agents": .* ends the watch/);
    return true;
  });
  // On a machine so slow that a watch lasts for a second, none of them ends at once.
  if (performance.now() - beganMs < 1_000) assert.deepEqual(asked(at), ["get", "watch", "get", "watch"]);
});

Deno.test("KubernetesScaler.watch() doesn't spin if each watch yields something and ends", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  using _brief = at.sandbox.fault({ path: /watch=/, effect: line("BOOKMARK", {}) });
  const controller = new AbortController();
  const beganMs = performance.now();
  const watching = at.scaler.watch(target, controller.signal)[Symbol.asyncIterator]();
  await watching.next();
  let ended = false;
  const end = watching.next().then(() => "told", (error: unknown) => error).finally(() => ended = true);
  const watches = () => asked(at).filter((what) => what === "watch").length;
  while (!ended && watches() < 7) await new Promise((resolve) => setTimeout(resolve, 10));
  // Five at once, and then one a second.
  const tookMs = performance.now() - beganMs;
  assert.ok(tookMs >= 1_900, `${watches()} watches within ${tookMs} ms`);
  const reason = new Error("the program ends");
  controller.abort(reason);
  assert.equal(await end, reason);
});

Deno.test("KubernetesScaler.watch() distinguishes transient failures", async (t) => {
  const rows: [name: string, effect: Effect, retryAfterMs: number, deadlineMs?: number][] = [
    ["429", { answer: 429, headers: { "retry-after": "3" } }, 3_000],
    ["an event that is an error", line("ERROR", status(500)), 0],
    ["an event that is an error without a code", line("ERROR", null), 0],
    ["what is no event", { answer: 200, body: "null\n" }, 0],
    ["what is no JSON", { answer: 200, body: "<html>\n" }, 0],
    ["what is no workload", line("MODIFIED", {}), 0],
    ["no answer", "silence", 0, 3_000],
  ];
  for (const [name, effect, retryAfterMs, deadlineMs = 60_000] of rows) {
    await t.step(name, async () => {
      await using at = await atSandbox({ rules: extendedRole, deadlineMs });
      at.sandbox.fault({ path: /watch=/, effect });
      await assert.rejects(Array.fromAsync(at.scaler.watch(target, patient)), (error: Error) => {
        assert.ok(error instanceof TransientError, error.message);
        assert.match(error.message, /^Cannot watch deployments\.apps "clawdbot" in namespace "agents": /);
        assert.equal(error.retryAfterMs, retryAfterMs);
        return true;
      });
    });
  }
});

Deno.test("KubernetesScaler.watch() throws a PermissionError if the permission is missing", async () => {
  await using at = await atSandbox({ rules: baseRole });
  await assert.rejects(at.scaler.watch(target, patient).next(), (error: Error) => {
    assert.ok(error instanceof PermissionError);
    assert.deepEqual([error.verb, error.resource], ["watch", 'deployments.apps "clawdbot" in namespace "agents"']);
    return true;
  });
});

Deno.test("KubernetesScaler.watch() continues with an object that replaces its target", async (t) => {
  const again = { namespace: "agents", name: "clawdbot" };
  await t.step("at once", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    const watching = at.scaler.watch(target, patient);
    await toldUntil(0, watching);
    await asAdmin(at, "DELETE");
    at.sandbox.create({ ...again, replicas: 1 });
    await toldUntil(1, watching);
    await watching.return();
  });
  await t.step("with the same counts, and tells first that it is gone", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    const watching = at.scaler.watch(target, patient);
    await toldUntil(0, watching);
    await asAdmin(at, "DELETE");
    assert.deepEqual(await watching.next(), { value: undefined, done: false });
    at.sandbox.create(again);
    await toldUntil(0, watching);
    assert.deepEqual(asked(at), ["get", "watch", "get"]);
    await watching.return();
  });
  await t.step("after the watch had ended, too", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    at.sandbox.fault({ path: /watch=/, times: 1, effect: line("DELETED", {}) });
    await asAdmin(at, "DELETE");
    const watching = at.scaler.watch(target, patient);
    const next = toldUntil(1, watching);
    at.sandbox.create({ ...again, replicas: 1 });
    await next;
    await watching.return();
  });
});

Deno.test("KubernetesScaler.watch() ends when aborted, and leaves nothing behind", async (t) => {
  const reason = new Error("the program ends");
  await t.step("while it waits", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    const controller = new AbortController();
    const watching = at.scaler.watch(target, controller.signal);
    await toldUntil(0, watching);
    const told = toldUntil(1, watching);
    await scaleTo(at, 1);
    await told;
    const next = assert.rejects(watching.next(), reason);
    controller.abort(reason);
    await next;
    assert.deepEqual(await watching.next(), { value: undefined, done: true });
  });
  await t.step("while others wait for something else", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    const controller = new AbortController();
    const watching = at.scaler.watch(target, controller.signal);
    await toldUntil(0, watching);
    const next = watching.next();
    await scaleTo(at, 1);
    await next;
    controller.abort(reason);
    // What the cluster has told meanwhile may come before.
    const rest = async () => {
      for await (const _told of watching);
    };
    await assert.rejects(rest, reason);
  });
  await t.step("after garbage was collected", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    const controller = new AbortController();
    const watching = at.scaler.watch(target, controller.signal);
    await toldUntil(0, watching);
    const next = watching.next();
    await garbageCollected();
    controller.abort(reason);
    await assert.rejects(next, reason);
  });
  await t.step("before it begins", async () => {
    await using at = await atSandbox({ rules: extendedRole });
    await assert.rejects(at.scaler.watch(target, AbortSignal.abort(reason)).next(), reason);
    assert.deepEqual(at.sandbox.requests, []);
  });
});

Deno.test("KubernetesScaler.diagnose() asks for pods again five minutes after that was forbidden", async () => {
  const rules: Rule[] = [...baseRole];
  let nowMs = 0;
  await using at = await atSandbox({ rules, now: () => nowMs });
  at.sandbox.durations.startMs = 60_000;
  await scaleTo(at, 1);
  await untilOnePod(at);
  const scale = await at.scaler.read(target, patient);
  const diagnose = () => at.scaler.diagnose(target, scale, patient);
  const lists = () => at.sandbox.requests.filter(({ path }) => path.includes("/pods")).length;
  const forbidden = { problems: [], missingPermission: 'list pods in namespace "agents"' };
  assert.deepEqual(await diagnose(), forbidden);
  rules.push({ resources: ["pods"], verbs: ["list"] });
  nowMs = 299_999;
  assert.deepEqual(await diagnose(), forbidden);
  assert.equal(lists(), 1);
  nowMs = 300_000;
  const problems = [{ kind: "other", certain: false, reason: "ContainerCreating" }];
  assert.deepEqual(await diagnose(), { problems, missingPermission: undefined });
  assert.match(at.sandbox.requests.at(-1)?.path ?? "", /\/pods\?labelSelector=app%3Dclawdbot$/);
  rules.pop();
  assert.deepEqual(await diagnose(), forbidden);
});

Deno.test("KubernetesScaler.diagnose() reads conditions although pods are forbidden", async () => {
  await using at = await atSandbox();
  using _quota = at.sandbox.limitPods("agents", 0);
  const before = await at.scaler.read(target, patient);
  assert.deepEqual((await at.scaler.diagnose(target, before, patient)).problems, []);
  const refused = Promise.withResolvers<void>();
  const diagnose = async () => {
    const { problems: [first] } = await at.scaler.diagnose(target, await at.scaler.read(target, patient), patient);
    if (first?.kind === "quota") refused.resolve();
  };
  using _listening = at.sandbox.onChange(() => void diagnose());
  await scaleTo(at, 1);
  await refused.promise;
});

Deno.test("KubernetesScaler.diagnose() and record() read nothing again that was read or watched", async (t) => {
  for (const source of ["read", "watch"] as const) {
    await t.step(source, async () => {
      await using at = await atSandbox({ rules: extendedRole });
      const watching = at.scaler.watch(target, patient);
      const scale = source === "read" ? await at.scaler.read(target, patient) : (await watching.next()).value;
      at.sandbox.requests.length = 0;
      await at.scaler.diagnose(target, scale ?? assert.fail(), patient);
      await at.scaler.record(target, { reason: "SwitchedOn", message: "x", type: "Normal" }, patient);
      const requests = at.sandbox.requests.map(({ method, path }) => `${method} ${/\w+(?=\?|$)/.exec(path)}`);
      assert.deepEqual(requests, ["GET pods", "POST events"]);
      await watching.return();
    });
  }
});

Deno.test("KubernetesScaler.diagnose() explains the very counts that it is given", async () => {
  await using at = await atSandbox();
  const off = await at.scaler.read(target, patient);
  using _quota = at.sandbox.limitPods("agents", 0);
  const watched = Promise.withResolvers<void>();
  using _listening = at.sandbox.onChange(() => watched.resolve());
  await scaleTo(at, 1);
  await watched.promise;
  await at.scaler.read(target, patient);
  assert.deepEqual((await at.scaler.diagnose(target, off, patient)).problems, []);
  await assert.rejects(
    at.scaler.diagnose(target, { ...off }, patient),
    /^Error: Cannot diagnose counts that come from/,
  );
});

Deno.test("KubernetesScaler.diagnose() passes on what keeps it from looking", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  const scale = await at.scaler.read(target, patient);
  at.sandbox.fault({ path: /pods/, effect: { answer: 503 } });
  await assert.rejects(at.scaler.diagnose(target, scale, patient), TransientError);
});

Deno.test("KubernetesScaler.record() writes an Event that names the very object", async () => {
  await using at = await atSandbox({ rules: extendedRole });
  const note = { reason: "SwitchedOn", message: "@ada:example.org has set\n replicas to 1", type: "Normal" } as const;
  const before = Date.now();
  await at.scaler.record(target, note, patient);
  await at.scaler.read(target, patient);
  await at.scaler.record(target, note, patient);
  const admin = { headers: { authorization: `Bearer ${at.sandbox.adminToken}` } };
  const namespace = `${at.sandbox.url}/api/v1/namespaces/agents`;
  const { items: [event, again] } = await (await fetch(`${namespace}/events`, admin)).json();
  const deployments = `${at.sandbox.url}/apis/apps/v1/namespaces/agents/deployments`;
  const { metadata: { uid } } = await (await fetch(`${deployments}/clawdbot`, admin)).json();
  assert.match(event.metadata.name, /^clawdbot\.\w+$/);
  assert.deepEqual(event.involvedObject, {
    apiVersion: "apps/v1",
    kind: "Deployment",
    namespace: "agents",
    name: "clawdbot",
    uid,
  });
  assert.deepEqual(again.involvedObject, event.involvedObject);
  assert.deepEqual([event.type, event.reason, event.message, event.count, event.source.component], [
    "Normal",
    "SwitchedOn",
    "@ada:example.org has set replicas to 1",
    1,
    "openclaw-toggle",
  ]);
  assert.equal(event.reportingComponent, "openclaw-toggle");
  assert.match(event.eventTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assert.equal(event.firstTimestamp, event.lastTimestamp);
  assert.ok(Date.parse(event.firstTimestamp) >= before && Date.parse(event.firstTimestamp) <= Date.now());
});

Deno.test("KubernetesScaler.record() names the permission that is missing", async () => {
  await using at = await atSandbox({ rules: baseRole });
  const note = { reason: "SwitchedOn", message: "x", type: "Normal" } as const;
  await assert.rejects(at.scaler.record(target, note, patient), (error: Error) => {
    assert.ok(error instanceof PermissionError);
    assert.deepEqual([error.verb, error.resource], ["create", 'events in namespace "agents"']);
    return true;
  });
});

/** Resolves when the sandbox's workload has a pod, and its status knows. */
async function untilOnePod({ sandbox }: AtSandbox): Promise<void> {
  const reached = Promise.withResolvers<void>();
  const look = () => {
    const [workload] = sandbox.workloads();
    if (workload?.settled && workload.pods.length === 1) reached.resolve();
  };
  using _listening = sandbox.onChange(look);
  look();
  await reached.promise;
}

/** Has what nothing refers to collected. */
async function garbageCollected(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  for (let times = 0; times < 5; times += 1) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}
