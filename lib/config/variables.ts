/**
 * The one table of variables: what each is called, what it may be, what it means, and how it is read. The type of the
 * configuration, its parsing, the documents' table and `--help` all come from here.
 *
 * @module
 */

import { longestMs, shortestMs } from "../commands/mod.ts";
import { Secret } from "./secret.ts";
import * as values from "./values.ts";

/** What is around the environment: where the program runs, and how it reads a file. */
export interface Context {
  /** The program runs in a pod. */
  readonly inCluster: boolean;
  /** The log goes to a terminal. */
  readonly terminal: boolean;
  /** Reads a text file; throws if it can't. */
  readFile(path: string): string;
}

/** One row of the table. */
export interface Variable<Value> {
  /** Name in the environment. */
  readonly name: string;
  /** The Python operator's name for it, used where ours is not set. */
  readonly otherName?: string;
  /** It is never shown, and may be given as the path of a file in `NAME_FILE`. */
  readonly secret?: true;
  /** What holds when it is not set: a text that is read like a given one, or nothing. Without it: required. */
  readonly default?: string | ((context: Context) => string) | "nothing";
  /** With these ways to log in it is required, in spite of its default of nothing. */
  readonly requiredFor?: readonly AuthMethod[];
  /** The default in words, where it isn't simply the text. */
  readonly defaultInWords?: string;
  /** What may be given. */
  readonly permitted: string;
  /** What it is for. */
  readonly meaning: string;
  /** Reads a given text; for a default of nothing it is not called, and the value is undefined. */
  readonly parse: values.Parser<Value>;
}

/** Ways to log in. */
export type AuthMethod = "password" | "token" | "jwt" | "sso";

const rooms = values.listOf("a room id or alias", values.isRoom);
const replicas = values.wholeNumber(1, 1_000);
const autoStop = values.duration(longestMs, shortestMs);
const yes = ["true", "1", "yes"];
const no = ["false", "0", "no"];

