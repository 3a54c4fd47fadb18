/**
 * Finds the cluster: by the kubeconfig that was named, by the ServiceAccount of the pod that we run in, or by the
 * user's own kubeconfig. Knows nothing of what is asked of the cluster.
 *
 * @module
 */

import { ConfigError, CredentialError } from "../errors.ts";

/** Where pods find the token and certificate authority of their ServiceAccount. */
const SERVICE_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * For `Deno.createHttpClient`. Over HTTP/2 all requests share one connection; when that is dead they hang, and so do all
 * that come after them, for as long as the kernel does not notice: about a quarter of an hour.
 */
export const MANY_CONNECTIONS = { http2: false } as const;

/** What a request needs in order to be let in. */
export interface Credential {
  /** Trusts the cluster's certificate authority, and holds the client certificate if there is one. */
  readonly client: Deno.HttpClient;
  /** Headers of every request. */
  readonly headers: Headers;
}

/** A cluster and the right to talk to it. */
export interface Cluster extends Disposable {
  /** Name of the kubeconfig's context, or `in-cluster`. */
  readonly context: string;
  /** Base URL of the API server, without a slash at its end. */
  readonly server: string;
  /**
   * What the next request is to carry.
   *
   * @throws CredentialError
   */
  credential(signal: AbortSignal): Promise<Credential>;
  /**
   * The same, from the source anew: the last one was refused.
   *
   * @throws CredentialError | ConfigError
   */
  renew(signal: AbortSignal): Promise<Credential>;
}

/** Where to look for a cluster. Undefined means unset. */
export interface ClusterPlaces {
  /** Value of KUBECONFIG: a path, or several as PATH has them. */
  readonly kubeconfig: string | undefined;
  /** Value of KUBERNETES_SERVICE_HOST. */
  readonly serviceHost: string | undefined;
  /** Value of KUBERNETES_SERVICE_PORT. */
  readonly servicePort: string | undefined;
  /** Where pods find the token and certificate authority of their ServiceAccount. */
  readonly serviceAccountFolder: string;
  /** The user's home, where `.kube/config` may be. */
  readonly home: string | undefined;
}

/** The places that an environment names. */
export function placesIn(env: Readonly<Record<string, string | undefined>>): ClusterPlaces {
  return {
    kubeconfig: env["KUBECONFIG"],
    serviceHost: env["KUBERNETES_SERVICE_HOST"],
    servicePort: env["KUBERNETES_SERVICE_PORT"],
    serviceAccountFolder: SERVICE_ACCOUNT_FOLDER,
    home: env["HOME"],
  };
}

/**
 * Opens the cluster: KUBECONFIG if it is set, else the one that we run in, else `~/.kube/config`.
 *
 * @throws ConfigError if there is none, or it cannot be used; CredentialError if its login helper failed
 */
export async function openCluster(places: ClusterPlaces, signal: AbortSignal): Promise<Cluster> {
  signal.throwIfAborted();
  const { kubeconfig, serviceHost, servicePort, serviceAccountFolder, home } = places;
  if (kubeconfig !== undefined) {
    const paths = kubeconfig.split(Deno.build.os === "windows" ? ";" : ":").filter((path) => path !== "");
    return await openKubeconfig("KUBECONFIG", paths, signal);
  }
  if (serviceHost !== undefined && await exists(`${serviceAccountFolder}/token`)) {
    return await openInCluster(serviceHost, servicePort ?? "443", serviceAccountFolder);
  }
  const own = home === undefined ? undefined : `${home}/.kube/config`;
  if (own !== undefined && await exists(own)) return await openKubeconfig("~/.kube/config", [own], signal);
  throw new ConfigError([
    "Cannot find a Kubernetes cluster: KUBECONFIG is not set; this is no pod of a cluster " +
    `(${
      serviceHost === undefined ? "KUBERNETES_SERVICE_HOST is not set" : `there is no ${serviceAccountFolder}/token`
    }); ` +
    `and there is no ${own ?? "~/.kube/config"}`,
  ]);
}

/** Loads the kubeconfig reader, and with it client-node, only where it is needed: it costs some 80 MB of memory. */
async function openKubeconfig(setting: string, paths: readonly string[], signal: AbortSignal): Promise<Cluster> {
  const { KubeconfigCluster } = await import("./kubeconfig.ts");
  return await KubeconfigCluster.open(setting, paths, signal);
}

async function openInCluster(host: string, port: string, folder: string): Promise<Cluster> {
  const caPath = `${folder}/ca.crt`;
  let client: Deno.HttpClient;
  try {
    client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(caPath)], ...MANY_CONNECTIONS });
  } catch (error) {
    throw new ConfigError([`Cannot use the cluster's certificate authority ${caPath}: ${nameOf(error)}`]);
  }
  // The kubelet replaces the token long before it expires. Reading it each time is cheap and never out of date.
  // deno-lint-ignore require-await -- other clusters wait for their credentials
  const credential = async (signal: AbortSignal): Promise<Credential> => {
    signal.throwIfAborted();
    return { client, headers: headersOf({ authorization: `Bearer ${readToken(`${folder}/token`)}` }) };
  };
  return {
    context: "in-cluster",
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    credential,
    renew: credential,
    [Symbol.dispose]: () => client.close(),
  };
}

function readToken(path: string): string {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch (error) {
    throw new CredentialError(`Cannot read the ServiceAccount's token ${path}: ${nameOf(error)}`);
  }
}

/**
 * Headers from names and values. Deno's own error for a value that is not permitted would repeat the value.
 *
 * @throws CredentialError
 */
export function headersOf(values: Readonly<Record<string, string>>): Headers {
  try {
    return new Headers(values);
  } catch {
    throw new CredentialError("Cannot use the Kubernetes credentials: they hold characters that a header cannot carry");
  }
}

/** Class of an error, such as `NotFound`: all that is certain not to repeat the content of a file. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "unknown error";
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw new ConfigError([`Cannot look for ${path}: ${nameOf(error)}`]);
  }
}
