/**
 * What becomes of a rollout that is being told when something else is done to its target.
 *
 * @module
 */

import type { News, State, Write } from "./decision.ts";
import type { Rollout } from "./target_state.ts";

/**
 * What becomes of the rollout before, now that another count was found or set.
 *
 * @param stoppedBy who has sent a stop
 * @param isChange it was set
 * @param after undefined if it is not known
 */
export function endedRollout(
  { rollout }: State,
  stoppedBy: string | undefined,
  isChange: boolean,
  after: number | undefined,
  nowMs: number,
): { readonly rollout: Rollout | undefined; readonly effects: readonly Write[] } {
  if (rollout === undefined || after === undefined) return { rollout, effects: [] };
  const isOtherWay = (rollout.after === 0) !== (after === 0);
  // Somebody wants more of it or less, and waits for that as well.
  if (!isChange && !isOtherWay) return { rollout: { ...rollout, after }, effects: [] };
  if (rollout.after === 0 || rollout.told === "ready") return { rollout: undefined, effects: [{ kind: "unfollow" }] };
  const news: News = { kind: "superseded", by: stoppedBy, afterMs: nowMs - rollout.atMs };
  return { rollout: undefined, effects: [{ kind: "update", news, isLast: true }] };
}
