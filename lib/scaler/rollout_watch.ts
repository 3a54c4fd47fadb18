/**
 * Watches a workload's counts.
 *
 * @module
 */

import { TransientError } from "../errors.ts";
import type { KubernetesApi } from "./api.ts";
import { collectionPath, getWorkload, type Scale, scaleIn, type Workload, workloadPath } from "./workloads.ts";

/** A watch that ended sooner and told nothing is not begun anew at once for ever. */
const BRIEF_MS = 1_000;

/**
 * Yields a workload's counts as they stand now, then whenever one of them has changed; nothing before a watch is
 * permitted and stands.
 *
 * @throws TransientError | CredentialError | PermissionError | NotFoundError | RejectedError; the signal's reason when
 * it is aborted
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
  for (let inVain = 0; inVain < 2;) {
    const began = performance.now();
    let scale = scaleIn(workload, "get", await getWorkload(api, workload, signal));
    inVain += 1;
    const path = `${narrowed}&resourceVersion=${encodeURIComponent(scale.resourceVersion)}`;
    for await (const { type, object } of api.watch({ verb: "watch", resource, method: "GET", path }, signal)) {
      if (type !== "BEGUN") inVain = 0;
      // Another one may have taken its name by now.
      if (type === "DELETED") break;
      if (type === "ADDED" || type === "MODIFIED") scale = scaleIn(workload, "watch", object);
      if (isNews(scale)) yield scale;
    }
    if (performance.now() - began > BRIEF_MS) inVain = 0;
  }
  throw new TransientError(`Cannot watch ${resource}: ${api.server} ends the watch at once`);
}

/** What one tells of counts: all but the version. */
function countsOf({ resourceVersion: _, ...counts }: Scale): string {
  return JSON.stringify(counts);
}
