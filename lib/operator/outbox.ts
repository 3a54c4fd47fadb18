/**
 * Says what the journal holds as unsaid: in order within a room, rooms independently, each answer once. Knows nothing
 * of what the answers are about.
 *
 * @module
 */

import { setTimeout } from "node:timers/promises";
import { getLogger } from "@logtape/logtape";
import type { Text } from "../commands/mod.ts";
import { TransientError } from "../errors.ts";
import { isRefusal } from "../errors.ts";
import { persistently } from "./patience.ts";
import type { Answer, InboxEvent, Unsent } from "./ports.ts";
import type { Inside } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Answers that could not be sent for so long are no longer worth sending (SPEC 3g). */
const keptForMs = 24 * 60 * 60 * 1_000;

/** To encrypt and send an echo takes about as long as to carry a command out, and both would take longer together. */
const headStartMs = 25;

/** Makes an answer that is shown as a quiet reply to an event. */
export function replyTo({ roomId, eventId }: InboxEvent, kind: Answer["kind"], text: Text): Answer {
  return { kind, sequence: 0, roomId, eventId, form: "notice", text, reply: true };
}

/** What is to be said. */
export class Outbox {
  readonly #inside: Inside;
  readonly #sending = new Set<string>();

  /** Says nothing yet. */
  constructor(inside: Inside) {
    this.#inside = inside;
  }

  /** Settles an event and says what is to be said of it. */
  settle(seq: number, outcome: string, answers: readonly Answer[] = []): void {
    this.#inside.journal.settle(seq, outcome, answers);
    if (answers.length > 0) this.drain();
  }

  /** Says something without settling anything. */
  say(answer: Answer): void {
    this.#inside.journal.say(answer);
    this.drain();
  }

  /** Says something when the command that it repeats has had its head start, or with the answer. */
  echo(answer: Answer): void {
    const { journal, lanes, stop } = this.#inside;
    journal.say(answer);
    lanes.run(`echo ${answer.eventId}`, async () => {
      await setTimeout(headStartMs, undefined, { signal: stop });
      this.drain();
    });
  }

  /** Starts to send what is unsent. */
  drain(): void {
    const { lanes, stop } = this.#inside;
    for (const roomId of this.#roomsToAnswer()) {
      if (this.#sending.has(roomId)) continue;
      this.#sending.add(roomId);
      lanes.run(`say ${roomId}`, () => this.#sendAll(roomId, stop));
    }
  }

  /** Tries once more, without retries, to send what is unsent: for the end. */
  async flush(): Promise<void> {
    await Promise.all([...this.#roomsToAnswer()].map(async (roomId) => {
      try {
        await this.#sendAll(roomId, undefined);
      } catch (error) {
        if (!(error instanceof TransientError) && !this.#inside.abandon.aborted) throw error;
        logger.info("Answers for {room} are kept for the next start", { room: roomId });
      }
    }));
  }

  async #sendAll(roomId: string, retryUntil: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const next = this.#inside.journal.unsent().find(({ answer }) => answer.roomId === roomId);
      if (next === undefined) return void this.#sending.delete(roomId);
      const attempt = () => this.#send(next);
      await (retryUntil === undefined ? attempt() : persistently("answer", attempt, this.#inside, retryUntil));
    }
  }

  async #send(unsent: Unsent): Promise<void> {
    const { chat, journal, clock, abandon } = this.#inside;
    const { transactionId, answer } = unsent;
    if (clock.now() - unsent.writtenAtMs > keptForMs) return this.#drop(unsent, "it could not be sent for a day");

    const replaced = answer.kind === "edit" ? journal.sentAs({ ...answer, kind: "answer", sequence: 0 }) : undefined;
    try {
      journal.sent(transactionId, await chat.send(transactionId, answer, replaced, abandon));
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#drop(unsent, error.message);
    }
  }

  #drop({ transactionId, answer }: Unsent, reason: string): void {
    this.#inside.journal.drop(transactionId);
    const { roomId: room, eventId: event, kind } = answer;
    logger.warn("Dropped an answer ({kind}) to {event} in {room}: {reason}", { room, event, kind, reason });
  }

  #roomsToAnswer(): Set<string> {
    return new Set(this.#inside.journal.unsent().map(({ answer }) => answer.roomId));
  }
}
