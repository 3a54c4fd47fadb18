/**
 * Carries commands out at their targets: those for one target one at a time, in the order in which they were submitted;
 * targets don't wait for each other.
 *
 * @module
 */

import { Follower } from "./follow.ts";
import { Recall } from "./memory.ts";
import type { Order } from "./order.ts";
import type { SendQueue } from "./send_queue.ts";
import type { Inside } from "./settings.ts";
import { Stories } from "./stories.ts";
import { Switch } from "./target.ts";
import { Timers } from "./timers.ts";

/** All targets. */
export class TargetWorkers {
  readonly #inside: Inside;
  readonly #follower: Follower;
  readonly #timers: Timers;
  readonly #switch: Switch;

  constructor(inside: Inside, sendQueue: SendQueue) {
    const recall = new Recall(inside.memory, inside.settings.targets);
    const stories = new Stories(inside, sendQueue, recall);
    this.#inside = inside;
    this.#follower = new Follower(inside, sendQueue, recall, stories);
    this.#timers = new Timers(inside, sendQueue, recall, stories);
    this.#switch = new Switch(inside, sendQueue, recall, stories, this.#follower, this.#timers);
  }

  /** Goes on with what an earlier run has left. */
  start(): void {
    this.#follower.resume();
    this.#timers.wake();
  }

  /**
   * Carries a command out at all of its targets and settles its event.
   *
   * @returns resolves when the event is settled, or the operator is told to end; never rejects
   */
  submit(command: Order): Promise<void> {
    const { lanes, stop } = this.#inside;
    const { promise, resolve } = Promise.withResolvers<void>();
    stop.addEventListener("abort", () => resolve(), { once: true });
    for (const { target, end } of [...command.parts.values()]) {
      if (end !== undefined) continue;
      // A status waits for nobody.
      const lane = command.word === "status" ? `status ${command.inbox.seq} ${target}` : `target ${target}`;
      lanes.run(lane, async () => {
        if (await this.#switch.carryOut(command, target)) resolve();
      });
    }
    return promise;
  }
}
