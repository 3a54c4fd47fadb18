/** What becomes of a login over restarts, whatever the way to log in. */

import assert from "node:assert/strict";
import { type Login, Secret } from "../../lib/config/mod.ts";
import { ConfigError, CredentialError, TransientError } from "../../lib/errors.ts";
import { startLogging } from "../../lib/service/mod.ts";
import { logIn } from "../../lib/session/login.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { openStore } from "../../lib/store/mod.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Keycloak } from "../../sandbox/keycloak.ts";
import { FaultProxy } from "../../testbed/proxy.ts";
import { never, World } from "./world.ts";

const self = "@toggle:localhost";
const byPassword: Login = { method: "password", user: "toggle", password: new Secret("secret") };

/** A login by the token of a new device, or of one that is there. */
async function byToken(world: World, deviceId?: string): Promise<Login & { readonly method: "token" }> {
  using requests = new HomeserverClient(world.homeserver.url);
  const { accessToken } = await logIn(requests, byPassword, deviceId, never);
  return { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
}

/** The device that the operator starts as. */
async function deviceOf(world: World): Promise<string> {
  await using running = await world.open();
  return running.store.account.load()?.deviceId ?? "";
}

/** Keys that the homeserver tells of a device. */
async function keysOf(world: World, deviceId: string): Promise<unknown> {
  const observer = await world.person(`observer${crypto.randomUUID().slice(0, 8)}`);
  const answer = await observer.api.request("POST", "/keys/query", { device_keys: { [self]: [deviceId] } });
  // deno-lint-ignore no-explicit-any -- an answer of the Matrix API
  return (answer as any).device_keys[self]?.[deviceId]?.keys;
}

/** A refusal that tells the token's owner what to do. */
function useless(words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CredentialError, String(error));
    assert.match(error.message, words);
    return true;
  };
}

Deno.test("openSession() by a token resumes as its device after each restart, without a login", async () => {
  await using world = new World();
  world.login = await byToken(world);
  const before = world.homeserver.requests.entries.filter(({ template }) => template.endsWith("/login")).length;
  const device = await deviceOf(world);
  const keys = await keysOf(world, device);
  assert.equal(await deviceOf(world), device);
  assert.deepEqual(await keysOf(world, device), keys);
  const logins = world.homeserver.requests.entries.filter(({ template }) => /\/log(in|out)$/.test(template));
  // The observers log in, too.
  assert.equal(logins.length - before, 2);
});

Deno.test("openSession() by a token ends with the token", async (t) => {
  for (const soft of [false, true]) {
    await t.step(soft ? "softly" : "for good", async () => {
      await using world = new World();
      world.login = await byToken(world);
      const device = await deviceOf(world);
      world.homeserver.attacks.revokeTokens(self, device, soft);
      await assert.rejects(
        world.open(),
        useless(/refused the access token .*; give another one as MATRIX_ACCESS_TOKEN/),
      );
      world.login = await byToken(world, device);
      assert.equal(await deviceOf(world), device);
    });
    await t.step(`${soft ? "softly" : "for good"}, after it was looked at`, async () => {
      await using world = new World();
      world.login = await byToken(world);
      await deviceOf(world);
      using _ = world.homeserver.fault({
        path: /\/keys\/query/,
        answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN", soft_logout: soft } },
      });
      await assert.rejects(world.open(), useless(/MATRIX_ACCESS_TOKEN: the homeserver refused the access token/));
    });
  }
});

Deno.test("openSession() by a token refuses a device whose keys are elsewhere, and doesn't replace them", async () => {
  await using world = new World();
  world.login = await byToken(world);
  const device = await deviceOf(world);
  const keys = await keysOf(world, device);
  assert.ok(keys);
  await Deno.remove(world.folder, { recursive: true });
  await assert.rejects(world.open(), useless(/encryption keys already, which are not in this store; log in for a new/));
  assert.deepEqual(await keysOf(world, device), keys);
});

Deno.test("openSession() by the token of another device sets the keys of the old one aside", async () => {
  await using world = new World();
  world.login = await byToken(world);
  const old = await deviceOf(world);
  world.login = await byToken(world);
  const device = await deviceOf(world);
  assert.notEqual(device, old);
  assert.ok(await keysOf(world, old), "it is not logged out");
  assert.ok(Array.from(Deno.readDirSync(world.folder)).some(({ name }) => name === "crypto-1.sqlite3"));
});

