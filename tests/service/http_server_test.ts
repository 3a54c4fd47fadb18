/** What a client of the health server may hold and send, and what it may not. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { Health, Metrics, serveHealth } from "../../lib/service/mod.ts";

async function serving() {
  const metrics = await Metrics.open("1.2.3", () => 0);
  return await serveHealth({ hostname: "127.0.0.1", port: 0 }, new Health(), metrics);
}

/** A connection that has sent something. */
async function sent(port: number, text: string): Promise<Socket> {
  const socket = createConnection(port, "127.0.0.1").on("error", () => {});
  await once(socket, "connect");
  socket.write(text);
  return socket;
}

/** What comes back until the other side closes. */
async function answerTo(port: number, text: string): Promise<string> {
  const socket = await sent(port, text);
  let answer = "";
  socket.setEncoding("utf8").on("data", (part) => void (answer += part));
  await once(socket, "close");
  return answer;
}

Deno.test("serveHealth() answers invalid HTTP with 400, and unusual requests normally", async (t) => {
  await using server = await serving();
  const close = "connection: close\r\n\r\n";
  const rows: [name: string, request: string, status: RegExp][] = [
    ["no HTTP", "hello\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["no host", `GET /healthz HTTP/1.1\r\n${close}`, /^HTTP\/1\.1 400 /],
    ["headers without end", `GET /healthz HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(100_000)}`, /^HTTP\/1\.1 400 |^$/],
    ["a host that is none", `GET /healthz HTTP/1.1\r\nhost: [\r\n${close}`, /^HTTP\/1\.1 400 /],
    ["a path that is no URL", `GET //[ HTTP/1.1\r\nhost: a\r\n${close}`, /^HTTP\/1\.1 404 /],
    ["a whole URL that is none", `GET http://[ HTTP/1.1\r\nhost: a\r\n${close}`, /^HTTP\/1\.1 404 /],
    ["a path of another", `GET /healthz/../metrics HTTP/1.1\r\nhost: a\r\n${close}`, /^HTTP\/1\.1 404 /],
  ];
  for (const [name, request, status] of rows) {
    await t.step(name, async () => assert.match(await answerTo(server.port, request), status));
  }
});

Deno.test("serveHealth() answers a probe at once beside 3,000 requests that were begun, and keeps 64 of them", async () => {
  await using server = await serving();
  const sockets: Socket[] = [];
  let open = 0;
  for (let count = 0; count < 3_000; count += 1) {
    const socket = await sent(server.port, "GET /healthz HTTP/1.1\r\nhost:");
    sockets.push(socket);
    open += 1;
    socket.on("close", () => open -= 1);
  }
  const beganMs = performance.now();
  const response = await fetch(`http://127.0.0.1:${server.port}/healthz`);
  assert.deepEqual([response.status, await response.text()], [200, "alive\n"]);
  // Before the first of them is given up, after 5 s.
  assert.ok(performance.now() - beganMs < 4_000);
  while (open > 64) await Promise.race(sockets.filter(({ closed }) => !closed).map((each) => once(each, "close")));
  for (const socket of sockets) socket.destroy();
});

Deno.test("serveHealth() closes a request that isn't completed within some seconds", async () => {
  await using server = await serving();
  const beganMs = performance.now();
  assert.match(await answerTo(server.port, "GET /healthz HTTP/1.1\r\nhost:"), /^HTTP\/1\.1 (400|408) |^$/);
  const ms = performance.now() - beganMs;
  assert.ok(ms >= 4_000 && ms < 10_000, `closed after ${ms} ms`);
});
