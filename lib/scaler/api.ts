/**
 * Kubernetes API client: single requests and watches, with credentials, a deadline over headers and body, and errors
 * mapped to this program's classes. No other file looks at status codes of the Kubernetes API.
 *
 * @module
 */

import { Deadline } from "../async.ts";
import {
  ConfigError,
  ConflictError,
  CredentialError,
  NotFoundError,
  PermissionError,
  RejectedError,
  TransientError,
} from "../errors.ts";
import { type HttpResponse, isNetworkFailure, networkReason, retryAfterMs, sendHttp } from "../http.ts";
import { type Json, object, parseObject, text } from "../json.ts";
import type { Cluster, Connection } from "./credentials.ts";

/** Longest watch event or error body, in characters. etcd accepts objects of up to 1.5 MiB. */
const MAX_OBJECT_LENGTH = 8 * 1_024 * 1_024;

/** An operation, as error messages name it. */
export interface Action {
  /** Kubernetes verb: `get`, `patch`, `create`. */
  readonly verb: string;
  /** Resource, such as `deployments.apps "clawdbot" in namespace "clawdbot"`. */
  readonly resource: string;
}

/** One request to the API server. */
export interface Call extends Action {
  /** HTTP method. */
  readonly method: "GET" | "POST" | "PATCH";
  /** Path and query, with a leading slash. */
  readonly path: string;
  /** Sent as JSON. A PATCH sends it as a merge patch (RFC 7386). */
  readonly body?: unknown;
}

/** Options of {@linkcode KubernetesApi}. */
export interface ApiOptions {
  /** Deadline for headers and body of a response, in milliseconds. Default: 10,000. */
  readonly deadlineMs?: number;
  /** Seconds after which the server is asked to end a watch. Default: 180. */
  readonly watchSeconds?: number;
  /** Called after each request: true if the server responded, even with an error status. */
  readonly onOutcome?: (answered: boolean) => void;
  /** Wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/** The part of {@linkcode Cluster} that requests need. */
export type ClusterAccess = Pick<Cluster, "server" | "context" | "connect" | "invalidateCredentials">;

/** An event of a watch (Kubernetes API, meta/v1 WatchEvent). */
export interface WatchEvent {
  /**
   * `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` and so on. The first one is `BEGUN`, which is ours: the server has
   * accepted the watch.
   */
  readonly type: string;
  /** The object in its current state. */
  readonly object: Json;
}

/** Client of one Kubernetes API server. It doesn't own the cluster that it is given. */
export class KubernetesApi {
  readonly #cluster: ClusterAccess;
  readonly #deadlineMs: number;
  readonly #watchSeconds: number;
  readonly #onOutcome: (answered: boolean) => void;
  readonly #now: () => number;

  /** Makes a client. Sends nothing. */
  constructor(cluster: ClusterAccess, options: ApiOptions = {}) {
    this.#cluster = cluster;
    this.#deadlineMs = options.deadlineMs ?? 10_000;
    this.#watchSeconds = options.watchSeconds ?? 180;
    this.#onOutcome = options.onOutcome ?? (() => {});
    this.#now = options.now ?? Date.now;
  }

  /** Base URL, for display. */
  get server(): string {
    return this.#cluster.server;
  }

  /** Name of the kubeconfig's context, or `in-cluster`, for display. */
  get context(): string {
    return this.#cluster.context;
  }

  /**
   * Sends a request and returns the object in the response. On 401 it reads the credentials again and, if they have
   * changed, retries once.
   *
   * @throws TransientError, also if the credentials are refused or the response is not from a Kubernetes API, because
   * both may be temporary; PermissionError | NotFoundError | ConflictError | RejectedError; the signal's reason if it
   * is aborted
   */
  async request(call: Call, signal: AbortSignal): Promise<Json> {
    try {
      const response = await this.#exchange(call, (connection) =>
        sendHttp({
          ...requestOf(call, connection),
          deadlineMs: this.#deadlineMs,
          action: `${call.verb} ${call.resource} at ${connection.server}`,
        }, signal), signal);
      const read = parseObject(response.body);
      if (read === undefined) throw new TransientError(`${cannot(call)}: ${this.server} answered no Kubernetes object`);
      this.#onOutcome(true);
      return read;
    } catch (error) {
      if (!signal.aborted) this.#onOutcome(!(error instanceof TransientError));
      throw error;
    }
  }

