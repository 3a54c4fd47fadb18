/**
 * Watches targets: has told how a change of ours fares, and what others change. What is concluded rests on fresh reads; a
 * watch, where it is permitted, only says when to read.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { changedByOthers, failed, mentioning, stateOf, undone } from "../commands/mod.ts";
import { CredentialError, TransientError } from "../errors.ts";
import { whyNot } from "./attempt.ts";
import { isUnready, nextStep } from "./fare.ts";
import type { Recall, RememberedTarget } from "./memory.ts";
import type { SendQueue } from "./send_queue.ts";
import { Wakeup } from "../async.ts";
import { isRefusal } from "../errors.ts";
import type { Diagnosis, Scale, Target } from "./ports.ts";
import type { Inside } from "./settings.ts";
import type { Stories } from "./stories.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** A watch that was refused is asked for again after so long: the permission may have been granted. */
const refusedForMs = 300_000;

/** What is in a target's way is asked for so often at most: that is a list of pods. */
const diagnosedEveryMs = 2_000;
const unhindered: Diagnosis = { problems: [], missingPermission: undefined };

/** Watches all targets. */
export class Follower {
  readonly #inside: Inside;
  readonly #sendQueue: SendQueue;
  readonly #recall: Recall;
  readonly #stories: Stories;
  /** Wakes those who follow a change, by alias. */
  readonly #following = new Map<string, Wakeup>();
  readonly #watched = new Set<string>();
  readonly #looking = new Set<string>();

  /** Watches nothing yet. */
  constructor(inside: Inside, sendQueue: SendQueue, recall: Recall, stories: Stories) {
    this.#inside = inside;
    this.#sendQueue = sendQueue;
    this.#recall = recall;
    this.#stories = stories;
  }

  /** Watches from now on, and goes on with what an earlier run was telling. */
  resume(): void {
    for (const target of this.#inside.settings.targets) {
      this.#inside.lanes.run(`watch ${target.alias}`, () => this.#watch(target));
      this.follow(target);
    }
  }

  /** Has told how the latest change of a target fares, if there is one. */
  follow(target: Target): void {
    const { alias } = target;
    if (this.#following.has(alias)) return this.#following.get(alias)?.notify();
    if (this.#recall.of(alias).change === undefined) return;
    const bell = new Wakeup();
    this.#following.set(alias, bell);
    this.#inside.lanes.run(`follow ${alias}`, () => this.#follow(target, bell));
  }

  async #follow(target: Target, bell: Wakeup): Promise<void> {
    const { clock, stop, settings } = this.#inside;
    const { alias } = target;
    let readySinceMs: number | undefined;
    let looked = { changeAtMs: 0, atMs: 0, diagnosis: unhindered };
    for (;;) {
      const { change, known, timer } = this.#recall.of(alias);
      if (change === undefined) {
        this.#following.delete(alias);
        // What a watch has shown since the last read was left to us.
        if (this.#watched.has(alias)) this.#look(target);
        return;
      }
      const scale = await this.#read(target);
      const isAsWanted = scale?.desired === change.after;
      const isInWay = scale !== undefined && isAsWanted && isUnready(change, scale);
      const isDue = looked.changeAtMs !== change.atMs || clock.now() - looked.atMs >= diagnosedEveryMs;
      if (isInWay && isDue) {
        const atMs = clock.now();
        looked = { changeAtMs: change.atMs, atMs, diagnosis: await this.diagnose(target, stop) };
      }
      const { diagnosis } = looked;
      if (this.#recall.of(alias).change !== change || scale === undefined) continue;

      const nowMs = clock.now();
      readySinceMs = isInWay ? undefined : readySinceMs ?? nowMs;
      const watched = this.#watched.has(alias);
      if (!isAsWanted) this.#compare(target, scale, known);
      const step = isAsWanted
        ? nextStep({
          ...{ alias, change, scale, diagnosis, watched, startTimeoutMs: settings.startTimeoutMs },
          ...{ afterMs: nowMs - change.atMs, readyForMs: nowMs - (readySinceMs ?? nowMs) },
          stopsInMs: timer && timer.dueAtMs - nowMs,
        })
        : { kind: "wait", forMs: 1_000 } as const;
      if (step.kind === "wait") await bell.wait(step.forMs, stop, clock);
      if (step.kind === "over") this.#stories.end(alias);
      if (step.kind !== "tell") continue;
      if (step.change.told === "ready") this.#isReady(alias, change.atMs);
      this.#stories.tell(alias, step.text, step.change, step.calls);
    }
  }

  #isReady(alias: string, sinceMs: number): void {
    const nowMs = this.#inside.clock.now();
    this.#inside.observer.ready(alias, nowMs - sinceMs);
    this.#recall.change(alias, { readySinceMs: nowMs });
  }

  /** The target as it is now; undefined if that cannot be had, and was told. */
  async #read(target: Target): Promise<Scale | undefined> {
    const { scaler, stop, observer } = this.#inside;
    try {
      const ask = () => scaler.read(target, stop);
      const scale = await this.#inside.retrying.run(`look at ${target.alias}`, ask, stop);
      observer.replicas(target.alias, scale);
      return scale;
    } catch (error) {
      const why = whyNot(error, target);
      if (why === undefined) throw error;
      this.#stories.tell(target.alias, failed("status", target.alias, why), undefined, true);
      return undefined;
    }
  }

  /** What is in a target's way, as far as we may know. */
  async diagnose(target: Target, signal: AbortSignal): Promise<Diagnosis> {
    try {
      return await this.#inside.rollouts.diagnose(target, signal);
    } catch (error) {
      if (!(error instanceof TransientError || error instanceof CredentialError) && !isRefusal(error)) throw error;
      logger.warn("Cannot diagnose {target}: {reason}", { target: target.alias, reason: error.message });
      return unhindered;
    }
  }

  async #watch(target: Target): Promise<void> {
    const { rollouts, clock, stop, waitAfter } = this.#inside;
    const { alias } = target;
    for (let failures = 0;;) {
      let waitMs = 1_000;
      try {
        for await (const scale of rollouts.watch(target, stop)) {
          failures = 0;
          this.#watched.add(alias);
          this.#seen(target, scale);
        }
      } catch (error) {
        const isPassing = error instanceof TransientError;
        if (!isPassing && !isRefusal(error) && !(error instanceof CredentialError)) throw error;
        failures += 1;
        waitMs = isPassing ? waitAfter(failures, error.retryAfterMs) : refusedForMs;
        logger.debug("Cannot watch {target}: {reason}", { target: alias, reason: error.message });
      }
      this.#watched.delete(alias);
      await clock.sleep(waitMs, stop);
    }
  }