Deno.test("openSession() by a token waits while the homeserver takes it for that of another device", async () => {
  await using world = new World();
  world.login = await byToken(world);
  const device = await deviceOf(world);
  const keys = await keysOf(world, device);
  {
    const body = { user_id: self, device_id: "OTHER" };
    using _ = world.homeserver.fault({ path: /whoami$/, answer: { status: 200, body } });
    await assert.rejects(world.open(), {
      name: "TransientError",
      message: /takes its token for that of device OTHER$/,
    });
  }
  assert.equal(await deviceOf(world), device);
  assert.deepEqual(await keysOf(world, device), keys);
});

Deno.test("openSession() logs in again as the same device after a soft logout, by Keycloak too", async (t) => {
  await using keycloak = new Keycloak({
    users: { toggle: { password: "at keycloak" } },
    clients: { operator: "", synapse: "" },
  });
  const authorizationUrl = `${keycloak.url}/realms/matrix/protocol/openid-connect/auth`;
  const password = new Secret("at keycloak");
  const client = { url: keycloak.url, realm: "matrix", clientId: "operator", clientSecret: undefined };
  const logins: Login[] = [
    { method: "jwt", user: "toggle", password, loginType: "org.matrix.login.jwt", keycloak: client },
    { method: "sso", user: "toggle", password, idpId: "keycloak", keycloakUrl: keycloak.url },
  ];
  for (const login of logins) {
    await t.step(login.method, async () => {
      const redeem = (code: string) => keycloak.redeem(code);
      await using world = new World(
        new Homeserver({ provider: { id: "keycloak", clientId: "synapse", authorizationUrl, redeem } }),
      );
      world.login = login;
      const device = await deviceOf(world);
      const keys = await keysOf(world, device);
      assert.equal(await deviceOf(world), device);
      world.homeserver.attacks.revokeTokens(self, device, true);
      assert.equal(await deviceOf(world), device);
      assert.deepEqual(await keysOf(world, device), keys);
    });
  }
});

Deno.test("Session.ensureIdentity() says what a homeserver asks for that only a person can give", async (t) => {
  const challenge = { status: 401, body: { session: "s", flows: [{ stages: ["m.login.sso"] }], params: {} } };
  const words = /first asks for m\.login\.sso, .*_allow_cross_signing_replacement_without_uia/;
  await using world = new World();
  await using running = await world.open();
  {
    using _ = world.homeserver.fault({ path: /device_signing\/upload/, answer: challenge });
    await t.step("at the start it continues without it", async () => {
      const state = await running.session.ensureIdentity(undefined, false, never);
      assert.match(state.signed ? "" : state.reason, words);
    });
    await t.step("a reset fails", async () => {
      await assert.rejects(running.session.ensureIdentity(undefined, true, never), useless(words));
    });
  }
  await t.step("it is made once that is over", async () => {
    assert.ok((await running.session.ensureIdentity(undefined, false, never)).signed);
  });
});

Deno.test("Session.ensureIdentity() names the page where a person can approve an identity", async () => {
  const url = "https://account.example.org/?action=org.matrix.cross_signing_reset";
  const params = { "m.oauth": { url } };
  await using world = new World();
  await using running = await world.open();
  using _ = world.homeserver.fault({
    path: /device_signing\/upload/,
    answer: { status: 401, body: { session: "s", flows: [{ stages: ["m.oauth"] }], params } },
  });
  const state = await running.session.ensureIdentity(undefined, false, never);
  assert.ok(!state.signed);
  assert.ok(state.reason.includes(`first asks for m.oauth, which was not given; log in at ${url} and approve it; or`));
});

Deno.test("Session.ensureIdentity() by a token gives the password only where the homeserver asks for it", async (t) => {
  for (const password of [undefined, new Secret("secret")]) {
    await t.step(password === undefined ? "there is none" : "it is given", async () => {
      await using world = new World();
      {
        await using running = await world.open();
        await running.session.ensureIdentity(undefined, false, never);
      }
      await Deno.remove(world.folder, { recursive: true });
      world.login = { ...await byToken(world), password };
      await using running = await world.open();
      const tried = running.session.ensureIdentity(undefined, true, never);
      if (password === undefined) {
        await assert.rejects(
          tried,
          useless(
            /first asks for m\.login\.password, .*, give MATRIX_PASSWORD, which is used for that alone; or whoever/,
          ),
        );
      } else assert.ok((await tried).signed);
    });
  }
});

/** Tries again at once; gives up after so often. */
function persistently(most: number): World["retry"] {
  return async (step, signal) => {
    for (let tries = 1;; tries += 1) {
      try {
        return await step(signal);
      } catch (error) {
        if (!(error instanceof TransientError) || tries === most) throw error;
      }
    }
  };
}

