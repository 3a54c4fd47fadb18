/**
 * Connection test: checks everything that the operator needs, changes nothing and leaves nothing behind.
 *
 * @module
 */

import { type Config, readConfig, type Target } from "./lib/config/mod.ts";
import { ConfigError } from "./lib/errors.ts";
import {
  canI,
  KubernetesApi,
  KubernetesScaler,
  openCluster,
  placesIn,
  serverVersion,
  whoAmI,
} from "./lib/scaler/mod.ts";
import { type Check, type Finding, runChecks } from "./lib/service/mod.ts";
import { findHomeserver, HomeserverClient, homeserverVersions, tryLogin } from "./lib/session/mod.ts";
import { probeStore } from "./lib/store/mod.ts";
import { findOldStore } from "./lib/takeover/mod.ts";

const USAGE = `Usage: deno task conntest

Checks configuration, homeserver, login, store and cluster. Changes nothing.
The configuration comes from environment variables: see docs/configuration.md, or deno task start --help.

Exit codes: 0 all is well, 1 something isn't, 2 wrong configuration or usage`;

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
    return await run([...matrixChecks(config), ...stores, ...kubernetesChecks(config, env)]) ? 0 : 1;
  } catch (error) {
    if (ending.signal.aborted && error === ending.signal.reason) return 1;
    if (!(error instanceof ConfigError)) throw error;
    await run(error.problems.map((found) => ({
      name: "configuration",
      run: () => Promise.resolve({ ok: false, found }),
    })));
    return 2;
  }
}

type Env = Readonly<Record<string, string>>;

function inCluster(env: Env): boolean {
  return env["KUBERNETES_SERVICE_HOST"] !== undefined;
}

function matrixChecks(config: Config): Check[] {
  let client: HomeserverClient;
  return [
    {
      name: "configuration",
      run: () => Promise.resolve({ ok: true, found: `complete; allowed users: ${config.allowedUsers.join(", ")}` }),
    },
    {
      name: "homeserver",
      needs: ["configuration"],
      cure: "check MATRIX_HOMESERVER, and that the homeserver can be reached from here",
      address: () => config.homeserver.kind === "url" ? config.homeserver.url : config.homeserver.name,
      run: async (signal) => {
        client = new HomeserverClient(await findHomeserver(config.homeserver, signal));
        const newest = (await homeserverVersions(client, signal)).at(-1);
        return newest === undefined
          ? { ok: false, found: `${client.baseUrl} supports no version of the Matrix spec` }
          : { ok: true, found: `${client.baseUrl} (spec ${newest})` };
      },
    },
    {
      name: "login",
      needs: ["homeserver"],
      cure: "check AUTH_METHOD, MATRIX_USER and the secret that belongs to it",
      address: () => client.baseUrl,
      run: async (signal) => {
        const { userId, deviceId, loggedOut } = await tryLogin(client, config.login, signal);
        const left = loggedOut ? "logged out again" : "token left valid";
        return { ok: true, found: `${userId}, device ${deviceId} (${left})` };
      },
    },
  ];
}

function storeCheck({ storePath }: Config, env: Env): Check {
  return {
    name: "crypto store",
    needs: ["configuration"],
    cure: "check CRYPTO_STORE_PATH, and that user 1200 of the image can write there",
    run: () => {
      if (!inCluster(env) && !env["CRYPTO_STORE_PATH"]?.trim()) {
        return Promise.resolve({ ok: "skipped", found: `${storePath} is a path in a pod, and this is not one` });
      }
      const holder = probeStore(storePath);
      const found = holder === undefined ? "writable and not in use" : `in use by a running operator (${holder})`;
      return Promise.resolve({ ok: true, found: `${storePath}: ${found}` });
    },
  };
}

function oldStoreCheck(config: Config): Check {
  return {
    name: "old store",
    needs: ["configuration"],
    run: () => {
      const owner = findOldStore(config.storePath);
      const found = owner === undefined
        ? "none of the Python operator"
        : `Python operator's store of ${owner}: the next start takes it over, unless this operator has its own`;
      return Promise.resolve({ ok: true, found });
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
    cure: "see DEPLOYMENT_NAME or TARGETS, and apply the Role of deploy/base for that target",
    run: async (signal): Promise<Finding> => {
      const { allowed, resource } = await canI(api, target, verb, on, signal);
      const whose = api.context === "in-cluster" ? "" : " (your own permissions, not the operator's)";
      if (allowed) return { ok: true, found: `${resource}${whose}` };
      if (!more) return { ok: false, found: `not allowed: ${verb} ${resource}${whose}` };
      return { ok: "skipped", found: `not allowed${whose}; optional, see deploy/components/extended` };
    },
  });
  return [
    {
      name: "kubernetes",
      needs: ["configuration"],
      cure: "check KUBECONFIG or the pod's ServiceAccount, and that the API server can be reached from here",
      address: () => server,
      run: async (signal) => {
        const cluster = await openCluster(placesIn(env), signal);
        api = new KubernetesApi(cluster);
        server = api.server;
        const [version, who] = [await serverVersion(api, signal), await whoAmI(api, signal)];
        return { ok: true, found: `${api.server} (${version}, context ${api.context}, user ${who})` };
      },
    },
    ...config.targets.flatMap((target): Check[] => [
      {
        name: config.targets.length === 1 ? "target" : `target ${target.alias}`,
        needs: ["kubernetes"],
        cure: "check TARGETS, or DEPLOYMENT_NAME and DEPLOYMENT_NAMESPACE, and the Role of deploy/base",
        run: async (signal) => {
          const { desired, ready } = await new KubernetesScaler(api).read(target, signal);
          return { ok: true, found: `${target.namespace}/${target.name}: ${ready}/${desired} ready` };
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
