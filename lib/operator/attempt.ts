/**
 * One order's tries at one of its targets: reads, decides, judges once more, writes down what is about to be done, does
 * it. Knows nothing of what becomes of the answer.
 *
 * @module
 */

import { alreadyOff, alreadyOn, alreadyStarting, away, extended, noLongerSure, overtaken } from "../commands/mod.ts";
import { roomNotAllowed, stateOf, stopsNever, switchedOff, switchedOn, type Why } from "../commands/mod.ts";
import { ConflictError, CredentialError, NotFoundError, PermissionError } from "../errors.ts";
import { RejectedError, TransientError } from "../errors.ts";
import type { Recall } from "./memory.ts";
import { ageOf } from "./message.ts";
import { actingOf, type Order } from "./order.ts";
import { isRefusal } from "../errors.ts";
import type { End, Intent, Scale, Target } from "./ports.ts";
import type { Inside, Outcome, Refusal } from "./settings.ts";

/** What came of an order at a target. */
export interface Tried extends End {
  /** In a word. */
  readonly outcome: Outcome;
  /** Why it was refused. */
  readonly refusal?: Refusal;
  /** Since when what comes of it is watched, milliseconds since the epoch; undefined: nothing is to come. */
  readonly watchedSinceMs?: number;
  /** When the target stops by itself from now on, milliseconds since the epoch; undefined leaves that as it is. */
  readonly stopsAtMs?: number | undefined;
  /** A change was sent whose outcome nobody told. */
  readonly uncertain?: boolean;
}

/** For how long a command is tried (SPEC 3f). */
export const triedForMs = 30_000;

/** So often a target may change between reading and writing before that counts as a failure. */
const mostConflicts = 5;

/** An order's tries. Remembers a change whose outcome is unknown, so that it is not taken for somebody else's. */
export class Attempt {
  readonly #order: Order;
  readonly #target: Target;
  readonly #inside: Inside;
  readonly #recall: Recall;
  readonly #signal: AbortSignal;
  readonly #grip: AbortSignal;
  #pending: Intent | undefined;
  /** Whose answer was waited for last. */
  #asked: "Kubernetes API" | "homeserver" = "Kubernetes API";

  /**
   * Tries nothing yet.
   *
   * @param signal ends it before a change is made
   * @param grip ends it while one is made
   */
  constructor(order: Order, target: Target, inside: Inside, recall: Recall, signal: AbortSignal, grip: AbortSignal) {
    this.#order = order;
    this.#target = target;
    this.#inside = inside;
    this.#recall = recall;
    this.#signal = signal;
    this.#grip = grip;
    this.#pending = order.parts.get(target.alias)?.intent;
  }

  /** A change was sent whose outcome nobody told. */
  get uncertain(): boolean {
    return this.#pending !== undefined;
  }

  /** Why it failed, when the time for it is over. */
  unreachable(): Why {
    return { kind: "unreachable", who: this.#asked, triedMs: triedForMs, perhapsDone: this.uncertain };
  }

  /** One try; a target that changes between reading and writing is read again at once. */
  async make(): Promise<Tried> {
    for (let conflicts = 0; conflicts < mostConflicts; conflicts += 1) {
      try {
        return await this.#once();
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
      }
    }
    throw new TransientError(`Cannot scale ${this.#target.alias}: it changes all the time`);
  }

  async #once(): Promise<Tried> {
    const scale = await this.#inside.scaler.read(this.#target, this.#signal);
    this.#inside.observer.replicas(this.#target.alias, scale);
    return this.#endOfPending(scale) ?? this.#endWithoutActing(scale) ?? await this.#refusal() ??
      await this.#act(scale);
  }

  /**
   * ARCHITECTURE, the way of a command, step 4: as intended, somebody else's doing, or not done yet. The count alone does
   * not tell: somebody may have set it back after it was done.
   */
  #endOfPending({ desired, generation }: Scale): Tried | undefined {
    const pending = this.#pending;
    if (pending === undefined || (desired === pending.before && generation === pending.generation)) return undefined;
    if (desired === pending.after) return this.#done(pending);
    const text = overtaken(this.#order.typed, this.#target.alias, { before: pending.before, now: desired });
    return { outcome: "overtaken", text, before: pending.before, after: desired };
  }

