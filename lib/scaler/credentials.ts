/**
 * Credentials and connections for a cluster. The credentials come from files that change while we run, such as a
 * ServiceAccount's token and CA certificate. They are read before every request; if the TLS options have changed, new
 * connections are made.
 *
 * @module
 */

import { ConfigError, CredentialError } from "../errors.ts";

/** Credentials for a cluster, as last read from their source. */
export interface Credentials {
  /** Base URL of the API server, without a trailing slash. */
  readonly server: string;
  /** Authorization and impersonation headers. A name may occur more than once. */
  readonly headers: readonly Header[];
  /** TLS and proxy settings of connections. */
  readonly tls: TlsOptions;
}

/** A request header. */
export type Header = readonly [name: string, value: string];

/** TLS and proxy settings of connections; certificates and key are PEM. */
export interface TlsOptions {
  /** CA certificates trusted in addition to the well-known ones. */
  readonly caCerts: readonly string[];
  /** Client certificate, with its key. */
  readonly client?: { readonly cert: string; readonly key: string } | undefined;
  /** Proxy to connect through. */
  readonly proxyUrl?: string | undefined;
}

/** A source of credentials. */
export interface CredentialSource {
  /** Name of the kubeconfig's context, or `in-cluster`. */
  readonly context: string;
  /**
   * Reads the current credentials.
   *
   * @throws ConfigError if they can't be used; CredentialError if a token can't be read or a credential plugin fails
   */
  read(signal: AbortSignal): Promise<Credentials>;
  /**
   * Reports that the credentials were refused. The next read discards cached ones, such as those of a credential
   * plugin.
   */
  invalidate(): void;
}

/** What one request is sent with. Dispose of it when the request has ended. */
export interface Connection extends Disposable {
  /** Base URL of the API server. */
  readonly server: string;
  /** HTTP client that trusts the cluster's CA and presents the client certificate, if there is one. */
  readonly client: Deno.HttpClient;
  /** Headers of the request. */
  readonly headers: readonly Header[];
}

/** A cluster, with the credentials to access it. */
export class Cluster implements Disposable {
  readonly #source: CredentialSource;
  #server: string;
  #client: SharedClient;

  private constructor(source: CredentialSource, { server, tls }: Credentials) {
    this.#source = source;
    this.#server = server;
    this.#client = new SharedClient(tls, source.context);
  }

  /**
   * Opens a cluster, reading its credentials once.
   *
   * @throws ConfigError | CredentialError
   */
  static async open(source: CredentialSource, signal: AbortSignal): Promise<Cluster> {
    const credentials = await source.read(signal);
    checkHeaders(credentials.headers);
    return new Cluster(source, credentials);
  }

  /** Name of the kubeconfig's context, or `in-cluster`. */
  get context(): string {
    return this.#source.context;
  }

  /** Base URL of the API server, without a trailing slash. */
  get server(): string {
    return this.#server;
  }

  /**
   * Returns a connection for the next request, with current credentials.
   *
   * @throws ConfigError | CredentialError
   */
  async connect(signal: AbortSignal): Promise<Connection> {
    const { server, headers, tls } = await this.#source.read(signal);
    checkHeaders(headers);
    this.#server = server;
    if (!this.#client.isOf(tls)) this.#replaceClient(tls);
    return { server, headers, ...this.#client.lend() };
  }

  /** Reports that the API server refused the credentials. The next connection gets new ones from their source. */
  invalidateCredentials(): void {
    this.#source.invalidate();
  }

  /** Closes its connections. */
  [Symbol.dispose](): void {
    this.#client.close();
  }

  /**
   * Keeps the old client if the new one can't be made: while files are replaced one by one, certificate and key may not
   * match for a moment.
   */
  #replaceClient(tls: TlsOptions): void {
    let client: SharedClient;
    try {
      client = new SharedClient(tls, this.context);
    } catch (error) {
      if (error instanceof ConfigError) return;
      throw error;
    }
    this.#client.retire();
    this.#client = client;
  }
}

/** A reference-counted HTTP client, closed when its last user is done. */
class SharedClient {
  readonly #client: Deno.HttpClient;
  readonly #tls: string;
  #users = 0;
  #isRetired = false;

  /** @throws ConfigError */
  constructor(tls: TlsOptions, context: string) {
    this.#tls = JSON.stringify(tls);
    const { caCerts, client, proxyUrl } = tls;
    try {
      this.#client = Deno.createHttpClient({
        // HTTP/2 sends all requests over one connection. If that connection is dead, every request hangs until the
        // kernel notices, which takes about 15 minutes.
        http2: false,
        caCerts: [...caCerts],
        ...client,
        ...(proxyUrl === undefined ? {} : { proxy: { url: proxyUrl } }),
      });
    } catch (error) {
      throw new ConfigError([
        `Can't connect to the cluster (${context}): its certificates, key or proxy-url can't be used (${
          nameOf(error)
        })`,
      ]);
    }
  }

  isOf(tls: TlsOptions): boolean {
    return this.#tls === JSON.stringify(tls);
  }

  lend(): Pick<Connection, "client" | typeof Symbol.dispose> {
    this.#users += 1;
    return {
      client: this.#client,
      [Symbol.dispose]: () => {
        this.#users -= 1;
        if (this.#isRetired && this.#users === 0) this.#client.close();
      },
    };
  }

  /** Closes the client once the last request has ended. */
  retire(): void {
    this.#isRetired = true;
    if (this.#users === 0) this.#client.close();
  }

  /** Closes the client now. */
  close(): void {
    this.#client.close();
  }
}

/** Checks the headers here, because Deno's own error for an invalid value would repeat the value. */
function checkHeaders(headers: readonly Header[]): void {
  try {
    new Headers(headers.map(([name, value]) => [name, value]));
  } catch {
    throw new CredentialError("Cannot use the Kubernetes credentials: they hold characters that a header cannot carry");
  }
}

/** Name of an error's class, such as `NotFound`. Unlike its message, it can't quote the content of a file. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "unknown error";
}