function logins(world: World): number {
  return world.homeserver.requests.count("POST", "/login");
}

const nobodyListed = { status: 200, body: { device_keys: { [self]: {} } } };

Deno.test("openSession() waits for a new device that is not listed yet, and logs in but once", async (t) => {
  await t.step("a few queries later it is", async () => {
    await using world = new World();
    world.retry = persistently(10);
    using late = world.homeserver.fault({ path: "/keys/query", times: 4, answer: nobodyListed });
    const device = await deviceOf(world);
    assert.deepEqual([late.hits, logins(world)], [4, 1]);
    assert.ok(await keysOf(world, device));
  });
  await t.step("the queries are refused meanwhile", async () => {
    await using world = new World();
    world.retry = persistently(10);
    const answer = { status: 404, body: { errcode: "M_WRONG_ROOM_KEYS_VERSION", error: "No such version" } };
    using refused = world.homeserver.fault({ path: "/keys/query", times: 4, answer });
    await deviceOf(world);
    assert.deepEqual([refused.hits, logins(world)], [4, 1]);
  });
  await t.step("it never is: the next start resumes as the same device", async () => {
    await using world = new World();
    world.retry = persistently(5);
    {
      using _late = world.homeserver.fault({ path: "/keys/query", answer: nobodyListed });
      await assert.rejects(world.open(), /does not list the keys of our new device yet/);
    }
    await deviceOf(world);
    assert.equal(logins(world), 1);
  });
});

Deno.test("openSession() logs in again where a login has named a device that is not its token's", async () => {
  await using world = new World();
  world.retry = persistently(5);
  await using proxy = await FaultProxy.start({ url: world.homeserver.url });
  world.url = proxy.url;
  let answers = 0;
  await proxy.setFault({
    kind: "rewrite",
    when: ({ method, path }) => method === "POST" && path.endsWith("/login"),
    rewrite: ({ status, body }) => ({ status, body: answers++ === 0 ? { ...body, device_id: "NOBODYS" } : body }),
  });
  const device = await deviceOf(world);
  assert.notEqual(device, "NOBODYS");
  assert.equal(logins(world), 2);
  assert.ok(await keysOf(world, device));
});

Deno.test("openSession() takes a device for gone that was listed and is not any more", async () => {
  await using world = new World();
  const old = await deviceOf(world);
  using _gone = world.homeserver.fault({ path: "/keys/query", times: 3, answer: nobodyListed });
  assert.notEqual(await deviceOf(world), old);
});

/** The homeserver refuses the token and the password: it was locked, say, by a homeserver that says no more. */
function lock(world: World): Disposable {
  const stack = new DisposableStack();
  stack.use(world.homeserver.fault({
    path: /^\/(?!login)/,
    userId: self,
    answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN", soft_logout: false } },
  }));
  stack.use(world.homeserver.fault({
    path: "/login",
    method: "POST",
    answer: { status: 403, body: { errcode: "M_FORBIDDEN" } },
  }));
  return stack;
}

function cryptoFiles(world: World): string[] {
  return Array.from(Deno.readDirSync(world.folder), ({ name }) => name).filter((name) => /^crypto-\d+/.test(name))
    .sort();
}

Deno.test("openSession() sets nothing aside while the homeserver refuses token and password", async () => {
  await using world = new World();
  const device = await deviceOf(world);
  {
    using _locked = lock(world);
    await assert.rejects(world.open(), useless(/refused the access token.*user or password.*Nothing was set aside/s));
    await assert.rejects(world.open(), CredentialError);
  }
  assert.deepEqual(cryptoFiles(world), ["crypto-1.sqlite3"]);
  assert.equal(await deviceOf(world), device);
  assert.equal(logins(world), 3);
});

Deno.test("openSession() waits while the account is locked", async () => {
  await using world = new World();
  const device = await deviceOf(world);
  world.retry = persistently(5);
  using locked = world.homeserver.fault({
    userId: self,
    times: 3,
    answer: { status: 401, body: { errcode: "M_USER_LOCKED", soft_logout: true } },
  });
  assert.equal(await deviceOf(world), device);
  assert.deepEqual([locked.hits, logins(world)], [3, 1]);
});

/** The operator's public master key and whether its device is signed, after its identity was looked after. */
async function identityOf(world: World): Promise<string> {
  await using running = await world.open();
  const state = await running.session.ensureIdentity(undefined, false, never);
  assert.ok(state.signed, JSON.stringify(state));
  return state.masterKey;
}

