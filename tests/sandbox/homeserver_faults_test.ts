import assert from "node:assert/strict";
import { type Fault, Homeserver, tooManyRequests } from "../../sandbox/homeserver/mod.ts";
import { type Client, World } from "../contract/homeserver.ts";
import { sandboxHomeserver } from "../contract/homeserver_sandbox.ts";

/** A homeserver and a user on it. */
async function withUser(): Promise<{ homeserver: Homeserver; user: Client; world: World } & AsyncDisposable> {
  const homeserver = new Homeserver();
  const world = new World(sandboxHomeserver(homeserver));
  const user = await world.user();
  return { homeserver, world, user, [Symbol.asyncDispose]: () => homeserver[Symbol.asyncDispose]() };
}

Deno.test("Homeserver.fault() affects the matching requests, as many times as given", async (t) => {
  const unavailable = { status: 503, body: { errcode: "M_UNKNOWN" } };
  const rows: { name: string; fault: Fault; sees: number[] }[] = [
    { name: "always", fault: { answer: unavailable }, sees: [503, 503, 503] },
    { name: "twice", fault: { answer: unavailable, times: 2 }, sees: [503, 503, 200] },
    { name: "after one", fault: { answer: unavailable, skip: 1, times: 1 }, sees: [200, 503, 200] },
    { name: "by template", fault: { answer: unavailable, path: "/account/whoami" }, sees: [503, 503, 503] },
    { name: "by pattern", fault: { answer: unavailable, path: /^\/account/ }, sees: [503, 503, 503] },
    { name: "of another path", fault: { answer: unavailable, path: "/sync" }, sees: [200, 200, 200] },
    { name: "of another method", fault: { answer: unavailable, method: "PUT" }, sees: [200, 200, 200] },
    { name: "of another user", fault: { answer: unavailable, userId: "@b:localhost" }, sees: [200, 200, 200] },
  ];
  for (const { name, fault, sees } of rows) {
    await t.step(name, async () => {
      await using world = await withUser();
      using active = world.homeserver.fault(fault);
      const seen: number[] = [];
      for (let count = 0; count < 3; count++) seen.push((await world.user.ask("GET", "/account/whoami")).status);
      assert.deepEqual(seen, sees);
      assert.equal(active.hits, sees.filter((status) => status !== 200).length);
    });
  }
});

Deno.test("Homeserver.fault() ends when it is disposed of", async () => {
  await using world = await withUser();
  {
    using _fault = world.homeserver.fault({ answer: { status: 500 } });
    assert.equal((await world.user.ask("GET", "/account/whoami")).status, 500);
  }
  assert.equal((await world.user.ask("GET", "/account/whoami")).status, 200);
});

Deno.test("tooManyRequests() gives the wait in the body and as a header", async () => {
  await using world = await withUser();
  using _fault = world.homeserver.fault({ answer: tooManyRequests(1_500) });
  const response = await fetch(`${world.homeserver.url}/_matrix/client/versions`);
  assert.equal(response.status, 429);
  assert.equal(response.headers.get("retry-after"), "2");
  const { errcode, retry_after_ms } = await response.json();
  assert.deepEqual([errcode, retry_after_ms], ["M_LIMIT_EXCEEDED", 1_500]);
});

Deno.test("Homeserver.fault() with after does what was asked for before it goes wrong", async () => {
  await using world = await withUser();
  const { user, homeserver } = world;
  const roomId = await user.createRoom();
  const path = "/rooms/{roomId}/send/{type}/{transactionId}";
  using _fault = homeserver.fault({ path, times: 1, after: true, answer: { status: 502 } });
  await assert.rejects(() => user.say(roomId, "once", "txn"), /502/);
  const eventId = await user.say(roomId, "twice", "txn");
  const { timeline } = (await user.sync()).rooms.join[roomId];
  const said = timeline.events.filter(({ type }: { type: string }) => type === "m.room.message");
  assert.deepEqual(
    said.map(({ event_id, content }: Record<string, Record<string, unknown>>) => [event_id, content?.["body"]]),
    [
      [eventId, "once"],
    ],
  );
});

