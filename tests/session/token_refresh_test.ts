import assert from "node:assert/strict";
import { type Login, Secret } from "../../lib/config/mod.ts";
import { TokenRefused } from "../../lib/errors.ts";
import { startLogging } from "../../lib/service/mod.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { replaceStoreKey } from "../../lib/session/connect.ts";
import { openStore } from "../../lib/store/mod.ts";
import { logIn } from "../../lib/session/login.ts";
import { refreshAtMs, TokenRefresh, type Tokens } from "../../lib/session/token_refresh.ts";
import { Homeserver, type HomeserverOptions } from "../../sandbox/homeserver/mod.ts";
import { never, World } from "./world.ts";

const self = "@toggle:localhost";
const byPassword: Login = { method: "password", user: "toggle", password: new Secret("secret") };
const refreshableMs = 300_000;

/** A homeserver, a login there that can be refreshed, and a clock for both. */
class Fixture implements AsyncDisposable {
  nowMs = 1_700_000_000_000;
  readonly homeserver: Homeserver;
  readonly client: HomeserverClient;
  /** What was saved, with how many requests by the new token there had been. */
  readonly saved: (Tokens & { readonly used: number })[] = [];

  private constructor(options: HomeserverOptions) {
    this.homeserver = new Homeserver({ ...options, refreshableMs, now: () => this.nowMs });
    this.homeserver.register("toggle", "secret");
    this.client = new HomeserverClient(this.homeserver.url);
  }

  static async create(options: HomeserverOptions = {}): Promise<Fixture> {
    const fixture = new Fixture(options);
    const { accessToken, refreshToken = "", expiresInMs } = await logIn(fixture.client, byPassword, undefined, never);
    const tokens = { accessToken, refreshToken, refreshAtMs: refreshAtMs(expiresInMs, fixture.nowMs) };
    fixture.use(tokens);
    return fixture;
  }

  use(tokens: Tokens & { readonly refreshToken: string }): void {
    const { client } = this;
    const save = (changed: Tokens): void =>
      void this.saved.push({ ...changed, used: this.requests("/account/whoami") });
    client.authenticate(tokens.accessToken, new TokenRefresh({ client, tokens, save, now: () => this.nowMs }));
  }

  /** Asks something that only the owner of a valid token is told. */
  async ask(signal = never): Promise<void> {
    const { json } = await this.client.send({ method: "GET", path: "/_matrix/client/v3/account/whoami" }, signal);
    assert.equal(json["user_id"], self);
  }

  requests(template: string): number {
    return this.homeserver.requests.entries.filter((entry) => entry.template === template).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client[Symbol.dispose]();
    await this.homeserver[Symbol.asyncDispose]();
  }
}

Deno.test("refreshAtMs() leaves a margin, and no request loop", () => {
  const rows: [expiresInMs: number | undefined, afterMs: number | undefined][] = [
    [undefined, undefined],
    [3_600_000, 3_540_000],
    [300_000, 240_000],
    [30_000, 20_000],
    [6_000, 5_000],
    [0, 5_000],
  ];
  for (const [expiresInMs, afterMs] of rows) {
    assert.equal(refreshAtMs(expiresInMs, 1_000), afterMs === undefined ? undefined : 1_000 + afterMs);
  }
});

Deno.test("TokenRefresh renews in time, once for all requests, and saves before it is used", async () => {
  await using fixture = await Fixture.create();
  await fixture.ask();
  fixture.nowMs += 239_000;
  await fixture.ask();
  assert.equal(fixture.requests("/refresh"), 0);
  fixture.nowMs += 2_000;
  await Promise.all(Array.from({ length: 10 }, () => fixture.ask()));
  assert.equal(fixture.requests("/refresh"), 1);
  assert.deepEqual(fixture.saved.map(({ used }) => used), [2]);
  assert.equal(fixture.client.accessToken, fixture.saved[0]?.accessToken);
  assert.equal(fixture.saved[0]?.refreshAtMs, fixture.nowMs + 240_000);
  fixture.nowMs += 240_000;
  await fixture.ask();
  assert.equal(fixture.requests("/refresh"), 2);
  assert.ok(fixture.homeserver.requests.entries.every(({ status }) => status === 200));
});

