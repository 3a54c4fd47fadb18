/**
 * A stand-in for Keycloak: one realm, tokens for passwords, and login pages like those of Keycloak. tests/keycloak
 * compares it to the real one.
 *
 * @module
 */

/** A user of the realm. */
export interface KeycloakUser {
  /** Password in clear text, because this is a stand-in. */
  readonly password: string;
  /** Whether the account is disabled. */
  readonly disabled?: boolean;
  /** Required action after login, such as `UPDATE_PASSWORD`. */
  readonly action?: string;
  /** Whether a one-time code is required as well. */
  readonly code?: boolean;
}

export interface KeycloakOptions {
  /** Secret that signs its tokens (HS256). */
  readonly jwtSecret?: string;
  /** Users by name. */
  readonly users: Readonly<Record<string, KeycloakUser>>;
  /** Client secrets by client id; empty for a public client. */
  readonly clients: Readonly<Record<string, string>>;
  /** Whether user name and password are asked for on separate pages. */
  readonly twoPages?: boolean;
}

/** A browser login in progress. */
interface SignOn {
  readonly redirectUri: string;
  readonly state: string;
  username: string;
}

const cookieName = "AUTH_SESSION_ID";

/** A running Keycloak with the realm `matrix`. */
export class Keycloak implements AsyncDisposable {
  /** Rewrites every page before it is sent. */
  rewrite: (html: string) => string = (html) => html;
  /** Target of the redirect at `/elsewhere`. */
  elsewhere = "";
  /** Names of the cookies that it has received. */
  readonly cookies: Set<string> = new Set();
  readonly #options: KeycloakOptions;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #signOns = new Map<string, SignOn>();
  readonly #codes = new Map<string, string>();

