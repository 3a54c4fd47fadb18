/**
 * Decides what happens to a followed rollout when the replica count of its target changes again.
 *
 * @module
 */

import type { News, State, Write } from "./decision.ts";
import type { Rollout } from "./target_state.ts";

/**
 * Updates the followed rollout after another replica count was found or set.
 *
 * @param stoppedBy user who has sent a stop
 * @param isChange whether we have set the count
 * @param after new count; undefined if unknown
 */
export function endRollout(
  { rollout }: State,
  stoppedBy: string | undefined,
  isChange: boolean,
  after: number | undefined,
  nowMs: number,
): { readonly rollout: Rollout | undefined; readonly effects: readonly Write[] } {
  if (rollout === undefined || after === undefined) return { rollout, effects: [] };
  const isOtherWay = (rollout.after === 0) !== (after === 0);
  // Somebody has asked for another count above 0, and waits for that as well.
  if (!isChange && !isOtherWay) return { rollout: { ...rollout, after }, effects: [] };
  if (rollout.after === 0 || rollout.told === "ready") return { rollout: undefined, effects: [{ kind: "unfollow" }] };
  const news: News = { kind: "superseded", by: stoppedBy, afterMs: nowMs - rollout.atMs };
  return { rollout: undefined, effects: [{ kind: "update", news, isLast: true }] };
}
