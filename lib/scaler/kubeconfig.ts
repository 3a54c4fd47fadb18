/**
 * A cluster by kubeconfig, read and logged in to by client-node's own methods: tokens, client certificates, login
 * helpers (exec plugins), OIDC. Importing this file loads client-node.
 *
 * @module
 */

import { type Cluster as ConfiguredCluster, KubeConfig } from "@kubernetes/client-node";
import type { RequestOptions } from "node:https";
import { ConfigError, CredentialError } from "../errors.ts";
import { type Cluster, type Credential, headersOf, MANY_CONNECTIONS, nameOf } from "./cluster.ts";

/** A cluster by kubeconfig. The context stays the one that was current when it was opened. */
export class KubeconfigCluster implements Cluster {
  readonly context: string;
  readonly server: string;
  readonly #source: Source;
  #credential: Credential;

  private constructor(source: Source, context: string, server: string, credential: Credential) {
    this.#source = source;
    this.context = context;
    this.server = server;
    this.#credential = credential;
  }

  /**
   * Reads the files and logs in.
   *
   * @param setting what named the files, for messages
   * @param paths the files; where several say the same, the first one counts, and missing ones are passed over, as
   * kubectl does
   * @throws ConfigError | CredentialError
   */
  static async open(setting: string, paths: readonly string[], signal: AbortSignal): Promise<KubeconfigCluster> {
    const source: Source = { setting, paths };
    const { config, context, cluster } = await load(source, undefined);
    return new KubeconfigCluster(source, context, cluster.server, await logIn(source, config, cluster, signal));
  }

  credential(signal: AbortSignal): Promise<Credential> {
    signal.throwIfAborted();
    return Promise.resolve(this.#credential);
  }

  async renew(signal: AbortSignal): Promise<Credential> {
    const { config, cluster } = await load(this.#source, this.context);
    const renewed = await logIn(this.#source, config, cluster, signal);
    this.#credential.client.close();
    this.#credential = renewed;
    return renewed;
  }

  [Symbol.dispose](): void {
    this.#credential.client.close();
  }
}

interface Source {
  readonly setting: string;
  readonly paths: readonly string[];
}

function unusable(source: Source, why: string): ConfigError {
  return new ConfigError([`${source.setting}: cannot use ${source.paths.join(" and ") || '""'}: ${why}`]);
}

async function load(source: Source, wanted: string | undefined) {
  const config = new KubeConfig();
  let found = 0;
  for (const path of source.paths) {
    try {
      await Deno.lstat(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw unusable(source, nameOf(error));
    }
    found += 1;
    const next = new KubeConfig();
    try {
      next.loadFromFile(path);
    } catch (error) {
      // A parser's message may show the lines around the error, and those may hold keys.
      const missing = error instanceof Error &&
        /^(clusters|contexts|users)\[\d+\][\w.]* is missing$/.test(error.message);
      throw unusable(source, missing ? error.message : `no kubeconfig can be read from it (${nameOf(error)})`);
    }
    next.clusters = next.clusters.filter(({ name }) => config.getCluster(name) === null);
    next.users = next.users.filter(({ name }) => config.getUser(name) === null);
    next.contexts = next.contexts.filter(({ name }) => config.getContextObject(name) === null);
    config.mergeConfig(next, Boolean(config.getCurrentContext()));
  }
  if (found === 0) throw unusable(source, "no such file");

  const known = config.getContexts().map(({ name }) => name).join(", ") || "none";
  const name = wanted ?? config.getCurrentContext();
  if (!name) throw unusable(source, `it has no current-context; its contexts: ${known}`);
  config.setCurrentContext(name);
  const context = config.getContextObject(name);
  if (context === null) throw unusable(source, `it has no context "${name}"; its contexts: ${known}`);
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw unusable(source, `context "${name}" names cluster "${context.cluster}", which is missing`);
  }
  if (config.getCurrentUser() === null) {
    throw unusable(source, `context "${name}" names user "${context.user ?? ""}", which is missing`);
  }
  return { config, context: name, cluster };
}

async function logIn(
  source: Source,
  config: KubeConfig,
  cluster: ConfiguredCluster,
  signal: AbortSignal,
): Promise<Credential> {
  const encrypted = !cluster.server.startsWith("http:");
  if (encrypted && cluster.skipTLSVerify) {
    throw unusable(source, "insecure-skip-tls-verify is not supported; give certificate-authority-data instead");
  }
  if (cluster.tlsServerName) throw unusable(source, "tls-server-name is not supported");
  const command = config.getCurrentUser()?.exec?.command;
  if (typeof command === "string") await mayRun(source, command);

  // client-node refuses plain HTTP otherwise; there is nothing to verify then.
  if (!encrypted) Object.assign(cluster, { skipTLSVerify: true });
  const options: RequestOptions = {};
  try {
    await abortable(config.applyToHTTPSOptions(options), signal);
  } catch (error) {
    signal.throwIfAborted();
    const why = command === undefined ? nameOf(error) : `"${command}" failed; run it by hand to see why`;
    throw new CredentialError(`Cannot log in with ${source.paths.join(" and ")}: ${why}`, { cause: error });
  }
  return { client: httpClient(source, cluster, options), headers: headersOf(textValues(options.headers)) };
}

/** Only `deno task conntest` and `deno task dev` may start other programs. */
async function mayRun(source: Source, command: string): Promise<void> {
  const { state } = await Deno.permissions.query({ name: "run", command });
  if (state === "granted") return;
  throw unusable(
    source,
    `its user logs in by running "${command}", which this program may not do; \`deno task conntest\` and ` +
      "`deno task dev` may, or give the user a token or a client certificate",
  );
}

function httpClient(source: Source, cluster: ConfiguredCluster, options: RequestOptions): Deno.HttpClient {
  const { ca, cert, key } = options;
  try {
    return Deno.createHttpClient({
      ...MANY_CONNECTIONS,
      caCerts: ca ? [String(ca)] : [],
      ...(cert && key ? { cert: String(cert), key: String(key) } : {}),
      ...(cluster.proxyUrl ? { proxy: { url: cluster.proxyUrl } } : {}),
    });
  } catch (error) {
    throw unusable(source, `its certificates, key or proxy-url cannot be used (${nameOf(error)})`);
  }
}

function textValues(headers: RequestOptions["headers"]): Record<string, string> {
  return Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value).trim()]));
}

/** The promise, or the signal's reason if that comes first: client-node's methods take no signal. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
