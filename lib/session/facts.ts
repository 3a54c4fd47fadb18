/**
 * The data that a session reports and sends: events, decrypted payloads, senders, rooms, invitations and answers. It
 * contains facts only, no decisions.
 *
 * @module
 */

import type { Json } from "../json.ts";
import type { NewEvent } from "../store/mod.ts";

/** A timeline event as the journal keeps it until it is settled. */
export interface InboxEvent extends NewEvent {
  /** Position in the journal, ascending. */
  readonly seq: number;
}

/**
 * Why a ciphertext couldn't be decrypted. `withheld`: the sender withheld the key, with this code. `forged`: the event
 * names another sender than the session does.
 */
export type Undecryptable =
  | { readonly kind: "forged" }
  | { readonly kind: "no-key" }
  | { readonly kind: "withheld"; readonly code: string }
  | { readonly kind: "broken"; readonly reason: string };

/** A user's cross-signing identity. */
export interface Identity {
  /** Public master key, unpadded base64. */
  readonly masterKey: string;
  /**
   * The master key as published, with its signatures (Matrix spec v1.16, client-server API, 11.12.3,
   * "CrossSigningKey").
   */
  readonly crossSigningKey: Json;
}

/** The keys that the homeserver currently publishes for a user. */
export interface Published {
  /** The cross-signing identity, or undefined if the user has none. */
  readonly identity: Identity | undefined;
  /** All listed devices. */
  readonly devices: readonly ListedDevice[];
}

/** One of a user's devices. */
export interface ListedDevice {
  /** Device id. */
  readonly deviceId: string;
  /** Public ed25519 key, unpadded base64. */
  readonly ed25519: string;
  /**
   * Whether the owner's self-signing key has signed the device, and the owner's current master key has signed that key.
   */
  readonly crossSignedByOwner: boolean;
}

/**
 * What the crypto currently knows about the device that sent a message, and about its owner. Facts only, no decisions.
 */
export interface SenderFacts extends Published {
  /** Sending device as the crypto names it. Undefined if it couldn't attribute the session to a device. */
  readonly deviceId: string | undefined;
  /** Whether the session's sender differs from the event's (shield code MismatchedSender). */
  readonly mismatchedSender: boolean;
  /** Whether the key did not come from the sender's device over Olm (shield code AuthenticityNotGuaranteed). */
  readonly authenticityNotGuaranteed: boolean;
  /** User ID of the third party that sent us the key. Undefined if the sender did. */
  readonly forwardedBy: string | undefined;
  /** The device as the homeserver lists it now. Undefined if it lists no device with that ID. */
  readonly device: DeviceFacts | undefined;
}

/** The device that sent a message, as the homeserver lists it now. */
export interface DeviceFacts extends ListedDevice {
  /** Whether the device is no longer listed. */
  readonly deleted: boolean;
  /** Whether its curve25519 and ed25519 keys are those of the session's sender. */
  readonly sameKeysAsSession: boolean;
}

/** Identifies a ciphertext, whichever event carries it. */
export interface CiphertextKey {
  /** Megolm session id. */
  readonly sessionId: string;
  /** Message index within the session, read from the ciphertext. */
  readonly messageIndex: number;
}

/** Result of reading an event: a clear or decrypted payload, or the reason why it couldn't be decrypted. */
export type Payload =
  | { readonly kind: "clear"; readonly type: string; readonly content: Readonly<Record<string, unknown>> }
  | {
    readonly kind: "decrypted";
    readonly type: string;
    readonly content: Readonly<Record<string, unknown>>;
    /** `m.relates_to` outside the ciphertext. Some clients put it only there. */
    readonly outerRelation: unknown;
    readonly ciphertext: CiphertextKey;
    readonly senderFacts: SenderFacts;
  }
  | { readonly kind: "undecryptable"; readonly why: Undecryptable; readonly sessionId: string | undefined };

/**
 * Why nothing can be sent into a room. `unusable-encryption`: the room is encrypted, and never had settings that we
 * support. `own-device-unsigned`: only signed devices get keys (SENDER_TRUST=cross-signed), and ours isn't signed.
 */
