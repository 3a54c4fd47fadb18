/** What becomes of a login over restarts, whatever the way to log in. */

import assert from "node:assert/strict";
import { type Login, Secret } from "../../lib/config/mod.ts";
import { CredentialError } from "../../lib/errors.ts";
import { logIn } from "../../lib/session/login.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Keycloak } from "../../sandbox/keycloak.ts";
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

Deno.test("openSession() by a token goes on as its device, restart after restart, and logs in nowhere", async () => {
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

Deno.test("openSession() by a token takes no device whose keys are elsewhere, and leaves them alone", async () => {
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
    await t.step("at the start it goes on without", async () => {
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
