/**
 * Connection test: checks everything that the operator needs, changes nothing and leaves nothing behind.
 *
 * @module
 */

import { type Config, readConfig, type Target } from "./lib/config/mod.ts";
import { ConfigError, errorMessage, PermissionError } from "./lib/errors.ts";
import { UNTRUSTED_CERTIFICATE } from "./lib/http.ts";
import {
  canI,
  clusterEnvironment,
  KubernetesApi,
  KubernetesScaler,
  openCluster,
  scalableNames,
  serverVersion,
  whoAmI,
} from "./lib/scaler/mod.ts";
import { type Check, type Finding, runChecks } from "./lib/service/mod.ts";
import {
  type AboutHomeserver,
  aboutHomeserver,
  findHomeserver,
  HomeserverClient,
  tryLogin,
} from "./lib/session/mod.ts";
import { probeStore } from "./lib/store/mod.ts";
import { findOldStore } from "./lib/takeover/mod.ts";

const USAGE = `Usage: deno task conntest

Checks configuration, homeserver, login, store and cluster. Changes nothing.
The configuration comes from environment variables: see docs/configuration.md, or deno task start --help.

Exit codes: 0 all is well, 1 something isn't, 2 wrong configuration or usage`;

/** More than this much between our clock and the homeserver's is told, milliseconds. */
const CLOCK_TOLERANCE_MS = 60_000;

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((argument) => argument !== "-h" && argument !== "--help");
  if (unknown !== undefined) {
    console.error(`unknown argument ${JSON.stringify(unknown)}; see --help`);
    return 2;
  }
  if (args.length === 0) return await connectionTest();
  console.log(USAGE);
  return 0;
}

/**
 * Runs the test with the environment's configuration and prints a line for each check.
 *
 * @returns exit code: 0 if all checks passed, 1 if not, 2 if the configuration is wrong
 */
export async function connectionTest(): Promise<number> {
  const env = Deno.env.toObject();
  const ending = new AbortController();
  const end = (): void => ending.abort(new DOMException("Stopped", "AbortError"));
  for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, end);
  const run = (checks: readonly Check[]): Promise<boolean> =>
    runChecks(checks, {
      print: (line) => console.log(line),
      colour: Deno.stdout.isTerminal() && env["NO_COLOR"] === undefined,
      signal: ending.signal,
    });
  try {
    const config = readConfig(env, {
      inCluster: inCluster(env),
      terminal: Deno.stdout.isTerminal(),
      readFile: Deno.readTextFileSync,
    });
    const stores = [storeCheck(config, env), oldStoreCheck(config)];
    return await run([...matrixChecks(config, env), ...stores, ...kubernetesChecks(config, env)]) ? 0 : 1;
  } catch (error) {
    if (ending.signal.aborted && error === ending.signal.reason) return 1;
    if (!(error instanceof ConfigError)) throw error;
    await run(error.problems.map((message) => ({
      name: "configuration",
      run: () => Promise.resolve({ ok: false, message }),
    })));
    return 2;
  }
}

type Env = Readonly<Record<string, string>>;

/** A check of something behind TLS: where its certificate isn't trusted, says which authority is wanted. */
function overTls(run: (signal: AbortSignal) => Promise<Finding>): (signal: AbortSignal) => Promise<Finding> {
  return async (signal) => {
    try {
      return await run(signal);
    } catch (error) {
      const message = errorMessage(error);
      if (signal.aborted || !message.includes(UNTRUSTED_CERTIFICATE)) throw error;
      const remedy = message.includes("UnknownIssuer")
        ? "if an authority of your own signed it, give that authority's certificate: set DENO_CERT to its path, or add " +
          "deploy/components/private-ca"
        : "check the certificate's names and dates, and the URL";
      return { ok: false, message, remedy };
    }
  };
}

