/**
 * Takes events from the inbox: those of one room one after the other, rooms side by side, each event by one taker at a
 * time. Knows nothing of what becomes of them.
 *
 * @module
 */

import { targetGone } from "../commands/mod.ts";
import type { Accounts } from "./accounts.ts";
import type { Lanes } from "./lanes.ts";
import { type Outbox, replyTo } from "./outbox.ts";
import type { Entry, InboxEvent, Intent } from "./ports.ts";
import type { Parts } from "./settings.ts";
import type { Order, Switch } from "./target.ts";
import type { Triage } from "./triage.ts";

/** Who does what with events. */
export interface Takers {
  /** Where answers go. */
  readonly outbox: Outbox;
  /** Who turns an event into an order. */
  readonly triage: Triage;
  /** Who carries orders out. */
  readonly worker: Switch;
  /** Who keeps the account. */
  readonly accounts: Accounts;
}

/** Takes events. */
export class Intake {
  readonly #parts: Parts;
  readonly #takers: Takers;
  readonly #lanes: Lanes;
  /** Places of the events that are being handled. */
  readonly #inHand = new Set<number>();
  #keysArrived = 0;

  /**
   * Takes nothing yet.
   *
   * @param parts journal, chat, settings
   * @param takers who does what with events
   * @param lanes where rooms and targets take turns
   */
  constructor(parts: Parts, takers: Takers, lanes: Lanes) {
    this.#parts = parts;
    this.#takers = takers;
    this.#lanes = lanes;
  }

  /**
   * Takes up what an earlier run has left, also what lacked a key. What it was about to do is first at its target,
   * because all else must be read before it gets there.
   */
  resume(): void {
    this.#takeAll(() => true);
  }

  /** Takes what is new. */
  take(): void {
    this.#takeAll((entry) => entry.progress.state === "new");
  }

  /** Takes what could not be read for want of a key. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#keysArrived += 1;
    for (const entry of this.#parts.journal.awaitingKey(roomId, sessionId)) this.#takeOne(entry);
  }

  #takeAll(wanted: (entry: Entry) => boolean): void {
    // From the beginning each time: what stood behind a gap appears between places that were seen before.
    for (let after = 0;;) {
      const entries = this.#parts.journal.unsettled(after);
      const last = entries.at(-1);
      if (last === undefined) return;
      for (const entry of entries) if (wanted(entry)) this.#takeOne(entry);
      after = last.inbox.seq;
    }
  }

  #takeOne(entry: Entry): void {
    const { inbox, progress } = entry;
    const { chat, settings } = this.#parts;
    const { outbox, accounts } = this.#takers;
    if (this.#inHand.has(inbox.seq)) return;
    if (progress.state === "acting") return this.#resumeActing(inbox, progress.intent);
    if (!isMessage(inbox)) return outbox.settle(inbox.seq, "no-message");
    if (inbox.sender === chat.self) return outbox.settle(inbox.seq, "own");
    if (!settings.allowedUsers.has(inbox.sender)) {
      accounts.refused(inbox, "stranger");
      return outbox.settle(inbox.seq, "stranger");
    }
    this.#inHand.add(inbox.seq);
    this.#lanes.run(`room ${inbox.roomId}`, () => this.#handle(entry));
  }

  async #handle(entry: Entry): Promise<void> {
    const keysBefore = this.#keysArrived;
    const next = await this.#takers.triage.handle(entry);
    if (typeof next === "object") return this.#carryOut(next);

    this.#inHand.delete(entry.inbox.seq);
    // The key may have come after it was missed and before that was written down.
    const mayHaveIt = next === "locked" && keysBefore !== this.#keysArrived;
    if (mayHaveIt) this.#takeOne({ inbox: entry.inbox, progress: { state: "undecryptable" } });
  }

  #resumeActing(inbox: InboxEvent, intent: Intent): void {
    const typed = intent.command;
    const target = this.#parts.settings.targets.find(({ alias }) => alias === intent.target);
    if (target !== undefined && (typed === "start" || typed === "stop")) {
      return this.#carryOut({ inbox, word: typed, typed, target, pending: intent });
    }
    this.#takers.outbox.settle(inbox.seq, "failed", [replyTo(inbox, "answer", targetGone(typed, intent.target))]);
  }

  #carryOut(order: Order): void {
    const { seq } = order.inbox;
    this.#inHand.add(seq);
    // A status waits for nobody.
    const lane = order.word === "status" ? `status ${seq}` : `target ${order.target.alias}`;
    this.#lanes.run(lane, async () => {
      await this.#takers.worker.carryOut(order);
      this.#inHand.delete(seq);
    });
  }
}

/** A message in clear or encrypted, and not redacted. */
function isMessage({ event }: InboxEvent): boolean {
  const { type, content } = event;
  if (type !== "m.room.message" && type !== "m.room.encrypted") return false;
  return typeof content === "object" && content !== null && Object.keys(content).length > 0;
}
