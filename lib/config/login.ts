/**
 * How to log in: the settings that belong to one way, together, so that nobody meets one that isn't there.
 *
 * @module
 */

import type { Secret } from "./secret.ts";
import type { Settings } from "./variables.ts";

/** Who we are (localpart or full user id), and how that is shown. */
export type Login =
  & { readonly user: string }
  & (
    | { readonly method: "password"; readonly password: Secret }
    /** The token is never replaced and never logged out; the password is for when the homeserver asks for it. */
    | { readonly method: "token"; readonly accessToken: Secret; readonly password: Secret | undefined }
    | JwtLogin
    | SsoLogin
  );

/** By a token that Keycloak gives for a password, and that the homeserver takes in a login of type `loginType`. */
export type JwtLogin = {
  readonly method: "jwt";
  readonly password: Secret;
  readonly keycloak: {
    readonly url: string;
    readonly realm: string;
    readonly clientId: string;
    readonly clientSecret: Secret | undefined;
  };
  readonly loginType: Settings["jwtLoginType"];
};

/** Through the pages that a browser would be shown; with `keycloakUrl` only that host is given the password. */
export type SsoLogin = {
  readonly method: "sso";
  readonly password: Secret;
  readonly idpId: string;
  readonly keycloakUrl: string | undefined;
};

/** The settings of the way that was chosen; that those it requires are there has been seen to. */
export function loginOf(settings: Settings): Login {
  const { user, authMethod: method, password, keycloakUrl } = settings;
  switch (method) {
    case "password":
      return { user, method, password: given(password) };
    case "token":
      return { user, method, accessToken: given(settings.accessToken), password };
    case "jwt": {
      const keycloak = {
        url: given(keycloakUrl),
        realm: given(settings.keycloakRealm),
        clientId: given(settings.keycloakClientId),
        clientSecret: settings.keycloakClientSecret,
      };
      return { user, method, password: given(password), keycloak, loginType: settings.jwtLoginType };
    }
    case "sso":
      return { user, method, password: given(password), idpId: settings.ssoIdpId, keycloakUrl };
  }
}

function given<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new TypeError("a setting is missing that its row calls required");
  return value;
}