/** Values of the examples that were left as they are. */
function placeholdersIn(config: Config, env: Env): string[] {
  const isExample = (name: string): boolean => /(^|[.@:/])example\.(org|com|net)(:\d+)?$/.test(name);
  const address = config.homeserver.kind === "url" ? new URL(config.homeserver.url).host : config.homeserver.name;
  const users = config.allowedUsers.filter(isExample);
  return [
    ...isExample(address) ? [`MATRIX_HOMESERVER: ${address}`] : [],
    ...users.length > 0 ? [`ALLOWED_USERS: ${users.join(", ")}`] : [],
    ...["change-me", "change me"].includes(env["MATRIX_PASSWORD"] ?? "") ? ["MATRIX_PASSWORD: change-me"] : [],
  ];
}

function inCluster(env: Env): boolean {
  return env["KUBERNETES_SERVICE_HOST"] !== undefined;
}

function matrixChecks(config: Config, env: Env): Check[] {
  let client: HomeserverClient;
  let about: AboutHomeserver;
  const placeholders = placeholdersIn(config, env);
  return [
    {
      name: "configuration",
      run: () => Promise.resolve({ ok: true, message: `complete; allowed users: ${config.allowedUsers.join(", ")}` }),
    },
    ...config.warnings.map((message): Check => ({
      name: "variables",
      run: () => Promise.resolve({ ok: "warning", message }),
    })),
    ...placeholders.length === 0 ? [] : [
      {
        name: "placeholders",
        remedy: "put your own values there",
        run: () => Promise.resolve({ ok: "warning", message: `from the example: ${placeholders.join("; ")}` }),
      } satisfies Check,
    ],
    {
      name: "homeserver",
      needs: ["configuration"],
      remedy: "check MATRIX_HOMESERVER, and that the homeserver can be reached from here",
      address: () => config.homeserver.kind === "url" ? config.homeserver.url : config.homeserver.name,
      run: overTls(async (signal) => {
        client = new HomeserverClient(await findHomeserver(config.homeserver, signal));
        about = await aboutHomeserver(client, signal);
        const newest = about.versions.at(-1);
        if (newest === undefined) {
          return { ok: false, message: `${client.baseUrl} supports no version of the Matrix spec` };
        }
        const software = about.software === undefined ? "" : `${about.software}, `;
        return { ok: true, message: `${client.baseUrl} (${software}spec ${newest})` };
      }),
    },
    {
      name: "clock",
      needs: ["homeserver"],
      remedy: "set the clock by NTP: certificates, tokens and the age of commands depend on it",
      run: () => {
        const { clockAheadMs } = about;
        if (clockAheadMs === undefined) {
          return Promise.resolve({ ok: "skipped", message: "the homeserver sends no date" });
        }
        if (Math.abs(clockAheadMs) <= CLOCK_TOLERANCE_MS) {
          return Promise.resolve({ ok: true, message: "within a minute of the homeserver's" });
        }
        const minutes = Math.round(Math.abs(clockAheadMs) / 60_000);
        const message = `${minutes} min ${clockAheadMs > 0 ? "ahead of" : "behind"} the homeserver's`;
        return Promise.resolve({ ok: "warning", message });
      },
    },
    {
      name: "login",
      needs: ["homeserver"],
      remedy: "check AUTH_METHOD, MATRIX_USER and the secret that belongs to it",
      address: () => client.baseUrl,
      run: overTls(async (signal) => {
        const { userId, deviceId, loggedOut } = await tryLogin(client, config.login, signal);
        const left = loggedOut ? "logged out again" : "token left valid";
        return { ok: true, message: `${userId}, device ${deviceId} (${left})` };
      }),
    },
  ];
}

function storeCheck({ storePath }: Config, env: Env): Check {
  return {
    name: "crypto store",
    needs: ["configuration"],
    remedy: "check CRYPTO_STORE_PATH, and that user 1200 of the image can write there",
    run: () => {
      if (!inCluster(env) && !env["CRYPTO_STORE_PATH"]?.trim()) {
        return Promise.resolve({ ok: "skipped", message: `${storePath} is a path in a pod, and this is not one` });
      }
      const holder = probeStore(storePath);
      const state = holder === undefined ? "writable and not in use" : `in use by a running operator (${holder})`;
      return Promise.resolve({ ok: true, message: `${storePath}: ${state}` });
    },
  };
}

