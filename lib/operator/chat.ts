/**
 * What the operator needs of a chat: events and facts come in as plain data, answers go out. Judgement is the
 * operator's alone.
 *
 * @module
 */

import type { Answer, InboxEvent, Invitation, Payload, Published, RoomFacts } from "../session/mod.ts";

export type {
  Answer,
  CiphertextKey,
  DeviceFacts,
  Identity,
  InboxEvent,
  Invitation,
  ListedDevice,
  Listener,
  Payload,
  Published,
  RefusedEvent,
  RoomFacts,
  SenderFacts,
  SendProblem,
  Text,
  Undecryptable,
} from "../session/mod.ts";

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
   * Says something: encrypted wherever the room has once been seen encrypted. The same transaction id never says it
   * twice. `replacesEventId` is the event id of the message that an edit replaces.
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