Deno.test("Session.ensureIdentity() uploads no key twice that the sync loop uploads, too", async () => {
  await using world = new World();
  await using running = (await world.open()).sync();
  await running.session.ensureIdentity(undefined, false, never);
  await running.roomWith(await world.person("alice"));
  const uploads = world.homeserver.requests.entries.filter((entry) =>
    entry.template === "/keys/upload" && entry.userId === self
  );
  assert.equal(uploads.length, 2, "device and one-time keys, then the fallback key");
});

Deno.test("openSession() carries the identity over to a new device, also when it is cut short", async (t) => {
  const cuts: [where: string, path: string, method: string, after: boolean][] = [
    ["before the new login", "/login", "POST", false],
    ["after it, unanswered", "/login", "POST", true],
    ["before the new device's keys", "/keys/upload", "POST", false],
    ["after them, unanswered", "/keys/upload", "POST", true],
    ["before its signature", "/keys/signatures/upload", "POST", false],
    ["after it, unanswered", "/keys/signatures/upload", "POST", true],
  ];
  for (const [where, path, method, after] of cuts) {
    await t.step(where, async () => {
      await using world = new World();
      const masterKey = await identityOf(world);
      const old = await deviceOf(world);
      world.homeserver.attacks.deleteDevice(self, old);
      {
        using cut = world.homeserver.fault({ path, method, after, times: 1, answer: { status: 502 } });
        await assert.rejects(identityOf(world), TransientError);
        assert.equal(cut.hits, 1);
      }
      assert.equal(await identityOf(world), masterKey);
      await using running = await world.open();
      assert.notEqual(running.store.account.load()?.deviceId, old);
      assert.equal(running.store.carriedIdentity.load(), undefined);
      assert.deepEqual(cryptoFiles(world).filter((name) => name.endsWith(".sqlite3")), [
        "crypto-1.sqlite3",
        "crypto-2.sqlite3",
      ]);
    });
  }
});

Deno.test("openSession() goes on where the homeserver has moved to, and says so before the token is sent", async (t) => {
  const lines: string[] = [];
  await t.step("to another address of the same", async () => {
    await using world = new World();
    const device = await deviceOf(world);
    const asked = world.homeserver.requests.entries.length;
    await using _log = await startLogging({
      level: "info",
      format: "text",
      colour: false,
      write: (line) => lines.push(`${world.homeserver.requests.entries.length - asked} ${line}`),
    });
    world.url = world.homeserver.url.replace("127.0.0.1", "localhost");
    await using running = await world.open();
    assert.match(
      lines[0] ?? "",
      /^0 .*moved the session of @toggle:localhost from http:\/\/127.* to http:\/\/localhost/,
    );
    assert.deepEqual([running.store.account.load()?.deviceId, logins(world)], [device, 1]);
    assert.equal(running.store.account.load()?.homeserver, world.url);
  });
  await t.step("to one that refuses the token: both are named, and nothing is set aside", async () => {
    await using world = new World();
    const device = await deviceOf(world);
    const { url } = world.homeserver;
    await using other = new Homeserver();
    other.register("toggle", "secret");
    for (const soft of [false, true]) {
      world.url = other.url;
      using _soft = other.fault({
        path: "/keys/query",
        answer: { status: 401, body: { errcode: "M_UNKNOWN_TOKEN", soft_logout: soft } },
      });
      await assert.rejects(
        world.open(),
        useless(new RegExp(`at ${other.url}, .* moved from ${url}: .*Nothing was set`)),
      );
    }
    assert.equal(other.requests.count("POST", "/login"), 0);
    world.url = url;
    assert.equal(await deviceOf(world), device);
    assert.deepEqual(cryptoFiles(world), ["crypto-1.sqlite3"]);
  });
  await t.step("never from https to http", async () => {
    await using world = new World();
    await deviceOf(world);
    {
      await using store = await openStore({ folder: world.folder, holder: { host: "test", pid: 1 } });
      const account = store.account.load();
      assert.ok(account);
      store.account.save({ ...account, homeserver: "https://matrix.example.org" });
    }
    const asked = world.homeserver.requests.entries.length;
    await assert.rejects(world.open(), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(
        error.message,
        /^MATRIX_HOMESERVER: .*https:\/\/matrix\.example\.org.* without TLS \(got "http:\/\/127/,
      );
      return true;
    });
    assert.equal(world.homeserver.requests.entries.length, asked);
  });
});
