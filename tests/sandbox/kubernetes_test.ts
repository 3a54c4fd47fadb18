import assert from "node:assert/strict";
import { KubernetesSandbox, type WorkloadView } from "../../sandbox/kubernetes/mod.ts";

const fast = { startMs: 20, stopMs: 10, observeMs: 2 };

/** Sets a count, as somebody with kubectl would. */
async function scale(sandbox: KubernetesSandbox, resource: string, replicas: number): Promise<void> {
  const response = await fetch(`${sandbox.url}/apis/apps/v1/namespaces/agents/${resource}/clawdbot/scale`, {
    method: "PATCH",
    headers: { authorization: `Bearer ${sandbox.adminToken}`, "content-type": "application/merge-patch+json" },
    body: JSON.stringify({ spec: { replicas } }),
  });
  assert.equal(response.status, 200, await response.text());
}

/** What the listener sees while something is done, one line a change, until the last line is there. */
async function seenWhile(sandbox: KubernetesSandbox, last: string, act: () => Promise<void>): Promise<string[]> {
  const seen: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  using _listening = sandbox.onChange(() => {
    const line = sandbox.workloads().map(lineOf).join("; ");
    if (seen.at(-1) !== line) seen.push(line);
    if (line === last) resolve();
  });
  await act();
  await promise;
  return seen;
}

function lineOf({ desired, ready, pods }: WorkloadView): string {
  return `${ready}/${desired} ${pods.map(({ state }) => state).join()}`.trim();
}

Deno.test("a Deployment's pod is Pending, Running, ready, and Terminating, and listeners see it", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  sandbox.create({ namespace: "agents", name: "clawdbot" });
  const start = await seenWhile(sandbox, "1/1 Ready", () => scale(sandbox, "deployments", 1));
  assert.deepEqual(start.slice(-5), ["0/1", "0/1 Pending", "0/1 Running", "0/1 Ready", "1/1 Ready"]);
  const stop = await seenWhile(sandbox, "0/0", () => scale(sandbox, "deployments", 0));
  assert.deepEqual(stop, ["1/0 Ready", "1/0 Terminating", "0/0 Terminating", "0/0"]);
});

Deno.test("a StatefulSet's pods begin one after the other, and end highest first", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  sandbox.create({ resource: "statefulsets", namespace: "agents", name: "clawdbot" });
  const start = await seenWhile(sandbox, "2/2 Ready,Ready", () => scale(sandbox, "statefulsets", 2));
  assert.ok(start.includes("1/2 Ready,Pending"), start.join("; "));
  assert.ok(!start.some((line) => line.includes("Pending,Pending")), start.join("; "));
  const names = () => sandbox.workloads()[0]?.pods.map(({ name }) => name);
  assert.deepEqual(names(), ["clawdbot-0", "clawdbot-1"]);
  const stop = await seenWhile(sandbox, "0/0", () => scale(sandbox, "statefulsets", 0));
  assert.ok(stop.includes("2/0 Ready,Terminating"), stop.join("; "));
  assert.ok(!stop.some((line) => line.includes("Terminating,Terminating")), stop.join("; "));
});

Deno.test("a pod that is deleted is replaced, and a Deployment that is deleted takes its pods along", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  sandbox.create({ namespace: "agents", name: "clawdbot" });
  await seenWhile(sandbox, "1/1 Ready", () => scale(sandbox, "deployments", 1));
  const [first] = sandbox.workloads()[0]?.pods ?? [];
  const remove = async (path: string) => {
    const headers = { authorization: `Bearer ${sandbox.adminToken}` };
    await (await fetch(sandbox.url + path, { method: "DELETE", headers })).body?.cancel();
  };
  const replaced = await seenWhile(sandbox, "1/1 Ready", () => remove(`/api/v1/namespaces/agents/pods/${first?.name}`));
  assert.ok(replaced.includes("0/1 Pending") || replaced.includes("0/1 Terminating,Pending"), replaced.join("; "));
  assert.notEqual(sandbox.workloads()[0]?.pods[0]?.name, first?.name);
  await seenWhile(sandbox, "", () => remove("/apis/apps/v1/namespaces/agents/deployments/clawdbot"));
});

Deno.test("a watch from a version that is too old gets 410", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  for (let count = 0; count < 1_010; count += 1) sandbox.create({ namespace: "agents", name: `agent-${count}` });
  const headers = { authorization: `Bearer ${sandbox.adminToken}` };
  const path = "/apis/apps/v1/namespaces/agents/deployments?watch=1&resourceVersion=101";
  const line = JSON.parse(await (await fetch(sandbox.url + path, { headers })).text());
  assert.deepEqual([line.type, line.object.code, line.object.reason], ["ERROR", 410, "Expired"]);
});