function oldStoreCheck(config: Config): Check {
  return {
    name: "old store",
    needs: ["configuration"],
    run: () => {
      const owner = findOldStore(config.storePath);
      const message = owner === undefined
        ? "none of the Python operator"
        : `Python operator's store of ${owner}: the next start takes it over, unless this operator has its own`;
      return Promise.resolve({ ok: true, message });
    },
  };
}

function kubernetesChecks(config: Config, env: Env): Check[] {
  let api: KubernetesApi;
  let server: string | undefined;
  // A single target's checks don't name it. Each of several targets has its own checks.
  const of = ({ alias }: Target): string => config.targets.length === 1 ? "" : ` of ${alias}`;
  const permission = (target: Target, verb: string, on?: "scale" | "pods" | "events", more = false): Check => ({
    name: `can ${verb} ${on === "pods" || on === "events" ? on : `${target.kind}s${on ? `/${on}` : ""}`}${of(target)}`,
    needs: ["kubernetes"],
    remedy: "see DEPLOYMENT_NAME or TARGETS, and apply the Role of deploy/base for that target",
    run: async (signal): Promise<Finding> => {
      const { allowed, resource } = await canI(api, target, verb, on, signal);
      const whose = api.context === "in-cluster" ? "" : " (your own permissions, not the operator's)";
      if (allowed) return { ok: true, message: `${resource}${whose}` };
      if (!more) return { ok: false, message: `not allowed: ${verb} ${resource}${whose}` };
      return { ok: "skipped", message: `not allowed${whose}; optional, see deploy/components/extended` };
    },
  });
  return [
    {
      name: "kubernetes",
      needs: ["configuration"],
      remedy: "check KUBECONFIG or the pod's ServiceAccount, and that the API server can be reached from here",
      address: () => server,
      run: async (signal) => {
        const cluster = await openCluster(clusterEnvironment(env), signal);
        api = new KubernetesApi(cluster);
        server = api.server;
        const [version, who] = [await serverVersion(api, signal), await whoAmI(api, signal)];
        return { ok: true, message: `${api.server} (${version}, context ${api.context}, user ${who})` };
      },
    },
    ...config.targets.flatMap((target): Check[] => [
      {
        name: config.targets.length === 1 ? "target" : `target ${target.alias}`,
        needs: ["kubernetes"],
        remedy: "check TARGETS, or DEPLOYMENT_NAME and DEPLOYMENT_NAMESPACE, and the Role of deploy/base",
        run: async (signal) => {
          try {
            const { desired, ready } = await new KubernetesScaler(api).read(target, signal);
            return { ok: true, message: `${target.namespace}/${target.name}: ${ready}/${desired} ready` };
          } catch (error) {
            if (!(error instanceof PermissionError)) throw error;
            return { ok: false, message: error.message, remedy: await roleRemedy(api, target, signal) };
          }
        },
      },
      permission(target, "get"),
      permission(target, "get", "scale"),
      permission(target, "patch", "scale"),
      permission(target, "watch", undefined, true),
      permission(target, "list", "pods", true),
      permission(target, "create", "events", true),
    ]),
  ];
}

/** What to do about a target that may not be read: its Role names another one, or there is none. */
async function roleRemedy(api: KubernetesApi, target: Target, signal: AbortSignal): Promise<string> {
  const names = await scalableNames(api, target, signal);
  const where = `namespace "${target.namespace}"`;
  if (names === undefined) {
    return `these credentials have no rights on ${target.kind}s in ${where}: apply Role and RoleBinding of deploy/base there`;
  }
  return `the Role in ${where} names ${names.map((name) => `"${name}"`).join(", ")}, not "${target.name}": correct ` +
    "DEPLOYMENT_NAME or TARGETS, or the Role's resourceNames";
}
