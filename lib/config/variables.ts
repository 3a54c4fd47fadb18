/**
 * The table of variables: names, allowed values, meanings and parsers. It defines the type of the configuration, its
 * parsing, the docs' tables and `--help`.
 *
 * @module
 */

import { longestMs, shortestMs } from "../commands/mod.ts";
import { Secret } from "./secret.ts";
import { upTimes } from "./up_times.ts";
import * as values from "./values.ts";

/** Environment in which variables are read. */
export interface Context {
  /** Whether the program runs in a pod. */
  readonly inCluster: boolean;
  /** Whether the log goes to a terminal. */
  readonly terminal: boolean;
  /** Reads a text file. Throws if it can't. */
  readFile(path: string): string;
}

/** A row of the table. */
export interface Variable<Value> {
  /** Name of the environment variable. */
  readonly name: string;
  /** The Python operator's name for it. Used if `name` is not set. */
  readonly otherName?: string;
  /** Set if the value is never shown and may also be given as the path of a file in `NAME_FILE`. */
  readonly secret?: true;
  /** Default, parsed like a given value, or `nothing` for undefined. Without a default the variable is required. */
  readonly default?: string | ((context: Context) => string) | "nothing";
  /** Login methods for which the variable is required, although its default is `nothing`. */
  readonly requiredFor?: readonly AuthMethod[];
  /** The default in words, if it isn't simply the text. */
  readonly defaultInWords?: string;
  /** Allowed values, in words. */
  readonly permitted: string;
  /** Meaning, in words. */
  readonly meaning: string;
  /** Parses a value. Not called for the default `nothing`. */
  readonly parse: values.Parser<Value>;
}

/** Login methods. */
export type AuthMethod = "password" | "token" | "jwt" | "sso";

const rooms = values.listOf("a room ID or alias", values.isRoom, "!id:server, #alias:server or any");
const replicas = values.wholeNumber(1, 1_000, "previous");
const week = 7 * 24 * 3_600_000;
const stopAfter = values.duration({
  leastMs: shortestMs,
  mostMs: longestMs,
  use: "e.g. 90m, 4h, 2d, from 1m to 30d, or off",
});
const stopAfterOrOff = (text: string) => text.toLowerCase() === "off" ? undefined : stopAfter(text);
const yes = ["true", "1", "yes"];
const no = ["false", "0", "no"];

