/**
 * Stops targets by themselves when their time is over, and says so ten minutes before. By the wall clock and what is
 * remembered, so that it outlives restarts. Knows nothing of who may set a time.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { failed, mentioning, nearlyOver, stoppedByItself, type Text } from "../commands/mod.ts";
import { ConflictError, CredentialError, RejectedError, TransientError } from "../errors.ts";
import { triedForMs, whyNot } from "./attempt.ts";
import type { Recall, RememberedTarget, Timer } from "./memory.ts";
import type { SendQueue } from "./send_queue.ts";
import { Deadline } from "../async.ts";
import type { InboxEvent, Target } from "./ports.ts";
import type { Inside } from "./settings.ts";
import type { Stories } from "./stories.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** So long before the end the room is told (SPEC 3j). */
const warnedBeforeMs = 10 * 60_000;
/** Longest sleep: the wall clock may be set, and a suspended machine wakes up later. */
const longestSleepMs = 30_000;
/** Later than this is told to be late. */
const punctualMs = 120_000;

/** The timers of all targets. */
export class Timers {
  readonly #inside: Inside;
  readonly #sendQueue: SendQueue;
  readonly #recall: Recall;
  readonly #stories: Stories;
  /** Targets whose turn is being waited for. */
  readonly #queued = new Set<string>();
  #isAwake = false;

  /** Looks at nothing yet. */
  constructor(inside: Inside, sendQueue: SendQueue, recall: Recall, stories: Stories) {
    this.#inside = inside;
    this.#sendQueue = sendQueue;
    this.#recall = recall;
    this.#stories = stories;
  }

  /** A timer as it is to be remembered; one that is moved stays with the room and the person it was set by. */
  make({ roomId, sender }: InboxEvent, dueAtMs: number, moved: Timer | undefined): Timer {
    const warned = dueAtMs - this.#inside.clock.now() <= warnedBeforeMs;
    return { dueAtMs, roomId: moved?.roomId ?? roomId, user: moved?.user ?? sender, warned };
  }

  /** Looks at the timers from now on, as long as there are any. */
  wake(): void {
    if (this.#isAwake || this.#ticking.length === 0) return;
    this.#isAwake = true;
    this.#inside.lanes.run("timers", () => this.#run());
  }

  get #ticking(): { readonly target: Target; readonly timer: Timer }[] {
    return this.#inside.settings.targets.flatMap((target) => {
      const { timer } = this.#recall.of(target.alias);
      return timer === undefined ? [] : [{ target, timer }];
    });
  }

  async #run(): Promise<void> {
    const { clock, stop, lanes } = this.#inside;
    for (let ticking = this.#ticking; ticking.length > 0; ticking = this.#ticking) {
      let sleepMs = longestSleepMs;
      for (const { target, timer } of ticking) {
        const leftMs = timer.dueAtMs - (timer.warned ? 0 : warnedBeforeMs) - clock.now();
        if (leftMs > 0) sleepMs = Math.min(sleepMs, leftMs);
        else if (!this.#queued.has(target.alias)) {
          this.#queued.add(target.alias);
          lanes.run(`target ${target.alias}`, () => this.#turn(target));
        }
      }
      await clock.sleep(sleepMs, stop);
    }
    this.#isAwake = false;
  }

  /** Warns or stops. What fails for now is tried at the next look. */
  async #turn(target: Target): Promise<void> {
    const { clock, stop, abandon } = this.#inside;
    const { alias } = target;
    this.#queued.delete(alias);
    const { timer } = this.#recall.of(alias);
    if (timer === undefined || clock.now() < timer.dueAtMs - (timer.warned ? 0 : warnedBeforeMs)) return;
    using patience = new Deadline(triedForMs, stop, { clock });
    using grip = new Deadline(triedForMs, abandon, { clock });
    try {
      await this.#look(target, timer, patience.signal, grip.signal);
    } catch (error) {
      const isProxys = error instanceof RejectedError && error.code === "";
      const isPassing = error instanceof TransientError || error instanceof ConflictError ||
        error instanceof CredentialError || isProxys || patience.expired || grip.expired;
      const why = isPassing ? undefined : whyNot(error, target);
      if (why === undefined && !isPassing) throw error;
      logger.warn("Cannot stop {target} by itself: {reason}", { target: alias, reason: String(error) });
      if (why !== undefined) this.#say(alias, timer, "stop", failed("stop", alias, why), { timer: undefined });
    }
  }

  async #look(target: Target, timer: Timer, signal: AbortSignal, grip: AbortSignal): Promise<void> {
    const { scaler, clock, settings } = this.#inside;
    const { alias } = target;
    const { desired, resourceVersion } = await scaler.read(target, signal);
    const lateMs = clock.now() - timer.dueAtMs;
    if (desired === 0) {
      // Somebody has stopped it; or we have, and did not live to say so.
      if (timer.before === undefined) return this.#recall.change(alias, { timer: undefined });
      return this.#stopped(target, timer.before, timer, lateMs);
    }
    if (lateMs < 0) {
      const text = nearlyOver(alias, -lateMs, settings.targets.length > 1);
      return this.#say(alias, timer, "warning", text, { timer: { ...timer, warned: true } });
    }
    this.#recall.change(alias, { timer: { ...timer, before: desired } });
    signal.throwIfAborted();
    await scaler.scale(target, 0, resourceVersion, grip);
    this.#stopped(target, desired, timer, lateMs);
  }

  #stopped(target: Target, before: number, timer: Timer, lateMs: number): void {
    const { accounts, transaction } = this.#inside;
    const { alias } = target;
    const off = { known: { replicas: 0 }, beforeStop: before, timer: undefined, readySinceMs: undefined };
    transaction(() => {
      this.#stories.overtake(alias, undefined);
      this.#say(alias, timer, "stop", stoppedByItself(alias, lateMs > punctualMs ? lateMs : undefined), off);
    });
    accounts.changed(target, "SwitchedOff", `The time is over that ${timer.user} has set: replicas ${before} → 0`);
  }

  /** Said once for each time that is set. */
  #say(alias: string, timer: Timer, what: "warning" | "stop", words: Text, next: RememberedTarget): void {
    const { transaction, journal, chat } = this.#inside;
    const { roomId, dueAtMs, user } = timer;
    const mentions = chat.room(roomId)?.isJoined(user) ? [user] : [];
    const text = mentions.length === 0 ? words : mentioning(mentions, words);
    const eventId = `${alias} ${dueAtMs} ${what}`;
    transaction(() => {
      this.#recall.change(alias, next);
      journal.say({ kind: "alert", sequence: 0, roomId, eventId, form: "text", text, reply: false, mentions });
    });
    this.#sendQueue.drain();
  }
}