  /**
   * Yields the events of a watch. Returns when the server ends the watch or reports that the resourceVersion is too old
   * (410), or when the connection breaks or stalls. The caller then reads the object again, to catch up.
   *
   * @param call its path must already have a query
   * @throws TransientError | PermissionError | NotFoundError | RejectedError; the signal's reason if it is aborted
   */
  async *watch(call: Call, signal: AbortSignal): AsyncGenerator<WatchEvent, void> {
    signal.throwIfAborted();
    const late = `${cannot(call)}: ${this.server} has not answered within ${this.#deadlineMs / 1_000} s`;
    using deadline = new Deadline(this.#deadlineMs, signal, { reason: () => new TransientError(late) });
    let hasBegun = false;
    try {
      const { stream } = await this.#exchange(
        call,
        (connection) => this.#openWatch(call, connection, deadline.signal),
        deadline.signal,
      );
      hasBegun = true;
      yield { type: "BEGUN", object: {} };
      // A live server ends the watch by itself within `watchSeconds`. A dead connection would stay silent forever.
      deadline.extend(this.#watchSeconds * 1_000 + this.#deadlineMs);
      for await (const event of linesOf(stream, deadline.signal)) {
        const watched = parseObject(event);
        if (watched === undefined) {
          throw new TransientError(`${cannot(call)}: ${this.server} sent an invalid watch event`);
        }
        const told = object(watched.object);
        if (watched.type === "ERROR") throw errorOf(call, statusResponse(told), this.#now());
        yield { type: text(watched.type) ?? "", object: told };
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RejectedError && error.status === 410) return;
      if (hasBegun && (isNetworkFailure(error) || deadline.signal.aborted)) return;
      throw deadline.signal.aborted ? deadline.signal.reason : error;
    } finally {
      // The consumer may have left its loop before the stream ended.
      deadline.cancel();
    }
  }

  async #openWatch(
    call: Call,
    connection: Connection,
    signal: AbortSignal,
  ): Promise<HttpResponse & { readonly stream: Stream }> {
    const path = `${call.path}&watch=true&allowWatchBookmarks=true&timeoutSeconds=${this.#watchSeconds}`;
    const { url, ...request } = requestOf({ ...call, path }, connection);
    try {
      const { ok, status, headers, body } = await fetch(url, { ...request, redirect: "manual", signal });
      const stream = body ?? ReadableStream.from<Uint8Array<ArrayBuffer>>([]);
      if (ok) return { status, headers, body: "", stream };
      return { status, headers, body: await textOf(stream, signal), stream };
    } catch (error) {
      if (!isNetworkFailure(error)) throw error;
      throw new TransientError(`${cannot(call)} at ${connection.server}: ${networkReason(error, url)}`, {
        cause: error,
      });
    }
  }

  /** Sends a request and returns a successful response. On 401 it retries once, if the credentials have changed. */
  async #exchange<Answer extends HttpResponse>(
    call: Call,
    send: (connection: Connection) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    using first = await this.#connect(call, signal);
    let answer = await send(first);
    if (answer.status === 401) {
      this.#cluster.invalidateCredentials();
      using second = await this.#connect(call, signal);
      if (!isSame(first, second)) answer = await send(second);
    }
    if (answer.status >= 200 && answer.status < 300) return answer;
    if (answer.status === 401 && reasonOf(answer.body) !== undefined) {
      throw new TransientError(
        `${cannot(call)}: ${this.server} refused the credentials of ${this.context}: they are wrong or have expired`,
      );
    }
    throw errorOf(call, answer, this.#now());
  }

  async #connect(call: Call, signal: AbortSignal): Promise<Connection> {
    using deadline = new Deadline(this.#deadlineMs, signal);
    try {
      return await this.#cluster.connect(deadline.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (deadline.expired) {
        throw new TransientError(`${cannot(call)}: no credentials within ${this.#deadlineMs / 1_000} s`);
      }
      if (!(error instanceof ConfigError || error instanceof CredentialError)) throw error;
      // They were valid when the cluster was opened, and the files may be repaired while we run: not final.
      throw new TransientError(`${cannot(call)}: ${error.message}`, { cause: error });
    }
  }
}

