/**
 * What the operator needs from the world, declared here and satisfied elsewhere: a chat and a cluster (in files of their
 * own), a journal and the pins.
 *
 * @module
 */

import type { Answer, CiphertextKey, InboxEvent, Text } from "./chat.ts";
import type { Remembered } from "./memory.ts";

export type * from "./chat.ts";
export type * from "./cluster.ts";
export type { Change, Remembered, RememberedTarget, Story, Timer } from "./memory.ts";

/** Where a command stands. */
export type Progress =
  | { readonly state: "new" }
  | { readonly state: "undecryptable" }
  | { readonly state: "acting"; readonly acting: Acting };

/** A command that is being carried out. */
export interface Acting {
  /** The command in its canonical word: `start`, `stop`, `extend`. */
  readonly command: string;
  /** The time that was asked for, milliseconds. */
  readonly durationMs?: number | undefined;
  /** What has become of it at each of its targets. */
  readonly parts: readonly Part[];
}

/** A command at one of its targets. */
export interface Part {
  /** Alias of the target. */
  readonly target: string;
  /** What is about to be done; undefined if nothing is yet. */
  readonly intent?: Intent;
  /** What came of it; undefined if that is not known yet. */
  readonly end?: End;
}

/** What came of a command at a target, and what is said of it. */
export interface End {
  /** A word for the log and for counting, such as `done`. */
  readonly outcome: string;
  /** What is said. */
  readonly text: Required<Text>;
  /** Replicas before; undefined if they were not read. */
  readonly before?: number;
  /** Replicas wanted afterwards; undefined if that is not known. */
  readonly after?: number;
}

/** What is about to be done; written down before it is done. */
export interface Intent {
  /** Replicas before. */
  readonly before: number;
  /** Replicas wanted. */
  readonly after: number;
  /** The resourceVersion that the PATCH carries. */
  readonly resourceVersion: string;
  /** The target's generation before. */
  readonly generation: number;
  /** When, milliseconds since the epoch. */
  readonly atMs: number;
}

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

/** What lasts of the targets: one document. Every call is on disk when it returns. */
export interface Memory {
  /** The document; undefined before it was first saved. */
  load(): Remembered | undefined;
  /** Replaces the document. */
  save(remembered: Remembered): void;
}
