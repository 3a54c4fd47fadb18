/**
 * One request to a Kubernetes API server: credentials, a deadline over headers and body, and errors of this program's
 * classes. Knows nothing of workloads.
 *
 * @module
 */

import { CredentialError, TransientError } from "../errors/mod.ts";
import type { Cluster, Credential } from "./cluster.ts";
import { type Attempt, failureOf } from "./failure.ts";

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
  /** Wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/** A Kubernetes API server that requests can be made to. It does not own the cluster that it is given. */
export class KubernetesApi {
  /** Base URL, for display. */
  readonly server: string;
  /** Name of the kubeconfig's context, or `in-cluster`, for display. */
  readonly context: string;
  readonly #cluster: Cluster;
  readonly #deadlineMs: number;
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
    this.#now = options.now ?? Date.now;
  }

  /**
   * Makes a request and returns the object that came back. A refused credential is taken from its source anew, once.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | ConflictError | RejectedError; the
   * signal's reason if it was aborted
   */
  async request(call: Call, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    signal.throwIfAborted();
    const cannot = `Cannot ${call.verb} ${call.resource}`;
    const late = new TransientError(`${cannot}: ${this.server} has not answered within ${this.#deadlineMs / 1_000} s`);
    const controller = new AbortController();
    const forward = () => controller.abort(signal.reason);
    signal.addEventListener("abort", forward, { once: true });
    // A timer of our own: one of AbortSignal.timeout() could not be cleared, and would keep the process alive.
    const timer = setTimeout(() => controller.abort(late), this.#deadlineMs);
    try {
      const { status, retryAfter, body } = await this.#letIn(call, controller.signal);
      if (status < 200 || status > 299) throw failureOf(call, { status, retryAfter, body }, this.#now());
      const object: unknown = JSON.parse(body);
      if (typeof object === "object" && object !== null) return object as Record<string, unknown>;
      throw new SyntaxError("no object");
    } catch (error) {
      if (controller.signal.aborted) throw controller.signal.reason;
      if (error instanceof SyntaxError) {
        throw new TransientError(`${cannot}: what ${this.server} answered is no Kubernetes object`);
      }
      if (error instanceof TypeError) {
        throw new TransientError(`${cannot}: cannot reach ${this.server}: ${networkReason(error)}`, { cause: error });
      }
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", forward);
    }
  }

  async #letIn(call: Call, signal: AbortSignal): Promise<Answer> {
    const credential = await this.#cluster.credential(signal);
    const answer = await this.#exchange(call, credential, signal);
    if (answer.status !== 401) return answer;

    const renewed = await this.#cluster.renew(signal);
    if (!sameHeaders(credential.headers, renewed.headers)) {
      const second = await this.#exchange(call, renewed, signal);
      if (second.status !== 401) return second;
    }
    throw new CredentialError(
      `Cannot ${call.verb} ${call.resource}: ${this.server} refused the credentials of ${this.context}: ` +
        "they are wrong or have expired",
    );
  }

  async #exchange(call: Call, { client, headers }: Credential, signal: AbortSignal): Promise<Answer> {
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
    return {
      status: response.status,
      retryAfter: response.headers.get("retry-after"),
      body: await response.text(),
    };
  }
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly body: string;
}

function sameHeaders(one: Headers, other: Headers): boolean {
  return JSON.stringify([...one]) === JSON.stringify([...other]);
}

/** The end of Deno's chain of reasons, such as `Connection refused` or `invalid peer certificate: UnknownIssuer`. */
function networkReason(error: TypeError): string {
  const { message } = error.cause instanceof Error ? error.cause : error;
  return message.replace(/^.*?\): (client error \([^)]*\): )?/s, "").replace(/ \(os error \d+\)$/, "");
}
