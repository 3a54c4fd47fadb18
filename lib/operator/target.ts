/**
 * Carries a command out on its target: reads, decides, writes down what is about to be done, does it, answers. Knows
 * nothing of rooms and queues; whoever calls lets one command at a time at a target.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import {
  alreadyOff,
  alreadyOn,
  away,
  failed,
  lines,
  noLongerSure,
  overtaken,
  roomNotAllowed,
} from "../commands/mod.ts";
import { status, switchedOff, switchedOn, targetGone, type Why } from "../commands/mod.ts";
import { ConflictError, NotFoundError, PermissionError, RejectedError, TransientError } from "../errors/mod.ts";
import { isRoomAllowed } from "./access.ts";
import { ageOf } from "./message.ts";
import { type Outbox, replyTo } from "./outbox.ts";
import { Deadline, isRefused, persistently } from "./patience.ts";
import type { Acting, End, InboxEvent, Intent, Part, Scale, Target } from "./ports.ts";
import { readAndJudge } from "./reading.ts";
import type { Inside, Outcome, Refusal } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** A command with all that it takes to carry it out. */
export interface Order {
  /** The event that it came in. */
  readonly inbox: InboxEvent;
  /** Canonical word. */
  readonly word: "start" | "stop" | "status";
  /** What was typed. */
  readonly typed: string;
  /** Its targets by alias, and what has become of it at each. */
  readonly parts: Map<string, Part>;
}

/** An order that was under way when the operator was interrupted: whether a change got through is not known. */
export function resumed(inbox: InboxEvent, { command, parts }: Acting): Order {
  const word = command === "stop" ? "stop" : "start";
  return { inbox, word, typed: command, parts: new Map(parts.map((part) => [part.target, part])) };
}

/** What came of a try. */
interface Tried extends End {
  readonly outcome: Outcome;
  readonly refusal?: Refusal;
}

/** For how long a command is tried (SPEC 3f). */
const triedForMs = 30_000;

/** So often a target may change between reading and writing before that counts as a failure. */
const mostConflicts = 5;

/** Carries out orders. */
export class Switch {
  readonly #inside: Inside;
  readonly #outbox: Outbox;

  /** Does nothing yet. */
  constructor(inside: Inside, outbox: Outbox) {
    this.#inside = inside;
    this.#outbox = outbox;
  }

  /**
   * Carries an order out at one of its targets; tries for 30 s, then says that it failed. The last of its targets
   * settles the event.
   *
   * @returns whether the event is settled
   */
  async carryOut(order: Order, alias: string): Promise<boolean> {
    const { clock, accounts, journal } = this.#inside;
    const takenAtMs = clock.now();
    const { refusal, ...end } = await this.#try(order, alias);
    const { inbox, word: command, parts } = order;
    const { outcome, before, after } = end;
    const ends = [...parts.values()].flatMap((part) => part.end ?? []);
    const isFirstRefusal = refusal !== undefined && !ends.some((other) => other.outcome === refusal);
    parts.set(alias, { target: alias, end: { ...end, outcome: refusal ?? outcome } });
    if (isFirstRefusal) accounts.refused(inbox, refusal);
    const isLast = ends.length + 1 === parts.size;
    if (isLast) this.#settle(order);
    else if (command !== "status") journal.acting(inbox.seq, actingOf(order));
    accounts.commanded(inbox, { command, target: alias, outcome, before, after, ms: clock.now() - takenAtMs });
    return isLast;
  }

  /** One answer for all of its targets, in which nothing is said twice. */
  #settle({ inbox, parts }: Order): void {
    const ends = [...parts.values()].flatMap(({ end }) => end ?? []);
    const outcomes = new Set(ends.map(({ outcome }) => outcome));
    const texts = new Map(ends.map(({ text }) => [text.plain, text]));
    this.#outbox.settle(inbox.seq, [...outcomes].join("+"), [replyTo(inbox, "answer", lines([...texts.values()]))]);
  }

  async #try(order: Order, alias: string): Promise<Tried> {
    const { clock, stop, abandon, settings } = this.#inside;
    const { word, typed } = order;
    const target = settings.targets.find((each) => each.alias === alias);
    if (target === undefined) return { outcome: "failed", text: targetGone(typed, alias) };
    using patience = new Deadline(triedForMs, clock, stop);
    using grip = new Deadline(triedForMs, clock, abandon);
    const attempt = new Attempt(order, target, this.#inside, patience.signal, grip.signal);
    try {
      return await persistently(`${word} ${alias}`, () => attempt.make(), this.#inside, patience.signal);
    } catch (error) {
      const isOver = patience.expired || grip.expired;
      const why = whyNot(error, target) ?? (isOver ? attempt.unreachable() : undefined);
      if (why === undefined) throw error;
      logger.warn("Cannot {command} {target}: {reason}", { command: word, target: alias, reason: String(error) });
      return { outcome: "failed", text: failed(word, alias, why) };
    }
  }
}

