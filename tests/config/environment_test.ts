import assert from "node:assert/strict";
import { inspect } from "node:util";
import { type Config, type Context, readConfig, Secret } from "../../lib/config/mod.ts";
import { encodeRecoveryKey } from "../../lib/config/recovery_key.ts";
import { ConfigError } from "../../lib/errors.ts";

const least = { MATRIX_USER: "toggle", MATRIX_PASSWORD: "hunter2", ALLOWED_USERS: "@ann:example.org" };
const key = new Uint8Array(32).map((_, index) => index * 8);
/** A public key as Matrix writes it. */
const master = "RCo/FCAgV7sALZ07B05I+L1GtbZbyjDC5CNVRhTmDRc";
const clawdbot = { alias: "clawdbot", kind: "deployment", namespace: "clawdbot", name: "clawdbot" };
const keyText = btoa(String.fromCharCode(...key));

function context(files: Record<string, string> = {}, where: Partial<Context> = {}): Context {
  const readFile = (path: string) => {
    const content = files[path];
    if (content === undefined) throw new Error("No such file");
    return content;
  };
  return { inCluster: false, terminal: false, readFile, ...where };
}

/** The lines of complaint about an environment. */
function problems(env: Record<string, string>, files?: Record<string, string>): readonly string[] {
  try {
    readConfig(env, context(files));
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  return [];
}

Deno.test("readConfig() yields the defaults where only the required is set", () => {
  const { password, login, ...rest } = readConfig(least, context());
  assert.equal(password?.reveal(), "hunter2");
  assert.deepEqual(login, { method: "password", user: "toggle", password });
  assert.deepEqual(rest, {
    homeserver: { kind: "url", url: "http://synapse.matrix.svc.cluster.local:8008" },
    user: "toggle",
    authMethod: "password",
    accessToken: undefined,
    ssoIdpId: "keycloak",
    keycloakUrl: undefined,
    keycloakRealm: undefined,
    keycloakClientId: undefined,
    keycloakClientSecret: undefined,
    jwtLoginType: "com.famedly.login.token.oauth",
    allowedUsers: ["@ann:example.org"],
    allowedRooms: "any",
    targets: [{ alias: "clawdbot", kind: "deployment", namespace: "clawdbot", name: "clawdbot" }],
    storePath: "/data/crypto_store",
    storeKey: undefined,
    senderTrust: "tofu",
    trustedIdentities: [],
    recoveryKey: undefined,
    echo: "message",
    requireEncryption: true,
    maxCommandAgeMs: 300_000,
    startTimeoutMs: 600_000,
    startReplicas: 1,
    autoStopMs: undefined,
    schedule: [],
    agents: [],
    idleStopMs: undefined,
    maxRetries: 20,
    httpAddress: undefined,
    logLevel: "info",
    logFormat: "json",
    warnings: [],
  });
});

Deno.test("readConfig() chooses defaults by environment", () => {
  const config = readConfig(least, context({}, { inCluster: true, terminal: true }));
  assert.deepEqual(config.httpAddress, { hostname: "::", port: 8080, fallback: "0.0.0.0" });
  const configured = readConfig({ ...least, HTTP_ADDRESS: "[::]:8080" }, context({}, { inCluster: true }));
  assert.deepEqual(configured.httpAddress, { hostname: "::", port: 8080 }, "what is configured has no fallback");
  assert.equal(config.logFormat, "text");
});

Deno.test("readConfig() accepts permitted values", async (t) => {
  const room12 = `!${"aZ0-_".repeat(9).slice(2)}`;
  const rows: [name: string, text: string, key: keyof Config, value: unknown][] = [
    ["MATRIX_HOMESERVER", "https://m.example.org/", "homeserver", { kind: "url", url: "https://m.example.org" }],
    ["MATRIX_HOMESERVER", "HTTP://h:1/base//", "homeserver", { kind: "url", url: "http://h:1/base" }],
    ["MATRIX_HOMESERVER", "http://[::1]:8008", "homeserver", { kind: "url", url: "http://[::1]:8008" }],
    ["MATRIX_HOMESERVER", "example.org", "homeserver", { kind: "name", name: "example.org" }],
    ["MATRIX_HOMESERVER", "localhost:8008", "homeserver", { kind: "name", name: "localhost:8008" }],
    ["MATRIX_USER", " @toggle:example.org\n", "user", "@toggle:example.org"],
    ["ALLOWED_USERS", "@a=b/c:h, @OldUser's:h", "allowedUsers", ["@a=b/c:h", "@OldUser's:h"]],
    ["ALLOWED_USERS", "@a:[::1]:8448,, @é:h , @a:[::1]:8448,", "allowedUsers", ["@a:[::1]:8448", "@é:h"]],
    ["ALLOWED_ROOMS", `!r:h,#alias:h:1,${room12}`, "allowedRooms", ["!r:h", "#alias:h:1", room12]],
    ["ALLOWED_ROOMS", "Any", "allowedRooms", "any"],
    ["AUTH_METHOD", "PASSWORD", "authMethod", "password"],
    ["KEYCLOAK_URL", "https://k.example.org/auth/", "keycloakUrl", "https://k.example.org/auth"],
    ["JWT_LOGIN_TYPE", "org.matrix.login.jwt", "jwtLoginType", "org.matrix.login.jwt"],
    ["DEPLOYMENT_NAME", "agent-1.blue", "targets", [{ ...clawdbot, alias: "agent-1.blue", name: "agent-1.blue" }]],
    ["DEPLOYMENT_NAMESPACE", "a".repeat(63), "targets", [{ ...clawdbot, namespace: "a".repeat(63) }]],
    ["TARGETS", "claw=bots/claw.1, llm=statefulset/models/ollama,,", "targets", [
      { alias: "claw", kind: "deployment", namespace: "bots", name: "claw.1" },
      { alias: "llm", kind: "statefulset", namespace: "models", name: "ollama" },
    ]],
    ["TARGETS", "claw=deployment/bots/claw", "targets", [{
      ...clawdbot,
      alias: "claw",
      namespace: "bots",
      name: "claw",
    }]],
    ["CRYPTO_STORE_PATH", "./state", "storePath", "./state"],
    ["ECHO_MODE", "TRUE", "echo", "message"],
    ["ECHO_MODE", "1", "echo", "message"],
    ["ECHO_MODE", "Yes", "echo", "message"],
    ["ECHO_MODE", "Reaction", "echo", "reaction"],
    ["ECHO_MODE", "False", "echo", "off"],
    ["ECHO_MODE", "0", "echo", "off"],
    ["ECHO_MODE", "no", "echo", "off"],
    ["ECHO_MODE", "  ", "echo", "message"],
    ["REQUIRE_ENCRYPTION", "no", "requireEncryption", false],
    ["SENDER_TRUST", "Cross-Signed", "senderTrust", "cross-signed"],
    ["SENDER_TRUST", "any", "senderTrust", "any"],
    ["TRUSTED_IDENTITIES", `@ann:example.org=${master}`, "trustedIdentities", [["@ann:example.org", master]]],
    ["TRUSTED_IDENTITIES", `@ann:example.org=${master}=, ,`, "trustedIdentities", [["@ann:example.org", master]]],
    ["MAX_COMMAND_AGE", "7d", "maxCommandAgeMs", 604_800_000],
    ["START_TIMEOUT", "90s", "startTimeoutMs", 90_000],
    ["START_REPLICAS", "3", "startReplicas", 3],
    ["START_REPLICAS", "Previous", "startReplicas", "previous"],
    ["AUTO_STOP", "4h", "autoStopMs", 14_400_000],
    ["AUTO_STOP", "OFF", "autoStopMs", undefined],
    ["SCHEDULE", "Mon-Fri 08:00-18:00 Europe/Berlin, sat 9:30 - 24:00 europe/berlin,", "schedule", [
      {
        ...{ alias: "clawdbot", text: "Mon-Fri 08:00-18:00 Europe/Berlin" },
        ...{ days: [1, 2, 3, 4, 5], fromMinute: 480, toMinute: 1_080, timeZone: "Europe/Berlin" },
      },
      {
        ...{ alias: "clawdbot", text: "sat 9:30 - 24:00 europe/berlin" },
        ...{ days: [6], fromMinute: 570, toMinute: 1_440, timeZone: "Europe/Berlin" },
      },
    ]],
    ["SCHEDULE", "clawdbot=Fri-Mon 20:00-06:00 UTC", "schedule", [
      {
        ...{ alias: "clawdbot", text: "Fri-Mon 20:00-06:00 UTC" },
        ...{ days: [5, 6, 7, 1], fromMinute: 1_200, toMinute: 1_800, timeZone: "UTC" },
      },
    ]],
    ["SCHEDULE", "Always", "schedule", [
      {
        ...{ alias: "clawdbot", text: "Always" },
        ...{ days: [1, 2, 3, 4, 5, 6, 7], fromMinute: 0, toMinute: 1_440, timeZone: "UTC" },
      },
    ]],
    ["AGENTS", "@clawd:h", "agents", [{ alias: "clawdbot", userId: "@clawd:h" }]],
    ["AGENTS", "clawdbot=@a=b:[::1]:1, @c=d:h, @c=d:h,", "agents", [
      { alias: "clawdbot", userId: "@a=b:[::1]:1" },
      { alias: "clawdbot", userId: "@c=d:h" },
    ]],
    ["IDLE_STOP", "off", "idleStopMs", undefined],
    ["MAX_RETRIES", "1", "maxRetries", 1],
    ["HTTP_ADDRESS", "OFF", "httpAddress", undefined],
    ["HTTP_ADDRESS", "127.0.0.1:0", "httpAddress", { hostname: "127.0.0.1", port: 0 }],
    ["HTTP_ADDRESS", "[::1]:65535", "httpAddress", { hostname: "::1", port: 65_535 }],
    ["LOG_LEVEL", "WARNING", "logLevel", "warning"],
    ["LOGURU_LEVEL", "TRACE", "logLevel", "debug"],
    ["LOGURU_LEVEL", "SUCCESS", "logLevel", "info"],
    ["LOGURU_LEVEL", "CRITICAL", "logLevel", "error"],
    ["LOG_FORMAT", "Text", "logFormat", "text"],
  ];
  for (const [name, text, field, value] of rows) {
    await t.step(`${name}=${JSON.stringify(text)}`, () => {
      assert.deepEqual(readConfig({ ...least, [name]: text }, context())[field], value);
    });
  }
});

Deno.test("readConfig() prefers LOG_LEVEL to LOGURU_LEVEL", () => {
  assert.equal(readConfig({ ...least, LOG_LEVEL: "error", LOGURU_LEVEL: "DEBUG" }, context()).logLevel, "error");
});

Deno.test("readConfig() reads a key of 32 bytes in either base64 alphabet, padded or not", async (t) => {
  const web = keyText.replaceAll("+", "-").replaceAll("/", "_");
  for (const text of [keyText, keyText.replace("=", ""), web]) {
    await t.step(text, () => {
      assert.deepEqual(readConfig({ ...least, CRYPTO_STORE_KEY: text }, context()).storeKey?.reveal(), key);
    });
  }
});

Deno.test("readConfig() parts a user id from its identity where no part of either is cut off", () => {
  const env = { ...least, ALLOWED_USERS: "@a=b:h,@c:h", TRUSTED_IDENTITIES: `@a=b:h=${master}=,@c:h=${master}` };
  assert.deepEqual(readConfig(env, context()).trustedIdentities, [["@a=b:h", master], ["@c:h", master]]);
});

Deno.test("readConfig() reads a recovery key, and keeps it to itself", () => {
  const config = readConfig({ ...least, RECOVERY_KEY: encodeRecoveryKey(key) }, context());
  assert.deepEqual(config.recoveryKey?.reveal(), key);
  assert.match(Deno.inspect(config), /recoveryKey: \[redacted\]/);
});

Deno.test("readConfig() rejects invalid values in a line that names the variable, quotes the value and says what is allowed", async (t) => {
  const days = "use e.g. 90s, 5m, 1h30m, at most 7d";
  const stops = "use e.g. 90m, 4h, 2d, from 1m to 30d, or off";
  const times = "use e.g. Mon-Fri 08:00-18:00 Europe/Berlin, Sat 22:00-06:00 Europe/Berlin, or always";
  const days7 = "use Mon, Tue, Wed, Thu, Fri, Sat or Sun";
  const agent = "use an account of the agent's own, of one target";
  const user = "use a localpart or a full user ID (@name:server)";
  const server = "must be an http or https URL, or a server name";
  const identity = "use the user's public master key, 43 characters of base64";
  const address = "must be host:port, [IPv6]:port or off";
  const types = "com.famedly.login.token.oauth, com.famedly.login.token or org.matrix.login.jwt";
  const levels = "debug, trace, info, success, warning, error or critical";
  const rows: [name: string, text: string, ...wrong: string[]][] = [
    ["MATRIX_HOMESERVER", "ftp://h", `${server} (got "ftp://h")`],
    ["MATRIX_HOMESERVER", "example.org/path", `${server} (got "example.org/path")`],
    ["MATRIX_HOMESERVER", "h:99999", `${server} (got "h:99999")`],
    ["MATRIX_HOMESERVER", "https://u:hunter2@h", "must be a URL without user name and password"],
    ["MATRIX_HOMESERVER", "https://u:hunter2@h h", `${server} (got "https://[redacted]@h h")`],
    ["MATRIX_HOMESERVER", "https://h/?access_token=hunter2", "must be a URL without query and fragment"],
    ["MATRIX_USER", "a:b", `not a user ID (got "a:b"); ${user}`],
    ["MATRIX_USER", "@a", `not a user ID (got "@a"); ${user}`],
    [
      "ALLOWED_USERS",
      "ann, @b:h,#c:h",
      'not a full user ID (got "ann"); use @name:server',
      'not a full user ID (got "#c:h"); use @name:server',
    ],
    [
      "ALLOWED_USERS",
      `@${"a".repeat(255)}:h`,
      `not a full user ID (got "@${"a".repeat(79)}…"); use @name:server`,
    ],
    ["ALLOWED_USERS", "@:h", 'not a full user ID (got "@:h"); use @name:server'],
    ["ALLOWED_USERS", "@a:h:x", 'not a full user ID (got "@a:h:x"); use @name:server'],
    ["ALLOWED_USERS", ", ,", 'empty list (got ", ,"); use @name:server'],
    [
      "ALLOWED_ROOMS",
      "!short,#alias",
      'not a room ID or alias (got "!short"); use !id:server, #alias:server or any',
      'not a room ID or alias (got "#alias"); use !id:server, #alias:server or any',
    ],
    ["AUTH_METHOD", "oauth", 'must be password, token, jwt or sso (got "oauth")'],
    ["SSO_IDP_ID", "a/b", 'not a provider ID (got "a/b"); use letters, digits and . _ ~ -'],
    ["KEYCLOAK_URL", "keycloak", 'must be an http or https URL (got "keycloak")'],
    ["KEYCLOAK_URL", "https://k/?a=hunter2", "must be a URL without query and fragment"],
    ["JWT_LOGIN_TYPE", "jwt", `must be ${types} (got "jwt")`],
    ["DEPLOYMENT_NAME", "Agent", 'not a DNS subdomain (got "Agent"); use the name of a Deployment, such as my-app'],
    ["DEPLOYMENT_NAME", "a..b", 'not a DNS subdomain (got "a..b"); use the name of a Deployment, such as my-app'],
    ["DEPLOYMENT_NAMESPACE", "a.b", 'not a DNS label (got "a.b"); use the name of a namespace, such as my-team'],
    [
      "DEPLOYMENT_NAMESPACE",
      "a".repeat(64),
      `not a DNS label (got "${"a".repeat(64)}"); use the name of a namespace, such as my-team`,
    ],
    ["ECHO_MODE", "maybe", 'must be true, 1, yes, reaction, false, 0 or no (got "maybe")'],
    ["REQUIRE_ENCRYPTION", "off", 'must be true, 1, yes, false, 0 or no (got "off")'],
    ["SENDER_TRUST", "perhaps", 'must be tofu, cross-signed or any (got "perhaps")'],
    ...[`@ann:example.org:${master}`, `ann=${master}`, "@ann:example.org=abc", `@ann:h=${master.slice(0, -1)}d`].map(
      (text): [string, string, string] => [
        "TRUSTED_IDENTITIES",
        text,
        `not @user:server=<key> (got "${text}"); ${identity}`,
      ],
    ),
    ["TRUSTED_IDENTITIES", `@bob:h=${master}`, 'user is not in ALLOWED_USERS (got "@bob:h"); add or remove it'],
    [
      "TRUSTED_IDENTITIES",
      `@ann:example.org=${master},@ann:example.org=${"A".repeat(43)}`,
      'two keys for one user (got "@ann:example.org"); use one of them',
    ],
    ["RECOVERY_KEY", "hunter2", "not a recovery key: it has the wrong length"],
    ["MAX_COMMAND_AGE", "soon", `not a duration (got "soon"); ${days}`],
    ["MAX_COMMAND_AGE", "8d", `too long (got "8d"); ${days}`],
    ["MAX_COMMAND_AGE", "0s", `too short (got "0s"); ${days}`],
    ["MAX_COMMAND_AGE", "5", `not a duration (got "5"); ${days}`],
    ["START_REPLICAS", "0", 'must be a whole number from 1 to 1000, or previous (got "0")'],
    ["START_REPLICAS", "all", 'must be a whole number from 1 to 1000, or previous (got "all")'],
    ["AUTO_STOP", "59s", `too short (got "59s"); ${stops}`],
    ["AUTO_STOP", "31d", `too long (got "31d"); ${stops}`],
    ["AUTO_STOP", "never", `not a duration (got "never"); ${stops}`],
    ["SCHEDULE", ", ,", `empty list (got ", ,"); ${times}`],
    ["SCHEDULE", "daily", `not days, hours and a time zone (got "daily"); ${times}`],
    ["SCHEDULE", "Mon-Fri 08:00-18:00", `not days, hours and a time zone (got "Mon-Fri 08:00-18:00"); ${times}`],
    ["SCHEDULE", "Foo-Fri 08:00-18:00 UTC", `no such day: Foo (got "Foo-Fri 08:00-18:00 UTC"); ${days7}`],
    ["SCHEDULE", "Mon-Frid 08:00-18:00 UTC", `no such day: Frid (got "Mon-Frid 08:00-18:00 UTC"); ${days7}`],
    ["SCHEDULE", "Mon 08:00-25:00 UTC", `no such time: 25:00 (got "Mon 08:00-25:00 UTC"); use 00:00 to 24:00`],
    ["SCHEDULE", "Mon 08:60-09:00 UTC", `no such time: 08:60 (got "Mon 08:60-09:00 UTC"); use 00:00 to 24:00`],
    ["SCHEDULE", "Mon 08:00-24:01 UTC", `no such time: 24:01 (got "Mon 08:00-24:01 UTC"); use 00:00 to 24:00`],
    [
      "SCHEDULE",
      "Mon 24:00-06:00 UTC",
      'nothing begins at 24:00 (got "Mon 24:00-06:00 UTC"); use 00:00 of the next day',
    ],
    [
      "SCHEDULE",
      "Mon 08:00-08:00 UTC",
      'begins and ends at once (got "Mon 08:00-08:00 UTC"); use 00:00-24:00 for whole days',
    ],
    ...["Mars/Base", "+02:00", "2026-01-01T00:00Z"].map((zone): [string, string, string] => [
      "SCHEDULE",
      `Mon 08:00-09:00 ${zone}`,
      `unknown time zone: ${zone} (got "Mon 08:00-09:00 ${zone}"); ` +
      "use a name of the IANA database, e.g. Europe/Berlin or UTC",
    ]),
    [
      "SCHEDULE",
      "Mon 08:00-25:00 UTC, x=Foo 08:00-09:00 UTC",
      'no such time: 25:00 (got "Mon 08:00-25:00 UTC"); use 00:00 to 24:00',
      `no such day: Foo (got "x=Foo 08:00-09:00 UTC"); ${days7}`,
    ],
    ["SCHEDULE", "x=always,x=always", 'unknown target (got "x"); use clawdbot'],
    ["SCHEDULE", "=always", 'unknown target (got ""); use clawdbot'],
    ["AGENTS", "clawd", 'not @user:server or alias=@user:server (got "clawd"); use a full user ID'],
    [
      "AGENTS",
      "clawdbot=clawd:h",
      'not @user:server or alias=@user:server (got "clawdbot=clawd:h"); use a full user ID',
    ],
    ["AGENTS", "llm=@clawd:h", 'unknown target (got "llm"); use clawdbot'],
    [
      "AGENTS",
      "@ann:example.org",
      `is in ALLOWED_USERS, too: an agent may not give commands (got "@ann:example.org"); ${agent}`,
    ],
    ["IDLE_STOP", "30m", "needs AGENTS, since it counts messages to and from an agent; set it or remove IDLE_STOP"],
    ["IDLE_STOP", "59s", `too short (got "59s"); ${stops}`],
    ["IDLE_STOP", "later", `not a duration (got "later"); ${stops}`],
    ["MAX_RETRIES", "0", 'must be a whole number from 1 to 999999 (got "0")'],
    ["MAX_RETRIES", "-1", 'must be a whole number from 1 to 999999 (got "-1")'],
    ["HTTP_ADDRESS", "8080", `${address} (got "8080")`],
    ["HTTP_ADDRESS", "::1:8080", `${address} (got "::1:8080")`],
    ["HTTP_ADDRESS", "h:65536", `${address} (got "h:65536")`],
    ["LOG_LEVEL", "loud", `must be ${levels} (got "loud")`],
    ["LOGURU_LEVEL", "loud", `must be ${levels} (got "loud")`],
    ["LOG_FORMAT", "xml", 'must be text or json (got "xml")'],
    ["CRYPTO_STORE_KEY", "hunter2!", "not base64; use 32 bytes in base64"],
    ["CRYPTO_STORE_KEY", keyText.slice(4), "29 bytes long; use 32 bytes in base64"],
  ];
  for (const [name, text, ...wrong] of rows) {
    await t.step(`${name}=${text.slice(0, 40)}`, () => {
      assert.deepEqual(problems({ ...least, [name]: text }), wrong.map((each) => `${name}: ${each}`));
    });
  }
});

Deno.test("readConfig() gives each time and agent to its target", async (t) => {
  const env = { ...least, TARGETS: "claw=bots/claw, llm=models/ollama" };
  const upTime = { days: [1], fromMinute: 480, toMinute: 540, timeZone: "UTC", text: "Mon 08:00-09:00 UTC" };
  await t.step(
    "a time without an alias is the default target's, also after one with an alias, which is warned of",
    () => {
      const { schedule, warnings } = readConfig(
        { ...env, SCHEDULE: "Mon 08:00-09:00 UTC, llm=Mon 08:00-09:00 UTC, Sat 10:00-14:00 UTC" },
        context(),
      );
      assert.deepEqual(schedule.slice(0, 2), [{ alias: "claw", ...upTime }, { alias: "llm", ...upTime }]);
      assert.equal(schedule[2]?.alias, "claw");
      assert.deepEqual(warnings, [
        'SCHEDULE: "Sat 10:00-14:00 UTC" is for claw, the default target; write llm=… if it is meant for llm',
      ]);
    },
  );
  await t.step("several agents of one target", () => {
    const { agents } = readConfig({ ...env, AGENTS: "@a:h, claw=@b:h, llm=@c:h", IDLE_STOP: "30m" }, context());
    assert.deepEqual(agents, [
      { alias: "claw", userId: "@a:h" },
      { alias: "claw", userId: "@b:h" },
      { alias: "llm", userId: "@c:h" },
    ]);
  });
  const wrong: [name: string, given: Record<string, string>, ...lines: string[]][] = [
    ["an agent of two targets", { AGENTS: "@a:h, llm=@a:h" }, 'AGENTS: is named for two targets (got "@a:h")'],
    ["the operator", { AGENTS: "@t:h", MATRIX_USER: "@t:h" }, 'AGENTS: is the operator\'s own account (got "@t:h")'],
    [
      "the operator by its localpart",
      { AGENTS: "@t:h.org", MATRIX_USER: "t", MATRIX_HOMESERVER: "h.org" },
      'AGENTS: is the operator\'s own account (got "@t:h.org")',
    ],
    [
      "unknown aliases",
      { AGENTS: "x=@a:h", SCHEDULE: "y=always" },
      'SCHEDULE: unknown target (got "y"); use claw or llm',
      'AGENTS: unknown target (got "x"); use claw or llm',
    ],
    [
      "targets that can't be read hide no other problem",
      { AGENTS: "x=@ann:example.org", TARGETS: "x" },
      "TARGETS: must be",
      "AGENTS: is in ALLOWED_USERS, too",
    ],
  ];
  for (const [name, given, ...lines] of wrong) {
    await t.step(name, () => {
      const found = problems({ ...env, ...given });
      assert.deepEqual(found.map((line, index) => line.slice(0, lines[index]?.length)), lines);
    });
  }
});

Deno.test("readConfig() returns the settings of the login method, and reports all that are missing at once", async (t) => {
  const { MATRIX_PASSWORD: _, ...nobody } = least;
  const password = { MATRIX_PASSWORD: "hunter2" };
  const keycloak = { KEYCLOAK_URL: "https://k/", KEYCLOAK_REALM: "matrix", KEYCLOAK_CLIENT_ID: "operator" };
  const rows: [method: string, given: Record<string, string>, missing: string[], login: Record<string, unknown>][] = [
    ["password", password, ["MATRIX_PASSWORD"], { password: "hunter2" }],
    ["token", { MATRIX_ACCESS_TOKEN: "hunter3" }, ["MATRIX_ACCESS_TOKEN"], {
      accessToken: "hunter3",
      password: undefined,
    }],
    ["jwt", { ...password, ...keycloak }, [
      "MATRIX_PASSWORD",
      "KEYCLOAK_URL",
      "KEYCLOAK_REALM",
      "KEYCLOAK_CLIENT_ID",
    ], {
      password: "hunter2",
      keycloak: { url: "https://k", realm: "matrix", clientId: "operator", clientSecret: undefined },
      loginType: "com.famedly.login.token.oauth",
    }],
    ["sso", password, ["MATRIX_PASSWORD"], { password: "hunter2", idpId: "keycloak", keycloakUrl: undefined }],
  ];
  for (const [method, given, missing, login] of rows) {
    await t.step(method, () => {
      const env = { ...nobody, AUTH_METHOD: method };
      const read = readConfig({ ...env, ...given }, context()).login;
      const shown = Object.entries(read).map(([key, value]) => [key, value instanceof Secret ? value.reveal() : value]);
      assert.deepEqual(Object.fromEntries(shown), { user: "toggle", method, ...login });
      assert.deepEqual(
        problems(env).map((line) => line.replace(/; set it or .*/, "")),
        missing.map((name) => `${name}: not set, but required for AUTH_METHOD=${method}`),
      );
    });
  }
  await t.step("one that is unfit is not missing too", () => {
    const lines = problems({ ...nobody, ...password, ...keycloak, AUTH_METHOD: "jwt", KEYCLOAK_URL: "ftp://k" });
    assert.deepEqual(lines.map((line) => line.split(":")[0]), ["KEYCLOAK_URL"]);
  });
  await t.step("one from a file is not missing", () => {
    const env = { ...nobody, AUTH_METHOD: "token", MATRIX_ACCESS_TOKEN_FILE: "/s/token" };
    assert.equal(readConfig(env, context({ "/s/token": "hunter3\n" })).accessToken?.reveal(), "hunter3");
  });
});

Deno.test("readConfig() reports every problem at once and shows no secret", () => {
  const lines = problems({ CRYPTO_STORE_KEY: "hunter2", ECHO_MODE: "x", MATRIX_PASWORD: "hunter2", MAX_RETRIES: "x" });
  assert.deepEqual(lines.map((line) => line.split(":")[0]), [
    "MATRIX_USER",
    "ALLOWED_USERS",
    "CRYPTO_STORE_KEY",
    "ECHO_MODE",
    "MAX_RETRIES",
    "MATRIX_PASSWORD",
    "MATRIX_PASWORD",
  ]);
  assert.doesNotMatch(lines.join("\n"), /hunter2/);
});

Deno.test("readConfig() reads every secret from a file too", async (t) => {
  const files = { "/s/password": " spaced out \r\n", "/s/key": `${keyText}\n`, "/s/empty": "\n" };
  const { MATRIX_PASSWORD: _, ...withoutPassword } = least;
  await t.step("only the newline at the end is cut off", () => {
    const env = { ...withoutPassword, MATRIX_PASSWORD_FILE: "/s/password", CRYPTO_STORE_KEY_FILE: "/s/key" };
    const config = readConfig(env, context(files));
    assert.equal(config.password?.reveal(), " spaced out ");
    assert.deepEqual(config.storeKey?.reveal(), key);
  });
  await t.step("an empty variable doesn't stand in its way", () => {
    const env = { ...least, MATRIX_PASSWORD: " ", MATRIX_PASSWORD_FILE: "/s/password" };
    assert.equal(readConfig(env, context(files)).password?.reveal(), " spaced out ");
  });
  const rows: [name: string, env: Record<string, string>, line: string][] = [
    ["both set", least, "MATRIX_PASSWORD_FILE: can't be combined with MATRIX_PASSWORD; remove one of them"],
    ["unreadable", withoutPassword, 'MATRIX_PASSWORD_FILE: can\'t read the file: No such file (got "/s/none")'],
    ["empty", withoutPassword, 'MATRIX_PASSWORD_FILE: file is empty (got "/s/empty")'],
  ];
  for (const [name, env, line] of rows) {
    await t.step(name, () => {
      const path = name === "empty" ? "/s/empty" : "/s/none";
      assert.deepEqual(problems({ ...env, MATRIX_PASSWORD_FILE: path }, files), [line]);
    });
  }
  await t.step("a problem with its content names the file's variable", () => {
    const [line] = problems({ ...least, CRYPTO_STORE_KEY_FILE: "/s/password" }, files);
    assert.match(line ?? "", /^CRYPTO_STORE_KEY_FILE: not base64;/);
  });
});

Deno.test("readConfig() points out names that are nearly ours", async (t) => {
  const rows: [given: string, right: string][] = [
    ["MATRIX_USR", "MATRIX_USER"],
    ["MAX_RETRYES", "MAX_RETRIES"],
    ["ECHOMODE", "ECHO_MODE"],
    ["echo_mode", "ECHO_MODE"],
    ["LOG_LEVLE", "LOG_LEVEL"],
    ["CRYPTO_STORE_KEY_FIEL", "CRYPTO_STORE_KEY_FILE"],
    ["REQUIRE_ENCRPTON", "REQUIRE_ENCRYPTION"],
  ];
  for (const [given, right] of rows) {
    await t.step(`${given} instead of ${right}`, () => {
      const { [right]: _, ...env } = { ...least, [given]: "1" } as Record<string, string>;
      assert.ok(problems(env).includes(`${given}: unknown variable; did you mean ${right}?`));
    });
  }
});

Deno.test("readConfig() only warns of a name nearly ours where ours is set", () => {
  const { warnings } = readConfig({ ...least, ALLOWED_USER: "@eve:h" }, context());
  assert.deepEqual(warnings, ["ALLOWED_USER: unknown variable; ALLOWED_USERS is set and counts"]);
});

Deno.test("readConfig() reports misspelt names with other problems, even if the right name is set", () => {
  const told = problems({ ...least, MATRIX_USER: "", ALLOWED_USER: "@eve:h", MATRIX_PASWORD: "x" });
  assert.ok(told.some((line) => line.startsWith("MATRIX_USER: not set")), told.join("\n"));
  for (const name of ["ALLOWED_USER", "MATRIX_PASWORD"]) {
    assert.ok(told.some((line) => line.startsWith(`${name}: unknown variable; `)), `${name} in ${told.join("\n")}`);
  }
});

Deno.test("readConfig() ignores unrelated variables", () => {
  const others = [
    ...[
      "ALLOWED_HOSTS",
      "ALLOWED_ORIGINS",
      "MATRIX_FOO",
      "MATRIX_PORT",
      "MATRIX_SERVICE_HOST",
      "LOG_FILE",
      "HTTP_PROXY",
    ],
    ...["DEPLOYMENT_ID", "PATH", "HOME", "LANG", "LC_ALL", "MAX_RETRY_DELAY", "AUTH_TOKEN", "KUBERNETES_SERVICE_HOST"],
    ...["ECHO_NODES", "MATRIX_URL", "MATRIX_TOKEN", "CRYPTO_KEY", "ECHO", "POD_NAMESPACE", ""],
  ];
  const env = { ...least, ...Object.fromEntries(others.map((name) => [name, "x"])), ECHOMODE: "" };
  assert.deepEqual(readConfig(env, context()).warnings, []);
});

Deno.test("readConfig() yields what can't be changed", () => {
  const identity = `@ann:example.org=${master}`;
  const config = readConfig(
    {
      ...least,
      ...{ ALLOWED_ROOMS: "!r:h", HTTP_ADDRESS: "h:1", TRUSTED_IDENTITIES: identity },
      ...{ SCHEDULE: "always", AGENTS: "@a:h" },
    },
    context(),
  );
  const { trustedIdentities } = config;
  for (
    const part of [
      config,
      trustedIdentities,
      trustedIdentities[0],
      config.allowedUsers,
      config.allowedRooms,
      config.schedule,
      config.schedule[0],
      config.schedule[0]?.days,
      config.agents,
      config.agents[0],
      config.homeserver,
      config.httpAddress,
    ]
  ) {
    assert.ok(Object.isFrozen(part));
  }
});

Deno.test("Secret shows [redacted] in every form", () => {
  const secret = new Secret("hunter2");
  const holder = { list: [secret], map: new Map([["key", secret]]) };
  assert.equal(String(secret), "[redacted]");
  assert.equal(`${secret}` + secret, "[redacted][redacted]");
  assert.equal(JSON.stringify({ secret }), '{"secret":"[redacted]"}');
  for (const shown of [Deno.inspect(holder), inspect(holder, { showHidden: true }), inspect(secret)]) {
    assert.match(shown, /\[redacted\]/);
    assert.doesNotMatch(shown, /hunter2/);
  }
  assert.deepEqual(Object.entries(structuredClone({ ...secret })), []);
  assert.equal(secret.reveal(), "hunter2");
});

Deno.test("readConfig() reports every problem of TARGETS, one per line", async (t) => {
  const form = "must be alias=namespace/name or alias=statefulset/namespace/name";
  const letters = "alias must be lower-case letters, digits and hyphens, with a letter first";
  const rows: [text: string, ...wrong: string[]][] = [
    ["claw", `${form} (got "claw")`],
    ["claw=clawdbot", `${form} (got "claw=clawdbot")`],
    ["claw=daemonset/a/b", `${form} (got "claw=daemonset/a/b")`],
    ["claw=a/b/c/d", `${form} (got "claw=a/b/c/d")`],
    ["Claw=a/b,2h=a/b", `${letters} (got "Claw=a/b")`, `${letters} (got "2h=a/b")`],
    ["all=a/b,off=a/b", ...["all", "off"].map((alias) => `alias must not be a command word (got "${alias}=a/b")`)],
    ["claw=a/b,claw=c/d", 'alias is taken by another target (got "claw=c/d")'],
    ["claw=a/b,bot=deployment/a/b", 'second alias for the same workload (got "bot=deployment/a/b")'],
    ["claw=A/b", 'namespace must be a DNS label (got "claw=A/b")'],
    ["claw=a/b_c", 'name must be a DNS subdomain (got "claw=a/b_c")'],
    [",", 'empty list (got ","); use alias=namespace/name'],
  ];
  for (const [text, ...wrong] of rows) {
    await t.step(text, () => {
      const lines = wrong.map((each) => `TARGETS: ${each}`);
      assert.deepEqual(problems({ ...least, TARGETS: text }), lines);
    });
  }
});

Deno.test("readConfig() refuses TARGETS together with either of the other two", () => {
  const wrong = (name: string) => `${name}: can't be combined with TARGETS; remove one of them`;
  const env = { ...least, TARGETS: "claw=a/b", DEPLOYMENT_NAME: "clawdbot" };
  assert.deepEqual(problems(env), [wrong("DEPLOYMENT_NAME")]);
  assert.deepEqual(problems({ ...env, DEPLOYMENT_NAMESPACE: "a" }), [
    wrong("DEPLOYMENT_NAME"),
    wrong("DEPLOYMENT_NAMESPACE"),
  ]);
});
