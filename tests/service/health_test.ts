import assert from "node:assert/strict";
import { createConnection, createServer } from "node:net";
import { once } from "node:events";
import { Health, Metrics, serveHealth } from "../../lib/service/mod.ts";

/** A timer, a connection or a listener left behind fails the test. */
const leavesNothing = { sanitizeOps: true, sanitizeResources: true };

function onTestClock() {
  const clock = { nowMs: 1_000_000 };
  const health = new Health(() => clock.nowMs);
  const after = (ms: number) => {
    clock.nowMs += ms;
  };
  return { health, after };
}

Deno.test("Health.readiness() is well only between ready and stopping, while the last sync is fresh", () => {
  const { health, after } = onTestClock();
  assert.deepEqual(health.readiness(), { ok: false, reason: "starting" });
  health.synced();
  assert.deepEqual(health.readiness(), { ok: false, reason: "starting" });
  health.ready();
  after(90_000);
  assert.deepEqual(health.readiness(), { ok: true, reason: "ready" });
  after(1);
  assert.deepEqual(health.readiness(), { ok: false, reason: "no sync for 90 s" });
  health.synced();
  assert.deepEqual(health.readiness(), { ok: true, reason: "ready" });
  health.stopping();
  assert.deepEqual(health.readiness(), { ok: false, reason: "stopping" });
  health.ready();
  assert.deepEqual(health.readiness(), { ok: false, reason: "stopping" });
});

Deno.test("Health.readiness() reports a problem that only people can fix, as long as it lasts", () => {
  const { health } = onTestClock();
  let problem: string | undefined = "this device is not signed";
  health.problem = () => problem;
  health.ready();
  assert.deepEqual(health.readiness(), { ok: false, reason: "this device is not signed" });
  assert.equal(health.alive().ok, true);
  problem = undefined;
  assert.deepEqual(health.readiness(), { ok: true, reason: "ready" });
});

Deno.test("Health.starting() forgets what was known of the run before, unless the end has begun", () => {
  const { health } = onTestClock();
  health.ready();
  health.kubernetesAnswers = false;
  health.problem = () => "of the last login";
  health.starting();
  assert.deepEqual(health.readiness(), { ok: false, reason: "starting" });
  health.ready();
  assert.deepEqual(health.readiness(), { ok: true, reason: "ready" });
  health.stopping();
  health.starting();
  assert.deepEqual(health.readiness(), { ok: false, reason: "stopping" });
});

Deno.test("Health.alive() is well while something moves or is meant to wait", () => {
  const { health, after } = onTestClock();
  after(180_000);
  assert.equal(health.alive().ok, true);
  after(1);
  assert.deepEqual(health.alive(), { ok: false, reason: "no sync for 180 s" });
  health.synced();
  after(170_000);
  health.backingOff(600_000);
  after(600_000 + 180_000);
  assert.equal(health.alive().ok, true);
  after(1);
  assert.deepEqual(health.alive(), { ok: false, reason: "no sync for 950 s" });
});

Deno.test("Health.backingOff() doesn't make a stale sync fresh, nor a short wait cut a longer one", () => {
  const { health, after } = onTestClock();
  health.ready();
  health.backingOff(600_000);
  health.backingOff(1_000);
  after(600_000);
  assert.equal(health.readiness().ok, false);
  assert.equal(health.alive().ok, true);
});

Deno.test("serveHealth() answers", leavesNothing, async (t) => {
  const { health, after } = onTestClock();
  await using server = await serveHealth(
    { hostname: "127.0.0.1", port: 0 },
    health,
    await Metrics.open("1.2.3", () => health.syncAgeMs),
  );
  async function ask(path: string, method = "GET"): Promise<[number, string]> {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { method });
    return [response.status, await response.text()];
  }
  const rows: [name: string, before: () => unknown, path: string, method: string, answer: [number, string]][] = [
    ["alive from the beginning", () => {}, "/healthz", "GET", [200, "alive\n"]],
    ["not ready from the beginning", () => {}, "/readyz", "GET", [503, "starting\n"]],
    ["ready when it is", () => health.ready(), "/readyz", "GET", [200, "ready\n"]],
    ["without a body to HEAD", () => {}, "/readyz?verbose", "HEAD", [200, ""]],
    ["not ready without the cluster", () => (health.kubernetesAnswers = false), "/readyz", "GET", [
      503,
      "the Kubernetes API does not answer\n",
    ]],
    ["alive without the cluster", () => {}, "/healthz", "GET", [200, "alive\n"]],
    ["ready when it is back", () => (health.kubernetesAnswers = true), "/readyz", "GET", [200, "ready\n"]],
    ["nothing else", () => {}, "/", "GET", [404, "not found\n"]],
    ["no other method", () => {}, "/healthz", "POST", [405, "GET or HEAD\n"]],
    ["not ready when stale", () => after(100_000), "/readyz", "GET", [503, "no sync for 100 s\n"]],
    ["not alive when stuck", () => after(100_000), "/healthz", "GET", [503, "no sync for 200 s\n"]],
    ["not ready when stopping", () => (health.synced(), health.stopping()), "/readyz", "GET", [503, "stopping\n"]],
    ["alive when stopping", () => {}, "/healthz", "GET", [200, "alive\n"]],
  ];
  for (const [name, before, path, method, expected] of rows) {
    await t.step(name, async () => {
      before();
      assert.deepEqual(await ask(path, method), expected);
    });
  }
});

Deno.test("serveHealth() closes its port and its connections, idle and half-open ones too", leavesNothing, async () => {
  const server = await serveHealth(
    { hostname: "127.0.0.1", port: 0 },
    new Health(),
    await Metrics.open("1.2.3", () => 0),
  );
  const idle = createConnection(server.port, "127.0.0.1");
  const half = createConnection(server.port, "127.0.0.1");
  await Promise.all([idle, half].map((socket) => once(socket, "connect")));
  idle.write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(idle, "data");
  half.write("GET /healthz HTTP/1.1\r\nhost:");
  const closed = [idle, half].map((socket) => {
    socket.on("error", () => {}).resume();
    return new Promise((resolve) => socket.once("close", resolve));
  });
  await server[Symbol.asyncDispose]();
  await Promise.all(closed);
  await assert.rejects(fetch(`http://127.0.0.1:${server.port}/healthz`));
});

Deno.test("serveHealth() names the address that is taken", leavesNothing, async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as { port: number };
  const rule = new RegExp(`^Cannot listen on 127\\.0\\.0\\.1:${port}: .*in use.*Set HTTP_ADDRESS`);
  const metrics = await Metrics.open("1.2.3", () => 0);
  await assert.rejects(serveHealth({ hostname: "127.0.0.1", port }, new Health(), metrics), { message: rule });
  other.close();
  await once(other, "close");
});