function actingOf({ word: command, parts }: Order): Acting {
  return { command, parts: [...parts.values()] };
}

/** One order's tries at one target. Remembers a change whose outcome is unknown, so that it is not taken for somebody else's. */
class Attempt {
  readonly #order: Order;
  readonly #target: Target;
  readonly #inside: Inside;
  readonly #signal: AbortSignal;
  readonly #grip: AbortSignal;
  #pending: Intent | undefined;
  /** Whose answer was waited for last. */
  #asked: "Kubernetes API" | "homeserver" = "Kubernetes API";

  constructor(order: Order, target: Target, inside: Inside, signal: AbortSignal, grip: AbortSignal) {
    this.#order = order;
    this.#target = target;
    this.#inside = inside;
    this.#signal = signal;
    this.#grip = grip;
    this.#pending = order.parts.get(target.alias)?.intent;
  }

  unreachable(): Why {
    return { kind: "unreachable", who: this.#asked, triedMs: triedForMs, perhapsDone: this.#pending !== undefined };
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
    const { word, parts } = this.#order;
    const scale = await this.#inside.scaler.read(this.#target, this.#signal);
    this.#inside.observer.replicas(this.#target.alias, scale);
    if (word === "status") {
      return { outcome: "done", text: status(this.#target.alias, scale, parts.size === 1), after: scale.desired };
    }
    return this.#endOfPending(scale) ?? this.#endWithoutActing(word, scale) ?? await this.#refusal() ??
      await this.#act(word, scale);
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

  #endWithoutActing(word: "start" | "stop", scale: Scale): Tried | undefined {
    const { inbox, typed } = this.#order;
    const { alias } = this.#target;
    const counts = { before: scale.desired, after: scale.desired };
    const isOn = scale.desired > 0;
    if (isOn === (word === "start")) {
      const text = isOn ? alreadyOn(alias, scale) : alreadyOff(alias);
      return { outcome: "already", text, ...counts };
    }
    const ageMs = ageOf(inbox, this.#inside.clock.now());
    if (ageMs <= this.#inside.settings.maxCommandAgeMs) return undefined;
    return { outcome: "too-old", text: away(typed, ageMs), ...counts };
  }

  async #refusal(): Promise<Tried | undefined> {
    // It was allowed when the command came, which may have been before a restart.
    if (!isRoomAllowed(this.#order.inbox.roomId, this.#inside.settings.allowedRooms)) {
      return { outcome: "refused", text: roomNotAllowed(), refusal: "room-not-allowed" };
    }
    this.#asked = "homeserver";
    const reading = await readAndJudge(this.#order.inbox, this.#inside, this.#signal);
    this.#asked = "Kubernetes API";
    if (reading.kind !== "readable") {
      return {
        outcome: "refused",
        text: noLongerSure(),
        refusal: reading.kind === "refused" ? reading.reason : "unreadable",
      };
    }
    const { verdict } = reading;
    return verdict.believed ? undefined : { outcome: "refused", text: noLongerSure(), refusal: verdict.reason };
  }

  async #act(word: "start" | "stop", scale: Scale): Promise<Tried> {
    const { inbox, parts } = this.#order;
    const { alias } = this.#target;
    const { desired: before, resourceVersion, generation } = scale;
    const intent: Intent = { before, after: word === "start" ? 1 : 0, resourceVersion, generation };
    this.#signal.throwIfAborted();
    parts.set(alias, { target: alias, intent });
    this.#inside.journal.acting(inbox.seq, actingOf(this.#order));
    const askedAtMs = this.#inside.clock.now();
    try {
      await this.#inside.scaler.scale(this.#target, intent.after, resourceVersion, this.#grip);
    } catch (error) {
      if (!(error instanceof ConflictError) && !isRefused(error)) this.#pending = intent;
      throw error;
    }
    this.#inside.observer.scaled(alias, this.#inside.clock.now() - askedAtMs);
    return this.#done(intent);
  }

  #done({ before, after }: Intent): Tried {
    const { alias } = this.#target;
    return { outcome: "done", text: after > 0 ? switchedOn(alias, after) : switchedOff(alias), before, after };
  }
}

function whyNot(error: unknown, { kind, namespace, name }: Target): Why | undefined {
  if (error instanceof PermissionError) return { kind: "not-permitted", verb: error.verb, resource: error.resource };
  if (error instanceof NotFoundError) return { kind: "not-found", target: `${kind} ${name} in namespace ${namespace}` };
  if (error instanceof RejectedError) return { kind: "rejected", reason: error.code || `${error.status}` };
  return undefined;
}
