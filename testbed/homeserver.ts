/**
 * Homeservers for tests: the common interface, a Synapse on this machine, and an existing homeserver. `dendrite.ts` has
 * the third one.
 *
 * @module
 */

import { join } from "node:path";
import type { Keycloak } from "./keycloak.ts";
import { freePort, httpJson } from "./network.ts";
import { Child } from "./process.ts";

/** Shared secret for registering users on our own homeservers. */
export const registrationSecret = "for-tests";

/** Homeservers that the testbed can start. */
export const homeserverKinds = ["synapse", "dendrite"] as const;

/** Name of a homeserver that the testbed can start. */
export type HomeserverKind = typeof homeserverKinds[number];

/** A homeserver under test. */
export interface Homeserver extends AsyncDisposable {
  /** Its implementation. */
  readonly kind: HomeserverKind;
  /** Base URL. */
  readonly url: string;
  /** Server name: the part of a user id after the colon. */
  readonly serverName: string;
  /** Whether we started it, and so may stop it. */
  readonly isOurs: boolean;
  /** Passwords of the users registered here, by user id. */
  readonly passwords: ReadonlyMap<string, string>;
  /** Log with one line per request that names the user; undefined if there is none. */
  readonly requestLog: string | undefined;
  /**
   * Registers a user. On an existing homeserver a suffix of this run is appended to the name.
   *
   * @returns user id and localpart
   */
  register(
    name: string,
    password: string,
    options?: { admin?: boolean },
  ): Promise<{ userId: string; localpart: string }>;
  /** A user's answered requests, such as `GET /sync`. Throws without a {@linkcode Homeserver.requestLog}. */
  requestsOf(userId: string): Promise<string[]>;
  /** Stops the homeserver. Throws for an existing one. */
  stop(): Promise<void>;
  /** Restarts it with the same data on the same port. Throws for an existing one. */
  start(): Promise<void>;
}

/**
 * Connects to an existing homeserver.
 *
 * @param url base URL
 * @param secret its `registration_shared_secret`
 */
export async function existingHomeserver(url: string, secret: string): Promise<Homeserver> {
  const suffix = `-${Date.now().toString(36)}`;
  const refuse = () => Promise.reject(new Error(`Cannot stop, start or look into ${url}: it was given`));
  const base = url.replace(/\/+$/, "");
  const probe = await register(base, secret, `probe${suffix}`, crypto.randomUUID());
  const passwords = new Map<string, string>();
  return {
    kind: "synapse",
    passwords,
    url: base,
    serverName: probe.slice(probe.indexOf(":") + 1),
    isOurs: false,
    requestLog: undefined,
    register: async (name, password, options) => {
      const localpart = `${name}${suffix}`;
      const userId = await register(base, secret, localpart, password, options?.admin);
      passwords.set(userId, password);
      return { userId, localpart };
    },
    requestsOf: refuse,
    stop: refuse,
    start: refuse,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Options of our own Synapse. */
export interface SynapseOptions {
  /** Identity provider for tokens and single sign-on. */
  readonly keycloak?: Keycloak | undefined;
  /** Version of new rooms whose creator names none; Synapse's own default unless given. */
  readonly roomVersion?: string | undefined;
  /** Lifetime of refreshable access tokens in milliseconds; five minutes by default. */
  readonly refreshableMs?: number | undefined;
}

/**
 * Starts our own Synapse.
 *
 * @param python interpreter of an environment with Synapse
 * @param folder empty folder for its data
 */
export async function startHomeserver(
  python: string,
  folder: string,
  options: SynapseOptions = {},
): Promise<Homeserver> {
  const { keycloak } = options;
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const logFile = join(folder, "homeserver.log");
  await writeConfiguration(folder, port, logFile, options);
  let child: Child | undefined;
  const start = async () => {
    child = new Child({
      name: "Synapse",
      command: [python, join(import.meta.dirname ?? ".", "homeserver.py"), "-c", join(folder, "homeserver.yaml")],
      logFile: join(folder, "output.log"),
      ...(keycloak ? { environment: { PYTHONPATH: keycloak.modules } } : {}),
    });
    await child.untilReady(() => answers(`${url}/_matrix/client/versions`), 60_000);
  };
  await start();
  const passwords = new Map<string, string>();
  return {
    kind: "synapse",
    passwords,
    url,
    serverName: "localhost",
    isOurs: true,
    requestLog: logFile,
    register: async (name, password, options) => {
      const userId = await register(url, registrationSecret, name, password, options?.admin);
      passwords.set(userId, password);
      return { userId, localpart: name };
    },
    requestsOf: async (userId) => requestsIn(await Deno.readTextFile(logFile), userId),
    stop: async () => void await child?.stop(),
    start,
    [Symbol.asyncDispose]: async () => void await child?.stop(),
  };
}

/** Parses Synapse's request log, in which the user precedes the request, in braces. */
function requestsIn(log: string, userId: string): string[] {
  return log.split("\n").filter((line) => line.includes(` {${userId}} `)).flatMap((line) =>
    /"(\w+ \/[^ ?]*)\S* HTTP/.exec(line)?.[1]?.replace("/_matrix/client/v3", "") ?? []
  );
}

/** Whether the URL answers successfully. */
export async function answers(url: string): Promise<boolean> {
  // The connection is refused until the server listens.
  return await fetch(url, { signal: AbortSignal.timeout(2_000) }).then(async (response) => {
    await response.body?.cancel();
    return response.ok;
  }, () => false);
}

/** Registers a user through Synapse's admin API for shared-secret registration, which Dendrite also has. */
export async function register(
  url: string,
  secret: string,
  username: string,
  password: string,
  admin = false,
): Promise<string> {
  const endpoint = `${url}/_synapse/admin/v1/register`;
  const { nonce } = await httpJson("GET", endpoint);
  const utf8 = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", utf8.encode(secret), { name: "HMAC", hash: "SHA-1" }, false, [
    "sign",
  ]);
  const signed = utf8.encode([nonce, username, password, admin ? "admin" : "notadmin"].join("\0"));
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed)).toHex();
  return (await httpJson("POST", endpoint, { body: { nonce, username, password, admin, mac } })).user_id;
}

