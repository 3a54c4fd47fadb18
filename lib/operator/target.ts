/**
 * Carries a command out on its target: reads, decides, writes down what is about to be done, does it, answers. Knows
 * nothing of rooms and queues; whoever calls lets one command at a time at a target.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { alreadyOff, alreadyOn, away, failed, noLongerSure, overtaken } from "../commands/mod.ts";
import { status, switchedOff, switchedOn, type Text, type Why } from "../commands/mod.ts";
import { ConflictError, NotFoundError, PermissionError, RejectedError, TransientError } from "../errors/mod.ts";
import { ageOf } from "./message.ts";
import { type Outbox, replyTo } from "./outbox.ts";
import { Deadline, isRefused, persistently } from "./patience.ts";
import type { InboxEvent, Intent, Scale, Target } from "./ports.ts";
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
  /** What it is about. */
  readonly target: Target;
  /** A change that was under way when the operator was interrupted: whether it got through is not known. */
  readonly pending: Intent | undefined;
}

/** What became of an order, and what is said of it. */
interface End {
  readonly outcome: Outcome;
  readonly text: Text;
  readonly refusal?: Refusal;
  readonly before?: number;
  readonly after?: number;
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

  /** Carries an order out and settles its event; tries for 30 s, then says that it failed. */
  async carryOut(order: Order): Promise<void> {
    const { clock, accounts, stop, abandon } = this.#inside;
    const takenAtMs = clock.now();
    using patience = new Deadline(triedForMs, clock, stop);
    using grip = new Deadline(triedForMs, clock, abandon);
    const attempt = new Attempt(order, this.#inside, patience.signal, grip.signal);

    let end: End;
    try {
      const what = `${order.word} ${order.target.alias}`;
      end = await persistently(what, () => attempt.make(), this.#inside, patience.signal);
    } catch (error) {
      const isOver = patience.expired || grip.expired;
      const why = whyNot(error, order.target) ?? (isOver ? attempt.unreachable() : undefined);
      if (why === undefined) throw error;
      const { word: command, target: { alias: target } } = order;
      logger.warn("Cannot {command} {target}: {reason}", { command, target, reason: String(error) });
      end = { outcome: "failed", text: failed(order.word, order.target.alias, why) };
    }

    if (end.refusal !== undefined) accounts.refused(order.inbox, end.refusal);
    this.#outbox.settle(order.inbox.seq, end.refusal ?? end.outcome, [replyTo(order.inbox, "answer", end.text)]);
    accounts.commanded(order.inbox, {
      command: order.word,
      target: order.target.alias,
      outcome: end.outcome,
      before: end.before,
      after: end.after,
      ms: clock.now() - takenAtMs,
    });
  }
}

/** One order's tries. Remembers a change whose outcome is unknown, so that it is not taken for somebody else's. */
class Attempt {
  readonly #order: Order;
  readonly #inside: Inside;
  readonly #signal: AbortSignal;
  readonly #grip: AbortSignal;
  #pending: Intent | undefined;
  /** Whose answer was waited for last. */
  #asked: "Kubernetes API" | "homeserver" = "Kubernetes API";

  constructor(order: Order, inside: Inside, signal: AbortSignal, grip: AbortSignal) {
    this.#order = order;
    this.#inside = inside;
    this.#signal = signal;
    this.#grip = grip;
    this.#pending = order.pending;
  }

  unreachable(): Why {
    return { kind: "unreachable", who: this.#asked, triedMs: triedForMs, perhapsDone: this.#pending !== undefined };
  }

  /** One try; a target that changes between reading and writing is read again at once. */
  async make(): Promise<End> {
    for (let conflicts = 0; conflicts < mostConflicts; conflicts += 1) {
      try {
        return await this.#once();
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
      }
    }
    throw new TransientError(`Cannot scale ${this.#order.target.alias}: it changes all the time`);
  }

  async #once(): Promise<End> {
    const { word, target } = this.#order;
    const scale = await this.#inside.scaler.read(target, this.#signal);
    if (word === "status") return { outcome: "done", text: status(target.alias, scale), after: scale.desired };
    return this.#endOfPending(scale) ?? this.#endWithoutActing(word, scale) ?? await this.#refusal() ??
      await this.#act(word, scale);
  }

  /** ARCHITECTURE, the way of a command, step 4: as intended, somebody else's doing, or not done yet. */
  #endOfPending({ desired }: Scale): End | undefined {
    const pending = this.#pending;
    if (pending === undefined || desired === pending.before) return undefined;
    if (desired === pending.after) return this.#done(pending);
    const { typed, target } = this.#order;
    const text = overtaken(typed, target.alias, { before: pending.before, now: desired });
    return { outcome: "overtaken", text, before: pending.before, after: desired };
  }

  #endWithoutActing(word: "start" | "stop", scale: Scale): End | undefined {
    const { inbox, typed, target } = this.#order;
    const counts = { before: scale.desired, after: scale.desired };
    const isOn = scale.desired > 0;
    if (isOn === (word === "start")) {
      const text = isOn ? alreadyOn(target.alias, scale) : alreadyOff(target.alias);
      return { outcome: "already", text, ...counts };
    }
    const ageMs = ageOf(inbox, this.#inside.clock.now());
    if (ageMs <= this.#inside.settings.maxCommandAgeMs) return undefined;
    return { outcome: "too-old", text: away(typed, ageMs), ...counts };
  }

  async #refusal(): Promise<End | undefined> {
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

  async #act(word: "start" | "stop", scale: Scale): Promise<End> {
    const { inbox, target } = this.#order;
    const { desired: before, resourceVersion } = scale;
    const intent: Intent = {
      command: word,
      target: target.alias,
      before,
      after: word === "start" ? 1 : 0,
      resourceVersion,
    };
    this.#signal.throwIfAborted();
    this.#inside.journal.acting(inbox.seq, intent);
    try {
      await this.#inside.scaler.scale(target, intent.after, resourceVersion, this.#grip);
    } catch (error) {
      if (!(error instanceof ConflictError) && !isRefused(error)) this.#pending = intent;
      throw error;
    }
    return this.#done(intent);
  }

  #done({ before, after }: Intent): End {
    const { alias } = this.#order.target;
    return { outcome: "done", text: after > 0 ? switchedOn(alias, after) : switchedOff(alias), before, after };
  }
}

function whyNot(error: unknown, { kind, namespace, name }: Target): Why | undefined {
  if (error instanceof PermissionError) return { kind: "not-permitted", verb: error.verb, resource: error.resource };
  if (error instanceof NotFoundError) return { kind: "not-found", target: `${kind} ${name} in namespace ${namespace}` };
  if (error instanceof RejectedError) return { kind: "rejected", reason: error.code || `${error.status}` };
  return undefined;
}
