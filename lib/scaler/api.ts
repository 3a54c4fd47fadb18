/**
 * One request to a Kubernetes API server, or one watch: credentials, a deadline over headers and body, and errors of
 * this program's classes. Knows nothing of workloads.
 *
 * @module
 */

import { CredentialError, RejectedError, TransientError } from "../errors.ts";
import type { Cluster, Credential } from "./cluster.ts";
import { Deadline } from "../async.ts";
import { type Attempt, failureOf } from "./failure.ts";
import { type Json, object, text } from "../json.ts";

/** A request. `verb` and `resource` are what errors speak of. */
export interface Call extends Attempt {
  /** HTTP method. */
  readonly method: "GET" | "POST" | "PATCH";
  /** Path and query, beginning with a slash. */
  readonly path: string;
  /** Sent as JSON; of a PATCH as a merge patch (RFC 7386). */
  readonly body?: unknown;
}

/** Settings of a {@linkcode KubernetesApi}. */
export interface ApiOptions {
  /** Milliseconds in which headers and body of an answer must have come; 10,000 unless given. */
  readonly deadlineMs?: number;
  /** Seconds after which the server is asked to end a watch; 180 unless given. */
  readonly watchSeconds?: number;
  /** Told after each request whether the server has answered it, be it with a refusal. */
  readonly onOutcome?: (answered: boolean) => void;
  /** Wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/** What a watch tells (Kubernetes API, meta/v1 WatchEvent). */
export interface WatchEvent {
  /** Such as `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`; first of all `BEGUN`, which is ours: the watch is permitted. */
  readonly type: string;
  /** The object as it is now. */
  readonly object: Json;
}

/** A Kubernetes API server that requests can be made to. It does not own the cluster that it is given. */
export class KubernetesApi {
  /** Base URL, for display. */
  readonly server: string;
  /** Name of the kubeconfig's context, or `in-cluster`, for display. */
  readonly context: string;
  readonly #cluster: Cluster;
  readonly #deadlineMs: number;
  readonly #watchSeconds: number;
  readonly #onOutcome: (answered: boolean) => void;
  readonly #now: () => number;

  /**
   * Makes no request yet.
   *
   * @param cluster where, and with what right
   * @param options deadline and clock
   */
  constructor(cluster: Cluster, options: ApiOptions = {}) {
    this.server = cluster.server;
    this.context = cluster.context;
    this.#cluster = cluster;
    this.#deadlineMs = options.deadlineMs ?? 10_000;
    this.#watchSeconds = options.watchSeconds ?? 180;
    this.#onOutcome = options.onOutcome ?? (() => {});
    this.#now = options.now ?? Date.now;
  }

  /**
   * Makes a request and returns the object that came back. A refused credential is taken from its source anew, once.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | ConflictError | RejectedError; the
   * signal's reason if it was aborted
   */
  async request(call: Call, signal: AbortSignal): Promise<Json> {
    using deadline = this.#deadline(call, signal);
    try {
      const response = await this.#letIn(call, deadline.signal);
      const read = objectIn(await response.text());
      this.#onOutcome(true);
      return read;
    } catch (error) {
      const translated = this.#translated(call, error, deadline);
      if (!signal.aborted) {
        this.#onOutcome(!(translated instanceof TransientError || translated instanceof CredentialError));
      }
      throw translated;
    }
  }

