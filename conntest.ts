/**
 * The connection test: looks at everything that the operator will need, changes nothing, leaves nothing behind.
 *
 * @module
 */

import { type Config, readConfig } from "./lib/config/mod.ts";
import { ConfigError } from "./lib/errors/mod.ts";
import type { Target } from "./lib/operator/mod.ts";
import {
  canI,
  KubernetesApi,
  KubernetesScaler,
  openCluster,
  serverVersion,
  SERVICE_ACCOUNT_FOLDER,
  whoAmI,
} from "./lib/scaler/mod.ts";
import { type Check, type Finding, runChecks } from "./lib/service/mod.ts";
import { findHomeserver, homeserverVersions, Requests, tryLogin } from "./lib/session/mod.ts";
import { findOldStore } from "./lib/takeover/mod.ts";

if (import.meta.main) Deno.exit(await connectionTest());

/**
 * Runs the test on the environment's configuration and prints a line for each check.
 *
 * @returns exit code: 0 if all is well, 1 if not, 2 if the configuration is wrong
 */
export async function connectionTest(): Promise<number> {
  const env = Deno.env.toObject();
  let config: Config;
  try {
    config = readConfig(env, {
      inCluster: env["KUBERNETES_SERVICE_HOST"] !== undefined,
      terminal: Deno.stdout.isTerminal(),
      readFile: Deno.readTextFileSync,
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) console.log(`✘ configuration: ${problem}`);
    return 2;
  }
  const ending = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => ending.abort());
  const well = await runChecks([...matrixChecks(config), storeCheck(config), ...kubernetesChecks(config, env)], {
    print: (line) => console.log(line),
    colour: Deno.stdout.isTerminal() && env["NO_COLOR"] === undefined,
    signal: ending.signal,
  });
  return well ? 0 : 1;
}

function matrixChecks(config: Config): Check[] {
  let requests: Requests;
  return [
    {
      name: "configuration",
      run: () =>
        Promise.resolve({ ok: true, found: `complete; commands are taken from ${config.allowedUsers.join(", ")}` }),
    },
    {
      name: "homeserver",
      needs: ["configuration"],
      run: async (signal) => {
        requests = new Requests(await findHomeserver(config.homeserver, signal));
        const versions = await homeserverVersions(requests, signal);
        const newest = versions.at(-1);
        return newest === undefined
          ? {
            ok: false,
            found: `${requests.baseUrl} names no version of Matrix`,
            cure: "set MATRIX_HOMESERVER to a homeserver",
          }
          : { ok: true, found: `${requests.baseUrl} speaks Matrix up to ${newest}` };
      },
    },
    {
      name: "login",
      needs: ["homeserver"],
      run: async (signal) => {
        const { userId, deviceId, loggedOut } = await tryLogin(requests, config.login, signal);
        return {
          ok: true,
          found: `${userId}, device ${deviceId}, ${
            loggedOut ? "which was logged out again" : "whose token is left as it is"
          }`,
        };
      },
    },
  ];
}

function storeCheck(config: Config): Check {
  return {
    name: "store of the Python operator",
    needs: ["configuration"],
    run: () => {
      const owner = findOldStore(config.storePath);
      const found = owner === undefined
        ? "there is none"
        : `${owner}; the next start takes it over, unless this operator has one there itself`;
      return Promise.resolve({ ok: true, found });
    },
  };
}

function kubernetesChecks(config: Config, env: Readonly<Record<string, string>>): Check[] {
  let api: KubernetesApi;
  // One target needs no naming; of several each has checks of its own.
  const of = ({ alias }: Target): string => config.targets.length === 1 ? "" : ` of ${alias}`;
  const permission = (target: Target, verb: string, subresource: "scale" | undefined): Check => ({
    name: `permission to ${verb} ${target.kind}s${subresource === undefined ? "" : `/${subresource}`}${of(target)}`,
    needs: ["kubernetes"],
    run: async (signal): Promise<Finding> => {
      const { allowed, resource } = await canI(api, target, verb, subresource, signal);
      return allowed
        ? {
          ok: true,
          found: api.context === "in-cluster" ? resource : `${resource} (your own permissions, not the operator's)`,
        }
        : { ok: false, found: `not permitted: ${verb} ${resource}`, cure: "apply the Role in the README" };
    },
  });
  return [
    {
      name: "kubernetes",
      needs: ["configuration"],
      run: async (signal) => {
        const cluster = await openCluster({
          kubeconfig: env["KUBECONFIG"],
          serviceHost: env["KUBERNETES_SERVICE_HOST"],
          servicePort: env["KUBERNETES_SERVICE_PORT"],
          serviceAccountFolder: SERVICE_ACCOUNT_FOLDER,
          home: env["HOME"],
        }, signal);
        api = new KubernetesApi(cluster);
        const [version, who] = [await serverVersion(api, signal), await whoAmI(api, signal)];
        return { ok: true, found: `${version} at ${api.server}, context ${api.context}, as ${who}` };
      },
    },
    ...config.targets.flatMap((target): Check[] => [
      {
        name: config.targets.length === 1 ? "target" : `target ${target.alias}`,
        needs: ["kubernetes"],
        run: async (signal) => {
          const { desired, ready } = await new KubernetesScaler(api).read(target, signal);
          return { ok: true, found: `${target.namespace}/${target.name}: ${ready}/${desired} ready` };
        },
      },
      permission(target, "get", undefined),
      permission(target, "get", "scale"),
      permission(target, "patch", "scale"),
    ]),
  ];
}
