/**
 * Every way to log in, on a real Synapse and a real Keycloak: what comes of it when all is right, and what is said when
 * something is wrong.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Environment, Fixture, type LoggingIn } from "./fixture.ts";

/** A line of the table. */
interface Outcome {
  readonly method: string;
  readonly case: string;
  readonly words: string;
  readonly code: number | undefined;
  readonly ms: number;
}

Deno.test("logging in", async (t) => {
  await using fixture = await Fixture.prepare();
  const outcomes: Outcome[] = [];
  const ways = await waysOf(fixture);
  await t.step("conntest says which authority is missing", () => saysAuthority(fixture, ways.jwtOverTls));
  try {
    for (const { method, case: name, userId, environment, softly } of rightRows(fixture, ways)) {
      await t.step(`${method}: ${name}`, async () => {
        outcomes.push({ method, case: name, ...await rightly(fixture, environment, userId, softly) });
      });
    }
    for (const { method, case: name, environment, words } of await wrongRows(fixture, ways)) {
      await t.step(`${method}: ${name}`, async () => {
        outcomes.push({ method, case: name, ...await wrongly(fixture, environment, words) });
      });
    }
    await t.step("jwt and sso: Keycloak is down, and comes back", async () => {
      outcomes.push(...await whileDown(fixture, ways));
    });
    await t.step("no log holds a secret or a token", () => keepsSilent(fixture));
  } finally {
    console.log(`\n${tableOf(outcomes)}\n`);
  }
});

/** Environments with which each way works. */
interface Ways {
  readonly password: Environment;
  readonly token: Environment;
  readonly withoutDevice: Environment;
  readonly jwt: Environment;
  readonly jwtByModule: Environment;
  readonly jwtWithSecret: Environment;
  readonly sso: Environment;
  /** Homeserver and Keycloak have certificates of a private authority, which is trusted by the component private-ca. */
  readonly jwtOverTls: Environment;
}

async function waysOf(fixture: Fixture): Promise<Ways> {
  const { keycloak } = fixture;
  const [ada, tina] = [await fixture.account("ada"), await fixture.account("tina")];
  const atKeycloak = (username: string) => ({
    MATRIX_USER: username,
    MATRIX_PASSWORD: fixture.secret(keycloak.password(username)),
  });
  const jwt = {
    AUTH_METHOD: "jwt",
    JWT_LOGIN_TYPE: "org.matrix.login.jwt",
    KEYCLOAK_URL: keycloak.url,
    KEYCLOAK_REALM: keycloak.realm,
  };
  fixture.secret(keycloak.secret("synapse"));
  return {
    password: { MATRIX_USER: "ada", MATRIX_PASSWORD: ada.password },
    token: {
      AUTH_METHOD: "token",
      MATRIX_USER: "tina",
      MATRIX_ACCESS_TOKEN: await fixture.token("tina", tina.password),
    },
    withoutDevice: {
      AUTH_METHOD: "token",
      MATRIX_USER: "tina",
      MATRIX_ACCESS_TOKEN: await fixture.tokenWithoutDevice(tina.userId),
    },
    jwt: { ...jwt, ...atKeycloak("public"), KEYCLOAK_CLIENT_ID: "operator" },
    jwtByModule: { ...jwt, ...atKeycloak("by-module"), KEYCLOAK_CLIENT_ID: "operator", JWT_LOGIN_TYPE: "" },
    jwtWithSecret: {
      ...jwt,
      ...atKeycloak("confidential"),
      KEYCLOAK_CLIENT_ID: "operator-with-secret",
      KEYCLOAK_CLIENT_SECRET: fixture.secret(keycloak.secret("operator-with-secret")),
    },
    sso: { AUTH_METHOD: "sso", ...atKeycloak("browser") },
    jwtOverTls: {
      ...jwt,
      ...atKeycloak("over-tls"),
      KEYCLOAK_CLIENT_ID: "operator",
      MATRIX_HOMESERVER: await fixture.overTls(fixture.testbed.homeserver.url),
      KEYCLOAK_URL: await fixture.overTls(keycloak.url),
      DENO_CERT: await fixture.authorityFile(),
    },
  };
}

interface RightRow {
  readonly method: string;
  readonly case: string;
  readonly userId: string;
  readonly environment: Environment;
  /** Its token ends softly in between. */
  readonly softly?: boolean;
}

