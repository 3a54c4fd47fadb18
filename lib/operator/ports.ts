/**
 * What the operator needs of the world, and what tests replace: configuration, the chat, the cluster and the journal.
 *
 * @module
 */

import type { Config, Target } from "../config/mod.ts";
import type { Diagnosis, KubernetesEvent, Scale } from "../scaler/mod.ts";
import type { Answer, CiphertextKey, InboxEvent, Invitation, Payload, Published, RoomFacts } from "../session/mod.ts";
import type { StoredCommand } from "./target_command.ts";

/** What the configuration says of the operator. */
export interface OperatorConfig extends
  Pick<
    Config,
    | "agents"
    | "autoStopMs"
    | "echo"
    | "idleStopMs"
    | "maxCommandAgeMs"
    | "requireEncryption"
    | "schedule"
    | "senderTrust"
    | "startReplicas"
    | "startTimeoutMs"
    | "targets"
  > {
  /** Full user ids, compared exactly. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Room ids in which commands are accepted; empty: in all. */
  readonly allowedRooms: ReadonlySet<string>;
  /** Master keys set by hand, by user id: such a user is trusted with that identity only. */
  readonly trustedIdentities: ReadonlyMap<string, string>;
}

/** The chat: reads events, knows rooms, says things. */
export interface Chat {
  /** The operator's own user id. */
  readonly self: string;
  /** Names by which people address the operator, as they stand now: user id, display names. */
  readonly names: readonly string[];

  /**
   * Decrypts an event and gathers what is known of its sender. A sender whose devices are unknown or have changed is
   * queried first.
   *
   * @throws TransientError if that query did not succeed; nothing is decided then
   */
  read(event: InboxEvent, signal: AbortSignal): Promise<Payload>;

  /**
   * What the homeserver publishes of a user. A user whose devices are unknown or have changed is queried first.
   *
   * @throws TransientError if that query did not succeed
   */
  published(userId: string, signal: AbortSignal): Promise<Published>;

  /** The room as it stands now; undefined if never heard of. */
  room(roomId: string): RoomFacts | undefined;

  /**
   * Who sent an event, as the homeserver says; undefined if it doesn't tell.
   *
   * @throws TransientError
   */
  senderOf(roomId: string, eventId: string, signal: AbortSignal): Promise<string | undefined>;

  /** Rooms that we have joined. */
  joinedRooms(): readonly string[];

  /** Invitations that wait for an answer. */
  invitations(): readonly Invitation[];

  /** The invitation to a room as it stands now; undefined if there is none that waits for an answer. */
  invitation(roomId: string): Invitation | undefined;

  /** Accepts an invitation. */
  join(roomId: string, signal: AbortSignal): Promise<void>;

  /** Declines an invitation, or leaves a room. */
  leave(roomId: string, signal: AbortSignal): Promise<void>;

  /**
   * Looks in the room for something that may have been said before under this transaction id.
   *
   * @returns event id; undefined if it isn't there
   * @throws TransientError
   */
  findSent(transactionId: string, roomId: string, signal: AbortSignal): Promise<string | undefined>;

  /**
   * Says something: encrypted wherever the room has once been seen encrypted. The homeserver may forget a transaction id:
   * see {@linkcode Chat.findSent}. `replacesEventId` is the event id of the message that an edit replaces.
   *
   * @returns event id
   */
  send(
    transactionId: string,
    answer: Answer,
    replacesEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<string>;
}

/** The cluster: reads and sets counts. */
export interface Scaler {
  /**
   * Reads a target.
   *
   * @throws TransientError | PermissionError | NotFoundError
   */
  read(target: Target, signal: AbortSignal): Promise<Scale>;

  /**
   * Sets the count, if the target is still as it was read.
   *
   * @returns the count before, as the API server had it, is what `resourceVersion` stands for
   * @throws ConflictError if it has changed since; TransientError | PermissionError | NotFoundError
   */
  scale(target: Target, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void>;
}

/**
 * How targets fare over time, for telling people. Everything here may need more permissions than reading and scaling;
 * where one is missing the operator says less, and works all the same.
 */
export interface Rollouts {
  /**
   * Yields a target as it stands now, then after each change, until the signal is aborted. It asks for what it missed
   * where the server ended the watch.
   *
   * @throws PermissionError if watching is not permitted; TransientError | NotFoundError
   */
  watch(target: Target, signal: AbortSignal): AsyncIterable<Scale>;

  /**
   * What keeps a target from being ready, in the cluster's own words; of the present revision's pods only.
   *
   * @throws TransientError | PermissionError | NotFoundError, of reading the target itself
   */
  diagnose(target: Target, signal: AbortSignal): Promise<Diagnosis>;

  /**
   * Writes a Kubernetes Event on a target, so that `kubectl describe` tells what was done and by whom.
   *
   * @throws PermissionError if that is not permitted; TransientError | NotFoundError
   */
  record(target: Target, event: KubernetesEvent, signal: AbortSignal): Promise<void>;
}

/** Where a command stands. */
export type Progress =
  | { readonly state: "new" }
  | { readonly state: "undecryptable" }
  | { readonly state: "begun"; readonly command: StoredCommand };

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
  begin(seq: number, command: StoredCommand): void;

  /**
   * Settles an event and queues its answers in one transaction.
   *
   * @param outcome a word for the log and for counting, such as `done` or a reason of refusal
   */
  settle(seq: number, outcome: string, answers: readonly Answer[]): void;

  /** Queues an answer without settling anything. A transaction id already known is left as it is. */
  say(answer: Answer): void;

  /** Rooms with unsent answers, the room of the earliest one first. */
  roomsToAnswer(): readonly string[];

  /** Unsent answers of a room, earliest first, so many at most. */
  unsent(roomId: string, most: number): readonly Unsent[];

  /** Notes that an answer was sent, and as which event. */
  sent(transactionId: string, eventId: string): void;

  /** Gives an unsent answer up. */
  drop(transactionId: string): void;

  /** An event is one of those under which our answers were sent, not too long ago. */
  isOurs(eventId: string): boolean;

  /** Event id under which an answer was sent; undefined if it was not, or too long ago. */
  sentAs(answer: Pick<Answer, "eventId" | "kind" | "sequence">): string | undefined;
}
