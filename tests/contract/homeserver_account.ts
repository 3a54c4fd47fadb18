/**
 * What is relied on of login, tokens, devices, account data and profiles.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Body, Client, type ContractCase, password, withPassword, type World } from "./homeserver_client.ts";

function passwordLogin(user: string, secret: string) {
  return { type: "m.login.password", identifier: { type: "m.id.user", user }, password: secret };
}

/** A login of a new user whose access token expires, and can be refreshed. */
async function loginToRefresh(world: World): Promise<Body> {
  const { userId } = await world.user();
  return await world.nobody().get("POST", "/login", { ...passwordLogin(userId, password), refresh_token: true });
}

/** What a login's refresh token gives. */
function refreshed(world: World, { refresh_token }: Body): Promise<Body> {
  return world.nobody().get("POST", "/refresh", { refresh_token });
}

/** A refresh token is refused: as used, or, once the homeserver has forgotten it, as unknown. */
async function usedUp(world: World, { refresh_token }: Body): Promise<void> {
  const { status, body } = await world.nobody().ask("POST", "/refresh", { refresh_token });
  assert.ok(["403 M_FORBIDDEN", "401 M_UNKNOWN_TOKEN"].includes(`${status} ${body.errcode}`), `${status}`);
}

/** A JWT for a localpart, as an identity provider would sign it. */
async function jwt(sub: string, secret: string): Promise<string> {
  const encode = (part: string | Uint8Array) => {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
  };
  const signed = `${encode('{"alg":"HS256","typ":"JWT"}')}.${encode(JSON.stringify({ sub }))}`;
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", new TextEncoder().encode(secret), algorithm, false, ["sign"]);
  return `${signed}.${encode(new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(signed))))}`;
}

