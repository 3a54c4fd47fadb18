/**
 * What a session tells of: events, what came out of them, senders, rooms, invitations; and what is sent. Data, not
 * judgement.
 *
 * @module
 */

import type { Json } from "../json.ts";
import type { NewEvent } from "../store/mod.ts";

/** An event of a room's timeline, as the inbox keeps it until it is settled. */
export interface InboxEvent extends NewEvent {
  /** Place in the inbox: smaller is earlier. */
  readonly seq: number;
}

/**
 * Why a ciphertext could not be read. `withheld` is the sender's own decision, with its code; `forged`: the event names
 * another sender than the session's.
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
  /** The same as it is published, with its signatures (Matrix spec v1.16, client-server API, 11.12.3, "CrossSigningKey"). */
  readonly crossSigningKey: Json;
}

/** What the homeserver publishes of a user now. */
export interface Published {
  /** The cross-signing identity, by its public master key (unpadded base64); undefined if there is none. */
  readonly identity: Identity | undefined;
  /** All devices. */
  readonly devices: readonly ListedDevice[];
}

/** One of a user's devices. */
export interface ListedDevice {
  /** Device id. */
  readonly deviceId: string;
  /** Public ed25519 key, unpadded base64. */
  readonly ed25519: string;
  /** It is signed by its owner's self-signing key, and that by the owner's present master key. */
  readonly crossSignedByOwner: boolean;
}

/** What the crypto says of the device that sent a message, and of its owner, as they stand now. Data, not judgement. */
export interface SenderFacts extends Published {
  /** Sending device as the crypto names it; undefined if it could not tie the session to a device. */
  readonly deviceId: string | undefined;
  /** The session's own idea of the sender does not match the event's (shield code MismatchedSender). */
  readonly mismatchedSender: boolean;
  /** The key did not come from the sender's device over Olm (shield code AuthenticityNotGuaranteed). */
  readonly authenticityNotGuaranteed: boolean;
  /** User id of a third party that told us the key; undefined if it came from the sender. */
  readonly forwardedBy: string | undefined;
  /** The device as the homeserver lists it now; undefined if it lists none of that id. */
  readonly device: DeviceFacts | undefined;
}

/** The device that sent a message, as the homeserver lists it now. */
export interface DeviceFacts extends ListedDevice {
  /** The device is gone from the list. */
  readonly deleted: boolean;
  /** Its curve25519 and ed25519 keys are those of the session's sender. */
  readonly sameKeysAsSession: boolean;
}

/** The key that makes a ciphertext unique, whatever event id carries it. */
export interface CiphertextKey {
  /** Megolm session id. */
  readonly sessionId: string;
  /** Message index within the session, read from the ciphertext. */
  readonly messageIndex: number;
}

/** What came out of an event: clear text, a decrypted payload, or the reason why not. */
export type Payload =
  | { readonly kind: "clear"; readonly type: string; readonly content: Readonly<Record<string, unknown>> }
  | {
    readonly kind: "decrypted";
    readonly type: string;
    readonly content: Readonly<Record<string, unknown>>;
    /** `m.relates_to` as it stood outside the ciphertext, where some clients put it alone. */
    readonly outerRelation: unknown;
    readonly ciphertext: CiphertextKey;
    readonly senderFacts: SenderFacts;
  }
  | { readonly kind: "undecryptable"; readonly why: Undecryptable; readonly sessionId: string | undefined };

/**
 * Why nothing can be sent into a room. `unusable-encryption`: it is encrypted, and never had settings that we can encrypt
 * by. `own-device-unsigned`: keys go to signed devices alone (SENDER_TRUST=cross-signed), and ours is not signed.
 */
export type SendProblem = "unusable-encryption" | "own-device-unsigned";

/** A room as it stands now. */
export interface RoomFacts {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** It is, or has once been seen, encrypted: this never goes back. */
  readonly encrypted: boolean;
  /** Why nothing can be sent into the room, though we are joined; undefined if it can. */
  readonly sendProblem: SendProblem | undefined;
  /** How many members have joined, ourselves included. */
  readonly joinedCount: number;
  /** Whether a user has joined: one look-up, however large the room is. */
  isJoined(userId: string): boolean;
  /** Display name of an allowed user who has joined; undefined if there is none. */
  nameOf(userId: string): string | undefined;
}

/** An invitation as the homeserver tells it; stripped state can be forged, so nothing in it is proof. */
export interface Invitation {
  /** Room id. */
  readonly roomId: string;
  /** Who invited us, by each member event for us in the invitation; none if it holds no such event. */
  readonly inviters: readonly string[];
}

/** A formatted text. */
export interface Text {
  /** Plain text. */
  readonly plain: string;
  /** HTML of the same; undefined if plain is enough. */
  readonly html?: string;
}

/** Something to be said in a room. */
export interface Answer {
  /**
   * Which part of the conversation about an event this is; with `eventId` and `sequence` it makes the transaction id. An
   * `edit` replaces the `answer`.
   */
  readonly kind: "echo" | "answer" | "edit" | "alert" | "hint";
  /** Counts answers of one kind to one event, from 0. */
  readonly sequence: number;
  /** Room to say it in. */
  readonly roomId: string;
  /** The event that it is about. */
  readonly eventId: string;
  /**
   * `notice` does not ring phones; `text` does; `reaction` puts `text.plain` under the event.
   */
  readonly form: "notice" | "text" | "reaction";
  /** What is said. */
  readonly text: Text;
  /** Shown as a reply to the event. */
  readonly reply: boolean;
  /** The thread that it belongs to, by its root's event id. */
  readonly threadId?: string;
  /** User ids whose attention is wanted (`m.mentions`). */
  readonly mentions?: readonly string[];
}

/** A message that was not taken in, because its sender is not allowed. */
export type RefusedEvent = Pick<InboxEvent, "roomId" | "eventId" | "sender">;

/** What was written in rooms where agents are. Who counts, and for how long, is decided by whoever is told. */
export interface AgentRoomActivity {
  /** Messages of allowed users and agents, in any order, encrypted ones as they came: nothing is decrypted for this. */
  readonly messages: readonly NewEvent[];
  /** Which agents are typing now, by room; rooms of which nothing was told are left out. */
  readonly typing: ReadonlyMap<string, readonly string[]>;
}

/** What a session tells whoever runs it. Each call says only that something is there to be looked at. */
export interface Listener {
  /** New events stand in the inbox. */
  eventsArrived(): void;
  /** A message has come from a user who is not allowed; it is not in the inbox. */
  refused(event: RefusedEvent): void;
  /** Something was written in rooms where agents are; told also before anything else is, and of messages in the past. */
  agentRoomsActive(activity: AgentRoomActivity): void;
  /** A key came for a Megolm session whose messages could not be read. */
  keyArrived(roomId: string, sessionId: string): void;
  /** Invitations or memberships have changed. */
  roomsChanged(): void;
  /** The homeserver says that these users' devices or identities have changed. */
  devicesChanged(userIds: readonly string[]): void;
  /**
   * A bound on what is fetched has left messages of a room unread.
   *
   * @param id of the part that is missing: told once, and again until it is taken
   * @returns whether it is taken, durably, within the caller's transaction
   */
  historyCutOff(roomId: string, id: number): boolean;
  /** Somebody asks, device to device, to verify us. Allowed users are answered by the chat itself. */
  verificationAsked(userId: string): void;
}
