/**
 * Watches the replica counts of a workload.
 *
 * @module
 */

import { Throttle } from "../async.ts";
import { NotFoundError, TransientError } from "../errors.ts";
import type { KubernetesApi } from "./api.ts";
import { collectionPath, getWorkload, type Scale, scaleIn, type Workload, workloadPath } from "./workloads.ts";

/** If two watches in a row end sooner than this without an event, watching fails instead of restarting forever. */
const BRIEF_MS = 1_000;

/**
 * Yields the current counts of a workload, then the new counts after each change. Yields nothing until the server has
 * accepted a watch, nor while the workload doesn't exist. A workload created in its place is reported as a change.
 *
 * @throws TransientError | PermissionError | RejectedError; the signal's reason if it is aborted
 */
export async function* watchRollout(
  api: KubernetesApi,
  workload: Workload,
  signal: AbortSignal,
): AsyncGenerator<Scale, void> {
  const { resource } = workloadPath(workload);
  const narrowed = `${collectionPath(workload)}?fieldSelector=${encodeURIComponent(`metadata.name=${workload.name}`)}`;
  let lastCounts = "";
  const hasChanged = (scale: Scale) => lastCounts !== (lastCounts = countsOf(scale));
  // A watch normally lasts for minutes. This limits restarts if a server ends each one after a single event.
  const throttle = new Throttle({ burst: 5, everyMs: 1_000 });
  for (let emptyWatches = 0; emptyWatches < 2;) {
    await throttle.turn(signal);
    const began = performance.now();
    const read = await readIfThere(api, workload, signal);
    emptyWatches += 1;
    // Without a resourceVersion a watch starts with the existing objects (Kubernetes API, "Get State and Start at
    // Any").
    const from = read === undefined ? "" : `&resourceVersion=${encodeURIComponent(read.resourceVersion)}`;
    const call = { verb: "watch", resource, method: "GET", path: narrowed + from } as const;
    for await (const { type, object } of api.watch(call, signal)) {
      if (type !== "BEGUN") emptyWatches = 0;
      if (type === "DELETED") lastCounts = "";
      const isThere = type === "ADDED" || type === "MODIFIED";
      const scale = isThere ? scaleIn(workload, "watch", object) : type === "BEGUN" ? read : undefined;
      if (scale !== undefined && hasChanged(scale)) yield scale;
    }
    if (performance.now() - began > BRIEF_MS) emptyWatches = 0;
  }
  throw new TransientError(`Cannot watch ${resource}: ${api.server} ends the watch at once`);
}

async function readIfThere(api: KubernetesApi, workload: Workload, signal: AbortSignal): Promise<Scale | undefined> {
  try {
    return scaleIn(workload, "get", await getWorkload(api, workload, signal));
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** The counts without the resourceVersion, for comparison. */
function countsOf({ resourceVersion: _, ...counts }: Scale): string {
  return JSON.stringify(counts);
}
