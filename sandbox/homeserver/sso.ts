/**
 * Single sign-on as Synapse does it with OpenID Connect: a redirect to the provider, and a login token for the code that
 * comes back.
 *
 * @module
 */
import { MatrixError, randomId } from "./protocol.ts";

/** An identity provider. */
export interface Provider {
  /** Id, as in the configuration of Synapse, which prefixes it with `oidc-`. */
  readonly id: string;
  /** URL of the login page. */
  readonly authorizationUrl: string;
  /** Id of the homeserver's client. */
  readonly clientId: string;
  /** Returns the user that a code was issued for; undefined if the code is invalid. */
  readonly redeem: (code: string) => string | undefined;
  /** Whether clients need no confirmation. */
  readonly trustsClients?: boolean;
}

const cookieName = "oidc_session";

/** Sign-ons in progress. */
export class SingleSignOn {
  readonly #provider: Provider;
  readonly #baseUrl: () => string;
  readonly #issue: (username: string) => string;
  readonly #sessions = new Map<string, { state: string; redirectUrl: string }>();

  /**
   * @param provider identity provider
   * @param baseUrl returns the homeserver's public address
   * @param issue issues a login token for a localpart
   */
  constructor(provider: Provider, baseUrl: () => string, issue: (username: string) => string) {
    this.#provider = provider;
    this.#baseUrl = baseUrl;
    this.#issue = issue;
  }

  /** The flow in the response of GET /login. */
  get flow(): Record<string, unknown> {
    const { id } = this.#provider;
    return { type: "m.login.sso", identity_providers: [{ id: `oidc-${id}`, name: id }] };
  }

  /** GET /login/sso/redirect/{idpId}. Redirects to the public address first, because cookies are set for that. */
  redirect(idpId: string, url: URL): Response {
    if (idpId !== `oidc-${this.#provider.id}`) throw new MatrixError(404, "M_NOT_FOUND", "Unknown identity provider");
    const base = this.#baseUrl();
    if (url.origin !== base) return moved(base + url.pathname + url.search);
    const [session, state] = [randomId(20), randomId(20)];
    this.#sessions.set(session, { state, redirectUrl: url.searchParams.get("redirectUrl") ?? "" });
    const location = new URL(this.#provider.authorizationUrl);
    const redirectUri = `${base}/_synapse/client/oidc/callback`;
    const query = { client_id: this.#provider.clientId, response_type: "code", redirect_uri: redirectUri, state };
    for (const [name, value] of Object.entries(query)) location.searchParams.set(name, value);
    return moved(location.href, `${cookieName}=${session}; Max-Age=3600; Path=/_synapse/client/oidc; HttpOnly`);
  }

  /** The provider redirects here after the login. */
  callback(query: URLSearchParams, cookies: string): Response {
    const id = cookies.split("; ").find((cookie) => cookie.startsWith(`${cookieName}=`))?.slice(cookieName.length + 1);
    const session = this.#sessions.get(id ?? "");
    if (session === undefined || session.state !== query.get("state")) return errorPage("No session cookie found");
    const username = this.#provider.redeem(query.get("code") ?? "");
    if (username === undefined) return errorPage("Invalid client or Invalid client credentials");
    const link = new URL(session.redirectUrl);
    link.searchParams.set("loginToken", this.#issue(username));
    if (this.#provider.trustsClients) return moved(link.href);
    return page(
      `<p>Continuing will grant <strong>${session.redirectUrl}</strong> access to your account.</p>
      <a href="https://example.org/?a=1&amp;b=2">elsewhere</a>
      <a href="${link.href.replaceAll("&", "&amp;")}" class="primary-button">Continue</a>`,
    );
  }
}

function moved(location: string, cookie?: string): Response {
  return new Response(null, { status: 302, headers: { location, ...(cookie ? { "set-cookie": cookie } : {}) } });
}

function errorPage(words: string): Response {
  return page(`<h1>There was an error</h1><p><strong id="errormsg">${words}</strong></p>`, 400);
}

function page(body: string, status = 200): Response {
  const headers = { "content-type": "text/html; charset=utf-8" };
  return new Response(`<!DOCTYPE html><html><body>${body}</body></html>`, { status, headers });
}
