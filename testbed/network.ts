/**
 * Ports and HTTP requests, shared by the testbed's servers.
 *
 * @module
 */

/** Below Linux' range for outgoing connections, one of which could take a port before its server listens on it. */
const [firstPort, lastPort] = [10_000, 32_000];

/** Finds an unused port of the loopback interface. */
export function freePort(): number {
  for (;;) {
    const port = firstPort + Math.floor(Math.random() * (lastPort - firstPort));
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

/** An unsuccessful response. */
export class HttpError extends Error {
  /** Name of the class. */
  override readonly name = "HttpError";
  /** HTTP status. */
  readonly status: number;
  /** What the server said. */
  readonly body: string;

  /**
   * Makes an error with the request and its response.
   *
   * @param request method and path
   * @param status HTTP status
   * @param body response body
   */
  constructor(request: string, status: number, body: string) {
    super(`${request}: ${status} ${body.slice(0, 500)}`);
    this.status = status;
    this.body = body;
  }
}

/** Options of {@linkcode httpJson}. */
export interface HttpOptions {
  /** Value of the Authorization header. */
  readonly authorization?: string | undefined;
  /** Body, sent as JSON. */
  readonly body?: unknown;
  /** Content type of the body. Default: JSON. */
  readonly contentType?: string;
  /** Client with the certificates to trust and to present. */
  readonly client?: Deno.HttpClient | undefined;
}

/**
 * Sends a request and parses its JSON response.
 *
 * @param method HTTP method
 * @param url request URL
 * @param options headers, body and client
 * @throws HttpError if the request fails
 */
// deno-lint-ignore no-explicit-any
export async function httpJson(method: string, url: string, options: HttpOptions = {}): Promise<any> {
  const headers = new Headers();
  if (options.authorization) headers.set("authorization", options.authorization);
  if (options.body !== undefined) headers.set("content-type", options.contentType ?? "application/json");
  const response = await fetch(url, {
    method,
    headers,
    body: options.body === undefined ? null : JSON.stringify(options.body),
    signal: AbortSignal.timeout(30_000),
    ...(options.client ? { client: options.client } : {}),
  });
  const text = await response.text();
  if (!response.ok) throw new HttpError(`${method} ${new URL(url).pathname}`, response.status, text);
  return text === "" ? undefined : JSON.parse(text);
}
