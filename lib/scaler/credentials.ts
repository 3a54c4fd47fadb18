/**
 * What requests to a cluster carry. Its sources are files that change while we run, such as a ServiceAccount's token and
 * authority: they are read for each request, and when what connections are made with has changed, new connections are.
 *
 * @module
 */

import { ConfigError, CredentialError } from "../errors.ts";

/** What requests to a cluster carry, as it stands in its sources now. */
export interface Credentials {
  /** Base URL of the API server, without a slash at its end. */
  readonly server: string;
  /** Authorization and impersonation; a name may come several times. */
  readonly headers: readonly Header[];
  /** What connections are made with. */
  readonly tls: TlsOptions;
}

/** A header of a request. */
export type Header = readonly [name: string, value: string];

/** What connections are made with, in PEM. */
export interface TlsOptions {
  /** Authorities that are trusted besides the well-known ones. */
  readonly caCerts: readonly string[];
  /** Client certificate, with its key. */
  readonly client?: { readonly cert: string; readonly key: string } | undefined;
  /** Proxy to go through. */
  readonly proxyUrl?: string | undefined;
}

/** Where credentials come from. */
export interface CredentialSource {
  /** Name of the kubeconfig's context, or `in-cluster`. */
  readonly context: string;
  /**
   * The credentials as they are now.
   *
   * @throws ConfigError if they cannot be used; CredentialError if a token or a credential plugin is not to be had
   */
  read(signal: AbortSignal): Promise<Credentials>;
  /** They were refused: what was kept, such as the answer of a credential plugin, is to be had anew by the next read. */
  refused(): void;
}

/** What one request is made with; to be disposed of when the request is over. */
export interface Connection extends Disposable {
  /** Base URL of the API server. */
  readonly server: string;
  /** Trusts the cluster's authority, and holds the client certificate if there is one. */
  readonly client: Deno.HttpClient;
  /** Headers of the request. */
  readonly headers: readonly Header[];
}

/** A cluster and the right to talk to it. */
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
   * Reads the credentials for the first time.
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

  /** Base URL of the API server, without a slash at its end. */
  get server(): string {
    return this.#server;
  }

  /**
   * What the next request is to be made with, as the sources say now.
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

  /** The API server has refused the credentials: the next connection has them from their source anew. */
  refused(): void {
    this.#source.refused();
  }

  /** Closes its connections. */
  [Symbol.dispose](): void {
    this.#client.close();
  }

  /** Files that are replaced one after the other may not fit each other for a moment: then the last client stays. */
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

/** An HTTP client that is closed when nobody uses it any more. */
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
        // Over HTTP/2 all requests share one connection; when that is dead they hang, and so do all that come after them,
        // for as long as the kernel does not notice: about a quarter of an hour.
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

  /** Closes it when the last request is over. */
  retire(): void {
    this.#isRetired = true;
    if (this.#users === 0) this.#client.close();
  }

  /** Closes it now. */
  close(): void {
    this.#client.close();
  }
}

/** Deno's own error for a value that is not permitted would repeat the value. */
function checkHeaders(headers: readonly Header[]): void {
  try {
    new Headers(headers.map(([name, value]) => [name, value]));
  } catch {
    throw new CredentialError("Cannot use the Kubernetes credentials: they hold characters that a header cannot carry");
  }
}

/** Class of an error, such as `NotFound`: all that is certain not to repeat the content of a file. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "unknown error";
}