  /**
   * Yields what a watch tells, until it ends: because the server ends it, or has forgotten what it is to begin with
   * (410), or the connection breaks, or is dead. What was missed then is told by reading anew.
   *
   * @param call its path has a query already
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError; the signal's reason if it
   * was aborted
   */
  async *watch(call: Call, signal: AbortSignal): AsyncGenerator<WatchEvent, void> {
    using deadline = this.#deadline(call, signal);
    const path = `${call.path}&watch=true&allowWatchBookmarks=true&timeoutSeconds=${this.#watchSeconds}`;
    let begun = false;
    try {
      const { body } = await this.#letIn({ ...call, path }, deadline.signal);
      if (body === null) return;
      begun = true;
      yield { type: "BEGUN", object: {} };
      let rest = "";
      // A server that is there ends the watch in time; of a connection that is dead one would hear nothing.
      deadline.extend(this.#watchSeconds * 1_000 + this.#deadlineMs);
      // Once the response itself is garbage, its signal does not reach its body any more (Deno 2.9.6); that of a pipe does.
      for await (const chunk of body.pipeThrough(new TextDecoderStream(), { signal: deadline.signal })) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const event = objectIn(line);
          const { type } = event;
          if (type !== "ERROR") yield { type: text(type) ?? "", object: object(event.object) };
          else throw failureOf(call, { ...refusalIn(object(event.object)), retryAfter: null }, this.#now());
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RejectedError && error.status === 410) return;
      if (begun && (error instanceof TypeError || deadline.signal.aborted)) return;
      throw this.#translated(call, error, deadline);
    } finally {
      // Whoever reads the watch may have stopped in the middle of it.
      deadline.cancel();
    }
  }

  #deadline(call: Call, signal: AbortSignal): Deadline {
    const late = `${cannot(call)}: ${this.server} has not answered within ${this.#deadlineMs / 1_000} s`;
    signal.throwIfAborted();
    return new Deadline(this.#deadlineMs, signal, { reason: new TransientError(late) });
  }

  #translated(call: Call, error: unknown, deadline: Deadline): unknown {
    if (deadline.signal.aborted) return deadline.signal.reason;
    if (error instanceof SyntaxError) {
      return new TransientError(`${cannot(call)}: what ${this.server} answered is no Kubernetes object`);
    }
    // A bad resource is a client that was closed, because another request has renewed the credential just now.
    if (error instanceof TypeError || error instanceof Deno.errors.BadResource) {
      const reason = networkReason(error);
      return new TransientError(`${cannot(call)}: cannot reach ${this.server}: ${reason}`, { cause: error });
    }
    return error;
  }

  /** The answer, which is a success. */
  async #letIn(call: Call, signal: AbortSignal): Promise<Response> {
    const credential = await this.#cluster.credential(signal);
    const answer = await this.#exchange(call, credential, signal);
    if (answer !== "unauthorized") return answer;

    const renewed = await this.#cluster.renew(signal);
    if (!sameHeaders(credential.headers, renewed.headers)) {
      const second = await this.#exchange(call, renewed, signal);
      if (second !== "unauthorized") return second;
    }
    throw new CredentialError(
      `${cannot(call)}: ${this.server} refused the credentials of ${this.context}: they are wrong or have expired`,
    );
  }

  async #exchange(
    call: Call,
    { client, headers }: Credential,
    signal: AbortSignal,
  ): Promise<Response | "unauthorized"> {
    const sent = new Headers(headers);
    sent.set("accept", "application/json");
    sent.set("user-agent", "openclaw-toggle");
    const { method, path, body } = call;
    if (body !== undefined) {
      sent.set("content-type", method === "PATCH" ? "application/merge-patch+json" : "application/json");
    }
    const response = await fetch(this.server + path, {
      method,
      headers: sent,
      body: body === undefined ? null : JSON.stringify(body),
      redirect: "manual",
      client,
      signal,
    });
    const { ok, status } = response;
    if (ok) return response;
    const refusal = { status, retryAfter: response.headers.get("retry-after"), body: await response.text() };
    if (status === 401) return "unauthorized";
    throw failureOf(call, refusal, this.#now());
  }
}

function cannot({ verb, resource }: Call): string {
  return `Cannot ${verb} ${resource}`;
}

/**
 * The object that a text stands for.
 *
 * @throws SyntaxError
 */
function objectIn(json: string): Json {
  const value: unknown = JSON.parse(json);
  if (typeof value === "object" && value !== null) return value as Json;
  throw new SyntaxError("no object");
}

/** A Status object that came by a watch, as if it had been the answer to a request. */
function refusalIn(status: Json): { status: number; body: string } {
  return { status: typeof status.code === "number" ? status.code : 500, body: JSON.stringify(status) };
}

function sameHeaders(one: Headers, other: Headers): boolean {
  return JSON.stringify([...one]) === JSON.stringify([...other]);
}

/** The end of Deno's chain of reasons, such as `Connection refused` or `invalid peer certificate: UnknownIssuer`. */
function networkReason(error: Error): string {
  const { message } = error.cause instanceof Error ? error.cause : error;
  return message.replace(/^.*?\): (client error \([^)]*\): )?/s, "").replace(/ \(os error \d+\)$/, "");
}
