/**
 * Gets a token from Keycloak for a user name and password (OAuth 2.0, RFC 6749, 4.3, "Resource Owner Password
 * Credentials Grant").
 *
 * @module
 */

import type { JwtLogin } from "../config/mod.ts";
import { CredentialError, RejectedError } from "../errors.ts";
import { text } from "../json.ts";
import { HomeserverClient, path } from "./homeserver_client.ts";

/**
 * Requests a token.
 *
 * @param username name at Keycloak
 * @throws CredentialError if the request is refused, with the cause and the remedy; TransientError
 */
export async function passwordGrant(
  { keycloak: { url, realm, clientId, clientSecret }, password }: JwtLogin,
  username: string,
  signal: AbortSignal,
): Promise<string> {
  const body = new URLSearchParams({
    grant_type: "password",
    client_id: clientId,
    username,
    password: password.reveal(),
    ...(clientSecret === undefined ? {} : { client_secret: clientSecret.reveal() }),
  });
  const what = `Cannot get a token for ${username} from Keycloak at ${url}`;
  try {
    const token = path`/realms/${realm}/protocol/openid-connect/token`;
    using client = new HomeserverClient(url);
    const { json } = await client.send({ method: "POST", path: token, body }, signal);
    const accessToken = text(json["access_token"]);
    if (!accessToken) throw new CredentialError(`${what}: its answer holds no access_token; see KEYCLOAK_URL`);
    return accessToken;
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    throw new CredentialError(`${what}: ${reason(error, realm, clientId)}`, { cause: error });
  }
}

function reason({ status, answer }: RejectedError, realm: string, clientId: string): string {
  const [code = "", description = ""] = [text(answer["error"]), text(answer["error_description"])];
  const words = `${status} ${description || code}`.trim();
  switch (code) {
    case "Realm does not exist":
      return `there is no realm "${realm}"; see KEYCLOAK_REALM`;
    case "invalid_client":
      return `there is no client "${clientId}" in the realm, or its secret is another; see KEYCLOAK_CLIENT_ID, ` +
        "KEYCLOAK_CLIENT_SECRET";
    case "unauthorized_client":
      return status === 401
        ? `the secret of client "${clientId}" is refused; see KEYCLOAK_CLIENT_SECRET`
        : `the client "${clientId}" may not do this (${words}); switch its "Direct access grants" on`;
    case "invalid_grant":
      return status === 401
        ? "user or password are refused, or the account asks for a one-time code, which no password grant can give; see " +
          "MATRIX_USER, MATRIX_PASSWORD"
        : `the account is not ready (${words}); log in once in a browser as this user, or ask who runs Keycloak`;
  }
  if (status === 404) return `no Keycloak answers there (${words}); see KEYCLOAK_URL`;
  return `${words}; see KEYCLOAK_URL, KEYCLOAK_REALM, KEYCLOAK_CLIENT_ID`;
}
