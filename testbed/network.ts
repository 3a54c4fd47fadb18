/**
 * Small things around ports and HTTP that the testbed's servers share.
 *
 * @module
 */

/** Below what Linux gives to outgoing connections, one of which could take a port before its server listens on it. */
const [firstPort, lastPort] = [10_000, 32_000];

/** A port of the loopback interface that nobody listens on. */
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

/** An answer that was no success. */
export class HttpError extends Error {
  /** Name of the class. */
  override readonly name = "HttpError";
  /** HTTP status. */
  readonly status: number;

  /**
   * Says what was asked and what came back.
   *
   * @param request method and path
   * @param status HTTP status
   * @param body what the server said
   */
  constructor(request: string, status: number, body: string) {
    super(`${request}: ${status} ${body.slice(0, 500)}`);
    this.status = status;
  }
}

/** How to send a request. */
export interface HttpOptions {
  /** Value of the Authorization header. */
  readonly authorization?: string | undefined;
  /** Body, sent as JSON. */
  readonly body?: unknown;
  /** Media type of the body; JSON if left out. */
  readonly contentType?: string;
  /** Certificates to trust and to show. */
  readonly client?: Deno.HttpClient | undefined;
}

/**
 * Sends a request and reads its answer, which is JSON.
 *
 * @param method HTTP method
 * @param url where to
 * @param options what with
 * @throws HttpError if the answer is no success
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
