/**
 * Proxy between a program and a server that injects faults and counts requests. Understands HTTP and TLS, but not the
 * protocols on top.
 *
 * @module
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { Socket } from "node:net";
import { freePort } from "./network.ts";

/** A fault. */
export type Fault =
  /** Connections are refused. */
  | { readonly kind: "refuse" }
  /** Requests get no response. `forGood`: these connections stay silent even after the fault has ended. */
  | (Selection & { readonly kind: "silent"; readonly forGood?: boolean })
  /** Headers and half of the body arrive, then nothing more. `forGood` as above. */
  | (Selection & { readonly kind: "stall"; readonly forGood?: boolean })
  /** The server processes the request, but the connection breaks before the response is complete. */
  | (Selection & { readonly kind: "drop" })
  /** Every request takes this much longer, in milliseconds. */
  | (Selection & { readonly kind: "delay"; readonly ms: number })
  /** A fixed response, without asking the server. A body that isn't a string is sent as JSON. */
  | (Selection & {
    readonly kind: "answer";
    readonly status: number;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: unknown;
  })
  /** The server's response, modified. Responses that aren't JSON, and watches, pass unchanged. */
  | (Selection & { readonly kind: "rewrite"; readonly rewrite: (answer: Answered) => Answered | Promise<Answered> })
  /** A response made for each request, byte for byte; undefined passes the server's own. */
  | (Selection & { readonly kind: "forge"; readonly forge: Forge });

/** Makes a response. `ask` forwards the request to the server and returns the real response. */
export type Forge = (request: RequestInfo, ask: () => Promise<Forged>) => Promise<Forged | undefined>;

/** A response as sent over the wire. */
export interface Forged {
  /** HTTP status, 200 to 999. */
  readonly status: number;
  /** Headers. */
  readonly headers: Readonly<Record<string, string>>;
  /** Body. */
  readonly body: string;
  /**
   * What follows the body. `end`: the response is complete. `drop`: the connection breaks, although more was announced.
   * `stall`: nothing more is sent until it is released.
   */
  readonly then: "end" | "drop" | "stall";
}

/** A response that a fault may change. */
export interface Answered {
  /** HTTP status. */
  readonly status: number;
  /** Parsed JSON. */
  // deno-lint-ignore no-explicit-any -- whatever the server says
  readonly body: any;
}

/** A fault of individual requests. */
export type StandingFault = Exclude<Fault, { kind: "refuse" }>;

interface Selection {
  /** Limits the fault to these requests. */
  readonly when?: (request: RequestInfo) => boolean;
}

/** The parts of a request that a fault may look at. */
export interface RequestInfo {
  /** HTTP method. */
  readonly method: string;
  /** Path without its query. */
  readonly path: string;
  /** Path and query. */
  readonly url: string;
  /** Value of the Authorization header; empty if there is none. */
  readonly authorization: string;
}

/** The server behind the proxy. */
export interface Upstream {
  /** Base URL. */
  readonly url: string;
  /** CA certificate to trust, PEM; only for a server with TLS. */
  readonly authority?: string;
}

/** Certificate and key of the proxy, both PEM, for clients that use TLS. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
}

/** Hop-by-hop headers, and those of a content encoding that is decoded on the way. */
const ownHeaders = ["accept-encoding", "connection", "content-encoding", "content-length", "host", "transfer-encoding"];

/** A proxy that listens until it is disposed of. */
export class FaultProxy implements AsyncDisposable {
  /** Base URL. Never changes. */
  readonly url: string;
  readonly #port = freePort();
  readonly #upstream: string;
  readonly #client: Deno.HttpClient;
  readonly #arrivals: { readonly atMs: number; readonly request: RequestInfo }[] = [];
  readonly #sockets = new Set<Socket>();
  /** Connections silenced by a fault, until it ends. */
  readonly #hung = new Set<Socket>();
  #server: Server | undefined;
  #fault: Fault | undefined;
  /** Additional faults, which start and end independently. */
  readonly #others = new Set<StandingFault>();

  readonly #certificate: ServerCertificate | undefined;

  private constructor(upstream: Upstream, certificate: ServerCertificate | undefined) {
    this.url = `${certificate ? "https" : "http"}://127.0.0.1:${this.#port}`;
    this.#certificate = certificate;
    this.#upstream = upstream.url.replace(/\/+$/, "");
    this.#client = Deno.createHttpClient(upstream.authority ? { caCerts: [upstream.authority] } : {});
  }

  /** Starts listening, without faults. */
  static async start(upstream: Upstream, certificate?: ServerCertificate): Promise<FaultProxy> {
    const proxy = new FaultProxy(upstream, certificate);
    await proxy.#listen();
    return proxy;
  }

  /** Starts a fault. Open connections break, unless the fault is silence or a stall, or is selective. */
  async setFault(fault: Fault): Promise<void> {
    this.#fault = fault;
    const keeps = fault.kind === "silent" || fault.kind === "stall" || ("when" in fault);
    if (fault.kind === "refuse") await this.#stopListening();
    else if (!keeps) this.interrupt();
  }

  /** Ends the fault. Connections that it kept waiting break, as after a restart of a server. */
  async clearFault(): Promise<void> {
    const { kind } = this.#fault ?? {};
    this.#fault = undefined;
    if (kind === "refuse") await this.#listen();
    this.release();
  }