/** A response body. */
type Stream = ReadableStream<Uint8Array<ArrayBuffer>>;

function requestOf({ method, path, body }: Call, { server, headers, client }: Connection) {
  const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const sent: [string, string][] = [
    ["accept", "application/json"],
    ["user-agent", "openclaw-toggle"],
    ...headers.map(([name, value]): [string, string] => [name, value]),
    ...body === undefined ? [] : [["content-type", type] satisfies [string, string]],
  ];
  const request = { method, url: new URL(server + path), headers: sent, client };
  return body === undefined ? request : { ...request, body: JSON.stringify(body) };
}

function isSame(one: Connection, other: Connection): boolean {
  return one.client === other.client && JSON.stringify(one.headers) === JSON.stringify(other.headers);
}

/** Splits a stream into lines; an incomplete last line is dropped. */
async function* linesOf(stream: Stream, signal: AbortSignal): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of chunksOf(stream, signal)) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > MAX_OBJECT_LENGTH) {
      throw new TransientError("Cannot watch: an event exceeds the size limit");
    }
    yield* lines;
  }
}

async function textOf(stream: Stream, signal: AbortSignal): Promise<string> {
  let whole = "";
  for await (const chunk of chunksOf(stream, signal)) {
    whole += chunk;
    if (whole.length > MAX_OBJECT_LENGTH) break;
  }
  return whole;
}

/**
 * Once the Response has been garbage-collected, its signal no longer reaches its body (Deno 2.9.6). The pipe's signal
 * does.
 */
function chunksOf(stream: Stream, signal: AbortSignal): ReadableStream<string> {
  return stream.pipeThrough(new TextDecoderStream(), { signal });
}

function cannot({ verb, resource }: Action): string {
  return `Cannot ${verb} ${resource}`;
}

/**
 * Maps an unsuccessful response to an error.
 *
 * 403, 404 and 409 have Kubernetes' meaning only if the body is a Status object. A proxy or a wrong address can answer
 * with the same codes, perhaps only for a moment, so such a response is transient.
 *
 * @param nowMs milliseconds since the epoch, for a Retry-After that is a date
 */
export function errorOf(action: Action, { status, headers, body }: HttpResponse, nowMs: number): Error {
  const reason = reasonOf(body);
  const wait = { retryAfterMs: retryAfterMs(headers, undefined, nowMs) };
  if (reason === undefined && status < 500) {
    return new TransientError(
      `${cannot(action)}: got ${status}, and not from a Kubernetes API; check its address`,
      wait,
    );
  }
  const answered = `${cannot(action)}: the Kubernetes API answered ${status}${reason ? ` (${reason})` : ""}`;
  if (status === 401 || status === 408 || status === 429 || status >= 500) return new TransientError(answered, wait);
  if (status === 403) return new PermissionError(action.verb, action.resource);
  if (status === 404) return new NotFoundError(`${cannot(action)}: not found`);
  if (status === 409) return new ConflictError(`${cannot(action)}: it has changed since it was read`);
  return new RejectedError(answered, status, reason ?? "");
}

/** Turns a Status object from a watch into the response that a plain request would have got. */
function statusResponse(status: Json): HttpResponse {
  const code = typeof status.code === "number" ? status.code : 500;
  return { status: code, headers: new Headers(), body: JSON.stringify(status) };
}

/**
 * Reads `reason` of a Status object (Kubernetes API, meta/v1): one word, or "" if it has none. Returns undefined if the
 * body is not a Status.
 */
function reasonOf(body: string): string | undefined {
  const status = parseObject(body);
  if (status?.kind !== "Status") return undefined;
  const reason = text(status.reason) ?? "";
  return /^[A-Za-z]{1,64}$/.test(reason) ? reason : "";
}
