/**
 * Watches a workload.
 *
 * @module
 */

import { Throttle } from "../async.ts";
import { NotFoundError, TransientError } from "../errors.ts";
import type { KubernetesApi } from "./api.ts";
import { collectionPath, getWorkload, type Seen, seenIn, type Workload, workloadPath } from "./workloads.ts";

/** If two watches in a row end sooner than this without an event, watching fails instead of restarting forever. */
const BRIEF_MS = 1_000;

/**
 * Yields a workload, then the workload after each change. Yields undefined when it was deleted. Yields nothing until the
 * server has accepted a watch, nor while the workload doesn't exist yet.
 *
 * @throws TransientError | PermissionError | RejectedError; the signal's reason if it is aborted
 */
export async function* watchRollout(
  api: KubernetesApi,
  workload: Workload,
  signal: AbortSignal,
): AsyncGenerator<Seen | undefined, void> {
  const { resource } = workloadPath(workload);
  const narrowed = `${collectionPath(workload)}?fieldSelector=${encodeURIComponent(`metadata.name=${workload.name}`)}`;
  /** Version that was yielded last; undefined if the workload doesn't exist. */
  let version: string | undefined;
  // A watch normally lasts for minutes. This limits restarts if a server ends each one after a single event.
  const throttle = new Throttle({ burst: 5, everyMs: 1_000 });
  for (let emptyWatches = 0; emptyWatches < 2;) {
    await throttle.turn(signal);
    const began = performance.now();
    const read = await readIfThere(api, workload, signal);
    emptyWatches += 1;
    // Without a resourceVersion a watch starts with the existing objects (Kubernetes API, "Get State and Start at
    // Any").
    const from = read === undefined ? "" : `&resourceVersion=${encodeURIComponent(read.scale.resourceVersion)}`;
    const call = { verb: "watch", resource, method: "GET", path: narrowed + from } as const;
    for await (const { type, object } of api.watch(call, signal)) {
      if (type !== "BEGUN") emptyWatches = 0;
      if (!["BEGUN", "ADDED", "MODIFIED", "DELETED"].includes(type)) continue;
      const shown = type === "BEGUN" ? read : type === "DELETED" ? undefined : seenIn(workload, "watch", object);
      if (version !== (version = shown?.scale.resourceVersion)) yield shown;
    }
    if (performance.now() - began > BRIEF_MS) emptyWatches = 0;
  }
  throw new TransientError(`Cannot watch ${resource}: ${api.server} ends the watch at once`);
}

async function readIfThere(api: KubernetesApi, workload: Workload, signal: AbortSignal): Promise<Seen | undefined> {
  try {
    return await getWorkload(api, workload, signal);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