function rightRows({ testbed }: Fixture, ways: Ways): RightRow[] {
  // Another address of the homeserver than its own, as within a cluster.
  const within = { MATRIX_HOMESERVER: testbed.homeserver.url.replace("127.0.0.1", "localhost") };
  return [
    { method: "password", case: "right", userId: "@ada:localhost", environment: ways.password },
    { method: "token", case: "right", userId: "@tina:localhost", environment: ways.token },
    {
      method: "jwt",
      case: "right, public client",
      userId: "@public:localhost",
      environment: { ...ways.jwt, ...within },
      softly: true,
    },
    {
      method: "jwt",
      case: "right, by synapse-token-authenticator",
      userId: "@by-module:localhost",
      environment: ways.jwtByModule,
    },
    {
      method: "jwt",
      case: "right, client with a secret",
      userId: "@confidential:localhost",
      environment: ways.jwtWithSecret,
    },
    {
      method: "jwt",
      case: "right, homeserver and Keycloak with certificates of a private authority",
      userId: "@over-tls:localhost",
      environment: ways.jwtOverTls,
    },
    {
      method: "sso",
      case: "right",
      userId: "@browser:localhost",
      environment: { ...ways.sso, ...within },
      softly: true,
    },
  ];
}

async function rightly(
  fixture: Fixture,
  environment: Environment,
  userId: string,
  softly = false,
): Promise<Omit<Outcome, "method" | "case">> {
  const begin = performance.now();
  await using operator = await fixture.operator("right", environment);
  operator.start();
  await operator.untilReady();
  const ms = performance.now() - begin;
  await operator.obeys(userId);
  const devices = await operator.devices(userId);
  assert.equal(devices.length, 1);
  let words = "ready; start and stop obeyed";
  if (softly) {
    await endSoftly(fixture, operator, userId);
    await operator.obeys(userId);
    words += "; obeyed after a soft logout";
  }
  assert.equal(await operator.terminate(), 0);
  operator.start();
  await operator.untilReady();
  await operator.obeys(userId);
  const code = await operator.terminate();
  assert.equal(code, 0);
  assert.deepEqual(await operator.devices(userId), devices);
  const logins = (await operator.log.lines()).filter(({ message }) => message.startsWith("logged in as"));
  assert.equal(logins.length, environment["AUTH_METHOD"] === "token" ? 0 : softly ? 2 : 1);
  assert.ok(!(await operator.log.lines()).some(({ message }) => message.includes("set aside")));
  return { words: `${words}; again after a restart, as the same device`, code, ms };
}

/** Without the authority, of homeserver and Keycloak in turn, the connection test says so; with it, all is well. */
async function saysAuthority(fixture: Fixture, environment: Environment): Promise<void> {
  await using operator = await fixture.operator("conntest", environment);
  const own = Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => /^(HOME|PATH|DENO_DIR)$/.test(name)),
  );
  const test = async (changes: Environment) => {
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "conntest.ts"],
      cwd: join(import.meta.dirname ?? ".", "..", ".."),
      clearEnv: true,
      env: Object.fromEntries(
        Object.entries({ ...own, ...operator.options.environment, ...changes }).filter(([, value]) => value !== ""),
      ),
    }).output();
    return { code, said: new TextDecoder().decode(stdout) };
  };
  const missing = await test({ DENO_CERT: "" });
  assert.equal(missing.code, 1, missing.said);
  const cure = /if an authority of your own signed it, .*set DENO_CERT .*deploy\/components\/private-ca/.source;
  const reason = /the certificate isn't trusted: UnknownIssuer/.source;
  assert.match(missing.said, new RegExp(`^✘ homeserver .*${reason}\\n +${cure}`, "m"));
  const plain = await test({ DENO_CERT: "", MATRIX_HOMESERVER: fixture.testbed.homeserver.url });
  assert.match(plain.said, new RegExp(`^✘ login .*${reason}\\n +${cure}`, "m"));
  const trusted = await test({});
  assert.equal(trusted.code, 0, trusted.said);
  assert.match(trusted.said, /^✔ homeserver +https:.*Synapse/m);
}

/** The session's time is over: Synapse ends its access token softly, and its refresh token with it. */
async function endSoftly(
  { testbed: { homeserver, folder } }: Fixture,
  operator: LoggingIn,
  userId: string,
): Promise<void> {
  await homeserver.stop();
  {
    using database = new DatabaseSync(join(folder, "homeserver", "homeserver.db"));
    database.prepare("UPDATE access_tokens SET valid_until_ms = 1 WHERE user_id = ?").run(userId);
    const refreshTokens = database.prepare("UPDATE refresh_tokens SET expiry_ts = 1 WHERE user_id = ?");
    assert.notEqual(refreshTokens.run(userId).changes, 0, "the operator has asked for no refresh token");
  }
  await homeserver.start();
  const again = /logging in again as the same device/;
  await operator.log.first("a login as the same device", ({ message }) => again.test(message), 0, 60_000);
}