Deno.test("Homeserver.fault() stalls or breaks a body after its headers", async (t) => {
  for (const after of [false, true]) {
    await t.step(`stall, after: ${after}`, async () => {
      await using world = await withUser();
      using stalled = world.homeserver.fault({ path: "/login", method: "GET", body: "stall", after });
      const response = await fetch(`${world.homeserver.url}/_matrix/client/v3/login`);
      assert.equal(response.status, 200);
      const body = response.text().then(() => "read", () => "broken");
      const first = await Promise.race([body, world.user.sync().then(() => "still waiting")]);
      assert.equal(first, "still waiting");
      stalled[Symbol.dispose]();
      assert.equal(await body, "broken");
    });
    await t.step(`drop, after: ${after}`, async () => {
      await using world = await withUser();
      using _dropped = world.homeserver.fault({ path: "/login", method: "GET", body: "drop", after });
      await assert.rejects(async () => (await fetch(`${world.homeserver.url}/_matrix/client/v3/login`)).text());
    });
  }
});

Deno.test("Homeserver.fault() delays an answer until its time, or until it is removed", async (t) => {
  for (const delayMs of [50, Infinity]) {
    await t.step(`${delayMs} ms`, async () => {
      await using world = await withUser();
      const slow = world.homeserver.fault({ path: "/account/whoami", delayMs });
      const before = performance.now();
      const arrived = world.homeserver.requests.next(
        ({ template }) => template === "/account/whoami",
        new AbortController().signal,
      );
      const answer = world.user.ask("GET", "/account/whoami");
      await arrived;
      if (delayMs === Infinity) slow[Symbol.dispose]();
      assert.equal((await answer).status, 200);
      if (delayMs !== Infinity) assert.ok(performance.now() - before >= delayMs);
    });
  }
});

Deno.test("Homeserver.offline() breaks connections and refuses new ones; online() resumes with its state", async () => {
  await using world = await withUser();
  const { homeserver, user } = world;
  const { url } = homeserver;
  const { next_batch: since } = await user.sync();
  const polled = homeserver.requests.next(({ template }) => template === "/sync", new AbortController().signal);
  const poll = user.sync({ since, timeout: 30_000 }).then(() => "answered", () => "broken");
  await polled;
  await homeserver.offline();
  await poll;
  await assert.rejects(() => user.ask("GET", "/account/whoami"), TypeError);
  homeserver.online();
  assert.equal(homeserver.url, url);
  assert.equal((await user.ask("GET", "/account/whoami")).status, 200);
});

Deno.test("Homeserver closes at once, even with open requests", async () => {
  const homeserver = new Homeserver();
  const user = await new World(sandboxHomeserver(homeserver)).user();
  const { next_batch: since } = await user.sync();
  homeserver.fault({ path: "/login", method: "GET", body: "stall" });
  homeserver.fault({ path: "/devices", delayMs: Infinity });
  const seen = (template: string) =>
    homeserver.requests.next((entry) => entry.template === template, new AbortController().signal);
  const all = Promise.all(["/sync", "/login", "/devices"].map(seen));
  const open = [
    user.sync({ since, timeout: 60_000 }),
    user.ask("GET", "/devices"),
    fetch(`${homeserver.url}/_matrix/client/v3/login`).then((response) => response.text()),
  ].map((request) => request.catch(() => undefined));
  await all;
  const before = performance.now();
  await homeserver[Symbol.asyncDispose]();
  await Promise.all(open);
  // If it waited for the long poll, that would be a minute.
  assert.ok(performance.now() - before < 30_000);
});

Deno.test("Homeserver.requests logs method, template, user and status, and counts", async () => {
  await using world = await withUser();
  const { homeserver, user } = world;
  await user.ask("GET", "/devices/UNKNOWN");
  await world.world.nobody().ask("GET", "/account/whoami");
  const [devices, whoami] = homeserver.requests.entries.slice(-2);
  assert.deepEqual([devices?.method, devices?.template, devices?.userId, devices?.deviceId, devices?.status], [
    "GET",
    "/devices/{deviceId}",
    user.userId,
    user.deviceId,
    404,
  ]);
  assert.deepEqual([whoami?.template, whoami?.userId, whoami?.status], ["/account/whoami", undefined, 401]);
  assert.equal(homeserver.requests.count("GET", "/devices/{deviceId}"), 1);
});

Deno.test("Homeserver refuses a port that is taken", async () => {
  await using world = await withUser();
  const port = Number(new URL(world.homeserver.url).port);
  assert.throws(() => new Homeserver({ port }), Deno.errors.AddrInUse);
});
