/**
 * Carries orders out at their targets, remembers what that means for a target, and answers. Knows nothing of rooms and
 * queues; whoever calls lets one order at a time at a target.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { failed, lines, stateOf, status, stillUnderWay, targetGone } from "../commands/mod.ts";
import { Attempt, type Tried, triedForMs, whyNot } from "./attempt.ts";
import { isUnready } from "./fare.ts";
import type { Follower } from "./follow.ts";
import type { Recall, RememberedTarget } from "./memory.ts";
import { actingOf, type Order } from "./order.ts";
import { replyTo, type SendQueue } from "./send_queue.ts";
import { Deadline } from "../async.ts";
import type { Target } from "./ports.ts";
import type { Inside } from "./settings.ts";
import type { Stories } from "./stories.ts";
import type { Timers } from "./timers.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** In so many rooms it is remembered that a target was commanded there. */
const mostRooms = 5;

/** Carries out orders. */
export class Switch {
  readonly #inside: Inside;
  readonly #sendQueue: SendQueue;
  readonly #recall: Recall;
  readonly #stories: Stories;
  readonly #follower: Follower;
  readonly #timers: Timers;

  /** Does nothing yet. */
  constructor(
    inside: Inside,
    sendQueue: SendQueue,
    recall: Recall,
    stories: Stories,
    follower: Follower,
    timers: Timers,
  ) {
    this.#inside = inside;
    this.#sendQueue = sendQueue;
    this.#recall = recall;
    this.#stories = stories;
    this.#follower = follower;
    this.#timers = timers;
  }

  /**
   * Carries an order out at one of its targets; tries for 30 s, then says that it failed. The last of its targets
   * settles the event.
   *
   * @returns whether the event is settled
   */
  async carryOut(order: Order, alias: string): Promise<boolean> {
    const { clock, accounts, journal, settings, transaction } = this.#inside;
    const takenAtMs = clock.now();
    const target = settings.targets.find((each) => each.alias === alias);
    const tried: Tried = target === undefined
      ? { outcome: "failed", text: targetGone(order.typed, alias) }
      : await this.#try(order, target);
    const { inbox, word: command, parts } = order;
    const { outcome, refusal, text, before, after } = tried;
    const isLast = [...parts.values()].filter(({ end }) => end === undefined).length === 1;
    const isRefusalTold = [...parts.values()].some(({ end }) => end?.outcome === refusal);
    const counts = { ...before === undefined ? {} : { before }, ...after === undefined ? {} : { after } };
    parts.set(alias, { target: alias, end: { outcome: refusal ?? outcome, text, ...counts } });
    if (refusal !== undefined && !isRefusalTold) accounts.refused(inbox, refusal);
    transaction(() => {
      if (command !== "status") this.#remember(order, alias, tried);
      if (isLast) this.#settle(order);
      else if (command !== "status") journal.acting(inbox.seq, actingOf(order));
    });
    accounts.commanded(inbox, { command, target: alias, outcome, before, after, ms: clock.now() - takenAtMs });
    if (target !== undefined && command !== "status") this.#follow(order, target, tried);
    this.#sendQueue.drain();
    return isLast;
  }

  async #try(order: Order, target: Target): Promise<Tried> {
    const { clock, stop, abandon } = this.#inside;
    const { word } = order;
    const { alias } = target;
    using patience = new Deadline(triedForMs, stop, { clock });
    using grip = new Deadline(triedForMs, abandon, { clock });
    const attempt = new Attempt(order, target, this.#inside, this.#recall, patience.signal, grip.signal);
    const make = () => word === "status" ? this.#status(order, target, patience.signal) : attempt.make();
    try {
      return await this.#inside.retrying.run(`${word} ${alias}`, make, patience.signal);
    } catch (error) {
      const isOver = patience.expired || grip.expired;
      const why = whyNot(error, target) ?? (isOver ? attempt.unreachable() : undefined);
      if (why === undefined) throw error;
      logger.warn("Cannot {command} {target}: {reason}", { command: word, target: alias, reason: String(error) });
      const text = failed(word, alias, why);
      return { outcome: "failed", text, uncertain: attempt.uncertain };
    }
  }

