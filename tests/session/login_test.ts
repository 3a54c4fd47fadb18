import assert from "node:assert/strict";
import { type Login, Secret } from "../../lib/config/mod.ts";
import { CredentialError, TransientError } from "../../lib/errors.ts";
import { startLogging } from "../../lib/service/mod.ts";
import { logIn, tryLogin } from "../../lib/session/login.ts";
import { HomeserverClient, type Request } from "../../lib/session/homeserver_client.ts";
import { Hosts } from "../../lib/session/sso.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Keycloak, type KeycloakOptions } from "../../sandbox/keycloak.ts";
import { never } from "./world.ts";

const secrets = ["password hunter2", "secret hunter3", "wrong hunter4"];
const [password = "", clientSecret = "", wrong = ""] = secrets;

/** A homeserver with single sign-on, and its Keycloak, which knows `toggle`. */
class Servers implements AsyncDisposable {
  readonly keycloak: Keycloak;
  readonly homeserver: Homeserver;
  readonly requests: HomeserverClient;

  constructor(options: Partial<KeycloakOptions> & { trustsClients?: boolean; clientId?: string; realm?: string } = {}) {
    const { trustsClients = false, clientId = "synapse", realm = "matrix", ...rest } = options;
    this.keycloak = new Keycloak({
      users: {
        toggle: { password },
        disabled: { password, disabled: true },
        unfinished: { password, action: "UPDATE_PASSWORD" },
        coded: { password, code: true },
      },
      clients: { operator: "", confidential: clientSecret, synapse: "s" },
      ...rest,
    });
    this.homeserver = new Homeserver({
      provider: {
        id: "keycloak",
        authorizationUrl: `${this.keycloak.url}/realms/${realm}/protocol/openid-connect/auth`,
        clientId,
        redeem: (code) => this.keycloak.redeem(code),
        trustsClients,
      },
    });
    this.homeserver.register("toggle", password);
    this.requests = new HomeserverClient(this.homeserver.url);
  }

  jwt(different: Record<string, unknown> = {}): Login {
    const { user = "toggle", loginType = "org.matrix.login.jwt", password: given = password, ...keycloak } = different;
    return {
      method: "jwt",
      user,
      password: new Secret(given),
      loginType,
      keycloak: { url: this.keycloak.url, realm: "matrix", clientId: "operator", clientSecret: undefined, ...keycloak },
    } as Login;
  }

  sso(different: Record<string, unknown> = {}): Login {
    const { password: given = password, ...rest } = different;
    const login = { method: "sso", user: "toggle", idpId: "keycloak", keycloakUrl: undefined, ...rest };
    return { ...login, password: new Secret(given) } as Login;
  }

  async token(user = "toggle"): Promise<string> {
    const login: Login = { method: "password", user, password: new Secret(password) };
    using requests = new HomeserverClient(this.homeserver.url);
    return (await logIn(requests, login, undefined, never)).accessToken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.requests[Symbol.dispose]();
    await this.homeserver[Symbol.asyncDispose]();
    await this.keycloak[Symbol.asyncDispose]();
  }
}

/** A refusal is said in words, and holds no secret at any depth. */
async function refused(login: Promise<unknown>, words: RegExp): Promise<void> {
  await assert.rejects(login, (error) => {
    assert.ok(error instanceof CredentialError, Deno.inspect(error));
    assert.match(error.message, words);
    const all = Deno.inspect(error, { depth: 10 });
    for (const secret of [...secrets, "session_code=", "loginToken=", "code=", "eyJ"]) {
      assert.ok(!all.includes(secret), `${secret} in ${all}`);
    }
    return true;
  });
}

