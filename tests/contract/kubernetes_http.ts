/**
 * Requests and watches of the contract's cases, over plain HTTP, and the server that they are made to.
 *
 * @module
 */

import assert from "node:assert/strict";

/** A rule of a Role in the namespace under test. */
export interface ContractRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** A server under test, with an empty namespace. */
export interface KubernetesUnderTest {
  readonly server: "sandbox" | "real";
  readonly url: string;
  readonly client?: Deno.HttpClient;
  readonly adminToken: string;
  readonly namespace: string;
  /** Makes a token of a user who may do what the rules say, in the namespace, and nothing else. */
  makeToken(rules: readonly ContractRule[]): Promise<string>;
}

/** A case. It is handed a server and the name of a Deployment at 0 of its own. */
export interface ContractCase {
  readonly name: string;
  run(cluster: KubernetesUnderTest, deployment: string): Promise<void>;
}

/** An object as it came over the wire. A field that is not as a case expects fails that case. */
// deno-lint-ignore no-explicit-any
export type Loose = Record<string, any>;

/** A request. */
export interface CallOptions {
  readonly method?: string;
  readonly path: string;
  readonly body?: unknown;
  readonly text?: string;
  readonly contentType?: string;
  /** The admin's unless given; null for none. */
  readonly token?: string | null;
}

/** What came back; `json` is empty if that was no object. */
export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly json: Loose;
}

/** Longest wait for an answer, milliseconds. */
const PATIENCE_MS = 60_000;

/** Makes a request. */
export async function call(cluster: KubernetesUnderTest, options: CallOptions): Promise<Answer> {
  const response = await send(cluster, options, AbortSignal.timeout(PATIENCE_MS));
  const text = await response.text();
  const isObject = text.startsWith("{") && !text.includes("\n{");
  return { status: response.status, text, json: isObject ? JSON.parse(text) : {} };
}

export function send(cluster: KubernetesUnderTest, options: CallOptions, signal: AbortSignal): Promise<Response> {
  const { method = "GET", path, body, text, contentType, token = cluster.adminToken } = options;
  const headers = new Headers(token === null ? {} : { authorization: `Bearer ${token}` });
  const sent = text ?? (body === undefined ? null : JSON.stringify(body));
  const usual = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  if (sent !== null) headers.set("content-type", contentType ?? usual);
  const { client } = cluster;
  return fetch(cluster.url + path, {
    method,
    headers,
    body: sent,
    signal,
    ...(client === undefined ? {} : { client }),
  });
}

/** Patches the scale of a Deployment. */
export function scale(
  cluster: KubernetesUnderTest,
  name: string,
  replicas: number,
  { resourceVersion, token, query = "" }: { resourceVersion?: string; token?: string; query?: string } = {},
): Promise<Answer> {
  const body = { ...(resourceVersion === undefined ? {} : { metadata: { resourceVersion } }), spec: { replicas } };
  const path = `${workloads(cluster, name)}/scale${query}`;
  return call(cluster, { method: "PATCH", path, body, ...(token === undefined ? {} : { token }) });
}

/** A line of a watch. */
export interface WatchEvent {
  readonly type: string;
  readonly object: Loose;
}

/** Watches one Deployment. */
export function watch(
  cluster: KubernetesUnderTest,
  name: string,
  from?: string,
  token?: string,
): AsyncIterable<WatchEvent> {
  const since = from === undefined ? "" : `&resourceVersion=${from}`;
  return stream(cluster, `${workloads(cluster)}?watch=1&fieldSelector=metadata.name%3D${name}${since}`, token);
}

/** Events of a watch, until the caller has seen enough; fails where none comes for too long. */
export async function* stream(cluster: KubernetesUnderTest, path: string, token?: string): AsyncGenerator<WatchEvent> {
  const ended = new AbortController();
  const signal = AbortSignal.any([ended.signal, AbortSignal.timeout(PATIENCE_MS)]);
  try {
    const response = await send(cluster, { path, ...(token === undefined ? {} : { token }) }, signal);
    assert.equal(response.status, 200, `watch ${path}`);
    let rest = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) yield JSON.parse(line);
    }
    assert.fail(`the watch ${path} ended`);
  } finally {
    ended.abort();
  }
}

/** The Deployment, once something holds of it. */
export async function until(
  cluster: KubernetesUnderTest,
  name: string,
  holds: (object: Loose) => boolean,
): Promise<Loose> {
  for await (const { object } of watch(cluster, name)) if (holds(object)) return object;
  throw new Error("the watch ended");
}

/** The Deployment as it is. */
export async function get(cluster: KubernetesUnderTest, name: string): Promise<Loose> {
  return (await call(cluster, { path: workloads(cluster, name) })).json;
}

/** The Deployment, once it is at 0 and its controller has nothing more to say. */
export function settled(cluster: KubernetesUnderTest, name: string): Promise<Loose> {
  return until(cluster, name, isOff);
}

/** The Deployment, once one pod is ready. */
export function ready(cluster: KubernetesUnderTest, name: string): Promise<Loose> {
  return until(cluster, name, ({ status, metadata }) => {
    return status?.observedGeneration === metadata.generation && status.readyReplicas === 1;
  });
}

/** Nothing is wanted, nothing is left. */
export function isOff(object: Loose): boolean {
  const { spec, status, metadata } = object;
  // The conditions come with the last of the controller's first writes.
  return spec.replicas === 0 && status?.observedGeneration === metadata.generation && !status.replicas &&
    status.terminatingReplicas === 0 && status.conditions !== undefined;
}

/** The answer is a failure as Kubernetes writes it. */
export function assertStatus({ status, json }: Answer, code: number, reason: string): void {
  assert.equal(status, code, JSON.stringify(json));
  assert.deepEqual([json.kind, json.status, json.reason, json.code], ["Status", "Failure", reason, code]);
}

/** Path of the Deployments, or of one. */
export function workloads({ namespace }: KubernetesUnderTest, name?: string): string {
  return `/apis/apps/v1/namespaces/${namespace}/deployments${name === undefined ? "" : `/${name}`}`;
}

/** Path of a Deployment's pods. */
export function podsOf({ namespace }: KubernetesUnderTest, name: string): string {
  return `/api/v1/namespaces/${namespace}/pods?labelSelector=app%3D${name}`;
}

/** The base Role of deploy/. */
export function baseRole(name: string): ContractRule[] {
  return [
    { apiGroups: ["apps"], resources: ["deployments"], resourceNames: [name], verbs: ["get"] },
    { apiGroups: ["apps"], resources: ["deployments/scale"], resourceNames: [name], verbs: ["get", "patch"] },
  ];
}

/** A Deployment of one container; without a count if none is given. */
export function deployment(name: string, replicas: number | undefined): Loose & { readonly spec: Loose } {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      ...(replicas === undefined ? {} : { replicas }),
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: "agent", image: "example/agent" }] },
      },
    },
  };
}