export type SendProblem = "unusable-encryption" | "own-device-unsigned";

/** Current state of a room. */
export interface RoomFacts {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** Whether the room is encrypted, or has ever been seen encrypted. Never reverts to false. */
  readonly encrypted: boolean;
  /** Why nothing can be sent into the room although we have joined it. Undefined if sending is possible. */
  readonly sendProblem: SendProblem | undefined;
  /** Number of joined members, including ourselves. */
  readonly joinedCount: number;
  /** Reports whether a user has joined. One look-up, regardless of the room's size. */
  isJoined(userId: string): boolean;
  /** Returns the display name of an allowed user who has joined, or undefined if there is none. */
  nameOf(userId: string): string | undefined;
}

/** An invitation as the homeserver reports it. Stripped state can be forged, so nothing in it is proof. */
export interface Invitation {
  /** Room id. */
  readonly roomId: string;
  /** Senders of all member events for us in the invitation; empty if there is none. */
  readonly inviters: readonly string[];
}

/** A text with optional formatting. */
export interface Text {
  /** Plain text. */
  readonly plain: string;
  /** The same text as HTML. Undefined if it needs no formatting. */
  readonly html?: string;
}

/** A message or reaction to send into a room. */
export interface Answer {
  /**
   * Role of this message in the conversation about an event. With `eventId` and `sequence` it forms the transaction ID.
   * An `edit` replaces the `answer`.
   */
  readonly kind: "echo" | "answer" | "edit" | "alert" | "hint";
  /** Counts answers of one kind to one event, starting at 0. */
  readonly sequence: number;
  /** Room to send it to. */
  readonly roomId: string;
  /** Event that it refers to. */
  readonly eventId: string;
  /** `text` notifies phones, `notice` doesn't. `reaction` annotates the event with `text.plain`. */
  readonly form: "notice" | "text" | "reaction";
  /** Content. */
  readonly text: Text;
  /** Whether it is sent as a reply to the event. */
  readonly reply: boolean;
  /** Event ID of the root of the thread that it belongs to. */
  readonly threadId?: string;
  /** User IDs to mention (`m.mentions`). */
  readonly mentions?: readonly string[];
}

/** A message that was dropped because its sender isn't allowed. */
export type RefusedEvent = Pick<InboxEvent, "roomId" | "eventId" | "sender">;

/** Activity in rooms that agents have joined. The receiver decides whose activity counts, and for how long. */
export interface AgentRoomActivity {
  /** Messages of allowed users and agents, in no particular order. They are not decrypted for this. */
  readonly messages: readonly NewEvent[];
  /** Agents that are typing now, by room. Rooms without news are absent. */
  readonly typing: ReadonlyMap<string, readonly string[]>;
}

/**
 * Receives a session's notifications. Most calls only say that something has changed; the listener then looks it up.
 */
export interface Listener {
  /** The journal holds new events. */
  eventsArrived(): void;
  /** A user who isn't allowed has sent a message. It isn't in the journal. */
  refused(event: RefusedEvent): void;
  /**
   * There was activity in rooms that agents have joined. Called before the other notifications, and also for past
   * messages.
   */
  agentRoomsActive(activity: AgentRoomActivity): void;
  /** A key arrived for a Megolm session whose messages couldn't be decrypted. */
  keyArrived(roomId: string, sessionId: string): void;
  /** Invitations or memberships have changed. */
  roomsChanged(): void;
  /** The homeserver reports changed devices or identities of these users. */
  devicesChanged(userIds: readonly string[]): void;
  /**
   * Messages of a room were left unread because a limit on fetching was reached.
   *
   * @param id of the missing part. It is reported until it is accepted, and then never again
   * @returns whether it was accepted, durably, within the caller's transaction
   */
  historyCutOff(roomId: string, id: number): boolean;
  /**
   * A user has requested verification by a to-device message. Requests of allowed users are answered by the session
   * itself.
   */
  verificationAsked(userId: string): void;
}
