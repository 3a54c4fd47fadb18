/**
 * Interfaces that the operator requires, and that tests replace: configuration, chat, cluster and journal.
 *
 * @module
 */

import type { Config, Target } from "../config/mod.ts";
import type { Diagnosis, KubernetesEvent, Scale } from "../scaler/mod.ts";
import type { Answer, CiphertextKey, InboxEvent, Invitation, Payload, Published, RoomFacts } from "../session/mod.ts";
import type { StoredCommand } from "./target_command.ts";

/** The part of the configuration that the operator needs. */
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
  /** Ids of the rooms in which commands are accepted. Empty: all rooms. */
  readonly allowedRooms: ReadonlySet<string>;
  /** Master keys set by hand, by user id. Such a user is trusted with that identity only. */
  readonly trustedIdentities: ReadonlyMap<string, string>;
}

/** Matrix: decrypts events, knows the rooms and sends messages. */
export interface Chat {
  /** The operator's own user id. */
  readonly self: string;
  /** Names by which people address the operator, as of now: user id and display names. */
  readonly names: readonly string[];

  /**
   * Decrypts an event and gathers what is known about its sender. If the sender's devices are unknown or have changed,
   * they are queried first.
   *
   * @throws TransientError if that query failed; nothing is decided then
   */
  read(event: InboxEvent, signal: AbortSignal): Promise<Payload>;

  /**
   * Returns the devices and the identity that the homeserver publishes for a user. If they are unknown or have changed,
   * they are queried first.
   *
   * @throws TransientError if that query failed
   */
  published(userId: string, signal: AbortSignal): Promise<Published>;

  /** Returns the current state of a room; undefined if the room is unknown. */
  room(roomId: string): RoomFacts | undefined;

  /**
   * Asks the homeserver for the sender of an event; undefined if it doesn't tell.
   *
   * @throws TransientError
   */
  senderOf(roomId: string, eventId: string, signal: AbortSignal): Promise<string | undefined>;

  /**
   * Asks the homeserver for the joined members of a room. Completes those that {@linkcode Chat.room} returns, and that
   * messages are encrypted for.
   *
   * @throws RejectedError if the homeserver refuses; TransientError
   */
  refreshMembers(roomId: string, signal: AbortSignal): Promise<void>;

  /** Returns the rooms that we have joined. */
  joinedRooms(): readonly string[];

  /** Returns the invitations that are waiting for an answer. */
  invitations(): readonly Invitation[];

  /** Returns the pending invitation to a room; undefined if there is none. */
  invitation(roomId: string): Invitation | undefined;

  /** Accepts an invitation. */
  join(roomId: string, signal: AbortSignal): Promise<void>;

  /** Declines an invitation, or leaves a room. */
  leave(roomId: string, signal: AbortSignal): Promise<void>;

  /**
   * Searches the room for a message that may have been sent before under this transaction id.
   *
   * @returns its event id; undefined if there is none
   * @throws TransientError
   */
  findSent(transactionId: string, roomId: string, signal: AbortSignal): Promise<string | undefined>;

  /**
   * Sends a message, encrypted if the room has ever been seen encrypted. The homeserver may forget a transaction id:
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

/** Reads and sets replica counts in the cluster. */
export interface Scaler {
  /**
   * Reads a target.
   *
   * @throws TransientError | PermissionError | NotFoundError
   */
  read(target: Target, signal: AbortSignal): Promise<Scale>;

  /**
   * Sets the replica count if the target still has the given `resourceVersion`, that is, hasn't changed since.
   *
   * @throws ConflictError if it has changed; TransientError | PermissionError | NotFoundError
   */
  scale(target: Target, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void>;
}

/**
 * Progress of targets over time, to report it. Everything here may need more permissions than reading and scaling. If
 * one is missing the operator reports less and otherwise works.
 */
export interface Rollouts {
  /**
   * Yields the current state of a target, then its state after each change, even if only its resourceVersion has
   * changed, until the signal is aborted. Yields undefined if the target was deleted. When the server ends the watch, it
   * is resumed without losing changes.
   *
   * @throws PermissionError if watching is not permitted; TransientError | NotFoundError
   */
  watch(target: Target, signal: AbortSignal): AsyncIterable<Scale | undefined>;

  /**
   * Returns why a target isn't ready, in the cluster's own words. Considers pods of the current revision only.
   *
   * @param scale of that target, as it was read or as the watch has shown it
   * @throws TransientError
   */
  diagnose(target: Target, scale: Scale, signal: AbortSignal): Promise<Diagnosis>;

  /**
   * Creates a Kubernetes Event on a target, so that `kubectl describe` shows what was done and by whom.
   *
   * @throws PermissionError if that is not permitted; TransientError | NotFoundError
   */
  record(target: Target, event: KubernetesEvent, signal: AbortSignal): Promise<void>;
}

/** Processing state of an event. */
export type Progress =
  | { readonly state: "new" }
  | { readonly state: "undecryptable" }
  | { readonly state: "begun"; readonly command: StoredCommand };

/** An unsettled event. */
export interface Entry {
  /** The event. */
  readonly event: InboxEvent;
  /** Its processing state. */
  readonly progress: Progress;
}

/** An answer that has not been sent. */
export interface Unsent {
  /** Transaction id. */
  readonly transactionId: string;
  /** The answer. */
  readonly answer: Answer;
  /** When it was queued, milliseconds since the epoch. */
  readonly writtenAtMs: number;
}

/** Persists events, commands and answers. Every call is on disk when it returns. */
export interface Journal {
  /** Runs the calls in one transaction, which is rolled back if they throw. */
  transaction<T>(calls: () => T): T;

  /** Returns unsettled events after a sequence number, oldest first. Omits events behind a gap. */
  unsettled(afterSeq: number): readonly Entry[];

  /** Like {@linkcode Journal.unsettled}, but only events that have not been handled at all. */
  newEvents(afterSeq: number): readonly Entry[];

  /** Returns the unsettled events that could not be decrypted for want of this Megolm session. */
  awaitingKey(roomId: string, sessionId: string): readonly Entry[];

  /** Records that an event cannot be decrypted yet. */
  markUndecryptable(seq: number, sessionId: string | undefined): void;

  /**
   * Claims a ciphertext for an event.
   *
   * @returns false if another event has claimed it before, which makes this one a replay
   */
  claim(seq: number, ciphertext: CiphertextKey): boolean;

  /** Records a command before it is carried out. */
  saveCommand(seq: number, command: StoredCommand): void;

  /**
   * Settles an event and queues its answers in one transaction.
   *
   * @param outcome word for log and metrics, such as `done` or the reason of a refusal
   */
  settle(seq: number, outcome: string, answers: readonly Answer[]): void;

  /** Queues an answer without settling anything. Does nothing if its transaction id is known. */
  queueAnswer(answer: Answer): void;

  /** Returns the rooms with unsent answers, the one with the oldest answer first. */
  roomsWithUnsentAnswers(): readonly string[];

  /** Returns the unsent answers of a room, oldest first, at most `most`. */
  unsentAnswers(roomId: string, most: number): readonly Unsent[];

  /** Records that an answer was sent, and its event id. */
  markSent(transactionId: string, eventId: string): void;

  /** Drops an unsent answer. */
  dropAnswer(transactionId: string): void;

  /** Whether the event is an answer of ours. Old ones are forgotten. */
  isOurs(eventId: string): boolean;

  /** Returns the event id of a sent answer; undefined if it was not sent, or too long ago. */
  sentAs(answer: Pick<Answer, "eventId" | "kind" | "sequence">): string | undefined;
}