  async #status({ parts }: Order, target: Target, signal: AbortSignal): Promise<Tried> {
    const { scaler, observer, clock } = this.#inside;
    const { alias } = target;
    const scale = await scaler.read(target, signal);
    observer.replicas(alias, scale);
    const isInWay = isUnready({ after: scale.desired }, scale);
    const { problems } = isInWay ? await this.#follower.diagnose(target, signal) : { problems: [] };
    const { readySinceMs, timer } = this.#recall.of(alias);
    const isReady = stateOf(scale) === "running" && readySinceMs !== undefined;
    const text = status(alias, scale, {
      readyForMs: isReady ? clock.now() - readySinceMs : undefined,
      stopsInMs: timer === undefined || scale.desired === 0 ? undefined : timer.dueAtMs - clock.now(),
      problems,
    }, parts.size === 1);
    return { outcome: "done", text, after: scale.desired };
  }

  /** What an order means for its target from now on. */
  #remember({ inbox, word }: Order, alias: string, tried: Tried): void {
    const { outcome, before = 0, after, stopsAtMs, watchedSinceMs, uncertain } = tried;
    const { roomId, sender } = inbox;
    const { rooms = [], change, timer: former } = this.#recall.of(alias);
    const isDone = outcome === "done" && before !== after;
    const known = after === undefined ? {} : { known: { replicas: after } };
    const isOff = after === 0 ? { timer: undefined, readySinceMs: undefined } : {};
    const wasStopped = isDone && word === "stop" ? { beforeStop: before } : {};
    const wasStarted = isDone && word === "start" ? { startedBy: sender } : {};
    const timer = stopsAtMs === undefined
      ? undefined
      : this.#timers.make(inbox, stopsAtMs, isDone ? undefined : former);
    const next: RememberedTarget = {
      rooms: [roomId, ...rooms.filter((room) => room !== roomId)].slice(0, mostRooms),
      ...known,
      // It may have been done or not: whatever is seen next is nobody's doing in particular.
      ...uncertain ? { known: undefined } : {},
      ...{ ...isOff, ...wasStopped, ...wasStarted },
      ...isDone || timer !== undefined ? { timer } : {},
    };
    if (isDone) this.#stories.overtake(alias, sender);
    else if (after !== undefined && change !== undefined && change.after !== after) {
      if (after === 0) this.#stories.overtake(alias, undefined);
      else if (change.after === 0) this.#stories.end(alias);
      // Somebody else wants more of it or less, and waits for that as well.
      else this.#recall.change(alias, { change: { ...change, after } });
    }
    this.#recall.change(alias, next);
    if (watchedSinceMs === undefined || after === undefined) return;
    if (this.#recall.of(alias).change === undefined) {
      this.#recall.change(alias, { change: { before, after, atMs: watchedSinceMs, told: "nothing", late: false } });
    }
    this.#stories.begin(inbox, alias, tried.text);
  }

  /** One answer for all of an order's targets. */
  #settle({ inbox, parts, underWay = [] }: Order): void {
    const ends = [...parts].flatMap(([alias, { end }]) => end === undefined ? [] : [[alias, end] as const]);
    const outcomes = new Set(ends.map(([, { outcome }]) => outcome));
    const told = this.#stories.answer(inbox, ends.map(([alias, end]) => [alias, end.text] as const));
    const text = underWay.length === 0 ? told : lines([told, stillUnderWay(underWay)]);
    this.#inside.journal.settle(inbox.seq, [...outcomes].join("+"), [replyTo(inbox, "answer", text)]);
  }

  #follow({ inbox, word }: Order, target: Target, { outcome, before, after, watchedSinceMs, stopsAtMs }: Tried): void {
    if (stopsAtMs !== undefined) this.#timers.wake();
    if (watchedSinceMs !== undefined) this.#follower.follow(target);
    if (outcome !== "done" || before === after) return;
    const message = `${inbox.sender} sent ${word} in ${inbox.roomId}: replicas ${before} → ${after}`;
    this.#inside.accounts.changed(target, word === "start" ? "SwitchedOn" : "SwitchedOff", message);
  }
}
