/**
 * An in-memory Matrix homeserver for demo, development and tests, with fault injection and attacks. tests/contract
 * compares it to Synapse.
 *
 * @module
 */
import { Accounts } from "./accounts.ts";
import { Attacks } from "./attacks.ts";
import { type ActiveFault, type Fault, type Logged, RequestLog, Striking } from "./faults.ts";
import { Inbox } from "./inbox.ts";
import { Keys } from "./keys.ts";
import { type JsonObject, MatrixError, Stream } from "./protocol.ts";
import { Rooms } from "./rooms.ts";
import { makeRouter, type Router } from "./router.ts";
import type { Provider } from "./sso.ts";
import type { Sources } from "./sync.ts";

export { Attacks } from "./attacks.ts";
export { type ActiveFault, type Fault, type Logged, RequestLog, tooManyRequests } from "./faults.ts";
export type { JsonObject } from "./protocol.ts";
export type { NewEvent, RoomEvent } from "./rooms.ts";
export type { Provider } from "./sso.ts";

/** Options of a {@linkcode Homeserver}. */
export interface HomeserverOptions {
  /** TCP port on the loopback address. Default: 0, a free port. */
  readonly port?: number;
  /** Domain of user ids. Default: `localhost`. */
  readonly serverName?: string;
  /** Shared HS256 secret of JWT login. Default: `for-tests`. */
  readonly jwtSecret?: string;
  /** Identity provider for single sign-on. */
  readonly provider?: Provider;
  /** Lifetime of access tokens that have a refresh token, in milliseconds. Default: 5 minutes. */
  readonly refreshableMs?: number;
  /**
   * Whether a refresh token can be used only once, even if the response was lost. By the specification it stays valid
   * until the new tokens are used.
   */
  readonly strictRefresh?: boolean;
  /** Wall clock, milliseconds since the epoch. Default: Date.now. */
  readonly now?: () => number;
}

/** A running homeserver. */
export class Homeserver implements AsyncDisposable {
  /** Domain of user ids. */
  readonly serverName: string;
  /** Log of requests. */
  readonly requests: RequestLog = new RequestLog();
  /** Attacks by a dishonest administrator or a stranger. */
  readonly attacks: Attacks;
  readonly #sources: Sources;
  readonly #router: Router;
  readonly #faults = new Set<Striking>();
  #port: number;
  #end = new AbortController();
  #server: Deno.HttpServer<Deno.NetAddr> | undefined;

