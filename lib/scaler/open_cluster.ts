/**
 * Finds the cluster: by KUBECONFIG, by the ServiceAccount of the pod that we run in, or by the user's own kubeconfig.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";
import { Cluster, type CredentialSource, nameOf } from "./credentials.ts";
import { inClusterSource } from "./in_cluster.ts";

/** What says where the cluster is; undefined means unset. */
export interface ClusterEnvironment {
  /** Value of KUBECONFIG: one path, or several separated as in PATH. Empty means unset. */
  readonly kubeconfig: string | undefined;
  /** Value of KUBERNETES_SERVICE_HOST. */
  readonly serviceHost: string | undefined;
  /** Value of KUBERNETES_SERVICE_PORT. */
  readonly servicePort: string | undefined;
  /** Folder in which pods find their ServiceAccount's token and CA certificate. */
  readonly serviceAccountFolder: string;
  /** The user's home, which may contain `.kube/config`. */
  readonly home: string | undefined;
}

/** Reads it from environment variables. */
export function clusterEnvironment(env: Readonly<Record<string, string | undefined>>): ClusterEnvironment {
  return {
    kubeconfig: env["KUBECONFIG"],
    serviceHost: env["KUBERNETES_SERVICE_HOST"],
    servicePort: env["KUBERNETES_SERVICE_PORT"],
    serviceAccountFolder: "/var/run/secrets/kubernetes.io/serviceaccount",
    home: env["HOME"],
  };
}

/**
 * Opens the cluster of KUBECONFIG if it is set, else the one that we run in, else the one of `~/.kube/config`.
 *
 * @throws ConfigError if there is none or it can't be used; CredentialError if its credential plugin fails
 */
export async function openCluster(environment: ClusterEnvironment, signal: AbortSignal): Promise<Cluster> {
  signal.throwIfAborted();
  return await Cluster.open(await findSource(environment), signal);
}

async function findSource(environment: ClusterEnvironment): Promise<CredentialSource> {
  const { kubeconfig, serviceHost, servicePort, serviceAccountFolder, home } = environment;
  if (kubeconfig) {
    const separator = Deno.build.os === "windows" ? ";" : ":";
    return await kubeconfigSource("KUBECONFIG", kubeconfig.split(separator).filter((path) => path !== ""));
  }
  if (serviceHost !== undefined && await exists(`${serviceAccountFolder}/token`)) {
    return inClusterSource(serviceHost, servicePort ?? "443", serviceAccountFolder);
  }
  const own = home === undefined ? undefined : `${home}/.kube/config`;
  if (own !== undefined && await exists(own)) return await kubeconfigSource("~/.kube/config", [own]);
  const noPod = serviceHost === undefined
    ? "KUBERNETES_SERVICE_HOST is not set"
    : `there is no ${serviceAccountFolder}/token`;
  throw new ConfigError([
    `KUBECONFIG: not set, and there is no cluster without it: this is not a pod (${noPod}), and there is no ${
      own ?? "~/.kube/config"
    }`,
  ]);
}

/** Loads the YAML parser only if there is a kubeconfig; a pod doesn't need it. */
async function kubeconfigSource(setting: string, paths: readonly string[]): Promise<CredentialSource> {
  const { KubeconfigSource } = await import("./kubeconfig.ts");
  return new KubeconfigSource(setting, paths);
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw new ConfigError([`Can't look for ${path}: ${nameOf(error)}`]);
  }
}