interface WrongRow {
  readonly method: string;
  readonly case: string;
  readonly environment: Environment;
  /** What is said. */
  readonly words: RegExp;
}

async function wrongRows(fixture: Fixture, ways: Ways): Promise<WrongRow[]> {
  const { keycloak } = fixture;
  const { password, token, withoutDevice, jwt, jwtWithSecret, sso } = ways;
  const wrongPassword = { MATRIX_PASSWORD: fixture.secret(`wrong password ${crypto.randomUUID()}`) };
  const as = (username: string) => ({
    MATRIX_USER: username,
    MATRIX_PASSWORD: fixture.secret(keycloak.password(username)),
  });
  const ended = fixture.secret("syt_that_no_homeserver_has_made");
  const grace = await fixture.account("grace");
  return [
    {
      method: "password",
      case: "wrong password",
      environment: { ...password, ...wrongPassword },
      words: /the homeserver refuses user or password; see MATRIX_USER, MATRIX_PASSWORD/,
    },
    {
      method: "token",
      case: "refused token",
      environment: { ...token, MATRIX_ACCESS_TOKEN: ended },
      words: /the homeserver refused the access token .*; give another one as MATRIX_ACCESS_TOKEN/,
    },
    {
      method: "token",
      case: "token without device",
      environment: withoutDevice,
      words: /the token of @tina:localhost belongs to no device/,
    },
    {
      method: "token",
      case: "somebody else's token",
      environment: { ...token, MATRIX_ACCESS_TOKEN: await fixture.token("grace", grace.password) },
      words: /the homeserver takes us for @grace:localhost; see MATRIX_USER, MATRIX_ACCESS_TOKEN/,
    },
    {
      method: "token",
      case: "token of a device in use, and another store",
      environment: token,
      words: /it has encryption keys already, which are not in this store/,
    },
    {
      method: "jwt",
      case: "wrong password",
      environment: { ...jwt, ...wrongPassword },
      words: /user or password are refused, or the account asks for a one-time code/,
    },
    {
      method: "jwt",
      case: "wrong client secret",
      environment: { ...jwtWithSecret, KEYCLOAK_CLIENT_SECRET: fixture.secret("wrong secret of a client") },
      words: /the secret of client "operator-with-secret" is refused; see KEYCLOAK_CLIENT_SECRET/,
    },
    {
      method: "jwt",
      case: "unknown client",
      environment: { ...jwt, KEYCLOAK_CLIENT_ID: "nobody" },
      words: /there is no client "nobody" in the realm, or its secret is another; see KEYCLOAK_CLIENT_ID/,
    },
    {
      method: "jwt",
      case: "wrong realm",
      environment: { ...jwt, KEYCLOAK_REALM: "nowhere" },
      words: /there is no realm "nowhere"; see KEYCLOAK_REALM/,
    },
    {
      method: "jwt",
      case: "client without direct access grants",
      environment: {
        ...jwt,
        KEYCLOAK_CLIENT_ID: "synapse",
        KEYCLOAK_CLIENT_SECRET: fixture.secret(keycloak.secret("synapse")),
      },
      words: /the client "synapse" may not do this .*; switch its "Direct access grants" on/,
    },
    {
      method: "jwt",
      case: "wrong URL of Keycloak",
      environment: { ...jwt, KEYCLOAK_URL: `${keycloak.url}/auth` },
      words: /no Keycloak answers there \(404 .*\); see KEYCLOAK_URL/,
    },
    {
      method: "jwt",
      case: "an action is demanded",
      environment: { ...jwt, ...as("unfinished") },
      words: /the account is not ready \(400 Account is not fully set up\); log in once in a browser/,
    },
    {
      method: "jwt",
      case: "account disabled",
      environment: { ...jwt, ...as("disabled") },
      words: /the account is not ready \(400 Account disabled\)/,
    },
    {
      method: "jwt",
      case: "login type not offered",
      environment: { ...jwt, JWT_LOGIN_TYPE: "com.famedly.login.token" },
      words: /the homeserver offers .*org\.matrix\.login\.jwt.*needs com\.famedly\.login\.token; see JWT_LOGIN_TYPE/,
    },
    {
      method: "sso",
      case: "wrong password",
      environment: { ...sso, ...wrongPassword },
      words: /refuses user or password \(Invalid username or password\.\); see MATRIX_USER, MATRIX_PASSWORD/,
    },
    {
      method: "sso",
      case: "wrong client secret",
      environment: { ...sso, SSO_IDP_ID: "wrong-secret" },
      words: /the homeserver refuses the identity provider's answer \(4\d\d Invalid client .*\); see its settings/,
    },
    {
      method: "sso",
      case: "wrong realm",
      environment: { ...sso, SSO_IDP_ID: "wrong-realm" },
      words: /refuses what the homeserver sends it \(404 Page not found\); see the homeserver's own settings/,
    },
    {
      method: "sso",
      case: "unknown IdP",
      environment: { ...sso, SSO_IDP_ID: "nobody" },
      words: /knows no identity provider "nobody", but oidc-keycloak, .*; see SSO_IDP_ID/,
    },
    {
      method: "sso",
      case: "Keycloak is elsewhere",
      environment: { ...sso, KEYCLOAK_URL: "https://keycloak.example.org" },
      words: /sends us to http:\/\/127\.0\.0\.1:\d+; expected was https:\/\/keycloak\.example\.org; see .*KEYCLOAK_URL/,
    },
    {
      method: "sso",
      case: "an action is demanded",
      environment: { ...sso, ...as("unfinished") },
      words: /asks for a further step \(UPDATE_PASSWORD\), which only a person can do/,
    },
    {
      method: "sso",
      case: "a one-time code is demanded",
      environment: { ...sso, ...as("with-code") },
      words: /asks for a further step \(otp\), which only a person can do/,
    },
    {
      method: "sso",
      case: "account disabled",
      environment: { ...sso, ...as("disabled") },
      words: /refuses user or password \(Account is disabled, contact your administrator\.\)/,
    },
  ];
}

