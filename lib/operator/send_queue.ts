/**
 * Sends the unsent answers in the journal: in order within a room, concurrently across rooms, each one once.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Clock, KeyedQueue } from "../async.ts";
import type { Text } from "../commands/mod.ts";
import { errorMessage, isFatal, isRefusal } from "../errors.ts";
import { inThread, threadOf } from "./message.ts";
import type { Answer, InboxEvent } from "../session/mod.ts";
import type { Chat, Journal, Unsent } from "./ports.ts";
import type { Retrier } from "./retrier.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Answers that could not be sent for this long are dropped (SPEC 3g). */
const KEPT_FOR_MS = 24 * 60 * 60 * 1_000;

/** Retries after unknown failures, before an answer is dropped. */
const MAX_UNKNOWN_FAILURES = 4;

/** Makes an answer that is a reply to an event, in its thread, and doesn't notify. */
export function replyTo(event: InboxEvent, kind: Answer["kind"], text: Text): Answer {
  const { roomId, eventId } = event;
  return { kind, sequence: 0, roomId, eventId, form: "notice", text, reply: true, ...inThread(threadOf(event)) };
}

export interface SendQueueOptions {
  readonly chat: Pick<Chat, "findSent" | "send">;
  readonly journal: Pick<
    Journal,
    "dropAnswer" | "markSent" | "queueAnswer" | "roomsWithUnsentAnswers" | "sentAs" | "settle" | "unsentAnswers"
  >;
  readonly clock: Pick<Clock, "now">;
  readonly queue: KeyedQueue;
  readonly retrier: Retrier;
  /** Ends the retries. */
  readonly stop: AbortSignal;
  /** Aborts an attempt. */
  readonly abandon: AbortSignal;
}

/** Sends answers. If one fails, that never stops or blocks anything else. */
export class SendQueue {
  readonly #options: SendQueueOptions;
  readonly #sending = new Set<string>();
  /**
   * Rooms whose next answer may already have been sent, by an earlier run or by an attempt whose response was lost. It
   * is searched for before it is sent. One answer per room suffices, because a room's answers are sent one at a time.
   */
  readonly #maybeSent: Set<string>;

  constructor(options: SendQueueOptions) {
    this.#options = options;
    this.#maybeSent = new Set(options.journal.roomsWithUnsentAnswers());
  }

  /** Settles an event and sends its answers. */
  settle(seq: number, outcome: string, answers: readonly Answer[] = []): void {
    this.#options.journal.settle(seq, outcome, answers);
    if (answers.length > 0) this.drain();
  }

  /** Sends an answer without settling anything. */
  enqueue(answer: Answer): void {
    this.#options.journal.queueAnswer(answer);
    this.drain();
  }

  /** Starts to send what is unsent. */
  drain(): void {
    const { queue, stop } = this.#options;
    for (const roomId of this.#options.journal.roomsWithUnsentAnswers()) {
      if (this.#sending.has(roomId)) continue;
      this.#sending.add(roomId);
      queue.run(`send ${roomId}`, () => this.#sendAll(roomId, stop));
    }
  }

  /** Tries once, without retries, to send what is unsent. For shutdown. */
  async flush(): Promise<void> {
    await Promise.all(
      this.#options.journal.roomsWithUnsentAnswers().map(async (roomId) => {
        try {
          await this.#sendAll(roomId, undefined);
        } catch (error) {
          if (isFatal(error)) throw error;
          logger.info("kept answers in {room} for the next start: {reason}", {
            room: roomId,
            reason: String(error),
          });
        }
      }),
    );
  }

  async #sendAll(roomId: string, retryUntil: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const [next] = this.#options.journal.unsentAnswers(roomId, 1);
      if (next === undefined) return void this.#sending.delete(roomId);
      await this.#sendOrDrop(next, retryUntil);
    }
  }

  async #sendOrDrop(unsent: Unsent, retryUntil: AbortSignal | undefined): Promise<void> {
    const attempt = () => this.#send(unsent);
    const limits = { unknownFailures: MAX_UNKNOWN_FAILURES };
    try {
      await (retryUntil === undefined ? attempt() : this.#options.retrier.run("answer", attempt, retryUntil, limits));
    } catch (error) {
      const isOver = retryUntil === undefined ? !isRefusal(error) : retryUntil.aborted;
      if (isOver || isFatal(error)) throw error;
      this.#drop(unsent, error);
    }
  }

  async #send(unsent: Unsent): Promise<void> {
    const { chat, journal, clock, abandon } = this.#options;
    const { transactionId, answer } = unsent;
    if (clock.now() - unsent.writtenAtMs > KEPT_FOR_MS) {
      return this.#drop(unsent, new Error("it could not be sent for a day"));
    }
    const replaced = answer.kind === "edit" ? journal.sentAs({ ...answer, kind: "answer", sequence: 0 }) : undefined;
    const { roomId } = answer;
    const before = this.#maybeSent.has(roomId) ? await chat.findSent(transactionId, roomId, abandon) : undefined;
    this.#maybeSent.add(roomId);
    journal.markSent(transactionId, before ?? await chat.send(transactionId, answer, replaced, abandon));
    this.#maybeSent.delete(roomId);
  }

  #drop({ transactionId, answer }: Unsent, error: unknown): void {
    this.#options.journal.dropAnswer(transactionId);
    this.#maybeSent.delete(answer.roomId);
    const { roomId: room, eventId: event, kind } = answer;
    const reason = errorMessage(error);
    logger.warn("dropped the answer ({kind}) to {event} in {room}: {reason}", { room, event, kind, reason });
  }
}
