/**
 * Single sign-on without a browser (Matrix spec v1.16, client-server API, 5.4.4, "SSO client login"). It follows the
 * redirect from the homeserver to the identity provider, submits the login form, and returns with the result to the
 * homeserver, which issues a login token. Only the identity provider receives the password.
 *
 * @module
 */

import type { SsoLogin } from "../config/mod.ts";
import { CredentialError, TransientError } from "../errors.ts";
import { type Form, formsOf, linksOf, wordsOf } from "./html.ts";
import { list, object, text } from "../json.ts";
import { redirectOf } from "../http.ts";
import { type HomeserverClient, path, REQUEST_DEADLINE_MS } from "./homeserver_client.ts";

/**
 * Redirect target for the login token. Nothing listens there. A homeserver may have it on its allowlist, so it must not
 * change.
 */
const OURSELVES = "http://localhost:0";
const START = "/_matrix/client/v3/login/sso/redirect/";
/** Pages and redirects per login. */
const MAX_STEPS = 15;
/** IDs and classes of the elements in which Keycloak and Synapse show errors. */
const WORDS = ["kc-feedback-text", "instruction", "errormsg"];

/**
 * Gets a token for `m.login.token`.
 *
 * @param username name at the identity provider
 * @throws CredentialError if the login is refused or needs a person; TransientError
 */
export async function singleSignOn(
  client: HomeserverClient,
  login: SsoLogin,
  username: string,
  signal: AbortSignal,
): Promise<string> {
  const hosts = new Hosts(client.baseUrl, login.keycloakUrl);
  const browser = new Browser(client, signal);
  const start = new URL(client.baseUrl + START + await providerId(client, login.idpId, signal));
  start.searchParams.set("redirectUrl", OURSELVES);
  const given: Credentials = { username, password: login.password.reveal(), fields: new Set() };
  let page = await browser.visit(start);
  for (let step = 0; step < MAX_STEPS; step++) {
    const atHomeserver = hosts.isHomeserver(page.url);
    const target = page.redirect ?? (atHomeserver ? linkToUs(page) : undefined);
    if (target === undefined) {
      if (atHomeserver) throw new CredentialError(homeserverRefuses(page, login.idpId));
      const { action, body } = fillIn(page, given);
      hosts.checkProvider(action, page.url);
      page = await browser.visit(action, body);
    } else if (atHomeserver && target.origin === OURSELVES) {
      const token = target.searchParams.get("loginToken");
      if (!token) throw new CredentialError(`Cannot log in: ${page.url.origin} ended the sign-on without a token`);
      return token;
    } else {
      hosts.checkRedirect(target, page.url);
      page = await browser.visit(target);
    }
  }
  throw new CredentialError(`Cannot log in: the sign-on did not end within ${MAX_STEPS} steps`);
}

/** Returns the homeserver's ID of an identity provider. Synapse prefixes the configured one with `oidc-`. */
async function providerId(client: HomeserverClient, idpId: string, signal: AbortSignal): Promise<string> {
  const { json } = await client.send({ method: "GET", path: "/_matrix/client/v3/login" }, signal);
  const flows = list(json["flows"]).map(object);
  const flow = flows.find(({ type }) => type === "m.login.sso");
  const what = `Cannot log in at ${client.baseUrl}`;
  if (flow === undefined) {
    const offered = flows.map(({ type }) => text(type) ?? "?").join(", ");
    throw new CredentialError(`${what}: AUTH_METHOD=sso needs m.login.sso; the homeserver offers ${offered}`);
  }
  const ids = list(flow["identity_providers"]).map((each) => text(object(each)["id"]) ?? "?");
  const id = [idpId, `oidc-${idpId}`].find((each) => ids.length === 0 || ids.includes(each));
  if (id !== undefined) return path`${id}`;
  throw new CredentialError(
    `${what}: the homeserver knows no identity provider "${idpId}", but ${ids.join(", ")}; see SSO_IDP_ID`,
  );
}

/** The hosts that the login may visit: the homeserver and one identity provider. */
export class Hosts {
  readonly #homeserver: Set<string>;
  readonly #plain: boolean;
  #provider: string | undefined;

  constructor(homeserver: string, keycloak: string | undefined) {
    const { origin, protocol } = new URL(homeserver);
    this.#homeserver = new Set([origin]);
    this.#plain = protocol === "http:";
    this.#provider = keycloak === undefined ? undefined : new URL(keycloak).origin;
  }

  /** The identity provider may share the homeserver's host, but not these paths. */
  isHomeserver(url: URL): boolean {
    return this.#homeserver.has(url.origin) && /\/_(matrix|synapse)\//.test(url.pathname);
  }

  checkRedirect(target: URL, from: URL): void {
    if (this.isHomeserver(target)) return;
    if (this.isHomeserver(from)) {
      const encrypted = this.#plain || target.protocol === "https:";
      // The homeserver first redirects to its public address, which may differ from the URL that we know.
      if (encrypted && from.pathname.includes(START) && target.pathname.includes(START)) {
        this.#homeserver.add(target.origin);
        return;
      }
      if (encrypted) this.#provider ??= target.origin;
    }
    this.checkProvider(target, from);
  }

