/**
 * Watches a workload's counts.
 *
 * @module
 */

import { Throttle } from "../async.ts";
import { NotFoundError, TransientError } from "../errors.ts";
import type { KubernetesApi } from "./api.ts";
import { collectionPath, getWorkload, type Scale, scaleIn, type Workload, workloadPath } from "./workloads.ts";

/** A watch that ended sooner and told nothing is not begun anew at once for ever. */
const BRIEF_MS = 1_000;

/**
 * Yields a workload's counts as they stand now, then whenever one of them has changed; nothing before a watch is
 * permitted and stands, nor while there is no such workload. One that is made in its place is told like a change.
 *
 * @throws TransientError | PermissionError | RejectedError; the signal's reason when it is aborted
 */
export async function* watchRollout(
  api: KubernetesApi,
  workload: Workload,
  signal: AbortSignal,
): AsyncGenerator<Scale, void> {
  const { resource } = workloadPath(workload);
  const narrowed = `${collectionPath(workload)}?fieldSelector=${encodeURIComponent(`metadata.name=${workload.name}`)}`;
  let told = "";
  const isNews = (scale: Scale) => told !== (told = countsOf(scale));
  // A watch lasts for minutes; a server that ends each of them after a word must not keep us busy.
  const throttle = new Throttle({ burst: 5, everyMs: 1_000 });
  for (let inVain = 0; inVain < 2;) {
    await throttle.turn(signal);
    const began = performance.now();
    const read = await readIfThere(api, workload, signal);
    inVain += 1;
    // Without a version a watch begins with what is there (Kubernetes API, "Get State and Start at Any").
    const from = read === undefined ? "" : `&resourceVersion=${encodeURIComponent(read.resourceVersion)}`;
    const call = { verb: "watch", resource, method: "GET", path: narrowed + from } as const;
    for await (const { type, object } of api.watch(call, signal)) {
      if (type !== "BEGUN") inVain = 0;
      if (type === "DELETED") told = "";
      const isThere = type === "ADDED" || type === "MODIFIED";
      const scale = isThere ? scaleIn(workload, "watch", object) : type === "BEGUN" ? read : undefined;
      if (scale !== undefined && isNews(scale)) yield scale;
    }
    if (performance.now() - began > BRIEF_MS) inVain = 0;
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

/** What one tells of counts: all but the version. */
function countsOf({ resourceVersion: _, ...counts }: Scale): string {
  return JSON.stringify(counts);
}
