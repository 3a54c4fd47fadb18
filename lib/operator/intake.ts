/**
 * Takes events from the inbox: those of one room one after the other, rooms side by side, each event by one taker at a
 * time. Knows nothing of what becomes of them.
 *
 * @module
 */

import type { Outbox } from "./outbox.ts";
import { Deadline } from "../async.ts";
import type { Entry, InboxEvent } from "./ports.ts";
import type { Inside } from "./settings.ts";
import { type Order, resumed } from "./order.ts";
import type { TargetWorkers } from "./target_worker.ts";
import type { Triage } from "./triage.ts";

/** A sender whose devices cannot be asked for holds up a room for so long, and then only what is their own. */
const heldUpForMs = 30_000;

/** Takes events. */
export class Intake {
  readonly #inside: Inside;
  readonly #outbox: Outbox;
  readonly #triage: Triage;
  readonly #targets: TargetWorkers;
  /** Places of the events that are being handled. */
  readonly #inHand = new Set<number>();
  #keysArrived = 0;

  /** Takes nothing yet. */
  constructor(inside: Inside, outbox: Outbox, triage: Triage, targets: TargetWorkers) {
    this.#inside = inside;
    this.#outbox = outbox;
    this.#triage = triage;
    this.#targets = targets;
  }

  /**
   * Takes up what an earlier run has left, also what lacked a key. What it was about to do is first at its target,
   * because all else must be read before it gets there.
   */
  resume(): void {
    this.#takeAll((after) => this.#inside.journal.unsettled(after));
  }

  /** Takes what is new. */
  take(): void {
    this.#takeAll((after) => this.#inside.journal.arrived(after));
  }

  /** Takes what could not be read for want of a key. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#keysArrived += 1;
    for (const entry of this.#inside.journal.awaitingKey(roomId, sessionId)) this.#takeOne(entry);
  }

  #takeAll(read: (after: number) => readonly Entry[]): void {
    // From the beginning each time: what stood behind a gap appears between places that were seen before.
    for (let after = 0;;) {
      const entries = read(after);
      const last = entries.at(-1);
      if (last === undefined) return;
      for (const entry of entries) this.#takeOne(entry);
      after = last.inbox.seq;
    }
  }

  #takeOne(entry: Entry): void {
    const { inbox, progress } = entry;
    const { chat, settings, accounts, lanes } = this.#inside;
    if (this.#inHand.has(inbox.seq)) return;
    if (!isMessage(inbox)) return this.#outbox.settle(inbox.seq, "no-message");
    if (inbox.sender === chat.self) return this.#outbox.settle(inbox.seq, "own");
    if (!settings.allowedUsers.has(inbox.sender)) {
      accounts.refused(inbox, "stranger");
      return this.#outbox.settle(inbox.seq, "stranger");
    }
    if (progress.state === "acting") return this.#carryOut(resumed(inbox, progress.acting));
    this.#inHand.add(inbox.seq);
    lanes.run(`room ${inbox.roomId}`, () => this.#handle(entry));
  }

  async #handle(entry: Entry): Promise<void> {
    const { lanes, clock, stop } = this.#inside;
    const { roomId, sender } = entry.inbox;
    const aside = `aside ${roomId} ${sender}`;
    const setAside = (): void => lanes.run(aside, () => this.#settleOrCarryOut(entry, stop));
    if (lanes.isBusy(aside)) return setAside();
    using patience = new Deadline(heldUpForMs, stop, { clock });
    try {
      await this.#settleOrCarryOut(entry, patience.signal);
    } catch (error) {
      if (!patience.expired || error !== patience.signal.reason) throw error;
      setAside();
    }
  }

  async #settleOrCarryOut(entry: Entry, signal: AbortSignal): Promise<void> {
    const keysBefore = this.#keysArrived;
    const next = await this.#triage.handle(entry, signal);
    if (typeof next === "object") return this.#carryOut(next);

    this.#inHand.delete(entry.inbox.seq);
    // The key may have come after it was missed and before that was written down.
    const mayHaveIt = next === "locked" && keysBefore !== this.#keysArrived;
    if (mayHaveIt) this.#takeOne({ inbox: entry.inbox, progress: { state: "undecryptable" } });
  }

  #carryOut(order: Order): void {
    const { seq } = order.inbox;
    this.#inHand.add(seq);
    this.#targets.submit(order).then(() => this.#inHand.delete(seq));
  }
}

/** A message in clear or encrypted, or a step of a verification, which the chat deals with; and not redacted. */
function isMessage({ event }: InboxEvent): boolean {
  const { type, content } = event;
  const isWanted = type === "m.room.message" || type === "m.room.encrypted" ||
    (typeof type === "string" && type.startsWith("m.key.verification."));
  if (!isWanted) return false;
  return typeof content === "object" && content !== null && Object.keys(content).length > 0;
}