  #endWithoutActing(scale: Scale): Tried | undefined {
    const { inbox, typed } = this.#order;
    const already = this.#already(scale);
    const counts = { before: scale.desired, after: scale.desired };
    if (already !== undefined) return { outcome: "already", ...counts, ...already };
    const ageMs = ageOf(inbox, this.#inside.clock.now());
    if (ageMs <= this.#inside.settings.maxCommandAgeMs) return undefined;
    return { outcome: "too-old", text: away(typed, ageMs), ...counts };
  }

  /** What is said where there is nothing to do. */
  #already(scale: Scale): Pick<Tried, "text" | "watchedSinceMs"> | undefined {
    const { word, durationMs } = this.#order;
    const { alias } = this.#target;
    if (scale.desired === 0) return word === "start" ? undefined : { text: alreadyOff(alias) };
    if (word === "stop" || durationMs !== undefined) {
      const isEndless = word === "extend" && this.#recall.of(alias).timer === undefined;
      return isEndless ? { text: stopsNever(alias) } : undefined;
    }
    return this.#started(scale, undefined);
  }

  /** What is said of a start of what is on; one that is not ready is watched. */
  #started(scale: Scale, stopsInMs: number | undefined): Pick<Tried, "text" | "watchedSinceMs"> {
    const { alias } = this.#target;
    if (stateOf(scale) === "running") return { text: alreadyOn(alias, scale, stopsInMs) };
    return { text: alreadyStarting(alias, scale, stopsInMs), watchedSinceMs: this.#inside.clock.now() };
  }

  async #refusal(): Promise<Tried | undefined> {
    this.#asked = "homeserver";
    const judgement = await this.#inside.judge.judge(this.#order.inbox, this.#signal);
    this.#asked = "Kubernetes API";
    if (judgement.kind === "undecryptable") {
      return { outcome: "refused", text: noLongerSure(), refusal: "unreadable" };
    }
    const { verdict } = judgement;
    if (verdict.trusted) return undefined;
    // Rooms may have been left out of the configuration since the command came.
    const text = verdict.reason === "room-not-allowed" ? roomNotAllowed() : noLongerSure();
    return { outcome: "refused", text, refusal: verdict.reason };
  }

  async #act(scale: Scale): Promise<Tried> {
    const { inbox, word, parts } = this.#order;
    const { clock, journal, scaler, observer } = this.#inside;
    const { alias } = this.#target;
    const { desired: before, resourceVersion, generation } = scale;
    if (before > 0 && word !== "stop") return this.#timed(scale);
    const after = word === "start" ? this.#replicas() : 0;
    const intent: Intent = { before, after, resourceVersion, generation, atMs: clock.now() };
    this.#signal.throwIfAborted();
    parts.set(alias, { target: alias, intent });
    journal.acting(inbox.seq, actingOf(this.#order));
    try {
      await scaler.scale(this.#target, after, resourceVersion, this.#grip);
    } catch (error) {
      if (!(error instanceof ConflictError) && !isRefusal(error)) this.#pending = intent;
      throw error;
    }
    observer.scaled(alias, clock.now() - intent.atMs);
    return this.#done(intent);
  }

  #replicas(): number {
    const { startReplicas } = this.#inside.settings;
    return startReplicas === "previous" ? this.#recall.of(this.#target.alias).beforeStop ?? 1 : startReplicas;
  }

  #done({ before, after, atMs }: Intent): Tried {
    const { alias } = this.#target;
    const { durationMs = this.#inside.settings.autoStopMs } = this.#order;
    const counts = { before, after };
    if (after === 0) return { outcome: "done", text: switchedOff(alias), ...counts, watchedSinceMs: atMs };
    const text = switchedOn(alias, after, durationMs);
    const stopsAtMs = durationMs === undefined ? undefined : atMs + durationMs;
    return { outcome: "done", text, ...counts, watchedSinceMs: atMs, stopsAtMs };
  }

  /** A time for what is on already. */
  #timed(scale: Scale): Tried {
    const { word, durationMs = 0 } = this.#order;
    const { alias } = this.#target;
    const nowMs = this.#inside.clock.now();
    // What is over already could not be done: nobody extends what is past.
    const fromMs = word === "extend" ? Math.max(nowMs, this.#recall.of(alias).timer?.dueAtMs ?? nowMs) : nowMs;
    const stopsAtMs = fromMs + durationMs;
    const told = word === "extend"
      ? { text: extended(alias, stopsAtMs - nowMs) }
      : this.#started(scale, stopsAtMs - nowMs);
    return { outcome: "done", ...told, before: scale.desired, after: scale.desired, stopsAtMs };
  }
}

/** What is told of a refusal of the cluster's; undefined for any other error. */
export function whyNot(error: unknown, { kind, namespace, name }: Target): Why | undefined {
  if (error instanceof PermissionError) return { kind: "not-permitted", verb: error.verb, resource: error.resource };
  if (error instanceof NotFoundError) return { kind: "not-found", target: `${kind} ${name} in namespace ${namespace}` };
  if (error instanceof CredentialError) return { kind: "rejected", reason: "Unauthorized" };
  if (error instanceof RejectedError) return { kind: "rejected", reason: error.code || `${error.status}` };
  return undefined;
}