/** The cases. */
export const accountCases: readonly ContractCase[] = [
  {
    name: "versions are told to anybody, and login flows name the password",
    run: async (world) => {
      const { versions } = await world.nobody().get("GET", "/_matrix/client/versions");
      assert.ok(versions.some((version: Body) => /^v1\.\d+$/.test(version)));
      const { flows } = await world.nobody().get("GET", "/login");
      assert.ok(flows.some(({ type }: Body) => type === "m.login.password"));
    },
  },
  {
    name: "a password login gives a token, and whoami names its user and device",
    run: async (world) => {
      const user = await world.user();
      const { user_id, device_id } = await user.get("GET", "/account/whoami");
      assert.deepEqual([user_id, device_id], [user.userId, user.deviceId]);
      assert.ok(user.userId.endsWith(`:${world.server.serverName}`));
      await world.login(user.userId);
    },
  },
  {
    name: "a wrong password and an unknown user are 403 M_FORBIDDEN, an unknown login type is 400",
    run: async (world) => {
      const { userId } = await world.user();
      const nobody = world.nobody();
      await nobody.refused(403, "M_FORBIDDEN", "POST", "/login", passwordLogin(userId, "wrong"));
      await nobody.refused(403, "M_FORBIDDEN", "POST", "/login", passwordLogin("nobody-here", "wrong"));
      assert.equal((await nobody.ask("POST", "/login", { type: "made.up" })).status, 400);
    },
  },
  {
    name: "a JWT login makes the user, and a JWT signed by another is 403 M_FORBIDDEN",
    synapseOnly: "AUTH_METHOD=jwt is for homeservers that have it",
    run: async (world) => {
      const { flows } = await world.nobody().get("GET", "/login");
      assert.ok(flows.some(({ type }: Body) => type === "org.matrix.login.jwt"));
      const localpart = `jwt-${crypto.randomUUID().slice(0, 8)}`;
      const body = async (secret: string) => ({
        type: "org.matrix.login.jwt",
        token: await jwt(localpart, secret),
        device_id: "JWTDEVICE",
      });
      await world.nobody().refused(403, "M_FORBIDDEN", "POST", "/login", await body("another"));
      const session = await world.nobody().get("POST", "/login", await body("for-tests"));
      assert.equal(session.user_id, `@${localpart}:${world.server.serverName}`);
      assert.equal(session.device_id, "JWTDEVICE");
    },
  },
  {
    name: "a login with a known device id leaves the device's other token alone",
    synapseOnly: "the older token is not used any more",
    run: async (world) => {
      const first = await world.user();
      await world.login(first.userId, { device_id: first.deviceId });
      await first.get("GET", "/account/whoami");
    },
  },
  {
    name: "a login with a known device id is that device",
    run: async (world) => {
      const first = await world.user();
      const second = await world.login(first.userId, { device_id: first.deviceId });
      assert.equal(second.deviceId, first.deviceId);
      assert.notEqual(second.token, first.token);
      const ids = (await second.get("GET", "/devices")).devices.map(({ device_id }: Body) => device_id);
      assert.equal(ids.filter((id: string) => id === first.deviceId).length, 1);
    },
  },
  {
    name: "a login that asks for no refresh token is given none, and a token that doesn't expire",
    run: async (world) => {
      const user = await world.user();
      const login = { ...passwordLogin(user.userId, password), device_id: user.deviceId };
      const { refresh_token, expires_in_ms } = await world.nobody().get("POST", "/login", login);
      assert.deepEqual([refresh_token, expires_in_ms], [undefined, undefined]);
    },
  },
  {
    name: "a refresh token gives another pair for the same device, until what it gave is used",
    synapseOnly: "where no refresh token is given, the access token doesn't expire",
    run: async (world) => {
      const first = await loginToRefresh(world);
      const isLife = (ms: unknown) => Number(ms) > 0 && Number(ms) <= world.server.refreshableMs;
      assert.ok(isLife(first.expires_in_ms), `${first.expires_in_ms}`);
      // Its answer may have been lost.
      await refreshed(world, first);
      const second = await refreshed(world, first);
      assert.notEqual(second.access_token, first.access_token);
      assert.notEqual(second.refresh_token, first.refresh_token);
      assert.ok(isLife(second.expires_in_ms), `${second.expires_in_ms}`);
      const client = new Client(world.server, { ...first, ...second });
      const { device_id } = await client.get("GET", "/account/whoami");
      assert.equal(device_id, first.device_id);
      await usedUp(world, first);
      const third = await refreshed(world, second);
      await refreshed(world, third);
      await usedUp(world, second);
    },
  },
  {
    name: "an unknown refresh token is 401 M_UNKNOWN_TOKEN, as is one whose login has ended",
    synapseOnly: "where no refresh token is given, none is used",
    run: async (world) => {
      const unknown = { refresh_token: "syr_made_up" };
      await world.nobody().refused(401, "M_UNKNOWN_TOKEN", "POST", "/refresh", unknown);
      const first = await loginToRefresh(world);
      await new Client(world.server, first).get("POST", "/logout", {});
      const ended = { refresh_token: first.refresh_token };
      await world.nobody().refused(401, "M_UNKNOWN_TOKEN", "POST", "/refresh", ended);
    },
  },
  {
    name: "an access token that has expired is 401 M_UNKNOWN_TOKEN with soft_logout, and can be refreshed",
    synapseOnly: "where no refresh token is given, the access token doesn't expire",
    run: async (world) => {
      const first = await loginToRefresh(world);
      const client = new Client(world.server, first);
      await client.get("GET", "/account/whoami");
      await world.server.letPass(world.server.refreshableMs + 100);
      const { soft_logout } = await client.refused(401, "M_UNKNOWN_TOKEN", "GET", "/account/whoami");
      assert.equal(soft_logout, true);
      await new Client(world.server, { ...first, ...await refreshed(world, first) }).get("GET", "/account/whoami");
    },
  },
  {
    name: "no token is 401 M_MISSING_TOKEN, a wrong one 401 M_UNKNOWN_TOKEN without soft_logout",
    run: async (world) => {
      await world.nobody().refused(401, "M_MISSING_TOKEN", "GET", "/sync");
      const forged = new Client(world.server, { access_token: "made-up" });
      const body = await forged.refused(401, "M_UNKNOWN_TOKEN", "GET", "/sync");
      assert.ok(!body.soft_logout);
    },
  },
  {
    name: "logout ends the token and removes the device",
    run: async (world) => {
      const first = await world.user();
      const second = await world.login(first.userId);
      await second.get("POST", "/logout", {});
      await second.refused(401, "M_UNKNOWN_TOKEN", "GET", "/account/whoami");
      const ids = (await first.get("GET", "/devices")).devices.map(({ device_id }: Body) => device_id);
      assert.deepEqual([ids.includes(first.deviceId), ids.includes(second.deviceId)], [true, false]);
      await first.refused(404, "M_NOT_FOUND", "GET", `/devices/${second.deviceId}`);
    },
  },
  {
    name: "deleting a device asks for the password, then ends its token",
    run: async (world) => {
      const first = await world.user();
      const second = await world.login(first.userId);
      const path = `/devices/${second.deviceId}`;
      const challenge = await first.ask("DELETE", path, {});
      const identifier = { type: "m.id.user", user: first.userId };
      const auth = { type: "m.login.password", session: challenge.body.session, identifier, password: "wrong" };
      const wrong = await first.ask("DELETE", path, { auth });
      assert.deepEqual([challenge.status, wrong.status, wrong.body.errcode], [401, 401, "M_FORBIDDEN"]);
      await withPassword(first, "DELETE", path, {});
      const body = await second.refused(401, "M_UNKNOWN_TOKEN", "GET", "/account/whoami");
      assert.ok(!body.soft_logout);
    },
  },
  {
    name: "an unknown path is 404 M_UNRECOGNIZED, broken JSON is 400",
    run: async (world) => {
      const user = await world.user();
      await user.refused(404, "M_UNRECOGNIZED", "GET", "/made/up");
      assert.equal((await user.ask("POST", "/createRoom", "{broken")).status, 400);
    },
  },
  {
    name: "account data not there is 404 M_NOT_FOUND; stored, it is read back and comes once in sync",
    run: async (world) => {
      const user = await world.user();
      const path = `/user/${encodeURIComponent(user.userId)}/account_data/org.example.test`;
      await user.refused(404, "M_NOT_FOUND", "GET", path);
      const { next_batch: since } = await user.sync();
      await user.get("PUT", path, { a: 1 });
      assert.deepEqual(await user.get("GET", path), { a: 1 });
      const news = await user.sync({ since });
      assert.deepEqual(news.account_data.events, [{ type: "org.example.test", content: { a: 1 } }]);
      assert.equal((await user.sync({ since: news.next_batch })).account_data, undefined);
      const other = await world.user();
      await other.refused(403, "M_FORBIDDEN", "GET", path);
    },
  },
  {
    name: "the display name is the localpart at first, and a new one comes as a member event",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const profile = `/profile/${encodeURIComponent(guest.userId)}`;
      assert.equal((await owner.get("GET", profile)).displayname, guest.userId.slice(1).split(":")[0]);
      const { next_batch: since } = await owner.sync();
      await guest.get("PUT", `${profile}/displayname`, { displayname: "Guest" });
      assert.equal((await owner.get("GET", `${profile}/displayname`)).displayname, "Guest");
      const { found } = await owner.syncUntil(
        since,
        (body) =>
          body.rooms?.join?.[roomId]?.timeline.events.find(({ content }: Body) => content.displayname === "Guest"),
      );
      assert.deepEqual([found.type, found.state_key, found.content.displayname, found.content.membership], [
        "m.room.member",
        guest.userId,
        "Guest",
        "join",
      ]);
      assert.equal(found.unsigned.prev_content.membership, "join");
    },
  },
];
