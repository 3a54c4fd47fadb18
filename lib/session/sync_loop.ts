/**
 * How long a poll is held by the homeserver, and waited for by us: so that a dead connection is noticed soon, and a slow
 * line gets its time. Knows nothing of what a poll brings.
 *
 * @module
 */

import { REQUEST_DEADLINE_MS } from "./homeserver_client.ts";

/** How long the homeserver may hold a poll without news, milliseconds. */
const HELD_MS = 25_000;
/** A quiet poll is answered by then, or its connection is dead. */
const HELD_DEADLINE_MS = HELD_MS + 5_000;
/** Of a poll that is not held; it, too, may have gone to a dead connection. */
const SHORT_DEADLINE_MS = 10_000;
/** From so many failures in a row on, the server or the line is taken for slow. */
const SLOW_FROM = 5;
/** Without a token the answer is everything there is. */
const FIRST_DEADLINE_MS = 120_000;

/** Times of the next poll, by how the last ones went. */
export class Polls {
  /** Since one went well; before that, the first one is treated as the next after a failure. */
  #failures = 1;

  /** Of the next poll, which counts as failed until it went well; milliseconds. */
  next(hasToken: boolean): { readonly heldMs: number; readonly deadlineMs: number } {
    const failures = this.#failures;
    this.#failures += 1;
    // The first answer tells that all is well (again): the server must not hold it until there is news.
    const heldMs = failures === 0 ? HELD_MS : 0;
    if (!hasToken) return { heldMs, deadlineMs: FIRST_DEADLINE_MS };
    if (failures === 0) return { heldMs, deadlineMs: HELD_DEADLINE_MS };
    return { heldMs, deadlineMs: failures < SLOW_FROM ? SHORT_DEADLINE_MS : REQUEST_DEADLINE_MS };
  }

  /** The last poll has been answered. */
  wentWell(): void {
    this.#failures = 0;
  }
}
