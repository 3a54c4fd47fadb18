/**
 * Every place that can end the process, why it may, and what the next start does about the same cause. A place missing
 * here, or a missing test, fails the suite.
 */

import { table } from "../trust/table.ts";

/** A place that ends the process. */
export interface ProcessEnd {
  /** File and function. */
  readonly place: string;
  /** Cause. */
  readonly cause: string;
  /** Exit code. */
  readonly code: 0 | 1 | 2;
  /** Why the cause may end the process. */
  readonly why: string;
  /** What the next start does about the same cause. */
  readonly next: string;
  /** The test that shows it: its file, and the beginning of its name. */
  readonly test: readonly [file: string, name: string];
}

const asTold = "ends again until it is mended as told";
const configuration = "wrong configuration";
const refused = "credentials are refused";
const broken = "the store can't be used";

export const processEnds: readonly ProcessEnd[] = [
  {
    place: "lib/config/environment.ts:readConfig",
    cause: "a variable that can't be read, is missing, or contradicts another",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/config/environment_test.ts", "readConfig() reports every problem at once and shows no secret"],
  },
  {
    place: "lib/config/arguments.ts:readArguments",
    cause: "an unknown argument",
    code: 2,
    why: "wrong usage",
    next: asTold,
    test: ["tests/config/arguments_test.ts", "readArguments() names an unknown argument, and where to find help"],
  },
  {
    place: "lib/operator/operator.ts:Operator",
    cause: "no target; can't come of our configuration, which has a default one",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/config/environment_test.ts", "readConfig() yields the defaults where only the required is set"],
  },
  {
    place: "lib/service/http_server.ts:serveHealth",
    cause: "the port of HTTP_ADDRESS is in use",
    code: 1,
    why: "nobody could see whether it is alive",
    next: asTold,
    test: ["tests/service/health_test.ts", "serveHealth() names the address that is taken"],
  },
  {
    place: "lib/scaler/open_cluster.ts:openCluster",
    cause: "no cluster is to be found at the start",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/scaler/open_cluster_test.ts", "openCluster() names all three places where there is no cluster"],
  },
  {
    place: "lib/scaler/in_cluster.ts:readAuthority",
    cause: "the pod's authority or token can't be read at the start",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/scaler/open_cluster_test.ts", "a cluster of a pod says what is wrong with its files"],
  },
  {
    place: "lib/scaler/kubeconfig.ts:KubeconfigSource",
    cause: "a kubeconfig that can't be used",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/scaler/kubeconfig_test.ts", "a kubeconfig that cannot be used is a ConfigError"],
  },
  {
    place: "lib/scaler/credentials.ts:SharedClient",
    cause: "certificates, key or proxy of the cluster can't be used at the start",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/scaler/kubeconfig_test.ts", "a kubeconfig that cannot be used is a ConfigError"],
  },
  {
    place: "lib/scaler/credentials.ts:checkHeaders",
    cause: "the cluster's token holds what a header can't carry, at the start",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/scaler/open_cluster_test.ts", "a cluster of a pod says what is wrong with its files"],
  },
  {
    place: "lib/scaler/credential_plugin.ts:CredentialPlugin",
    cause: "a kubeconfig's credential plugin fails at the start",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/scaler/kubeconfig_test.ts", "a credential plugin that fails is a CredentialError"],
  },
  {
    place: "lib/store/sqlite.ts:openDatabase",
    cause: "the store is held, missing, foreign, damaged, or of a newer version",
    code: 1,
    why: broken,
    next: asTold + "; nothing was changed",
    test: ["tests/faults/store_test.ts", "a store that cannot be used ends the operator with code 1"],
  },
  {
    place: "lib/store/key.ts:obtainKey",
    cause: "the store's key is missing, unusable, or another",
    code: 1,
    why: broken,
    next: asTold + "; nothing was changed",
    test: ["tests/store/mod_test.ts", "openStore() refuses keys that do not fit, and changes nothing"],
  },
  {
    place: "lib/store/files.ts:attempt",
    cause: "the store's folder can't be made or written to",
    code: 1,
    why: broken,
    next: asTold,
    test: ["tests/store/mod_test.ts", "openStore() refuses a folder that is a file, or a file that is a folder"],
  },
  {
    place: "lib/store/seal.ts:open",
    cause: "a row is not what was written in its place",
    code: 1,
    why: broken,
    next: asTold,
    test: ["tests/store/mod_test.ts", "openStore() refuses keys that do not fit, and changes nothing"],
  },
  {
    place: "lib/store/sqlite.ts:guard",
    cause: "the disk is full, or an I/O error",
    code: 1,
    why: broken + " any more; nothing more is written",
    next: "goes on from what was acknowledged, where there is space",
    test: ["tests/e2e/faults/machine.ts", "machine: disk full"],
  },
  {
    place: "lib/store/mod.ts:openCrypto",
    cause: "the crypto's database can't be read",
    code: 1,
    why: broken,
    next: asTold,
    test: ["tests/faults/store_test.ts", "a store that cannot be used ends the operator with code 1"],
  },
  {
    place: "lib/store/failure_latch.ts:close",
    cause: "the store is used after it was closed: a fault of ours",
    code: 1,
    why: broken,
    next: "begins anew",
    test: ["tests/store/mod_test.ts", "a store that is closed says so"],
  },
  {
    place: "lib/takeover/old_store.ts:cannot",
    cause: "the Python operator's store can't be read",
    code: 1,
    why: "its keys would be lost",
    next: asTold + ", or goes on without it by an argument",
    test: ["tests/faults/takeover_test.ts", "a store of the Python operator that cannot be read stops the start"],
  },
  {
    place: "lib/session/discovery.ts:baseUrlIn",
    cause: "at a first login, .well-known names no homeserver",
    code: 2,
    why: configuration,
    next: asTold + "; with a stored login it goes on where that was",
    test: ["tests/session/discovery_test.ts", "findHomeserver() stays where we are logged in"],
  },
  {
    place: "lib/session/connect.ts:checkOwner",
    cause: "the store belongs to another account",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/session/session_test.ts", "openSession() says what is wrong with a login"],
  },
  {
    place: "lib/session/connect.ts:checkMove",
    cause: "the homeserver has moved from https to http",
    code: 2,
    why: configuration + ": the token would be sent in clear",
    next: asTold,
    test: ["tests/session/connect_test.ts", "openSession() goes on where the homeserver has moved to"],
  },
  {
    place: "lib/session/connect.ts:refusedElsewhere",
    cause: "the homeserver has moved, and the token is refused there",
    code: 1,
    why: refused,
    next: asTold + "; nothing was set aside",
    test: ["tests/session/connect_test.ts", "openSession() goes on where the homeserver has moved to"],
  },
  {
    place: "lib/session/connect.ts:replaceLostDevice",
    cause: "token and password are refused",
    code: 1,
    why: refused,
    next: "goes on as the same device once either is accepted; nothing was set aside",
    test: ["tests/session/connect_test.ts", "openSession() sets nothing aside while the homeserver refuses"],
  },
  {
    place: "lib/session/connect.ts:tokenUnusable",
    cause: "MATRIX_ACCESS_TOKEN has ended, or its device can't be ours",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/session/connect_test.ts", "openSession() by a token ends with the token"],
  },
  {
    place: "lib/session/token_refresh.ts:renewRefused",
    cause: "access token and refresh token are refused: the login has ended (TokenRefused)",
    code: 1,
    why: "as for a login that ends while it runs",
    next: "logs in: as the same device after a soft logout, else as a new one",
    test: ["tests/session/token_refresh_test.ts", "TokenRefresh tells a login that has ended from one that has ended"],
  },
  {
    place: "lib/session/login.ts:newDevice",
    cause: "a first login is refused",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/session/session_test.ts", "openSession() says what is wrong with a login"],
  },
  {
    place: "lib/session/keycloak.ts:passwordGrant",
    cause: "Keycloak refuses the password or the client",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/session/login_test.ts", "logIn() by Keycloak's token says what is wrong"],
  },
  {
    place: "lib/session/sso.ts:singleSignOn",
    cause: "the sign-on is refused, or asks for what only a person can do",
    code: 1,
    why: refused,
    next: asTold,
    test: ["tests/session/login_test.ts", "logIn() through Keycloak's pages says what is wrong"],
  },
  {
    place: "lib/session/secret_storage.ts:open",
    cause: "RECOVERY_KEY is not the key of the account's secret storage",
    code: 2,
    why: configuration,
    next: asTold + "; any other failure of the identity is a warning",
    test: [
      "tests/session/cross_signing_test.ts",
      "Session.ensureIdentity() replaces nothing without the right recovery",
    ],
  },
  {
    place: "lib/session/cross_signing.ts:authenticationRequired",
    cause: "--reset-identity, and the homeserver asks for what isn't to be had here",
    code: 1,
    why: "it is what was asked for",
    next: "a start without --reset-identity goes on unsigned",
    test: [
      "tests/session/connect_test.ts",
      "Session.ensureIdentity() says what a homeserver asks for that only a person",
    ],
  },
  {
    place: "lib/session/homeserver_client.ts:parseAnswer",
    cause: "the login ends while it runs (TokenRefused), more than MAX_RETRIES times in a row over 15 minutes",
    code: 1,
    why: "a restart may find what we don't",
    next: "logs in anew",
    test: ["tests/faults/logout_test.ts", "logins that end again and again, with health in between"],
  },
  {
    place: "lib/async.ts:retry",
    cause: "MAX_RETRIES failures of the homeserver in a row, at one kind of request, over 15 minutes",
    code: 1,
    why: "SPEC 5c: whoever runs it is to notice",
    next: "tries as long again; nothing was lost",
    test: ["tests/async_test.ts", "retry() gives up with the last failure as the cause"],
  },
  {
    place: "lib/maintenance/mod.ts:rotateRecoveryKey",
    cause: "--rotate-recovery-key without RECOVERY_KEY",
    code: 2,
    why: configuration,
    next: asTold,
    test: ["tests/faults/rotate_test.ts", "--rotate-recovery-key: only the new key opens the identity from then on"],
  },
  {
    place: "main.ts:endAtOnce",
    cause: "a panic of the Rust crypto, or an error that nobody has caught",
    code: 1,
    why: "what is in memory can't be trusted; nothing more is written",
    next: "goes on from what is on disk",
    test: ["tests/faults/panic_test.ts", "a panic of the Rust crypto ends the operator at once"],
  },
  {
    place: "lib/session/panic_guard.ts:isBarred",
    cause: "a panic of the Rust crypto at the same input, or after the same sync token, for the second time",
    code: 1,
    why: "as the first time",
    next: "hands the events over one by one, skips the one that does it, and says so",
    test: ["tests/faults/panic_test.ts", "an event at which the Rust crypto panics ends the operator twice"],
  },
  {
    place: "lib/service/shutdown.ts:Shutdown",
    cause: "a second signal, or no end 10 s after the first",
    code: 1,
    why: "it was asked for",
    next: "takes up what was begun",
    test: ["tests/service/shutdown_test.ts", "Shutdown exits at the deadline"],
  },
  {
    place: "main.ts:runOperator",
    cause: "SIGTERM or SIGINT; --reset-identity is done",
    code: 0,
    why: "it was asked for",
    next: "takes up what was left",
    test: ["tests/service/shutdown_test.ts", "Shutdown begins the end at the first signal, of either name"],
  },
  {
    place: "conntest.ts:connectionTest",
    cause: "the connection test is over",
    code: 0,
    why: "it was asked for",
    next: "looks again",
    test: ["tests/conntest_test.ts", "conntest says what is found and how to mend it, hangs never"],
  },
];