  /**
   * Starts the server.
   *
   * @throws Deno.errors.AddrInUse if the port is taken
   */
  constructor(options: HomeserverOptions = {}) {
    const { port = 0, serverName = "localhost", jwtSecret = "for-tests", provider, now = Date.now } = options;
    const { refreshableMs = 300_000, strictRefresh = false } = options;
    const stream = new Stream();
    const accounts = new Accounts({ serverName, jwtSecret, refreshableMs, strictRefresh, stream, now });
    const rooms = new Rooms(serverName, stream, now);
    this.#sources = { accounts, rooms, keys: new Keys(stream), inbox: new Inbox(stream), stream, now };
    this.#router = makeRouter(this.#sources, () => this.url, provider);
    this.attacks = new Attacks(this.#sources);
    this.serverName = serverName;
    this.#port = port;
    this.online();
  }

  /** Base URL without a trailing slash. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Adds a user.
   *
   * @returns user id
   */
  register(localpart: string, password: string): string {
    return this.#sources.accounts.register(localpart, password).userId;
  }

  /** Issues a token for one m.login.token login. */
  issueLoginToken(userId: string): string {
    return this.#sources.accounts.issueLoginToken(userId);
  }

  /** Injects a fault until it is disposed of or has affected enough requests. */
  fault(fault: Fault): ActiveFault {
    const striking = new Striking(fault);
    this.#faults.add(striking);
    striking.over.addEventListener("abort", () => this.#faults.delete(striking));
    return striking;
  }

  /** Breaks all connections and refuses new ones. The data is kept. */
  async offline(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#end.abort();
    await server?.finished;
  }

  /** Listens again on the same port. */
  online(): void {
    if (this.#server !== undefined) return;
    this.#end = new AbortController();
    const { signal } = this.#end;
    const options = { hostname: "127.0.0.1", port: this.#port, signal, onListen() {} };
    this.#server = Deno.serve(options, (request) => this.#serve(request, signal));
    this.#port = this.#server.addr.port;
  }

  /** Ends long polls, faults and connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const fault of [...this.#faults]) fault[Symbol.dispose]();
    await this.offline();
  }

  async #serve(request: Request, signal: AbortSignal): Promise<Response> {
    const url = new URL(request.url);
    const entry: Logged = {
      method: request.method,
      template: url.pathname,
      path: url.pathname + url.search,
      userId: undefined,
      deviceId: undefined,
      status: undefined,
    };
    const act = this.#prepare(request, url, entry, signal);
    this.requests.note(entry);
    const striking = [...this.#faults].find((fault) => fault.strikes(entry));
    const response = striking === undefined ? await act() : await strike(striking, act, signal);
    entry.status = response.status;
    return response;
  }

  /** Resolves endpoint and sender of a request, and returns a function that answers it. */
  #prepare(request: Request, url: URL, entry: Logged, signal: AbortSignal): () => Promise<Response> {
    try {
      const found = this.#router(request.method, url.pathname);
      if (found === undefined) throw new MatrixError(404, "M_UNRECOGNIZED", "Unrecognized request");
      const { endpoint, path } = found;
      Object.assign(entry, { template: endpoint.template });
      const authenticate = () => this.#sources.accounts.authenticate(request);
      if (!endpoint.open) {
        const { user, deviceId } = authenticate();
        Object.assign(entry, { userId: user.userId, deviceId });
      }
      return () =>
        answered(async () => {
          const body = await bodyOf(request);
          const session = endpoint.open ? undefined as never : authenticate();
          const cookies = request.headers.get("cookie") ?? "";
          return endpoint.answer({ path, query: url.searchParams, body, url, cookies, session, signal });
        });
    } catch (error) {
      return () => answered(() => Promise.reject(error));
    }
  }
}

async function bodyOf(request: Request): Promise<JsonObject> {
  const text = await request.text();
  if (text === "") return {};
  try {
    const body = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return body;
  } catch {
    throw new MatrixError(400, "M_NOT_JSON", "Content not JSON.");
  }
  throw new MatrixError(400, "M_BAD_JSON", "Content must be a JSON object.");
}

async function answered(act: () => Promise<JsonObject | Response>): Promise<Response> {
  try {
    const answer = await act();
    return answer instanceof Response ? answer : Response.json(answer);
  } catch (error) {
    if (error instanceof MatrixError) return Response.json(error.body, { status: error.status });
    throw error;
  }
}

/** Applies a fault to a request. */
async function strike({ fault, over }: Striking, act: () => Promise<Response>, signal: AbortSignal): Promise<Response> {
  const ended = AbortSignal.any([over, signal]);
  const done = fault.after ? await act() : undefined;
  if (fault.delayMs !== undefined) await elapsed(fault.delayMs, ended);
  if (fault.answer !== undefined) {
    const { status, body = {}, headers = {} } = fault.answer;
    return Response.json(body, { status, headers });
  }
  if (fault.body === undefined) return done ?? await act();
  const whole = new Uint8Array(await (done ?? Response.json({})).arrayBuffer());
  const half = new ReadableStream({
    start(controller) {
      controller.enqueue(whole.slice(0, Math.floor(whole.length / 2)));
      if (fault.body === "drop" || ended.aborted) controller.close();
      else ended.addEventListener("abort", () => controller.close());
    },
  });
  // The body is shorter than its content-length, so closing the stream breaks the connection.
  const headers = { "content-type": "application/json", "content-length": String(whole.length) };
  return new Response(half, { headers });
}

/** Waits for a time, or until the signal aborts. */
async function elapsed(delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = Number.isFinite(delayMs) ? setTimeout(resolve, delayMs) : undefined;
  signal.addEventListener("abort", () => resolve());
  await promise;
  clearTimeout(timer);
}