Deno.test("a watch from a compacted version gets 410", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  sandbox.create({ namespace: "agents", name: "clawdbot" });
  sandbox.forgetHistory();
  const headers = { authorization: `Bearer ${sandbox.adminToken}` };
  const path = "/apis/apps/v1/namespaces/agents/deployments?watch=1&resourceVersion=100";
  const line = JSON.parse(await (await fetch(sandbox.url + path, { headers })).text());
  assert.deepEqual([line.type, line.object.code], ["ERROR", 410]);
});

Deno.test("a watch that allows bookmarks gets one before it ends", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  const headers = { authorization: `Bearer ${sandbox.adminToken}` };
  const path = "/apis/apps/v1/namespaces/agents/deployments?watch=1&allowWatchBookmarks=true&timeoutSeconds=3";
  const { type, object } = JSON.parse(await (await fetch(sandbox.url + path, { headers })).text());
  assert.deepEqual([type, object.kind, object.metadata.resourceVersion], ["BOOKMARK", "Deployment", "100"]);
});

Deno.test("a Deployment whose image crashes has a pod that never gets ready", async () => {
  await using sandbox = await KubernetesSandbox.start({ ...fast, runMs: 5, backOffMs: 5 });
  sandbox.create({ namespace: "agents", name: "clawdbot", image: "example/crash" });
  const seen = await seenWhile(sandbox, "0/1 Running", () => scale(sandbox, "deployments", 1));
  assert.deepEqual(seen.slice(-2), ["0/1 Pending", "0/1 Running"]);
});

Deno.test("a limit on pods holds for a namespace until it is disposed of", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  sandbox.create({ namespace: "agents", name: "clawdbot" });
  {
    using _limit = sandbox.limitPods("agents", 1);
    const seen = await seenWhile(sandbox, "1/2 Ready", () => scale(sandbox, "deployments", 2));
    assert.ok(!seen.some((line) => line.includes(",")), seen.join("; "));
  }
  await seenWhile(sandbox, "2/2 Ready,Ready", () => Promise.resolve());
});

Deno.test("faults hit the requests that they name, as often as they say, until they are switched off", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  const ask = async (path: string) => {
    const response = await fetch(sandbox.url + path);
    return `${response.status} ${response.headers.get("retry-after")} ${(await response.text()).slice(0, 20)}`;
  };
  sandbox.fault({
    path: /^\/readyz/,
    times: 1,
    effect: { answer: 429, headers: { "retry-after": "2" }, body: "slower" },
  });
  assert.equal(await ask("/livez"), "200 null ok");
  assert.equal(await ask("/readyz"), "429 2 slower");
  assert.equal(await ask("/readyz"), "200 null ok");
  {
    using _fault = sandbox.fault({ method: "GET", effect: { answer: 500 } });
    assert.match(await ask("/readyz"), /^500 null {"kind":"Status"/);
  }
  sandbox.fault({ times: 1, effect: { delayMs: 30 } });
  const beganMs = performance.now();
  assert.equal(await ask("/readyz"), "200 null ok");
  assert.ok(performance.now() - beganMs >= 29);
  assert.equal(sandbox.requests.length, 5);
});

Deno.test("a client that disconnects mid-request causes no sandbox error", async () => {
  await using sandbox = await KubernetesSandbox.start(fast);
  const said: unknown[] = [];
  const { error } = console;
  console.error = (...words) => void said.push(words);
  try {
    const { hostname, port } = new URL(sandbox.url);
    const client = await Deno.connect({ hostname, port: Number(port) });
    const head = `POST /apis HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 100\r\n\r\n{`;
    await client.write(new TextEncoder().encode(head));
    while (sandbox.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    client.close();
    // The server has seen the end of one connection before it answers on another that was opened later.
    assert.equal(await (await fetch(`${sandbox.url}/readyz`)).text(), "ok");
  } finally {
    console.error = error;
  }
  assert.deepEqual(said, []);
});

Deno.test("KubernetesSandbox.start() refuses a port that is taken", async () => {
  await using sandbox = await KubernetesSandbox.start();
  const port = Number(new URL(sandbox.url).port);
  await assert.rejects(KubernetesSandbox.start({ port }), /EADDRINUSE/);
});

Deno.test("a kubeconfig that the sandbox writes is for its owner's eyes only", async () => {
  await using sandbox = await KubernetesSandbox.start();
  const path = await Deno.makeTempFile();
  await Deno.remove(path);
  await sandbox.writeKubeconfig(path, "t");
  assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
  assert.equal(JSON.parse(await Deno.readTextFile(path)).clusters[0].cluster.server, sandbox.url);
  await Deno.remove(path);
});
