/**
 * How workloads fare: watches them, says what is in their way, and notes on them what was done. The operator's port to
 * what needs more than the base Role.
 *
 * @module
 */

import { PermissionError, TransientError } from "../errors.ts";
import type { Diagnosis, Note, Rollouts, Scale, Target } from "../operator/mod.ts";
import type { KubernetesApi } from "./api.ts";
import { obstaclesOf, oneLine } from "./diagnosis.ts";
import { type Fields, fields, items, text } from "./objects.ts";
import { FIELD_MANAGER, KubernetesScaler, scaleIn } from "./scaler.ts";
import { placeBeside, placeOf, workloadsIn } from "./target.ts";

/** A watch that ended sooner and told nothing is not begun anew at once for ever. */
const BRIEF_MS = 1_000;

/** Workloads of one cluster, over time. */
export class KubernetesRollouts implements Rollouts {
  readonly #api: KubernetesApi;
  readonly #scaler: KubernetesScaler;

  /**
   * Makes no request yet.
   *
   * @param api the cluster's API server
   */
  constructor(api: KubernetesApi) {
    this.#api = api;
    this.#scaler = new KubernetesScaler(api);
  }

  /**
   * Yields a target's counts as they stand now, then whenever one of them has changed; nothing before a watch is permitted
   * and stands.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError; the signal's reason when
   * it is aborted
   */
  async *watch(target: Target, signal: AbortSignal): AsyncGenerator<Scale, void> {
    const { resource } = placeOf(target);
    const narrowed = `${workloadsIn(target)}?fieldSelector=${encodeURIComponent(`metadata.name=${target.name}`)}`;
    let told = "";
    const isNews = (scale: Scale) => told !== (told = countsOf(scale));
    for (let inVain = 0; inVain < 2;) {
      const began = performance.now();
      let scale = await this.#scaler.read(target, signal);
      inVain += 1;
      const path = `${narrowed}&resourceVersion=${encodeURIComponent(scale.resourceVersion)}`;
      for await (const { type, object } of this.#api.watch({ verb: "watch", resource, method: "GET", path }, signal)) {
        if (type !== "BEGUN") inVain = 0;
        // Another one may have taken its name by now.
        if (type === "DELETED") break;
        if (type === "ADDED" || type === "MODIFIED") scale = scaleIn(target, "watch", object);
        if (isNews(scale)) yield scale;
      }
      if (performance.now() - began > BRIEF_MS) inVain = 0;
    }
    throw new TransientError(`Cannot watch ${resource}: ${this.#api.server} ends the watch at once`);
  }

  /**
   * What keeps a target from being ready; from its pods, too, where they may be listed.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError
   */
  async diagnose(target: Target, signal: AbortSignal): Promise<Diagnosis> {
    const workload = await this.#workload(target, signal);
    const selector = encodeURIComponent(selectorOf(fields(workload.spec)));
    const { path, resource } = placeBeside(target, "pods");
    const list = { verb: "list", resource, method: "GET", path: `${path}?labelSelector=${selector}` } as const;
    let pods: readonly Fields[] = [];
    let missing: string | undefined;
    try {
      pods = items((await this.#api.request(list, signal)).items);
    } catch (error) {
      if (!(error instanceof PermissionError)) throw error;
      missing = `${error.verb} ${error.resource}`;
    }
    return { obstacles: obstaclesOf(target.kind, workload, pods), missing };
  }

  /**
   * Writes an Event (Kubernetes API, core/v1) on a target.
   *
   * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError
   */
  async record(target: Target, note: Note, signal: AbortSignal): Promise<void> {
    const { apiVersion, kind, metadata } = await this.#workload(target, signal);
    const { namespace, name } = target;
    const { uid, resourceVersion } = fields(metadata);
    const now = new Date().toISOString();
    const { path, resource } = placeBeside(target, "events");
    const body = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, generateName: `${name}.` },
      involvedObject: {
        apiVersion: text(apiVersion),
        kind: text(kind),
        namespace,
        name,
        uid: text(uid),
        resourceVersion: text(resourceVersion),
      },
      type: note.type,
      reason: note.reason,
      message: oneLine(note.message),
      action: note.reason,
      source: { component: FIELD_MANAGER },
      reportingComponent: FIELD_MANAGER,
      reportingInstance: Deno.hostname() || FIELD_MANAGER,
      // Six digits: a MicroTime is refused otherwise.
      eventTime: now.replace("Z", "000Z"),
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    await this.#api.request({ verb: "create", resource, method: "POST", path, body }, signal);
  }

  async #workload(target: Target, signal: AbortSignal): Promise<Fields> {
    const { path, resource } = placeOf(target);
    const workload = await this.#api.request({ verb: "get", resource, method: "GET", path }, signal);
    scaleIn(target, "get", workload);
    return workload;
  }
}

/** What one tells of counts: all but the version. */
function countsOf({ resourceVersion: _, ...counts }: Scale): string {
  return JSON.stringify(counts);
}

/** A workload's selector as a query has it (Kubernetes API, label selectors). */
function selectorOf({ selector }: Fields): string {
  const { matchLabels, matchExpressions } = fields(selector);
  const equal = Object.entries(fields(matchLabels)).map(([label, value]) => `${label}=${value}`);
  const others = items(matchExpressions).map(({ key, operator, values }) => {
    if (operator === "Exists") return `${key}`;
    return operator === "DoesNotExist" ? `!${key}` : `${key} ${operator === "In" ? "in" : "notin"} (${values})`;
  });
  return [...equal, ...others].join(",");
}