Deno.test("TokenRefresh renews a token that is refused, once for all requests, which are then sent again", async () => {
  await using fixture = await Fixture.create();
  const [first] = [fixture.client.accessToken];
  // The homeserver's clock is ahead, or it has said nothing of an end.
  const { refreshToken = "" } = await tokensOf(fixture);
  fixture.use({ accessToken: first ?? "", refreshToken, refreshAtMs: undefined });
  fixture.nowMs += refreshableMs + 1;
  await Promise.all(Array.from({ length: 10 }, () => fixture.ask()));
  assert.equal(fixture.requests("/refresh"), 1);
  assert.equal(fixture.saved.length, 1);
  assert.notEqual(fixture.client.accessToken, first);
});

/** A further login, whose refresh token is known here. */
async function tokensOf({ client, nowMs }: Fixture): Promise<Tokens> {
  const { accessToken, refreshToken, expiresInMs } = await logIn(client, byPassword, undefined, never);
  return { accessToken, refreshToken, refreshAtMs: refreshAtMs(expiresInMs, nowMs) };
}

Deno.test("TokenRefresh sends a request again whose token was replaced on its way, without renewing another", async () => {
  await using fixture = await Fixture.create();
  const late = fixture.homeserver.fault({
    path: "/account/whoami",
    times: 1,
    delayMs: Infinity,
    answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN" } },
  });
  const asking = fixture.ask();
  while (late.hits === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  fixture.nowMs += 241_000;
  await fixture.ask();
  late[Symbol.dispose]();
  await asking;
  assert.deepEqual([fixture.requests("/refresh"), fixture.requests("/account/whoami")], [1, 3]);
});

Deno.test("TokenRefresh keeps using the token while it can't be renewed, and retries rarely", async () => {
  await using fixture = await Fixture.create();
  fixture.nowMs += 241_000;
  using down = fixture.homeserver.fault({ path: "/refresh", answer: { status: 502 } });
  for (let count = 0; count < 5; count += 1) await fixture.ask();
  assert.equal(down.hits, 1);
  fixture.nowMs += 30_000;
  await fixture.ask();
  assert.equal(down.hits, 2);
  assert.deepEqual(fixture.saved, []);
  down[Symbol.dispose]();
  fixture.nowMs += 30_000;
  await fixture.ask();
  assert.equal(fixture.saved.length, 1);
});

Deno.test("TokenRefresh keeps the token in use where the new one is none that a request can carry", async () => {
  await using fixture = await Fixture.create();
  fixture.nowMs += 241_000;
  using _broken = fixture.homeserver.fault({ path: "/refresh", answer: { status: 200, body: { access_token: "💥" } } });
  await fixture.ask();
  assert.deepEqual(fixture.saved, []);
});

Deno.test("TokenRefresh reports an unreachable homeserver, not an ended login, if it can't renew", async () => {
  await using fixture = await Fixture.create();
  fixture.nowMs += refreshableMs + 1;
  using _down = fixture.homeserver.fault({ path: "/refresh", answer: { status: 502 } });
  await assert.rejects(fixture.ask(), { name: "TransientError", message: /refresh: 502/ });
});

Deno.test("TokenRefresh tells a login that has ended from one that has ended softly", async (t) => {
  const refused = (code: string, more: Record<string, unknown> = {}) => ({ errcode: code, ...more });
  const rows: [name: string, soft: boolean, status: number, body: unknown, comesOut: boolean][] = [
    ["for good", false, 401, refused("M_UNKNOWN_TOKEN"), false],
    ["softly", true, 401, refused("M_UNKNOWN_TOKEN"), true],
    ["softly, as the refresh says", false, 401, refused("M_UNKNOWN_TOKEN", { soft_logout: true }), true],
    ["softly, and the refresh token is used up", true, 403, refused("M_FORBIDDEN"), true],
    ["for good, and the refresh token is used up", false, 403, refused("M_FORBIDDEN"), false],
  ];
  for (const [name, soft, status, body, comesOut] of rows) {
    await t.step(name, async () => {
      await using fixture = await Fixture.create();
      const answer = { status: 401, body: refused("M_UNKNOWN_TOKEN", { soft_logout: soft }) };
      using _ended = fixture.homeserver.fault({ path: "/account/whoami", answer });
      using _refused = fixture.homeserver.fault({ path: "/refresh", answer: { status, body } });
      await assert.rejects(fixture.ask(), (error) => {
        assert.ok(error instanceof TokenRefused, String(error));
        assert.equal(error.soft, comesOut);
        return true;
      });
      assert.equal(fixture.requests("/refresh"), 1);
    });
  }
});

Deno.test("TokenRefresh lets one request be aborted while others wait for the renewal", async () => {
  await using fixture = await Fixture.create();
  fixture.nowMs += 250_000;
  const slow = fixture.homeserver.fault({ path: "/refresh", delayMs: Infinity });
  const impatient = new AbortController();
  const [given, waiting] = [fixture.ask(impatient.signal), fixture.ask()];
  impatient.abort(new Error("too late"));
  await assert.rejects(given, /too late/);
  slow[Symbol.dispose]();
  await waiting;
  assert.deepEqual([fixture.requests("/refresh"), fixture.saved.length], [1, 1]);
});

Deno.test("TokenRefresh keeps nothing that comes after its end", async () => {
  await using fixture = await Fixture.create();
  fixture.nowMs += 250_000;
  using _slow = fixture.homeserver.fault({ path: "/refresh", delayMs: Infinity });
  const asking = fixture.ask();
  fixture.client.authenticate("another");
  await assert.rejects(asking, { name: "AbortError" });
  assert.deepEqual(fixture.saved, []);
  assert.equal(fixture.client.accessToken, "another");
});

/** Opens a session, ends it, and returns the stored account. */
async function accountOf(world: World) {
  await using running = await world.open();
  const account = running.store.account.load();
  assert.ok(account);
  return account;
}

/** A world whose two clocks can be set. */
function worldAt(clock: { nowMs: number }, options: HomeserverOptions = {}): World {
  const world = new World(new Homeserver({ ...options, refreshableMs, now: () => clock.nowMs }));
  world.now = () => clock.nowMs;
  return world;
}

function count(world: World, path: string): number {
  return world.homeserver.requests.count("POST", path);
}

Deno.test("openSession() resumes after hours as the same device, without a login", async () => {
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  const first = await accountOf(world);
  for (let restart = 1; restart <= 3; restart += 1) {
    clock.nowMs += 6 * 3_600_000;
    const now = await accountOf(world);
    assert.equal(now.deviceId, first.deviceId);
    assert.notEqual(now.accessToken, first.accessToken);
    assert.deepEqual([count(world, "/login"), count(world, "/refresh")], [1, restart]);
  }
  assert.ok(world.homeserver.requests.entries.every(({ status }) => status !== 401));
});

Deno.test("openSession() keeps the newest tokens when it changes the account otherwise", async () => {
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  await accountOf(world);
  clock.nowMs += 3_600_000;
  // Renewed while the account is being told to be elsewhere.
  world.url = world.homeserver.url.replace("127.0.0.1", "localhost");
  const account = await accountOf(world);
  assert.equal(account.homeserver, world.url);
  const used = new HomeserverClient(world.url);
  used.authenticate(account.accessToken);
  await used.send({ method: "GET", path: "/_matrix/client/v3/account/whoami" }, never);
  used[Symbol.dispose]();
});

Deno.test("openSession() continues with the old refresh token if the response to a refresh was lost", async (t) => {
  await t.step("as the same device, where the homeserver keeps the old one valid", async () => {
    const clock = { nowMs: Date.now() };
    await using world = worldAt(clock);
    const { deviceId } = await accountOf(world);
    clock.nowMs += 3_600_000;
    using _lost = world.homeserver.fault({ path: "/refresh", after: true, times: 1, body: "drop" });
    assert.equal((await accountOf(world)).deviceId, deviceId);
    assert.deepEqual([count(world, "/login"), count(world, "/refresh")], [1, 2]);
  });
  await t.step("as a new device with the same identity, where it does not", async () => {
    const clock = { nowMs: Date.now() };
    await using world = worldAt(clock, { strictRefresh: true });
    const identity = async () => {
      await using running = await world.open();
      const state = await running.session.ensureIdentity(undefined, false, never);
      assert.ok(state.signed);
      return state.masterKey;
    };
    const masterKey = await identity();
    clock.nowMs += 3_600_000;
    using _lost = world.homeserver.fault({ path: "/refresh", after: true, times: 1, body: "drop" });
    // Such a homeserver takes the access token back at once, and for good.
    using _ended = world.homeserver.fault({
      path: "/keys/query",
      times: 1,
      answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN" } },
    });
    assert.equal(await identity(), masterKey);
    assert.equal(count(world, "/login"), 2);
  });
});

Deno.test("openSession() logs in again as the same device once the refresh token is refused, too", async () => {
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  const { deviceId } = await accountOf(world);
  clock.nowMs += 3_600_000;
  using _refused = world.homeserver.fault({
    path: "/refresh",
    answer: { status: 403, body: { errcode: "M_FORBIDDEN", error: "The supplied refresh token has expired" } },
  });
  assert.equal((await accountOf(world)).deviceId, deviceId);
  assert.equal(count(world, "/login"), 2);
});

Deno.test("replaceStoreKey() logs the old device out, also when its access token has expired", async () => {
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  const old = await accountOf(world);
  clock.nowMs += 3_600_000;
  {
    await using store = await openStore({ folder: world.folder, holder: { host: "test", pid: Deno.pid } });
    await store.openCrypto();
    const { url: homeserver } = world.homeserver;
    const options = {
      ...{
        homeserver,
        store,
        login: world.login,
        allowedUsers: new Set<string>(),
        agents: new Set<string>(),
        onlySignedDevices: false,
      },
      ...{ now: world.now, retry: world.retry, onWait: () => {} },
    };
    await replaceStoreKey(options, crypto.getRandomValues(new Uint8Array(32)), never);
  }
  using requests = new HomeserverClient(world.homeserver.url);
  await logIn(requests, byPassword, undefined, never);
  const { body } = await requests.send({ method: "GET", path: "/_matrix/client/v3/devices" }, never);
  assert.ok(!body.includes(old.deviceId), body);
});

Deno.test("openSession() by a configured token never refreshes it", async () => {
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  const { deviceId } = await accountOf(world);
  using requests = new HomeserverClient(world.homeserver.url);
  const { accessToken } = await logIn(requests, byPassword, deviceId, never);
  world.login = { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
  const account = await accountOf(world);
  assert.deepEqual([account.deviceId, account.refreshToken, account.refreshAtMs], [deviceId, undefined, undefined]);
  clock.nowMs += 3_600_000;
  await assert.rejects(world.open(), /give another one as MATRIX_ACCESS_TOKEN/);
  assert.equal(count(world, "/refresh"), 0);
});

Deno.test("openSession() writes no token to the log, at any level, and none in clear to the disk", async () => {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  await using _log = await startLogging({ level: "debug", format: "json", colour: false, write });
  const clock = { nowMs: Date.now() };
  await using world = worldAt(clock);
  const accounts = [await accountOf(world)];
  clock.nowMs += 3_600_000;
  accounts.push(await accountOf(world));
  const tokens = accounts.flatMap(({ accessToken, refreshToken = "" }) => [accessToken, refreshToken]);
  assert.equal(new Set(tokens).size, 4);
  assert.ok(lines.some((line) => line.includes("/refresh")));
  const files = Array.from(Deno.readDirSync(world.folder)).filter(({ isFile }) => isFile)
    .map(({ name }) => new TextDecoder("latin1").decode(Deno.readFileSync(`${world.folder}/${name}`)));
  for (const token of tokens) assert.ok(![...lines, ...files].some((each) => each.includes(token)), "a token is shown");
});