/** The table. Keys that end in `Ms` are in milliseconds. */
export const VARIABLES = {
  homeserver: {
    name: "MATRIX_HOMESERVER",
    default: "http://synapse.matrix.svc.cluster.local:8008",
    permitted: "an http or https URL, or a server name",
    meaning: "Base URL of the homeserver. A server name is looked up through .well-known.",
    parse: values.homeserver,
  },
  user: {
    name: "MATRIX_USER",
    permitted: "a localpart or a full user ID (@name:server)",
    meaning: "The operator's own account.",
    parse: values.textOf("a user ID", values.isUser, "a localpart or a full user ID (@name:server)"),
  },
  authMethod: {
    name: "AUTH_METHOD",
    default: "password",
    permitted: "password, token, jwt or sso",
    meaning: "How to log in.",
    parse: values.oneOf({ password: ["password"], token: ["token"], jwt: ["jwt"], sso: ["sso"] }),
  },
  password: {
    name: "MATRIX_PASSWORD",
    secret: true,
    default: "nothing",
    requiredFor: ["password", "jwt", "sso"],
    permitted: "any text",
    meaning: "The account's password; for jwt and sso, the one at Keycloak.",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  accessToken: {
    name: "MATRIX_ACCESS_TOKEN",
    secret: true,
    default: "nothing",
    requiredFor: ["token"],
    permitted: "any text",
    meaning: "Access token of a device that only the operator uses.",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  ssoIdpId: {
    name: "SSO_IDP_ID",
    default: "keycloak",
    permitted: "letters, digits and . _ ~ -",
    meaning: "For sso: the homeserver's ID of the identity provider; Synapse's prefix `oidc-` is optional.",
    parse: values.textOf("a provider ID", (text) => /^[\w.~-]+$/.test(text), "letters, digits and . _ ~ -"),
  },
  keycloakUrl: {
    name: "KEYCLOAK_URL",
    default: "nothing",
    requiredFor: ["jwt"],
    defaultInWords: "where the homeserver redirects",
    permitted: "an http or https URL",
    meaning: "Base URL of Keycloak. For sso, only this host gets the password.",
    parse: (text: string): string | undefined => values.url(text),
  },
  keycloakRealm: {
    name: "KEYCLOAK_REALM",
    default: "nothing",
    requiredFor: ["jwt"],
    permitted: "any text",
    meaning: "Realm of the operator's account.",
    parse: (text: string): string | undefined => text,
  },
  keycloakClientId: {
    name: "KEYCLOAK_CLIENT_ID",
    default: "nothing",
    requiredFor: ["jwt"],
    permitted: "any text",
    meaning: "A client of that realm that allows direct access grants.",
    parse: (text: string): string | undefined => text,
  },
  keycloakClientSecret: {
    name: "KEYCLOAK_CLIENT_SECRET",
    secret: true,
    default: "nothing",
    defaultInWords: "none (public client)",
    permitted: "any text",
    meaning: "Secret of that client.",
    parse: (text: string): Secret | undefined => new Secret(text),
  },
  jwtLoginType: {
    name: "JWT_LOGIN_TYPE",
    default: "com.famedly.login.token.oauth",
    permitted: "com.famedly.login.token.oauth, com.famedly.login.token or org.matrix.login.jwt",
    meaning: "For jwt: the login type with which the homeserver accepts Keycloak's token.",
    parse: values.oneOf({
      "com.famedly.login.token.oauth": ["com.famedly.login.token.oauth"],
      "com.famedly.login.token": ["com.famedly.login.token"],
      "org.matrix.login.jwt": ["org.matrix.login.jwt"],
    }),
  },
  allowedUsers: {
    name: "ALLOWED_USERS",
    permitted: "full user IDs (@name:server), separated by commas",
    meaning: "Who may give commands. Compared exactly.",
    parse: values.listOf("a full user ID", values.isUserId, "@name:server"),
  },
  allowedRooms: {
    name: "ALLOWED_ROOMS",
    default: "any",
    permitted: "room IDs or aliases, separated by commas, or any",
    meaning: "Rooms in which commands are accepted.",
    parse: (text: string) => text.toLowerCase() === "any" ? "any" as const : rooms(text),
  },
  deploymentName: {
    name: "DEPLOYMENT_NAME",
    default: "clawdbot",
    permitted: "a DNS subdomain (RFC 1123)",
    meaning: "The Deployment to control.",
    parse: values.textOf("a DNS subdomain", values.isSubdomain, "the name of a Deployment, such as my-app"),
  },
  deploymentNamespace: {
    name: "DEPLOYMENT_NAMESPACE",
    default: "clawdbot",
    permitted: "a DNS label (RFC 1123)",
    meaning: "Its namespace.",
    parse: values.textOf("a DNS label", values.isLabel, "the name of a namespace, such as my-team"),
  },
  targets: {
    name: "TARGETS",
    default: "nothing",
    defaultInWords: "from the two above",
    permitted: "alias=namespace/name or alias=statefulset/namespace/name, separated by commas",
    meaning: "Several workloads instead, the default one first. An alias is lower-case letters, digits and hyphens, " +
      "and not a command word.",
    parse: (text: string): readonly values.Target[] | undefined => values.targets(text),
  },
  storePath: {
    name: "CRYPTO_STORE_PATH",
    default: "/data/crypto_store",
    permitted: "a path",
    meaning: "Folder for all persistent state.",
    parse: values.textOf("a path", (text) => !text.includes("\0")),
  },
  storeKey: {
    name: "CRYPTO_STORE_KEY",
    secret: true,
    default: "nothing",
    defaultInWords: "a random key, kept in that folder",
    permitted: "32 bytes in base64",
    meaning: "Encrypts the store. Where a key file exists, it must hold the same key.",
    parse: (text: string): Secret<Uint8Array> | undefined => values.secretKey(text),
  },
  echo: {
    name: "ECHO_MODE",
    default: "true",
    permitted: "true, 1 or yes; reaction; false, 0 or no",
    meaning: "Acknowledge a command before carrying it out: by repeating it, by a reaction, or not at all.",
    parse: values.oneOf({ message: yes, reaction: ["reaction"], off: no }),
  },
  senderTrust: {
    name: "SENDER_TRUST",
    default: "tofu",
    permitted: "tofu, cross-signed or any",
    meaning:
      "Which devices of allowed users are trusted: those of the identity seen first, only those signed by their " +
      "owner, or all.",
    parse: values.oneOf({ "tofu": ["tofu"], "cross-signed": ["cross-signed"], "any": ["any"] }),
  },
  trustedIdentities: {
    name: "TRUSTED_IDENTITIES",
    default: "",
    defaultInWords: "the identity seen first",
    permitted:
      "@user:server=<public master key> (43 characters of base64), separated by commas; users of ALLOWED_USERS",
    meaning: "Users who are trusted with this identity only.",
    parse: values.trustedIdentities,
  },
  recoveryKey: {
    name: "RECOVERY_KEY",
    secret: true,
    default: "nothing",
    defaultInWords: "none",
    permitted: "a recovery key of secret storage",
    meaning:
      "Keeps the operator's cross-signing identity in the account's secret storage, so that it survives the loss of " +
      "the volume.",
    parse: (text: string): Secret<Uint8Array<ArrayBuffer>> | undefined => values.recoveryKey(text),
  },
  requireEncryption: {
    name: "REQUIRE_ENCRYPTION",
    default: "true",
    permitted: "true, 1 or yes; false, 0 or no",
    meaning: "Refuse commands in unencrypted rooms.",
    parse: (text: string) => values.oneOf({ yes, no })(text) === "yes",
  },
  maxCommandAgeMs: {
    name: "MAX_COMMAND_AGE",
    default: "5m",
    permitted: "e.g. 90s, 5m, 1h30m, at most 7d",
    meaning: "Older commands are answered, but not carried out.",
    parse: values.duration({ mostMs: week, use: "e.g. 90s, 5m, 1h30m, at most 7d" }),
  },
  startTimeoutMs: {
    name: "START_TIMEOUT",
    default: "10m",
    permitted: "e.g. 90s, 5m, 1h30m, at most 7d",
    meaning: "How long a start may take before it is reported as slow; watching goes on.",
    parse: values.duration({ mostMs: week, use: "e.g. 90s, 5m, 1h30m, at most 7d" }),
  },
  startReplicas: {
    name: "START_REPLICAS",
    default: "1",
    permitted: "a whole number from 1 to 1000, or previous",
    meaning: "Replicas of a start; previous: as many as before the last stop by chat.",
    parse: (text: string) => text.toLowerCase() === "previous" ? "previous" as const : replicas(text),
  },
  autoStopMs: {
    name: "AUTO_STOP",
    default: "off",
    permitted: "e.g. 90m, 4h, 2d, from 1m to 30d, or off",
    meaning: "Stop a target this long after a start that gives no time of its own.",
    parse: stopAfterOrOff,
  },
  schedule: {
    name: "SCHEDULE",
    default: "",
    defaultInWords: "none",
    permitted: "times such as Mon-Fri 08:00-18:00 Europe/Berlin, or always, separated by commas; alias= before one " +
      "names a target other than the default one",
    meaning: "When targets are up: started at each begin, stopped at each end.",
    parse: upTimes,
  },
  agents: {
    name: "AGENTS",
    default: "",
    defaultInWords: "none",
    permitted: "full user IDs (@name:server), separated by commas; alias= before one names a target other than the " +
      "default one",
    meaning: "Matrix accounts of agents that run in targets. A message to one wakes its target.",
    parse: values.agents,
  },
  idleStopMs: {
    name: "IDLE_STOP",
    default: "off",
    permitted: "e.g. 30m, 4h, 2d, from 1m to 30d, or off; needs AGENTS",
    meaning: "Stop a target that has an agent this long after the last message to or from it.",
    parse: stopAfterOrOff,
  },
  maxRetries: {
    name: "MAX_RETRIES",
    default: "20",
    permitted: "a whole number from 1 to 999999",
    meaning: "Failures in a row, over at least 15 minutes, before the operator exits.",
    parse: values.wholeNumber(1, 999_999),
  },
  httpAddress: {
    name: "HTTP_ADDRESS",
    default: ({ inCluster }: Context) => inCluster ? "[::]:8080" : "off",
    defaultInWords: "[::]:8080 in a cluster (0.0.0.0:8080 without IPv6), off elsewhere",
    permitted: "host:port, [IPv6]:port or off; port 0 is any free one",
    meaning: "Where health checks and metrics are served.",
    parse: values.httpAddress,
  },
  logLevel: {
    name: "LOG_LEVEL",
    otherName: "LOGURU_LEVEL",
    default: "info",
    permitted: "debug, info, warning or error, or loguru's names",
    meaning: "The lowest level that is logged.",
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
    defaultInWords: "text on a terminal, json elsewhere",
    permitted: "text or json",
    meaning: "Format of the log.",
    parse: values.oneOf({ text: ["text"], json: ["json"] }),
  },
} as const satisfies Readonly<Record<string, Variable<unknown>>>;

/** The validated values, one per row of {@linkcode VARIABLES}. */
export type Settings = {
  readonly [Key in keyof typeof VARIABLES]: ReturnType<(typeof VARIABLES)[Key]["parse"]>;
};

/** The rows by heading, as people read them. */
export const GROUPS: Readonly<Record<string, readonly (keyof typeof VARIABLES)[]>> = {
  "Matrix account": ["homeserver", "user", "authMethod", "password", "accessToken"],
  "Login through Keycloak": [
    "keycloakUrl",
    "keycloakRealm",
    "keycloakClientId",
    "keycloakClientSecret",
    "jwtLoginType",
    "ssoIdpId",
  ],
  "Who may give commands": [
    "allowedUsers",
    "allowedRooms",
    "senderTrust",
    "trustedIdentities",
    "requireEncryption",
    "maxCommandAgeMs",
  ],
  "Targets": ["deploymentName", "deploymentNamespace", "targets", "startReplicas", "startTimeoutMs", "autoStopMs"],
  "Waking and sleeping": ["schedule", "agents", "idleStopMs"],
  "Stored state and keys": ["storePath", "storeKey", "recoveryKey"],
  "Operation": ["echo", "maxRetries", "httpAddress", "logLevel", "logFormat"],
};

/** The rows in order. */
export const ROWS: readonly Variable<unknown>[] = Object.values(VARIABLES);
