/**
 * Logging in and out. Knows who we are to the homeserver and nothing of encryption.
 *
 * @module
 */

import { CredentialError, RejectedError } from "../errors/mod.ts";
import { list, object, text } from "./json.ts";
import { type Requests, TokenRefused } from "./request.ts";

/** A value that must not be printed; revealed only where it is sent. */
export interface Revealable {
  /** The value. */
  reveal(): string;
}

/** What to log in with. */
export interface Credentials {
  /** Localpart or full user id. */
  readonly user: string;
  /** Password of the account. */
  readonly password: Revealable;
}

/** What a login gave. */
export interface LoggedIn {
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
}

/**
 * Logs in by password (Matrix spec v1.16, client-server API, 5.6.2). With a device id the login takes that device over.
 *
 * @throws CredentialError if user or password are refused, or the server offers no password login
 */
export async function logIn(
  requests: Requests,
  credentials: Credentials,
  deviceId: string | undefined,
  signal: AbortSignal,
): Promise<LoggedIn> {
  try {
    const { json } = await requests.send({
      method: "POST",
      path: "/_matrix/client/v3/login",
      body: {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: credentials.user },
        password: credentials.password.reveal(),
        initial_device_display_name: "openclaw-toggle",
        ...(deviceId === undefined ? {} : { device_id: deviceId }),
      },
    }, signal);
    const loggedIn = {
      userId: text(json["user_id"]),
      deviceId: text(json["device_id"]),
      accessToken: text(json["access_token"]),
    };
    if (!loggedIn.userId || !loggedIn.deviceId || !loggedIn.accessToken) {
      throw new CredentialError(
        `Cannot log in as ${credentials.user}: the homeserver's answer names no device or token`,
      );
    }
    return loggedIn as LoggedIn;
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    throw new CredentialError(await refusal(requests, credentials.user, error, signal), { cause: error });
  }
}

async function refusal(requests: Requests, user: string, error: RejectedError, signal: AbortSignal): Promise<string> {
  const what = `Cannot log in as ${user} at ${requests.baseUrl}`;
  if (error.code === "M_USER_DEACTIVATED") return `${what}: the account is deactivated`;
  if (error.code === "M_FORBIDDEN") {
    return `${what}: the homeserver refuses user or password; see MATRIX_USER, MATRIX_PASSWORD`;
  }
  if (error.status === 404) return `${what}: no Matrix homeserver answers there; see MATRIX_HOMESERVER`;
  const { json } = await requests.send({ method: "GET", path: "/_matrix/client/v3/login" }, signal);
  const offered = list(json["flows"]).map((flow) => text(object(flow)["type"]) ?? "?");
  return `${what}: ${error.status} ${error.code}; the homeserver offers ${offered.join(", ")}, ` +
    "AUTH_METHOD=password needs m.login.password";
}

/**
 * Ends the login of the access token in use; its device is gone then.
 *
 * @throws TransientError if the homeserver could not be asked; a token that is already refused is no error
 */
export async function logOut(requests: Requests, signal: AbortSignal): Promise<void> {
  try {
    await requests.send({ method: "POST", path: "/_matrix/client/v3/logout", body: {} }, signal);
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
  }
}
