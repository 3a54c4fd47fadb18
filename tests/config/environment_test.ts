import assert from "node:assert/strict";
import { inspect } from "node:util";
import { type Config, type Context, readConfig, Secret, VARIABLES } from "../../lib/config/mod.ts";
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
    maxRetries: 20,
    httpAddress: undefined,
    logLevel: "info",
    logFormat: "json",
    warnings: [],
  });
});

Deno.test("readConfig() looks at where it runs for defaults", () => {
  const config = readConfig(least, context({}, { inCluster: true, terminal: true }));
  assert.deepEqual(config.httpAddress, { hostname: "::", port: 8080 });
  assert.equal(config.logFormat, "text");
});

Deno.test("readConfig() reads what is permitted", async (t) => {
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

Deno.test("readConfig() refuses what is not permitted, in one line that names and quotes it", async (t) => {
  const rows: [name: string, text: string, wrong: string][] = [
    ["MATRIX_HOMESERVER", "ftp://h", '"ftp://h" is no such thing'],
    ["MATRIX_HOMESERVER", "example.org/path", '"example.org/path" is no such thing'],
    ["MATRIX_HOMESERVER", "h:99999", '"h:99999" is no such thing'],
    ["MATRIX_HOMESERVER", "https://u:hunter2@h", "a user name or password stands in the URL"],
    ["MATRIX_HOMESERVER", "https://u:hunter2@h h", '"https://[redacted]@h h" is no such thing'],
    ["MATRIX_HOMESERVER", "https://h/?access_token=hunter2", "a query or a fragment stands in the URL"],
    ["MATRIX_USER", "a:b", '"a:b" is not a localpart or a full user id'],
    ["MATRIX_USER", "@a", '"@a" is not a localpart or a full user id'],
    ["ALLOWED_USERS", "ann, @b:h,#c:h", '"ann" is not a full user id, "#c:h" is not a full user id'],
    ["ALLOWED_USERS", `@${"a".repeat(255)}:h`, `"@${"a".repeat(79)}…" is not a full user id`],
    ["ALLOWED_USERS", "@:h", '"@:h" is not a full user id'],
    ["ALLOWED_USERS", "@a:h:x", '"@a:h:x" is not a full user id'],
    ["ALLOWED_USERS", ", ,", '", ," names nothing'],
    ["ALLOWED_ROOMS", "!short,#alias", '"!short" is not a room id or alias, "#alias" is not a room id or alias'],
    ["AUTH_METHOD", "oauth", '"oauth" is none of them'],
    ["SSO_IDP_ID", "a/b", '"a/b" is not an id of a provider'],
    ["KEYCLOAK_URL", "keycloak", '"keycloak" is no such thing'],
    ["KEYCLOAK_URL", "https://k/?a=hunter2", "a query or a fragment stands in the URL"],
    ["JWT_LOGIN_TYPE", "jwt", '"jwt" is none of them'],
    ["DEPLOYMENT_NAME", "Agent", '"Agent" is not a DNS subdomain'],
    ["DEPLOYMENT_NAME", "a..b", '"a..b" is not a DNS subdomain'],
    ["DEPLOYMENT_NAMESPACE", "a.b", '"a.b" is not a DNS label'],
    ["DEPLOYMENT_NAMESPACE", "a".repeat(64), `"${"a".repeat(64)}" is not a DNS label`],
    ["ECHO_MODE", "maybe", '"maybe" is none of them'],
    ["REQUIRE_ENCRYPTION", "off", '"off" is none of them'],
    ["SENDER_TRUST", "all", '"all" is none of them'],
    ["TRUSTED_IDENTITIES", `@ann:example.org:${master}`, `"@ann:example.org:${master}" is not @user:server=<key>`],
    ["TRUSTED_IDENTITIES", `ann=${master}`, `"ann=${master}" is not @user:server=<key>`],
    ["TRUSTED_IDENTITIES", "@ann:example.org=abc", '"@ann:example.org=abc" is not @user:server=<key>'],
    [
      "TRUSTED_IDENTITIES",
      `@ann:h=${master.slice(0, -1)}d`,
      `"@ann:h=${master.slice(0, -1)}d" is not @user:server=<key>`,
    ],
    ["TRUSTED_IDENTITIES", `@bob:h=${master}`, '"@bob:h" is not among ALLOWED_USERS'],
    [
      "TRUSTED_IDENTITIES",
      `@ann:example.org=${master},@ann:example.org=${"A".repeat(43)}`,
      '"@ann:example.org" is given two keys',
    ],
    ["RECOVERY_KEY", "hunter2", "what was given is no recovery key: not as long as one"],
    ["MAX_COMMAND_AGE", "8d", '"8d" is out of bounds'],
    ["MAX_COMMAND_AGE", "0s", '"0s" is out of bounds'],
    ["MAX_COMMAND_AGE", "5", '"5" is not a duration'],
    ["START_REPLICAS", "0", '"0" is out of bounds'],
    ["START_REPLICAS", "all", '"all" is not a whole number'],
    ["AUTO_STOP", "59s", '"59s" is out of bounds'],
    ["AUTO_STOP", "31d", '"31d" is out of bounds'],
    ["AUTO_STOP", "never", '"never" is not a duration'],
    ["MAX_RETRIES", "0", '"0" is out of bounds'],
    ["MAX_RETRIES", "-1", '"-1" is not a whole number'],
    ["HTTP_ADDRESS", "8080", '"8080" is no address to listen on'],
    ["HTTP_ADDRESS", "::1:8080", '"::1:8080" is no address to listen on'],
    ["HTTP_ADDRESS", "h:65536", '"h:65536" is no address to listen on'],
    ["LOG_LEVEL", "loud", '"loud" is none of them'],
    ["LOGURU_LEVEL", "loud", '"loud" is none of them'],
    ["LOG_FORMAT", "xml", '"xml" is none of them'],
    ["CRYPTO_STORE_KEY", "hunter2!", "what was given is not base64"],
    ["CRYPTO_STORE_KEY", keyText.slice(4), "what was given is 29 bytes long, not 32"],
  ];
  const permitted = new Map(Object.values(VARIABLES).map((row) => [row.name as string, row.permitted]));
  permitted.set("LOGURU_LEVEL", VARIABLES.logLevel.permitted);
  for (const [name, text, wrong] of rows) {
    await t.step(`${name}=${text.slice(0, 40)}`, () => {
      assert.deepEqual(problems({ ...least, [name]: text }), [`${name}: ${wrong}; permitted: ${permitted.get(name)}`]);
    });
  }
});

Deno.test("readConfig() yields what belongs to the way to log in, and asks for all of it at once", async (t) => {
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
        problems(env).map((line) => line.replace(/; permitted: .*/, "")),
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
    ["both set", least, "MATRIX_PASSWORD_FILE: set together with MATRIX_PASSWORD, one too many"],
    ["unreadable", withoutPassword, 'MATRIX_PASSWORD_FILE: cannot read "/s/none": No such file'],
    ["empty", withoutPassword, 'MATRIX_PASSWORD_FILE: "/s/empty" is empty'],
  ];
  for (const [name, env, line] of rows) {
    await t.step(name, () => {
      const path = name === "empty" ? "/s/empty" : "/s/none";
      assert.deepEqual(problems({ ...env, MATRIX_PASSWORD_FILE: path }, files), [`${line}; permitted: any text`]);
    });
  }
  await t.step("a problem with its content names the file's variable", () => {
    const [line] = problems({ ...least, CRYPTO_STORE_KEY_FILE: "/s/password" }, files);
    assert.match(line ?? "", /^CRYPTO_STORE_KEY_FILE: what was given is not base64;/);
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

Deno.test("readConfig() names what is misspelt beside other problems, also where the right name is set", () => {
  const told = problems({ ...least, MATRIX_USER: "", ALLOWED_USER: "@eve:h", MATRIX_PASWORD: "x" });
  assert.ok(told.some((line) => line.startsWith("MATRIX_USER: not set")), told.join("\n"));
  for (const name of ["ALLOWED_USER", "MATRIX_PASWORD"]) {
    assert.ok(told.some((line) => line.startsWith(`${name}: unknown variable; `)), `${name} in ${told.join("\n")}`);
  }
});

Deno.test("readConfig() leaves other people's variables alone", () => {
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
    { ...least, ALLOWED_ROOMS: "!r:h", HTTP_ADDRESS: "h:1", TRUSTED_IDENTITIES: identity },
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

Deno.test("readConfig() tells everything that is wrong with TARGETS, a line each", async (t) => {
  const form = "is not alias=namespace/name or alias=statefulset/namespace/name";
  const rows: [text: string, ...wrong: string[]][] = [
    ["claw", `"claw" ${form}`],
    ["claw=clawdbot", `"claw=clawdbot" ${form}`],
    ["claw=daemonset/a/b", `"claw=daemonset/a/b" ${form}`],
    ["claw=a/b/c/d", `"claw=a/b/c/d" ${form}`],
    ["Claw=a/b,2h=a/b", ...["Claw", "2h"].map((alias) => `"${alias}=a/b" has an alias that is not [a-z][a-z0-9-]*`)],
    ["all=a/b,off=a/b", ...["all", "off"].map((alias) => `"${alias}=a/b" has an alias that is a word of a command`)],
    ["claw=a/b,claw=c/d", '"claw=c/d" has the alias of another target'],
    ["claw=a/b,bot=deployment/a/b", '"bot=deployment/a/b" is a second alias of one target'],
    ["claw=A/b", '"claw=A/b" has a namespace that is not a DNS label'],
    ["claw=a/b_c", '"claw=a/b_c" has a name that is not a DNS subdomain'],
    [",", '"," names nothing'],
  ];
  for (const [text, ...wrong] of rows) {
    await t.step(text, () => {
      const lines = wrong.map((each) => `TARGETS: ${each}; permitted: ${VARIABLES.targets.permitted}`);
      assert.deepEqual(problems({ ...least, TARGETS: text }), lines);
    });
  }
});

Deno.test("readConfig() refuses TARGETS together with either of the other two", () => {
  const wrong = (name: string) => `${name}: set together with TARGETS, one too many; permitted: either of them`;
  const env = { ...least, TARGETS: "claw=a/b", DEPLOYMENT_NAME: "clawdbot" };
  assert.deepEqual(problems(env), [wrong("DEPLOYMENT_NAME")]);
  assert.deepEqual(problems({ ...env, DEPLOYMENT_NAMESPACE: "a" }), [
    wrong("DEPLOYMENT_NAME"),
    wrong("DEPLOYMENT_NAMESPACE"),
  ]);
});