  /** Starts the server, on a free port. */
  constructor(options: KeycloakOptions) {
    this.#options = options;
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => this.#serve(request));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Returns the user that a code was issued for; undefined if the code is invalid. A code works once. */
  redeem(code: string): string | undefined {
    const username = this.#codes.get(code);
    this.#codes.delete(code);
    return username;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #serve(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    for (const cookie of request.headers.get("cookie")?.split("; ") ?? []) this.cookies.add(cookie.replace(/=.*/, ""));
    if (pathname === "/elsewhere") return new Response(null, { status: 302, headers: { location: this.elsewhere } });
    const [, realm, rest] = /^\/realms\/([^/]*)\/(.*)$/.exec(pathname) ?? [];
    if (realm === undefined) return refusal(404, "Unable to find matching target resource method");
    if (realm !== "matrix") {
      const html = request.headers.get("accept")?.includes("html");
      return html ? this.#page('<p class="instruction">Page not found</p>', 404) : refusal(404, "Realm does not exist");
    }
    const form = request.method === "POST" ? new URLSearchParams(await request.text()) : new URLSearchParams();
    switch (`${request.method} ${rest}`) {
      case "POST protocol/openid-connect/token":
        return await this.#grant(form);
      case "GET protocol/openid-connect/auth":
        return this.#begin(searchParams);
      case "POST login-actions/authenticate":
        return this.#authenticate(request, searchParams.get("session_code") ?? "", form);
      case "GET login-actions/required-action":
        return this.#page('<form method="post" action="/x"><input type="password" name="password-new"></form>');
      default:
        return refusal(404, "Unable to find matching target resource method");
    }
  }

  async #grant(form: URLSearchParams): Promise<Response> {
    const secret = this.#options.clients[form.get("client_id") ?? ""];
    if (secret === undefined) return refusal(401, "invalid_client", "Invalid client or Invalid client credentials");
    if (secret !== (form.get("client_secret") ?? "")) {
      return refusal(401, "unauthorized_client", "Invalid client or Invalid client credentials");
    }
    const username = form.get("username") ?? "";
    const user = this.#options.users[username];
    if (user?.disabled) return refusal(400, "invalid_grant", "Account disabled");
    if (user === undefined || user.password !== form.get("password") || user.code) {
      return refusal(401, "invalid_grant", "Invalid user credentials");
    }
    if (user.action !== undefined) return refusal(400, "invalid_grant", "Account is not fully set up");
    return Response.json({ access_token: await jwt(username, this.#options.jwtSecret ?? "for-tests") });
  }

  #begin(query: URLSearchParams): Response {
    if (this.#options.clients[query.get("client_id") ?? ""] === undefined) {
      return this.#page('<div id="kc-error-message"><p class="instruction">Client not found.</p></div>', 400);
    }
    const session = crypto.randomUUID();
    this.#signOns.set(session, {
      redirectUri: query.get("redirect_uri") ?? "",
      state: query.get("state") ?? "",
      username: "",
    });
    return this.#ask(session, this.#options.twoPages ? ["username"] : ["username", "password"], "", [
      `${cookieName}=${session};Version=1;Path=/realms/matrix/;Secure;HttpOnly`,
      "KC_AUTH_SESSION_HASH=hash;Max-Age=60",
    ]);
  }

  #authenticate(request: Request, session: string, form: URLSearchParams): Response {
    const signOn = this.#signOns.get(session);
    if (signOn === undefined || !request.headers.get("cookie")?.split("; ").includes(`${cookieName}=${session}`)) {
      return this.#page('<p class="instruction">Cookie not found.</p>', 400);
    }
    signOn.username = form.get("username") ?? signOn.username;
    const user = this.#options.users[signOn.username];
    if (this.#options.twoPages && !form.has("password")) return this.#ask(session, ["password"]);
    if (user === undefined || user.password !== form.get("password")) {
      return this.#ask(session, ["username", "password"], "Invalid username or password.");
    }
    if (user.disabled) {
      return this.#ask(session, ["username", "password"], "Account is disabled, contact your administrator.");
    }
    if (user.code) return this.#ask(session, ["otp"]);
    if (user.action !== undefined) {
      const action = `/realms/matrix/login-actions/required-action?execution=${user.action}&tab_id=1`;
      return new Response(null, { status: 302, headers: { location: action } });
    }
    const code = crypto.randomUUID();
    this.#codes.set(code, signOn.username);
    const location = new URL(signOn.redirectUri);
    location.searchParams.set("state", signOn.state);
    location.searchParams.set("code", code);
    const headers = [["location", location.href], ["set-cookie", `${cookieName}=;Max-Age=0`]] as [string, string][];
    return new Response(null, { status: 302, headers });
  }

  /** Returns a page with a form, in the markup of Keycloak 26. */
  #ask(session: string, fields: readonly string[], wrong = "", cookies: readonly string[] = []): Response {
    const action = `${this.url}/realms/matrix/login-actions/authenticate?session_code=${session}&amp;client_id=synapse`;
    const inputs = fields.map((name) =>
      `<input id="${name}" name="${name}" value="" type="${
        name === "password" ? name : "text"
      }" autofocus\n aria-invalid=""/>`
    );
    const said = wrong && `<span class="pf-m-error kc-feedback-text">\n  ${wrong}\n</span>`;
    return this.#page(
      `<script>document.write('<form action="/x">')</script>${said}
      <form id="kc-form-login" class="x" onsubmit="login.disabled = true; return a > b;" action="${action}" method="post">
      ${inputs.join("\n")}
      <input type="hidden" id="id-hidden-input" name="credentialId" />
      <button name="login" type="submit">Sign In</button></form>`,
      200,
      cookies,
    );
  }

  #page(body: string, status = 200, cookies: readonly string[] = []): Response {
    const html = `<!DOCTYPE html><html><head><title>Sign in to matrix</title></head><body>${body}</body></html>`;
    const headers: [string, string][] = cookies.map((cookie) => ["set-cookie", cookie]);
    return new Response(this.rewrite(html), {
      status,
      headers: [["content-type", "text/html;charset=utf-8"], ...headers],
    });
  }
}

function refusal(status: number, error: string, description?: string): Response {
  return Response.json({ error, ...(description === undefined ? {} : { error_description: description }) }, { status });
}

async function jwt(subject: string, secret: string): Promise<string> {
  const bytes = new TextEncoder();
  const encode = (value: unknown) =>
    bytes.encode(JSON.stringify(value)).toBase64({ alphabet: "base64url", omitPadding: true });
  const signed = `${encode({ alg: "HS256" })}.${encode({ sub: subject, exp: Date.now() / 1_000 + 60 })}`;
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", bytes.encode(secret), algorithm, false, ["sign"]);
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes.encode(signed)));
  return `${signed}.${signature.toBase64({ alphabet: "base64url", omitPadding: true })}`;
}