  #seen(target: Target, scale: Scale): void {
    const { alias } = target;
    this.#inside.observer.replicas(alias, scale);
    this.#following.get(alias)?.notify();
    const { known, change, readySinceMs } = this.#recall.of(alias);
    if (change !== undefined) return;
    if (known === undefined) return this.#compare(target, scale, known);
    if (known.replicas !== scale.desired) return this.#look(target);
    const isReady = stateOf(scale) === "running";
    if (isReady === (readySinceMs !== undefined)) return;
    this.#recall.change(alias, { readySinceMs: isReady ? this.#inside.clock.now() : undefined });
  }

  /** What a watch shows may be older than our latest change: what others have done is read anew. */
  #look(target: Target): void {
    const { alias } = target;
    if (this.#looking.has(alias)) return;
    this.#looking.add(alias);
    this.#inside.lanes.run(`look ${alias}`, async () => {
      this.#looking.delete(alias);
      const { known } = this.#recall.of(alias);
      const scale = await this.#read(target);
      if (scale !== undefined) this.#compare(target, scale, known);
    });
  }

  /** When no command is under way that may have changed it, what was read is somebody else's doing. */
  #compare(target: Target, scale: Scale, known: RememberedTarget["known"]): void {
    // deno-lint-ignore require-await -- lanes take work that may wait
    this.#inside.lanes.run(`target ${target.alias}`, async () => {
      const now = this.#recall.of(target.alias);
      if (now.known !== known || now.timer?.before !== undefined) return;
      this.#inside.transaction(() => this.#adopt(target, scale, known?.replicas));
      this.#sendQueue.drain();
    });
  }

  /** Takes a count for granted from now on. Unless it was known, those who care are told. */
  #adopt({ alias }: Target, { desired: now, manager, resourceVersion }: Scale, before: number | undefined): void {
    const { chat, clock, journal } = this.#inside;
    const { change, rooms = [], startedBy } = this.#recall.of(alias);
    const off = now === 0 ? { timer: undefined, readySinceMs: undefined } : {};
    this.#recall.change(alias, { known: { replicas: now }, ...off });
    const tellers = this.#recall.storiesOf(alias).map(({ roomId }) => roomId);
    const isNews = before !== undefined && before !== now;
    const isUndone = change !== undefined && (change.after > 0) !== (now > 0);
    if (isUndone && isNews) {
      const text = undone(alias, { before: change.after, now, manager }, clock.now() - change.atMs);
      this.#stories.tell(alias, text, undefined, true);
    } else if (isUndone || change?.told === "ready") this.#stories.end(alias);
    else if (change !== undefined) this.#recall.change(alias, { change: { ...change, after: now } });
    if (!isNews) return;
    for (const roomId of rooms) {
      const room = chat.room(roomId);
      if (room?.membership !== "join" || (isUndone && tellers.includes(roomId))) continue;
      const mentions = startedBy !== undefined && room.isJoined(startedBy) ? [startedBy] : [];
      const words = changedByOthers(alias, { before, now, manager });
      const text = mentions.length === 0 ? words : mentioning(mentions, words);
      const eventId = `${alias} ${resourceVersion} ${roomId}`;
      journal.say({ kind: "alert", sequence: 0, roomId, eventId, form: "text", text, reply: false, mentions });
    }
  }
}
