/**
 * Serves health and metrics over HTTP: `/healthz` and `/readyz` for Kubernetes' probes, `/metrics` for Prometheus.
 * Anyone in the cluster may connect, so connections, headers and time per client are limited.
 *
 * It uses node:http, because Deno.serve has no such limits (2.9.6), and prom-client loads node:http anyway.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { errorMessage } from "../errors.ts";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { HttpAddress } from "../config/mod.ts";
import type { Health, HealthStatus } from "./health.ts";
import type { Metrics } from "./metrics.ts";

const logger = getLogger(["openclaw-toggle", "service"]);

/** Most connections at once. One more closes the oldest, so that a client holding them all can't lock out a probe. */
const MAX_CONNECTIONS = 64;
/** Limits of node:http. Times are milliseconds. */
const BOUNDS = {
  /** Until the headers of a request are complete. */
  headersTimeout: 5_000,
  /** Until the whole request is received. */
  requestTimeout: 10_000,
  /** Until the next request on the connection. */
  keepAliveTimeout: 5_000,
  /** How often the first two are checked. */
  connectionsCheckingInterval: 1_000,
  /** Bytes of headers. */
  maxHeaderSize: 8_192,
} as const;
/** Longest inactivity of a connection, such as a client that doesn't read its response, in milliseconds. */
const IDLE_MS = 15_000;

/** A running server. Disposing stops it. */
export interface HealthServer extends AsyncDisposable {
  /** Port that the server listens on. */
  readonly port: number;
}

/**
 * Starts the server. Disposing closes the port and all connections.
 *
 * @throws Error naming the address and a remedy if it can't listen there
 */
export async function serveHealth(
  address: HttpAddress,
  health: Health,
  metrics: Metrics,
): Promise<HealthServer> {
  const server = createServer(BOUNDS, (request, response) => {
    answer(request, response, health, metrics).catch((error) => {
      logger.error("failed to answer {path}: {reason}", { path: request.url, reason: String(error), error });
      response.destroy();
    });
  });
  server.timeout = IDLE_MS;
  server.on("clientError", (_, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    else socket.destroy();
  });
  const connections = new Set<Socket>();
  server.on("connection", (socket) => {
    socket.on("close", () => connections.delete(socket));
    connections.add(socket);
    const [oldest] = connections;
    if (connections.size > MAX_CONNECTIONS) oldest?.destroy();
  });

  const listen = async (host: string): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ host, port: address.port }, resolve);
    await promise;
    server.off("error", reject);
  };
  const { fallback } = address;
  try {
    await listen(address.hostname).catch(async (error) => {
      if (fallback === undefined || error.code !== "EAFNOSUPPORT") throw error;
      logger.info("listening on {fallback}: this machine has no {hostname}", { fallback, hostname: address.hostname });
      await listen(fallback);
    });
  } catch (error) {
    const host = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
    const reason = errorMessage(error);
    throw new Error(
      `Cannot listen on ${host}:${address.port}: ${reason}. Set HTTP_ADDRESS to another address, or to off`,
      { cause: error },
    );
  }
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of connections) socket.destroy();
      await closed;
    },
  };
}

async function answer(
  { method, url = "", headers: { host } }: IncomingMessage,
  response: ServerResponse,
  health: Health,
  metrics: Metrics,
): Promise<void> {
  const say = (status: number, body: string, headers: Record<string, string> = {}): void => {
    response.writeHead(status, {
      "content-type": "text/plain; charset=utf-8",
      "content-length": new TextEncoder().encode(body).length,
      "cache-control": "no-store",
      ...headers,
    });
    response.end(method === "HEAD" ? "" : body);
  };
  const tell = ({ ok, reason }: HealthStatus): void => say(ok ? 200 : 503, `${reason}\n`);
  const answers = new Map<string, () => void | Promise<void>>([
    ["/healthz", () => tell(health.alive())],
    ["/readyz", () => tell(health.readiness())],
    ["/metrics", async () => say(200, await metrics.text(), { "content-type": metrics.contentType })],
  ]);
  // RFC 9112, 3.2 requires 400 for an invalid Host.
  if (!URL.canParse(`http://${host}`)) return say(400, "invalid Host\n");
  const act = answers.get(url.replace(/\?.*$/s, ""));
  if (act === undefined) return say(404, "not found\n");
  if (method !== "GET" && method !== "HEAD") return say(405, "GET or HEAD\n", { allow: "GET, HEAD" });
  await act();
}
