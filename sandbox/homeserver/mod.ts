/**
 * A Matrix homeserver in one process, in memory only, for demo, development and tests: small but honest, with faults
 * and attacks on demand. tests/contract holds it to what Synapse does.
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

/** How a homeserver is set up. */
export interface HomeserverOptions {
  /** TCP port on the loopback address; 0, the default, takes a free one. */
  readonly port?: number;
  /** Domain of user ids; `localhost` if not given. */
  readonly serverName?: string;
  /** Shared HS256 secret of JWT login; `for-tests` if not given. */
  readonly jwtSecret?: string;
  /** An identity provider through which people may sign on. */
  readonly provider?: Provider;
  /** How long an access token is valid that came with a refresh token, milliseconds; five minutes if not given. */
  readonly refreshableMs?: number;
  /**
   * A refresh token can be used only once, even if its answer was lost; the specification has it stay valid until what it
   * gave is used.
   */
  readonly strictRefresh?: boolean;
  /** Milliseconds since the epoch; Date.now if not given. */
  readonly now?: () => number;
}

/** A running homeserver. */
export class Homeserver implements AsyncDisposable {
  /** Domain of user ids. */
  readonly serverName: string;
  /** Requests seen. */
  readonly requests: RequestLog = new RequestLog();
  /** What a dishonest administrator or a stranger could do. */
  readonly attacks: Attacks;
  readonly #sources: Sources;
  readonly #router: Router;
  readonly #faults = new Set<Striking>();
  #port: number;
  #end = new AbortController();
  #server: Deno.HttpServer<Deno.NetAddr> | undefined;

  /**
   * Starts at once.
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

  /** Base URL without a slash at its end. */
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

  /** A token for one m.login.token login. */
  issueLoginToken(userId: string): string {
    return this.#sources.accounts.issueLoginToken(userId);
  }

  /** Makes requests go wrong until it is disposed of, or has struck often enough. */
  fault(fault: Fault): ActiveFault {
    const striking = new Striking(fault);
    this.#faults.add(striking);
    striking.over.addEventListener("abort", () => this.#faults.delete(striking));
    return striking;
  }

  /** Breaks all connections and refuses new ones; what it holds stays. */
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

  /** Ends everything: long polls, faults, connections. */
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

  /** Finds out what is asked and by whom, and returns what answers it. */
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

/** Lets a fault have its way with a request. */
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
  // Less than the promised length: the connection breaks when the stream is closed.
  const headers = { "content-type": "application/json", "content-length": String(whole.length) };
  return new Response(half, { headers });
}

/** Waits, at most until the signal aborts. */
async function elapsed(delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = Number.isFinite(delayMs) ? setTimeout(resolve, delayMs) : undefined;
  signal.addEventListener("abort", () => resolve());
  await promise;
  clearTimeout(timer);
}
