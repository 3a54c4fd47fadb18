/**
 * Serves health and metrics over HTTP: `/healthz` and `/readyz` for Kubernetes' probes, `/metrics` for Prometheus.
 *
 * @module
 */

import type { Health, Verdict } from "./health.ts";
import type { Metrics } from "./metrics.ts";

/** A server that listens until it is disposed of. */
export interface HealthServer extends AsyncDisposable {
  /** Port that it listens on. */
  readonly port: number;
}

/**
 * Listens. Disposing closes the port and every connection.
 *
 * @param address host name or IP address without brackets, and port, where 0 is any free one
 * @throws Error naming the address and the cure if it can't be listened on
 */
export function serveHealth(
  address: { readonly hostname: string; readonly port: number },
  health: Health,
  metrics: Metrics,
): HealthServer {
  const closing = new AbortController();
  try {
    const server = Deno.serve(
      { ...address, signal: closing.signal, onListen: () => {} },
      (request) => answer(request, health, metrics),
    );
    return {
      port: server.addr.port,
      async [Symbol.asyncDispose]() {
        closing.abort();
        await server.finished;
      },
    };
  } catch (error) {
    const host = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `Cannot listen on ${host}:${address.port}: ${reason}. Set HTTP_ADDRESS to another address, or to off`,
      { cause: error },
    );
  }
}

async function answer(request: Request, health: Health, metrics: Metrics): Promise<Response> {
  const said = (verdict: Verdict) => text(verdict.ok ? 200 : 503, `${verdict.reason}\n`);
  const answers = new Map<string, () => Response | Promise<Response>>([
    ["/healthz", () => said(health.alive())],
    ["/readyz", () => said(health.readiness())],
    ["/metrics", async () => text(200, await metrics.text(), { "content-type": metrics.contentType })],
  ]);
  const tell = answers.get(new URL(request.url).pathname);
  if (tell === undefined) return text(404, "not found\n");
  if (request.method !== "GET" && request.method !== "HEAD") return text(405, "GET or HEAD\n", { allow: "GET, HEAD" });
  return await tell();
}

function text(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store", ...headers },
  });
}