/** JSON is valid YAML. */
async function writeConfiguration(
  folder: string,
  port: number,
  logFile: string,
  { keycloak, roomVersion, refreshableMs }: SynapseOptions,
): Promise<void> {
  const file = (name: string) => join(folder, name);
  const unlimited = { per_second: 100_000, burst_count: 100_000 };
  const configuration = {
    server_name: "localhost",
    public_baseurl: `http://127.0.0.1:${port}/`,
    signing_key_path: file("signing.key"),
    log_config: file("log.yaml"),
    media_store_path: file("media"),
    report_stats: false,
    macaroon_secret_key: "for-tests",
    form_secret: "for-tests",
    registration_shared_secret: registrationSecret,
    suppress_key_server_warning: true,
    trusted_key_servers: [],
    federation_domain_whitelist: [],
    presence: { enabled: false },
    database: { name: "sqlite3", args: { database: file("homeserver.db") } },
    listeners: [
      {
        port,
        type: "http",
        tls: false,
        bind_addresses: ["127.0.0.1"],
        resources: [{ names: ["client", "federation"] }],
      },
    ],
    jwt_config: { enabled: true, secret: "for-tests", algorithm: "HS256" },
    ...(keycloak ? withKeycloak(keycloak) : {}),
    ...(roomVersion ? { default_room_version: roomVersion } : {}),
    ...(refreshableMs === undefined ? {} : { refreshable_access_token_lifetime: refreshableMs }),
    bcrypt_rounds: 4,
    rc_message: unlimited,
    rc_registration: unlimited,
    rc_login: { address: unlimited, account: unlimited, failed_attempts: unlimited },
    rc_joins: { local: unlimited, remote: unlimited },
    rc_joins_per_room: unlimited,
    rc_invites: { per_room: unlimited, per_user: unlimited, per_issuer: unlimited },
    rc_key_requests: unlimited,
    rc_room_creation: unlimited,
  };
  const log = {
    version: 1,
    formatters: { line: { format: "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s" } },
    handlers: { file: { class: "logging.FileHandler", formatter: "line", filename: logFile } },
    root: { level: "WARNING", handlers: ["file"] },
    loggers: { "synapse.access": { level: "INFO" } },
  };
  const seed = crypto.getRandomValues(new Uint8Array(32)).toBase64({ omitPadding: true });
  await Deno.writeTextFile(file("homeserver.yaml"), JSON.stringify(configuration, null, 2));
  await Deno.writeTextFile(file("log.yaml"), JSON.stringify(log, null, 2));
  await Deno.writeTextFile(file("signing.key"), `ed25519 a_test ${seed}\n`);
}

/** Enables login by Keycloak's tokens and pages. Two of its providers are misconfigured, as happens in practice. */
function withKeycloak(keycloak: Keycloak): Record<string, unknown> {
  const provider = (id: string, realm: string, secret: string) => {
    const endpoints = `${keycloak.url}/realms/${realm}/protocol/openid-connect`;
    return {
      idp_id: id,
      idp_name: id,
      issuer: `${keycloak.url}/realms/${realm}`,
      client_id: "synapse",
      client_secret: secret,
      scopes: ["openid", "profile"],
      allow_existing_users: true,
      // Lets Synapse accept an issuer without https, and load the metadata at the first login only.
      skip_verification: true,
      discover: false,
      authorization_endpoint: `${endpoints}/auth`,
      token_endpoint: `${endpoints}/token`,
      jwks_uri: `${endpoints}/certs`,
      userinfo_endpoint: `${endpoints}/userinfo`,
      user_mapping_provider: { config: { localpart_template: "{{ user.preferred_username }}" } },
    };
  };
  const secret = keycloak.secret("synapse");
  const oauth = {
    jwt_validation: {
      jwks_endpoint: `${keycloak.url}/realms/${keycloak.realm}/protocol/openid-connect/certs`,
      localpart_path: "preferred_username",
      require_expiry: true,
    },
    username_type: "user_id",
    registration_enabled: true,
  };
  return {
    modules: [{ module: "synapse_token_authenticator.TokenAuthenticator", config: { oauth } }],
    jwt_config: {
      enabled: true,
      secret: keycloak.publicKey,
      algorithm: "RS256",
      subject_claim: "preferred_username",
      issuer: `${keycloak.url}/realms/${keycloak.realm}`,
    },
    oidc_providers: [
      provider("keycloak", keycloak.realm, secret),
      provider("wrong-secret", keycloak.realm, "another one"),
      provider("wrong-realm", "nowhere", secret),
    ],
  };
}