/** The table. A key that ends in `Ms` is in milliseconds. */
export const VARIABLES = {
  homeserver: {
    name: "MATRIX_HOMESERVER",
    default: "http://synapse.matrix.svc.cluster.local:8008",
    permitted: "an http or https URL, or a server name",
    meaning: "base URL of the homeserver; a bare server name is resolved through .well-known",
    parse: values.homeserver,
  },
  user: {
    name: "MATRIX_USER",
    permitted: "a localpart or a full user id",
    meaning: "the operator's own account",
    parse: values.textOf("a localpart or a full user id", values.isUser),
  },
  authMethod: {
    name: "AUTH_METHOD",
    default: "password",
    permitted: "password, token, jwt, sso",
    meaning: "how to log in",
    parse: values.oneOf({ password: ["password"], token: ["token"], jwt: ["jwt"], sso: ["sso"] }),
  },
  password: {
    name: "MATRIX_PASSWORD",
    secret: true,
    default: "nothing",
    requiredFor: ["password", "jwt", "sso"],
    permitted: "any text",
    meaning: "the account's password; for jwt and sso the one at Keycloak",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  accessToken: {
    name: "MATRIX_ACCESS_TOKEN",
    secret: true,
    default: "nothing",
    requiredFor: ["token"],
    permitted: "any text",
    meaning: "access token of a device that is the operator's alone",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  ssoIdpId: {
    name: "SSO_IDP_ID",
    default: "keycloak",
    permitted: "letters, digits and . _ ~ -",
    meaning: "for sso: the identity provider, as the homeserver calls it, with or without Synapse's `oidc-` before it",
    parse: values.textOf("an id of a provider", (text) => /^[\w.~-]+$/.test(text)),
  },
  keycloakUrl: {
    name: "KEYCLOAK_URL",
    default: "nothing",
    requiredFor: ["jwt"],
    defaultInWords: "for sso: where the homeserver sends us",
    permitted: "an http or https URL",
    meaning: "base URL of Keycloak; for sso: the password is given to this host only",
    parse: (text: string): string | undefined => values.url(text),
  },
  keycloakRealm: {
    name: "KEYCLOAK_REALM",
    default: "nothing",
    requiredFor: ["jwt"],
    permitted: "a realm's name",
    meaning: "realm of the account",
    parse: (text: string): string | undefined => text,
  },
  keycloakClientId: {
    name: "KEYCLOAK_CLIENT_ID",
    default: "nothing",
    requiredFor: ["jwt"],
    permitted: "a client's id",
    meaning: "client of that realm that allows direct access grants",
    parse: (text: string): string | undefined => text,
  },
  keycloakClientSecret: {
    name: "KEYCLOAK_CLIENT_SECRET",
    secret: true,
    default: "nothing",
    defaultInWords: "none, as for a public client",
    permitted: "any text",
    meaning: "that client's secret",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  jwtLoginType: {
    name: "JWT_LOGIN_TYPE",
    default: "com.famedly.login.token.oauth",
    permitted: "com.famedly.login.token.oauth, com.famedly.login.token, org.matrix.login.jwt",
    meaning: "for jwt: how the homeserver takes Keycloak's token",
    parse: values.oneOf({
      "com.famedly.login.token.oauth": ["com.famedly.login.token.oauth"],
      "com.famedly.login.token": ["com.famedly.login.token"],
      "org.matrix.login.jwt": ["org.matrix.login.jwt"],
    }),
  },
  allowedUsers: {
    name: "ALLOWED_USERS",
    permitted: "full user ids (@name:server), comma-separated",
    meaning: "who may command, compared exactly",
    parse: values.listOf("a full user id", values.isUserId),
  },
  allowedRooms: {
    name: "ALLOWED_ROOMS",
    default: "any",
    permitted: "room ids or aliases, comma-separated; any",
    meaning: "rooms in which commands are accepted",
    parse: (text: string) => text.toLowerCase() === "any" ? "any" as const : rooms(text),
  },
  deploymentName: {
    name: "DEPLOYMENT_NAME",
    default: "clawdbot",
    permitted: "a DNS subdomain as in RFC 1123",
    meaning: "the Deployment that is switched",
    parse: values.textOf("a DNS subdomain", values.isSubdomain),
  },
  deploymentNamespace: {
    name: "DEPLOYMENT_NAMESPACE",
    default: "clawdbot",
    permitted: "a DNS label as in RFC 1123",
    meaning: "its namespace",
    parse: values.textOf("a DNS label", values.isLabel),
  },
  targets: {
    name: "TARGETS",
    default: "nothing",
    defaultInWords: "from the two above",
    permitted: "alias=namespace/name or alias=statefulset/namespace/name, comma-separated; " +
      "an alias is [a-z][a-z0-9-]*, unique, and neither `all` nor a word of a command",
    meaning: "several workloads instead, the default one first",
    parse: (text: string): readonly values.Target[] | undefined => values.targets(text),
  },
  storePath: {
    name: "CRYPTO_STORE_PATH",
    default: "/data/crypto_store",
    permitted: "a path",
    meaning: "folder of all state that lasts",
    parse: values.textOf("a path", (text) => !text.includes("\0")),
  },
  storeKey: {
    name: "CRYPTO_STORE_KEY",
    secret: true,
    default: "nothing",
    defaultInWords: "a random key file in that folder",
    permitted: "32 bytes in base64",
    meaning: "encrypts the store; where a key file is there, it must hold the same key",
    parse: (text: string): Secret<Uint8Array> | undefined => values.secretKey(text),
  },
  echo: {
    name: "ECHO_MODE",
    default: "true",
    permitted: "true, 1, yes; reaction; false, 0, no",
    meaning: "repeat a command before it is carried out, or mark it with a reaction",
    parse: values.oneOf({ message: yes, reaction: ["reaction"], off: no }),
  },
  senderTrust: {
    name: "SENDER_TRUST",
    default: "tofu",
    permitted: "tofu, cross-signed, any",
    meaning: "which devices of an allowed user are trusted: the identity or the devices of first sight, " +
      "only devices signed by their owner, or all",
    parse: values.oneOf({ "tofu": ["tofu"], "cross-signed": ["cross-signed"], "any": ["any"] }),
  },
  trustedIdentities: {
    name: "TRUSTED_IDENTITIES",
    default: "",
    defaultInWords: "first sight",
    permitted: "@user:server=<public master key, 43 characters of base64>, comma-separated; users of ALLOWED_USERS",
    meaning: "users who are trusted with this identity only",
    parse: values.trustedIdentities,
  },
  recoveryKey: {
    name: "RECOVERY_KEY",
    secret: true,
    default: "nothing",
    defaultInWords: "none",
    permitted: "a secret-storage recovery key",
    meaning: "keeps the operator's own identity in the account's secret storage, so that it survives a lost volume",
    parse: (text: string): Secret<Uint8Array<ArrayBuffer>> | undefined => values.recoveryKey(text),
  },
  requireEncryption: {
    name: "REQUIRE_ENCRYPTION",
    default: "true",
    permitted: "true, 1, yes; false, 0, no",
    meaning: "refuse commands in unencrypted rooms",
    parse: (text: string) => values.oneOf({ yes, no })(text) === "yes",
  },
  maxCommandAgeMs: {
    name: "MAX_COMMAND_AGE",
    default: "5m",
    permitted: "a duration such as 90s, 5m or 1h30m, up to 7d",
    meaning: "older commands are answered, not acted on",
    parse: values.duration(7 * 24 * 3_600_000),
  },
  startTimeoutMs: {
    name: "START_TIMEOUT",
    default: "10m",
    permitted: "a duration such as 90s, 5m or 1h30m, up to 7d",
    meaning: "a start that is not ready by then is reported as such; it is still watched",
    parse: values.duration(7 * 24 * 3_600_000),
  },
  startReplicas: {
    name: "START_REPLICAS",
    default: "1",
    permitted: "a whole number from 1 to 1000; previous",
    meaning: "replicas of a start; previous: those before the last stop by chat",
    parse: (text: string) => text.toLowerCase() === "previous" ? "previous" as const : replicas(text),
  },
  autoStopMs: {
    name: "AUTO_STOP",
    default: "off",
    permitted: "a duration such as 90m or 4h, from 1m to 30d; off",
    meaning: "stop a target so long after a start by chat that names no time of its own",
    parse: (text: string) => text.toLowerCase() === "off" ? undefined : autoStop(text),
  },
  maxRetries: {
    name: "MAX_RETRIES",
    default: "20",
    permitted: "a whole number from 1 to 999999",
    meaning: "failures in a row, spanning at least 15 minutes, before giving up",
    parse: values.wholeNumber(1, 999_999),
  },
  httpAddress: {
    name: "HTTP_ADDRESS",
    default: ({ inCluster }: Context) => inCluster ? "[::]:8080" : "off",
    defaultInWords: "[::]:8080 in a cluster, else off",
    permitted: "host:port, [IPv6]:port (port 0: any free one), off",
    meaning: "where /healthz and /readyz are served",
    parse: values.httpAddress,
  },
  logLevel: {
    name: "LOG_LEVEL",
    otherName: "LOGURU_LEVEL",
    default: "info",
    permitted: "debug, info, warning, error; loguru's names too",
    meaning: "how much is logged",
    parse: values.oneOf({
      debug: ["debug", "trace"],
      info: ["info", "success"],
      warning: ["warning"],
      error: ["error", "critical"],
    }),
  },
  logFormat: {
    name: "LOG_FORMAT",
    default: ({ terminal }: Context) => terminal ? "text" : "json",
    defaultInWords: "text on a terminal, else json",
    permitted: "text, json",
    meaning: "form of the log",
    parse: values.oneOf({ text: ["text"], json: ["json"] }),
  },
} as const satisfies Readonly<Record<string, Variable<unknown>>>;

/** What the environment says, validated: a value for each row of {@linkcode VARIABLES}. */
export type Settings = {
  readonly [Key in keyof typeof VARIABLES]: ReturnType<(typeof VARIABLES)[Key]["parse"]>;
};

/** The rows in their order. */
export const ROWS: readonly Variable<unknown>[] = Object.values(VARIABLES);