/** Formats the table. */
export function processEndsTable(): string {
  const rows = processEnds.map(({ place, cause, code, why, next, test }) => {
    return [place, cause, String(code), why, next, `${test[0].replace("tests/", "")}: ${test[1]}`];
  });
  return table(["place", "cause", "exit", "why it may", "the next start", "test"], rows, 60);
}

/** Returns errors in the table: missing places, functions that don't exist, and tests that don't exist. */
export async function missingInTable(root: URL): Promise<string[]> {
  const read = (path: string) => Deno.readTextFile(new URL(path, root));
  const missing: string[] = [];
  for (const { place, test: [file, name] } of processEnds) {
    const [source = "", symbol = ""] = place.split(":");
    if (!new RegExp(`\\b${symbol}\\b`).test(await read(source))) missing.push(`${place}: there is no such function`);
    if (!(await read(file)).includes(name)) missing.push(`${place}: ${file} has no test "${name}"`);
  }
  const ending = /new (?:ConfigError|CredentialError|StoreError|TokenRefused)\(|\bDeno\.exit\(/;
  for (const file of ["main.ts", "conntest.ts", ...await sources(new URL("lib/", root), "lib/")]) {
    if (!ending.test(await read(file)) || elsewhere.includes(file)) continue;
    if (!processEnds.some(({ place }) => place.startsWith(`${file}:`))) {
      missing.push(`${file}: ends, and is not told of`);
    }
  }
  return missing;
}

/** Their errors don't end the operator: they fail a command or a check of the connection test. */
const elsewhere = ["lib/scaler/api.ts", "lib/store/probe.ts"];

async function sources(folder: URL, path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) found.push(...await sources(new URL(`${name}/`, folder), `${path}${name}/`));
    else if (name.endsWith(".ts")) found.push(path + name);
  }
  return found;
}