async function wrongly(
  fixture: Fixture,
  environment: Environment,
  expected: RegExp,
): Promise<Omit<Outcome, "method" | "case">> {
  await using operator = await fixture.operator("wrong", environment);
  const begin = performance.now();
  operator.start();
  const { code, reason } = await operator.ended();
  const ms = performance.now() - begin;
  assert.match(reason, expected);
  assert.equal(code, 1);
  return { words: reason, code, ms };
}

/** It is no reason to end; it is tried again until it goes. */
async function whileDown(fixture: Fixture, { jwt, sso }: Ways): Promise<Outcome[]> {
  const { keycloak } = fixture;
  await keycloak.stop();
  const begin = performance.now();
  const operators = await Promise.all([jwt, sso].map((environment) => fixture.operator("down", environment)));
  try {
    const words = await Promise.all(operators.map(async (operator) => {
      operator.start();
      const { message } = await operator.log.first("a try", (line) => /trying again in/.test(line.message), 0, 60_000);
      assert.match(message, new RegExp(keycloak.url));
      return message;
    }));
    await keycloak.start();
    return await Promise.all(operators.map(async (operator, index) => {
      await operator.untilReady();
      const ms = performance.now() - begin;
      const code = await operator.terminate();
      assert.equal(code, 0);
      const method = index === 0 ? "jwt" : "sso";
      return { method, case: "Keycloak down", words: `${words[index]} … ready once Keycloak was back`, code, ms };
    }));
  } finally {
    for (const operator of operators) await operator[Symbol.asyncDispose]();
  }
}

/** Shorter texts would be found by chance. */
const shortestText = 8;

async function keepsSilent(fixture: Fixture): Promise<void> {
  const { secrets, logFiles, testbed } = fixture;
  using database = new DatabaseSync(join(testbed.folder, "homeserver", "homeserver.db"), { readOnly: true });
  for (const table of ["access_tokens", "login_tokens"]) {
    const rows = database.prepare(`SELECT token FROM ${table}`).all();
    assert.ok(rows.length > 0, table);
    for (const { token } of rows) secrets.add(String(token));
  }
  const text = (await Promise.all(logFiles.map((file) => Deno.readTextFile(file)))).join("\n");
  assert.match(text, /"level":"DEBUG"/);
  const found = [...secrets].filter((secret) => secret.length >= shortestText && text.includes(secret));
  assert.deepEqual(found, []);
  // Codes, and Keycloak's tokens, of which there is no list.
  const forms = [/\beyJ[\w-]{20,}\./, /loginToken=/, /[?&](session_)?code=/, /\bstate=/];
  assert.deepEqual(forms.filter((form) => form.test(text)), []);
  const lines = text.split("\n").length;
  console.log(
    `\n${lines} lines of ${logFiles.length} operators' logs, searched for ${secrets.size} secrets and tokens and ` +
      `${forms.length} forms of them: ${found.length} found`,
  );
}

function tableOf(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map((
    { method, case: name, words, code, ms },
  ) => [
    method,
    name,
    String(code),
    `${(ms / 1_000).toFixed(1)} s`,
    words.replace(/^Cannot (log in|get a token)/, "… $1"),
  ]);
  const head = ["method", "case", "exit", "time", "outcome"];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ").trimEnd();
  return [line(head), ...rows.map(line)].join("\n");
}
