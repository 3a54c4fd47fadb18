/**
 * Login and logout at the homeserver.
 *
 * @module
 */

import { Deadline } from "../async.ts";
import type { Login } from "../config/mod.ts";
import { CredentialError, RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { count, type Json, list, object, text } from "../json.ts";
import { passwordGrant } from "./keycloak.ts";
import { accessTokenOf, type HomeserverClient } from "./homeserver_client.ts";
import { singleSignOn } from "./sso.ts";

/** Result of a login. */
export interface LoggedIn {
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
  /**
   * Token for refreshing the access token. Undefined if the homeserver issued none, or if the access token comes from
   * the configuration.
   */
  readonly refreshToken: string | undefined;
  /** Lifetime of the access token from its issue, in milliseconds. Undefined if the homeserver doesn't say. */
  readonly expiresInMs: number | undefined;
}

/**
 * Logs in (Matrix spec v1.16, client-server API, 5.6.2), or looks up the owner of a configured token. With a device ID,
 * the login takes over that device. Afterwards, `client` uses the access token.
 *
 * @throws CredentialError if the login is refused or belongs to another user than the configured one; TransientError
 */
export async function logIn(
  client: HomeserverClient,
  login: Login,
  deviceId: string | undefined,
  signal: AbortSignal,
): Promise<LoggedIn> {
  const loggedIn = login.method === "token"
    ? await ownerOfToken(client, login.user, login.accessToken.reveal(), signal)
    : await newDevice(client, login, deviceId, signal);
  client.authenticate(loggedIn.accessToken);
  const { userId } = loggedIn;
  if (userId === fullUserId(login.user, userId)) return loggedIn;
  if (login.method !== "token") await logOutWithinDeadline(client);
  throw new CredentialError(
    `Cannot log in as ${login.user}: the homeserver takes us for ${userId}; see MATRIX_USER, ` +
      (login.method === "token" ? "MATRIX_ACCESS_TOKEN" : "and how the homeserver makes a user id of the name"),
  );
}

/**
 * Fixed, so that a login whose response got lost, and which therefore can't be logged out, is replaced by the next
 * test.
 */
const TEST_DEVICE = "OPENCLAWTOGGLETEST";

/** Logs in as a test and logs out again. A configured token is only looked up. */
export async function tryLogin(
  client: HomeserverClient,
  login: Login,
  signal: AbortSignal,
): Promise<LoggedIn & { readonly loggedOut: boolean }> {
  const loggedIn = await logIn(client, login, TEST_DEVICE, signal);
  const loggedOut = login.method !== "token";
  if (loggedOut) await logOutWithinDeadline(client);
  return { ...loggedIn, loggedOut };
}

/** Logs in with the test device, runs `work`, and logs out again. For work that needs no device of its own. */
export async function whileLoggedIn<Result>(
  client: HomeserverClient,
  login: Login,
  work: (userId: string) => Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  const { userId } = await logIn(client, login, TEST_DEVICE, signal);
  try {
    return await work(userId);
  } finally {
    if (login.method !== "token") await logOutWithinDeadline(client);
  }
}

/** Logs out, even if the caller's signal has been aborted. */
async function logOutWithinDeadline(client: HomeserverClient): Promise<void> {
  const reason = (): Error => new TransientError("Cannot log out: no answer within 5 s");
  using deadline = new Deadline(5_000, new AbortController().signal, { reason });
  await logOut(client, deadline.signal);
}

/** Completes a user ID with the server name of another user at the same homeserver. */
export function fullUserId(user: string, neighbour: string): string {
  return user.startsWith("@") ? user : `@${user}${neighbour.slice(neighbour.indexOf(":"))}`;
}

async function newDevice(
  client: HomeserverClient,
  login: Exclude<Login, { method: "token" }>,
  deviceId: string | undefined,
  signal: AbortSignal,
): Promise<LoggedIn> {
  client.authenticate(undefined);
  const proof = await loginBody(client, login, signal);
  try {
    const { json } = await client.send({
      method: "POST",
      path: "/_matrix/client/v3/login",
      isOpen: true,
      body: {
        ...proof,
        initial_device_display_name: "openclaw-toggle",
        refresh_token: true,
        ...(deviceId === undefined ? {} : { device_id: deviceId }),
      },
    }, signal);
    const loggedIn = {
      userId: text(json["user_id"]),
      deviceId: text(json["device_id"]),
      accessToken: accessTokenOf(json["access_token"]),
      refreshToken: text(json["refresh_token"]),
      expiresInMs: count(json["expires_in_ms"]),
    };
    if (!loggedIn.userId || !loggedIn.deviceId || !loggedIn.accessToken) {
      throw new CredentialError(`Cannot log in as ${login.user}: the homeserver's answer names no device or token`);
    }
    return loggedIn as LoggedIn;
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    throw new CredentialError(await refusal(client, login, text(proof["type"]) ?? "", error, signal), {
      cause: error,
    });
  }
}

/** Returns the body of the login request, except for the device. */
async function loginBody(
  client: HomeserverClient,
  login: Exclude<Login, { method: "token" }>,
  signal: AbortSignal,
): Promise<Json> {
  const { user } = login;
  const localpart = user.replace(/^@([^:]*):.*$/, "$1");
  switch (login.method) {
    case "password":
      return { type: "m.login.password", identifier: { type: "m.id.user", user }, password: login.password.reveal() };
    case "jwt": {
      const { loginType: type } = login;
      const token = await passwordGrant(login, localpart, signal);
      const identifier = { type: "m.id.user", user: localpart };
      return type === "org.matrix.login.jwt" ? { type, token } : { type, identifier, token };
    }
    case "sso":
      return { type: "m.login.token", token: await singleSignOn(client, login, localpart, signal) };
  }
}

async function refusal(
  client: HomeserverClient,
  { user, method }: Login,
  type: string,
  error: RejectedError,
  signal: AbortSignal,
): Promise<string> {
  const what = `Cannot log in as ${user} at ${client.baseUrl}`;
  if (error.code === "M_USER_DEACTIVATED") return `${what}: the account is deactivated`;
  if (error.code === "M_FORBIDDEN") {
    if (method === "password") {
      return `${what}: the homeserver refuses user or password; see MATRIX_USER, MATRIX_PASSWORD`;
    }
    const words = text(error.answer["error"]) ?? error.code;
    return `${what}: the homeserver refuses the token for ${type} (${
      words.slice(0, 200)
    }); see its own settings for that` +
      (method === "jwt" ? ": the realm's key, audiences, subject claim" : "");
  }
  if (error.status === 404) return `${what}: no Matrix homeserver answers there; see MATRIX_HOMESERVER`;
  const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/login" }, signal);
  const offered = list(json["flows"]).map((flow) => text(object(flow)["type"]) ?? "?");
  return `${what}: ${error.status} ${error.code}; the homeserver offers ${offered.join(", ")}, ` +
    `AUTH_METHOD=${method} needs ${type}${method === "jwt" ? "; see JWT_LOGIN_TYPE" : ""}`;
}

/** Looks up the owner of a token. */
async function ownerOfToken(
  client: HomeserverClient,
  user: string,
  accessToken: string,
  signal: AbortSignal,
): Promise<LoggedIn> {
  const what = `Cannot log in as ${user} at ${client.baseUrl}`;
  client.authenticate(accessToken);
  try {
    const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/account/whoami" }, signal);
    const [userId, deviceId] = [text(json["user_id"]), text(json["device_id"])];
    if (!userId) throw new CredentialError(`${what}: no Matrix homeserver answers there; see MATRIX_HOMESERVER`);
    if (deviceId) return { userId, deviceId, accessToken, refreshToken: undefined, expiresInMs: undefined };
    throw new CredentialError(
      `${what}: the token of ${userId} belongs to no device, as that of an administrator or of an application service, ` +
        "and encryption needs one; log in for a new token, and give that as MATRIX_ACCESS_TOKEN",
    );
  } catch (error) {
    if (error instanceof TokenRefused) {
      throw new CredentialError(`${what}: ${error.message}; give another one as MATRIX_ACCESS_TOKEN`, { cause: error });
    }
    if (!(error instanceof RejectedError)) throw error;
    const reason = error.status === 404 ? "no Matrix homeserver answers there; see MATRIX_HOMESERVER" : error.message;
    throw new CredentialError(`${what}: ${reason}`, { cause: error });
  }
}

/**
 * Returns the device of the access token in use, or undefined if the homeserver doesn't tell.
 *
 * @throws TransientError | TokenRefused
 */
export async function deviceOfToken(client: HomeserverClient, signal: AbortSignal): Promise<string | undefined> {
  try {
    const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/account/whoami" }, signal);
    return text(json["device_id"]);
  } catch (error) {
    if (error instanceof RejectedError) return undefined;
    throw error;
  }
}

/**
 * Logs out the access token in use. The homeserver deletes its device.
 *
 * @throws TransientError if the homeserver can't be reached. A token that is already refused is not an error
 */
export async function logOut(client: HomeserverClient, signal: AbortSignal): Promise<void> {
  try {
    await client.send({ method: "POST", path: "/_matrix/client/v3/logout", body: {} }, signal);
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
  }
}