Deno.test("logIn() by a token takes user and device as they are", async () => {
  await using servers = new Servers();
  const accessToken = await servers.token();
  const login: Login = { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
  const { deviceId } = await logIn(servers.requests, login, undefined, never);
  assert.match(deviceId, /./);
  assert.equal(servers.requests.accessToken, accessToken);
});

Deno.test("logIn() by a token refuses one that is of no use", async (t) => {
  await using servers = new Servers();
  servers.homeserver.register("other", password);
  const mine = await servers.token();
  const at = async (accessToken: string, user = "toggle") => {
    using requests = new HomeserverClient(servers.homeserver.url);
    const login: Login = { method: "token", user, accessToken: new Secret(accessToken), password: undefined };
    return await logIn(requests, login, undefined, never);
  };
  await t.step("refused", () => refused(at("wrong"), /refused the access token .*MATRIX_ACCESS_TOKEN/));
  await t.step("of a full user id elsewhere", () => refused(at(mine, "@toggle:h"), /takes us for @toggle:localhost/));
  await t.step("of somebody else, who is not logged out", async () => {
    const other = await servers.token("other");
    await refused(at(other), /takes us for @other:localhost; see MATRIX_USER, MATRIX_ACCESS_TOKEN/);
    await at(other, "other");
  });
  await t.step("without a device", async () => {
    using _ = servers.homeserver.fault({
      path: /whoami/,
      answer: { status: 200, body: { user_id: "@toggle:localhost" } },
    });
    await refused(at(mine), /the token of @toggle:localhost belongs to no device/);
  });
  await t.step("while the homeserver is away, it is tried again", async () => {
    await servers.homeserver.offline();
    await assert.rejects(at(mine), TransientError);
    servers.homeserver.online();
  });
});

Deno.test("tryLogin() leaves no device behind, and keeps a given token", async () => {
  await using servers = new Servers();
  const accessToken = await servers.token();
  const given: Login = { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
  const devices = async () => {
    using requests = new HomeserverClient(servers.homeserver.url);
    requests.accessToken = accessToken;
    return (await requests.send({ method: "GET", path: "/_matrix/client/v3/devices" }, never)).body;
  };
  const before = await devices();
  for (const login of [given, servers.jwt(), servers.sso()]) {
    const { loggedOut } = await tryLogin(servers.requests, login, never);
    assert.equal(loggedOut, login.method !== "token");
    assert.equal(await devices(), before);
  }
});

Deno.test("tryLogin() logs out even if it is aborted between login and logout", async () => {
  await using servers = new Servers();
  const login: Login = { method: "password", user: "toggle", password: new Secret(password) };
  const impatient = new AbortController();
  const paths: string[] = [];
  class Watched extends HomeserverClient {
    override async send(request: Request, signal: AbortSignal): ReturnType<HomeserverClient["send"]> {
      const answer = await super.send(request, signal);
      paths.push(request.path);
      impatient.abort(new Error("too late"));
      return answer;
    }
  }
  using watched = new Watched(servers.homeserver.url);
  const { loggedOut } = await tryLogin(watched, login, impatient.signal);
  assert.deepEqual([loggedOut, paths.map((path) => path.replace(/.*\//, ""))], [true, ["login", "logout"]]);
});

Deno.test("logIn() by Keycloak's token, in each form, for a localpart or a full user id", async (t) => {
  await using servers = new Servers();
  for (const loginType of ["org.matrix.login.jwt", "com.famedly.login.token", "com.famedly.login.token.oauth"]) {
    for (const user of ["toggle", "@toggle:localhost"]) {
      await t.step(`${loginType}, ${user}`, async () => {
        const { userId } = await logIn(servers.requests, servers.jwt({ loginType, user }), undefined, never);
        assert.equal(userId, "@toggle:localhost");
      });
    }
  }
  await t.step("with the client's secret", async () => {
    const login = servers.jwt({ clientId: "confidential", clientSecret: new Secret(clientSecret) });
    await logIn(servers.requests, login, undefined, never);
  });
  await t.step("as the same device", async () => {
    assert.equal((await logIn(servers.requests, servers.jwt(), "DEVICE", never)).deviceId, "DEVICE");
  });
});

Deno.test("logIn() takes no access token that no request can carry", async (t) => {
  await using servers = new Servers();
  const login: Login = { method: "password", user: "toggle", password: new Secret("secret") };
  for (const token of ["💥", "a\r\nb", "a b", "é", ""]) {
    await t.step(JSON.stringify(token), async () => {
      const body = { user_id: "@toggle:localhost", device_id: "D", access_token: token };
      using _ = servers.homeserver.fault({ method: "POST", path: /login$/, answer: { status: 200, body } });
      await refused(logIn(servers.requests, login, undefined, never), /answer names no device or token/);
    });
  }
});

Deno.test("logIn() by Keycloak's token says what is wrong", async (t) => {
  await using servers = new Servers();
  const wrongSecret = { clientId: "confidential", clientSecret: new Secret(wrong) };
  const rows: [name: string, different: Record<string, unknown>, words: RegExp][] = [
    ["password", { password: wrong }, /user or password are refused, or .* one-time code/],
    ["one-time code", { user: "coded" }, /user or password are refused, or .* one-time code/],
    ["client", { clientId: "nobody" }, /there is no client "nobody" in the realm, .*; see KEYCLOAK_CLIENT_ID/],
    ["client secret", wrongSecret, /the secret of client "confidential" is refused; see KEYCLOAK_CLIENT_SECRET/],
    ["no client secret", { clientId: "confidential" }, /the secret of client "confidential" is refused/],
    ["realm", { realm: "a/b?" }, /there is no realm "a\/b\?"; see KEYCLOAK_REALM/],
    ["URL", { url: `${servers.keycloak.url}/auth` }, /no Keycloak answers there \(404 .*\); see KEYCLOAK_URL/],
    ["an action", { user: "unfinished" }, /not ready \(400 Account is not fully set up\); log in once in a browser/],
    ["disabled", { user: "disabled" }, /not ready \(400 Account disabled\)/],
  ];
  for (const [name, different, words] of rows) {
    await t.step(name, () => refused(logIn(servers.requests, servers.jwt(different), undefined, never), words));
  }
  await t.step("the homeserver does not know the realm's key", async () => {
    await using others = new Servers({ jwtSecret: "another" });
    await refused(
      logIn(others.requests, others.jwt(), undefined, never),
      /refuses the token for org\.matrix\.login\.jwt \(JWT validation failed\); see .*: the realm's key/,
    );
  });
  await t.step("the homeserver does not offer the type", async () => {
    using _ = servers.homeserver.fault({
      method: "POST",
      path: /login$/,
      answer: { status: 400, body: { errcode: "M_UNKNOWN" } },
    });
    await refused(
      logIn(servers.requests, servers.jwt(), undefined, never),
      /400 M_UNKNOWN; the homeserver offers m\.login\.password, .*needs org\.matrix\.login\.jwt; see JWT_LOGIN_TYPE/,
    );
  });
  await t.step("the homeserver takes us for somebody else, and that login is undone", async () => {
    using _ = servers.homeserver.fault({
      method: "POST",
      path: /login$/,
      answer: { status: 200, body: { user_id: "@1234:localhost", device_id: "D", access_token: "T" } },
    });
    await refused(logIn(servers.requests, servers.jwt(), undefined, never), /takes us for @1234:localhost/);
    assert.match(servers.homeserver.requests.entries.at(-1)?.template ?? "", /logout$/);
  });
  await t.step("Keycloak is down", async () => {
    const url = servers.keycloak.url;
    await servers.keycloak[Symbol.asyncDispose]();
    await assert.rejects(logIn(servers.requests, servers.jwt({ url }), undefined, never), (error) => {
      assert.ok(error instanceof TransientError);
      assert.match(error.message, /^Cannot POST http:\/\/127.*\/token: .*[Cc]onnect/);
      return true;
    });
  });
});

Deno.test("logIn() through Keycloak's pages", async (t) => {
  const rows: [name: string, options: ConstructorParameters<typeof Servers>[0], different: Record<string, unknown>][] =
    [
      ["with a confirmation by the homeserver", {}, {}],
      ["of a client that needs none", { trustsClients: true }, {}],
      ["as the homeserver calls the provider", {}, { idpId: "oidc-keycloak" }],
      ["with name and password on two pages", { twoPages: true }, {}],
      ["for a full user id", {}, { user: "@toggle:localhost" }],
    ];
  for (const [name, options, different] of rows) {
    await t.step(name, async () => {
      await using servers = new Servers(options);
      const { userId, deviceId } = await logIn(servers.requests, servers.sso(different), "DEVICE", never);
      assert.deepEqual([userId, deviceId], ["@toggle:localhost", "DEVICE"]);
    });
  }
  await t.step("with cookies only for who has set them", async () => {
    await using servers = new Servers();
    await logIn(servers.requests, servers.sso(), undefined, never);
    assert.deepEqual([...servers.keycloak.cookies].filter((name) => name !== "").sort(), [
      "AUTH_SESSION_ID",
      "KC_AUTH_SESSION_HASH",
    ]);
  });
  await t.step("with KEYCLOAK_URL, and the homeserver known by another address than its own", async () => {
    await using servers = new Servers();
    using within = new HomeserverClient(servers.homeserver.url.replace("127.0.0.1", "localhost"));
    const login = servers.sso({ keycloakUrl: `${servers.keycloak.url}/base` });
    assert.equal((await logIn(within, login, undefined, never)).userId, "@toggle:localhost");
  });
  await t.step("a page that was changed, but still has the form", async () => {
    await using servers = new Servers();
    servers.keycloak.rewrite = (html) =>
      html.replaceAll('"', "'").replace("id='kc-form-login'", "").replace("<form ", "<!-- <form action=/x> --><FORM\n")
        .replaceAll("&amp;", "&#x26;").replace("method='post'", "method=POST");
    await logIn(servers.requests, servers.sso(), undefined, never);
  });
});

Deno.test("logIn() through Keycloak's pages says what is wrong", async (t) => {
  const page = (rewrite: (html: string) => string) => (servers: Servers) => void (servers.keycloak.rewrite = rewrite);
  const rows: {
    name: string;
    options?: ConstructorParameters<typeof Servers>[0];
    different?: Record<string, unknown>;
    prepare?: (servers: Servers) => void;
    words: RegExp;
  }[] = [
    { name: "password", different: { password: wrong }, words: /refuses user or password \(Invalid username or pass/ },
    {
      name: "password, on two pages",
      options: { twoPages: true },
      different: { password: wrong },
      words: /refuses user or password \(Invalid username or password\.\); see MATRIX_USER, MATRIX_PASSWORD/,
    },
    {
      name: "disabled",
      different: { user: "disabled" },
      words: /\(Account is disabled, contact your administrator\.\)/,
    },
    { name: "an action", different: { user: "unfinished" }, words: /a further step \(UPDATE_PASSWORD\), which only a/ },
    {
      name: "one-time code",
      different: { user: "coded" },
      words: /a further step \(otp\), which only a person can do/,
    },
    {
      name: "provider",
      different: { idpId: "x" },
      words: /no identity provider "x", but oidc-keycloak; see SSO_IDP_ID/,
    },
    {
      name: "the homeserver's realm",
      options: { realm: "x" },
      words: /what the homeserver sends it \(404 Page not found\)/,
    },
    { name: "the homeserver's client", options: { clientId: "x" }, words: /sends it \(400 Client not found\.\)/ },
    {
      name: "the homeserver's secret",
      prepare: ({ keycloak }) => void (keycloak.redeem = () => undefined),
      words: /refuses the identity provider's answer \(400 Invalid client or Invalid client credentials\)/,
    },
    {
      name: "Keycloak is elsewhere",
      different: { keycloakUrl: "https://keycloak.example.org/auth" },
      words: /sends us to http:\/\/127\.0\.0\.1:\d+; expected was https:\/\/keycloak\.example\.org; see .*KEYCLOAK_URL/,
    },
    {
      name: "the page would send the password elsewhere",
      prepare: page((html) =>
        html.replace(/(id="kc-form-login".*)action="[^"]*"/, '$1action="https://evil.example.org/"')
      ),
      words: /http:\/\/127\S+ sends us to https:\/\/evil\.example\.org; expected was http:\/\/127/,
    },
    {
      name: "the page would put the password into a URL",
      prepare: page((html) => html.replace('method="post"', "")),
      words: /a page without a form for user name and password/,
    },
    {
      name: "a changed page",
      prepare: page((html) => html.replaceAll("password", "kennwort").replaceAll("username", "name")),
      words: /a page without a form for user name and password; AUTH_METHOD=jwt needs no page/,
    },
    {
      name: "no single sign-on",
      prepare: ({ homeserver }) =>
        void homeserver.fault({
          method: "GET",
          path: /login$/,
          answer: { status: 200, body: { flows: [{ type: "m.login.password" }] } },
        }),
      words: /needs m\.login\.sso; the homeserver offers m\.login\.password/,
    },
    {
      name: "redirects without an end",
      prepare: ({ homeserver }) => {
        const location = `${homeserver.url}/_matrix/client/v3/login/sso/redirect/x`;
        homeserver.fault({ path: /sso\/redirect/, answer: { status: 302, headers: { location } } });
      },
      words: /did not end within 15 steps/,
    },
    {
      name: "the homeserver asks a person something",
      prepare: ({ homeserver }) => void homeserver.fault({ path: /oidc\/callback/, answer: { status: 200 } }),
      words: /\/_synapse\/client\/oidc\/callback shows a page that only a person can answer/,
    },
    {
      name: "a redirect with a token from another than the homeserver",
      prepare: ({ homeserver, keycloak }) => {
        const location = `${keycloak.url}/elsewhere`;
        homeserver.fault({ path: /sso\/redirect/, answer: { status: 302, headers: { location } } });
        keycloak.elsewhere = "http://localhost:0/?loginToken=x";
      },
      words: /http:\/\/127\S+ sends us to http:\/\/localhost:0; expected was http:\/\/127/,
    },
    {
      name: "a page with a token from another than the homeserver",
      prepare: ({ homeserver, keycloak }) => {
        const location = `${keycloak.url}/realms/matrix/login-actions/required-action`;
        homeserver.fault({ path: /sso\/redirect/, answer: { status: 302, headers: { location } } });
        keycloak.rewrite = () => '<a href="http://localhost:0/?loginToken=x">Continue</a>';
      },
      words: /a page without a form/,
    },
  ];
  for (const { name, options, different, prepare, words } of rows) {
    await t.step(name, async () => {
      await using servers = new Servers(options);
      prepare?.(servers);
      await refused(logIn(servers.requests, servers.sso(different), undefined, never), words);
    });
  }
  for (const [who, at] of [["Keycloak", "keycloak"], ["the homeserver", "homeserver"]] as const) {
    await t.step(`${who} is down: it is tried again`, async () => {
      await using servers = new Servers();
      if (at === "keycloak") await servers.keycloak[Symbol.asyncDispose]();
      else servers.homeserver.fault({ path: /oidc\/callback/, answer: { status: 502 } });
      await assert.rejects(logIn(servers.requests, servers.sso(), undefined, never), (error) => {
        assert.ok(error instanceof TransientError);
        assert.doesNotMatch(Deno.inspect(error), /state=|code=/);
        return true;
      });
    });
  }
});

Deno.test("Hosts lets the homeserver send us to its public address and to one provider, with https", async (t) => {
  const start = "/_matrix/client/v3/login/sso/redirect/x";
  const idp = "https://idp.example.org/realms/m/auth";
  const rows: [name: string, homeserver: string, keycloak: string | undefined, ways: string[], refused?: RegExp][] = [
    ["a provider", "https://h", undefined, [`https://h${start}`, idp, "https://h/_synapse/client/oidc/callback"]],
    ["a provider without https", "https://h", undefined, [`https://h${start}`, "http://idp/"], /a host with https/],
    ["all without https", "http://h", undefined, [`http://h${start}`, "http://idp/", "http://h/_synapse/client/x"]],
    ["a public address", "http://h:8008", undefined, [
      `http://h:8008${start}`,
      `https://p${start}`,
      idp,
      "https://p/_synapse/",
    ]],
    ["a public address without https", "https://h", undefined, [`https://h${start}`, `http://p${start}`], /with https/],
    [
      "a public address, later",
      "https://h",
      undefined,
      [`https://h${start}`, idp, `https://p${start}`],
      /expected was https:\/\/idp/,
    ],
    [
      "a public address after the provider",
      "https://h",
      "https://idp.example.org",
      ["https://h/_synapse/client/oidc/callback", `https://p${start}`],
      /sends us to https:\/\/p; expected was https:\/\/idp/,
    ],
    [
      "a second provider",
      "https://h",
      undefined,
      [`https://h${start}`, idp, "https://other/"],
      /sends us to https:\/\/other/,
    ],
    ["the given provider", "https://h", "https://idp.example.org/auth", [`https://h${start}`, idp]],
    [
      "the given one by another scheme",
      "https://h",
      "http://idp.example.org",
      [`https://h${start}`, idp],
      /KEYCLOAK_URL/,
    ],
    ["one on the homeserver's host", "https://h", undefined, [
      `https://h${start}`,
      "https://h/auth/realms/m",
      "https://h/_synapse/x",
    ]],
  ];
  for (const [name, homeserver, keycloak, ways, words] of rows) {
    await t.step(name, async () => {
      const hosts = new Hosts(homeserver, keycloak);
      const go = () =>
        ways.slice(1).forEach((to, index) => hosts.checkRedirect(new URL(to), new URL(ways[index] ?? "")));
      if (words) await refused(Promise.resolve().then(go), words);
      else go();
    });
  }
});

Deno.test("logIn() writes no secret, token or code to the log, at any level", async () => {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  await using _log = await startLogging({ level: "debug", format: "json", colour: false, write });
  await using servers = new Servers();
  const accessToken = await servers.token();
  const byToken: Login = { method: "token", user: "toggle", accessToken: new Secret(accessToken), password: undefined };
  const withSecret = servers.jwt({ clientId: "confidential", clientSecret: new Secret(clientSecret) });
  const tokens: string[] = [];
  for (const login of [byToken, withSecret, servers.sso()]) {
    tokens.push((await logIn(servers.requests, login, undefined, never)).accessToken);
  }
  for (const login of [servers.jwt({ password: wrong }), servers.sso({ password: wrong })]) {
    await assert.rejects(logIn(servers.requests, login, undefined, never), CredentialError);
  }
  const log = lines.join("\n");
  for (const visited of ["/openid-connect/token", "/login-actions/authenticate", "/oidc/callback", "/whoami"]) {
    assert.ok(log.includes(visited), `${visited} is not in the log`);
  }
  const found = [...secrets, ...tokens, "loginToken", "code=", "state=", "eyJ"].filter((each) => log.includes(each));
  assert.deepEqual(found, []);
});
