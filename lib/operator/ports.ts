/**
 * What the operator needs from the world, declared here and satisfied elsewhere: a chat and a cluster (in files of their
 * own), a journal and the pins.
 *
 * @module
 */

import type { Answer, CiphertextKey, InboxEvent } from "./chat.ts";
import type { Acting } from "./target_command.ts";

export type * from "./chat.ts";
export type * from "./cluster.ts";
export type { Acting, Intent, StepEnd, TargetCommand, TargetStep } from "./target_command.ts";
export type {
  Rollout,
  StatusLine,
  StatusMessage,
  StopTimer,
  TargetDocument,
  TargetDocumentStore,
  TargetState,
} from "./target_state.ts";

/** Where a command stands. */
export type Progress =
  | { readonly state: "new" }
  | { readonly state: "undecryptable" }
  | { readonly state: "acting"; readonly acting: Acting };

/** An event that is not settled, with where it stands. */
export interface Entry {
  /** The event. */
  readonly inbox: InboxEvent;
  /** Where it stands. */
  readonly progress: Progress;
}

/** An answer that has not been sent. */
export interface Unsent {
  /** Transaction id. */
  readonly transactionId: string;
  /** The answer. */
  readonly answer: Answer;
  /** When it was written down, milliseconds since the epoch. */
  readonly writtenAtMs: number;
}

/** What lasts: every call is on disk when it returns. */
export interface Journal {
  /** Makes the calls in it durable together, or none of them if it throws. */
  transaction<T>(calls: () => T): T;

  /** Unsettled events that may be handled now (not those behind a gap), earliest first, after the given place. */
  unsettled(afterSeq: number): readonly Entry[];

  /** The same of events that nobody has looked at yet. */
  arrived(afterSeq: number): readonly Entry[];

  /** Unsettled, undecryptable events of a Megolm session. */
  awaitingKey(roomId: string, sessionId: string): readonly Entry[];

  /** Notes that an event cannot be decrypted yet. */
  undecryptable(seq: number, sessionId: string | undefined): void;

  /**
   * Claims a ciphertext for an event.
   *
   * @returns false if another event has claimed it before: a repeat
   */
  claim(seq: number, ciphertext: CiphertextKey): boolean;

  /** Writes down what is about to be done. */
  acting(seq: number, acting: Acting): void;

  /**
   * Settles an event and queues its answers in one transaction.
   *
   * @param outcome a word for the log and for counting, such as `done` or a reason of refusal
   */
  settle(seq: number, outcome: string, answers: readonly Answer[]): void;

  /** Queues an answer without settling anything. A transaction id already known is left as it is. */
  say(answer: Answer): void;

  /** Unsent answers, earliest first. */
  unsent(): readonly Unsent[];

  /** Notes that an answer was sent, and as which event. */
  sent(transactionId: string, eventId: string): void;

  /** Gives an unsent answer up. */
  drop(transactionId: string): void;

  /** An event is one of those under which our answers were sent, not too long ago. */
  isOurs(eventId: string): boolean;

  /** Event id under which an answer was sent; undefined if it was not, or too long ago. */
  sentAs(answer: Pick<Answer, "eventId" | "kind" | "sequence">): string | undefined;
}