  /** Breaks all open connections, such as long polls and watches. */
  interrupt(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Breaks the connections kept waiting so far. The fault, if any, goes on. */
  release(): void {
    for (const socket of this.#hung) socket.destroy();
  }

  /** Starts an additional fault; disposing of the result ends it. If several match, the latest one applies. */
  addFault(fault: StandingFault): Disposable {
    this.#others.add(fault);
    return { [Symbol.dispose]: () => void this.#others.delete(fault) };
  }

  /** Counts the requests since a time of `performance.now()`, optionally only the matching ones. */
  arrivedSince(beginMs: number, isMeant: (request: RequestInfo) => boolean = () => true): number {
    return this.#arrivals.filter(({ atMs, request }) => atMs >= beginMs && isMeant(request)).length;
  }

  /** Stops listening and breaks open connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stopListening();
    this.#client.close();
  }

  async #listen(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    const server = this.#certificate ? createSecureServer(this.#certificate, listener) : createServer(listener);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket) && this.#hung.delete(socket));
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(this.#port, "127.0.0.1", resolve);
    await promise;
    this.#server = server;
  }

  async #stopListening(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = Promise.withResolvers<void>();
    if (server === undefined) closed.resolve();
    else server.close(() => closed.resolve());
    this.interrupt();
    await closed.promise;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#arrivals.push({ atMs: performance.now(), request: requestInfo(request) });
    const fault = this.#activeFault(request);
    if (fault?.kind === "answer") return answerWith(response, fault);
    if (fault?.kind === "silent") return this.#silence(request, fault.forGood);
    try {
      if (fault?.kind === "forge") return await this.#forge(fault.forge, request, response);
      if (fault?.kind === "delay") await new Promise((resolve) => setTimeout(resolve, fault.ms));
      await this.#forward(request, response);
    } catch {
      // One end has disconnected, so disconnect the other.
      request.socket.destroy();
    }
  }

  #activeFault(request: IncomingMessage): StandingFault | undefined {
    const own = this.#fault === undefined || this.#fault.kind === "refuse" ? [] : [this.#fault];
    const asked = requestInfo(request);
    return [...own, ...this.#others].findLast((fault) => fault.when?.(asked) ?? true);
  }

  async #forge(forge: Forge, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const ask = async (): Promise<Forged> => {
      const { status, headers, body } = await this.#ask(request, response);
      return { status, headers: withoutOwnHeaders([...headers]), body: await new Response(body).text(), then: "end" };
    };
    const made = await forge(requestInfo(request), ask);
    if (made === undefined) return await this.#relay(await this.#ask(request, response), response);
    const { status, headers, body, then } = made;
    const bytes = new TextEncoder().encode(body);
    response.writeHead(status, {
      ...headers,
      ...(then === "drop" ? { "content-length": `${bytes.length + 99}` } : {}),
    });
    if (then === "end") return void response.end(bytes);
    response.write(bytes, () => then === "drop" && request.socket.destroy());
    if (then === "stall") this.#silence(request);
  }

  async #ask(request: IncomingMessage, response: ServerResponse): Promise<Response> {
    const broken = new AbortController();
    response.once("close", () => broken.abort());
    const { method = "GET", url = "/" } = request;
    const body = await bodyOf(request);
    return await fetch(this.#upstream + url, {
      method,
      headers: withoutOwnHeaders(Object.entries(request.headers).map(([name, value]) => [name, String(value)])),
      body: body.length === 0 && (method === "GET" || method === "HEAD") ? null : body,
      redirect: "manual",
      client: this.#client,
      signal: broken.signal,
    });
  }

  async #relay(answer: Response, response: ServerResponse): Promise<void> {
    response.writeHead(answer.status, withoutOwnHeaders([...answer.headers]));
    for await (const chunk of answer.body ?? []) response.write(chunk);
    response.end();
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { url = "/" } = request;
    const answer = await this.#ask(request, response);
    // Checked again, because a fault may have started while the server was processing the request.
    const fault = this.#activeFault(request);
    if (fault?.kind === "rewrite" && /json/.test(answer.headers.get("content-type") ?? "") && !/watch=/.test(url)) {
      const { status, body: changed } = await fault.rewrite({ status: answer.status, body: await answer.json() });
      response.writeHead(status, withoutOwnHeaders([...answer.headers]));
      return void response.end(JSON.stringify(changed));
    }
    if (fault?.kind !== "drop" && fault?.kind !== "stall" && fault?.kind !== "silent") {
      return await this.#relay(answer, response);
    }
    const bytes = await answer.bytes();
    if (fault.kind === "drop") return void request.socket.destroy();
    if (fault.kind === "stall") {
      response.writeHead(answer.status, withoutOwnHeaders([...answer.headers])).write(
        bytes.subarray(0, bytes.length / 2),
      );
    }
    this.#silence(request, fault.forGood);
  }

  #silence({ socket }: IncomingMessage, forGood = false): void {
    if (!forGood) this.#hung.add(socket);
  }
}

function answerWith(response: ServerResponse, fault: Extract<Fault, { kind: "answer" }>): void {
  const { status, headers, body } = fault;
  const isText = typeof body === "string";
  response.writeHead(status, { "content-type": isText ? "text/html" : "application/json", ...headers });
  response.end(isText ? body : JSON.stringify(body ?? {}));
}

function requestInfo({ method = "", url = "", headers: { authorization = "" } }: IncomingMessage): RequestInfo {
  return { method, path: url.replace(/\?.*$/, ""), url, authorization };
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return await new Blob(chunks).bytes();
}

function withoutOwnHeaders(headers: readonly (readonly [string, string])[]): Record<string, string> {
  return Object.fromEntries(headers.filter(([name]) => !ownHeaders.includes(name)));
}