  checkProvider(target: URL, from: URL): void {
    if (target.origin === this.#provider) return;
    throw new CredentialError(
      `Cannot log in: ${from.origin} sends us to ${target.origin}; expected was ` +
        `${this.#provider ?? "a host with https"}; see MATRIX_HOMESERVER, KEYCLOAK_URL`,
    );
  }
}

/** Response to one request. */
interface Page {
  readonly url: URL;
  readonly status: number;
  readonly html: string;
  readonly redirect: URL | undefined;
}

/** Holds cookies in memory, per origin. */
class Browser {
  readonly #cookies = new Map<string, Map<string, string>>();
  readonly #client: HomeserverClient;
  readonly #signal: AbortSignal;

  constructor(client: HomeserverClient, signal: AbortSignal) {
    this.#client = client;
    this.#signal = signal;
  }

  async visit(url: URL, form?: URLSearchParams): Promise<Page> {
    const cookies = this.#cookies.get(url.origin) ?? new Map<string, string>();
    this.#cookies.set(url.origin, cookies);
    const response = await this.#client.exchange({
      method: form === undefined ? "GET" : "POST",
      url,
      headers: { accept: "text/html", cookie: [...cookies].map((cookie) => cookie.join("=")).join("; ") },
      body: form,
      deadlineMs: REQUEST_DEADLINE_MS,
    }, this.#signal);
    const { status, headers, body: html } = response;
    if (status === 429 || status >= 500) {
      throw new TransientError(`Cannot log in: ${url.origin}${url.pathname} answers ${status}`);
    }
    for (const cookie of headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=;]*)=([^;]*)/.exec(cookie) ?? [];
      if (value === "" || /;\s*max-age=0\b/i.test(cookie)) cookies.delete(name);
      else cookies.set(name, value);
    }
    return { url, status, html, redirect: redirectOf(response, url) };
  }
}

/**
 * Finds a link back to us. If the homeserver doesn't know the redirect target, it asks the user to confirm it by a
 * link.
 */
function linkToUs({ html, url }: Page): URL | undefined {
  return linksOf(html).map((link) => URL.parse(link, url) ?? undefined).find((link) => link?.origin === OURSELVES);
}

/** Credentials, and the fields that they were already entered into. */
interface Credentials {
  readonly username: string;
  readonly password: string;
  readonly fields: Set<string>;
}

/** Fills in the page's login form. */
function fillIn(page: Page, given: Credentials): { action: URL; body: URLSearchParams } {
  const form = formWith(page, "password") ?? formWith(page, "username");
  const action = form?.post ? URL.parse(form.action ?? "", page.url) : null;
  if (page.status >= 400 || !form || action === null) throw new CredentialError(providerRefuses(page, given));
  const body = new URLSearchParams();
  const asked: string[] = [];
  for (const [name, { hidden, value }] of form.fields) {
    if (name === "username" || name === "password") {
      body.set(name, given[name]);
      if (!hidden) asked.push(name);
    } else if (hidden && name !== "") body.set(name, value);
  }
  // The form asks again for what it has already received: the provider has refused it.
  if (asked.every((name) => given.fields.has(name)) || given.fields.has("password")) {
    throw new CredentialError(
      `Cannot log in: ${page.url.origin} refuses user or password (${
        wordsOf(page.html, WORDS) || "without a word"
      }); see MATRIX_USER, ` +
        "MATRIX_PASSWORD",
    );
  }
  for (const name of asked) given.fields.add(name);
  return { action, body };
}

function formWith({ html }: Page, field: string): Form | undefined {
  return formsOf(html).find(({ fields }) => fields.get(field)?.hidden === false);
}

function providerRefuses(page: Page, given: Credentials): string {
  const { url, status, html } = page;
  if (status >= 400) {
    return `Cannot log in: ${url.origin} refuses what the homeserver sends it (${
      `${status} ${wordsOf(html, WORDS)}`.trim()
    }); see ` +
      "the homeserver's own settings for this provider: realm, client and redirect URI";
  }
  if (!given.fields.has("password")) {
    return `Cannot log in: ${url.origin} shows a page without a form for user name and password; AUTH_METHOD=jwt needs no ` +
      "page";
  }
  const fields = formsOf(html).flatMap((form) => [...form.fields].filter(([, { hidden }]) => !hidden))
    .map(([name]) => name).filter((name) => name !== "");
  const step = url.searchParams.get("execution")?.match(/^[A-Z_]+$/)?.[0] ?? fields.join(", ");
  return `Cannot log in: ${url.origin} takes the password and asks for a further step (${
    step || "unnamed"
  }), which only ` +
    "a person can do; log in once in a browser as this user, or have the step removed from the account";
}

function homeserverRefuses(page: Page, idpId: string): string {
  const { url, status, html } = page;
  const place = url.origin + url.pathname;
  if (url.pathname.includes(START)) {
    return `Cannot log in: ${place} answers ${status} and no redirect; see SSO_IDP_ID, which is "${idpId}"`;
  }
  if (status < 400) {
    return `Cannot log in: ${place} shows a page that only a person can answer; log in once in a browser as this user`;
  }
  return `Cannot log in: the homeserver refuses the identity provider's answer (${
    `${status} ${wordsOf(html, WORDS)}`.trim()
  }); see ` +
    "its settings for this provider: client secret, user mapping, and who may log in";
}
