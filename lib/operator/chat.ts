/**
 * What the operator needs of a chat: events and facts come in as plain data, answers go out. Judgement is the
 * operator's alone.
 *
 * @module
 */

/** An event of a room's timeline, as the inbox keeps it until it is settled. */
export interface InboxEvent {
  /** Place in the inbox: smaller is earlier. */
  readonly seq: number;
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id that the homeserver names as the sender. */
  readonly sender: string;
  /** The event as the server sent it. */
  readonly event: Readonly<Record<string, unknown>>;
  /** When it was received, milliseconds since the epoch, our clock. */
  readonly receivedAtMs: number;
  /** The server's `unsigned.age` at receipt, milliseconds; undefined if the server gave none. */
  readonly ageMs: number | undefined;
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

/** What the homeserver publishes of a user now. */
export interface Published {
  /** The cross-signing identity, by its public master key (unpadded base64); undefined if there is none. */
  readonly identity: { readonly masterKey: string } | undefined;
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

/** A room as it stands now. */
export interface RoomFacts {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** It is, or has once been seen, encrypted: this never goes back. */
  readonly encrypted: boolean;
  /** User ids of the joined members, ourselves included. */
  readonly joined: readonly string[];
}

/** An invitation as the homeserver tells it; stripped state can be forged, so nothing in it is proof. */
export interface Invitation {
  /** Room id. */
  readonly roomId: string;
  /** Sender of each member event for us in the invitation. */
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
  /** User ids whose attention is wanted (`m.mentions`). */
  readonly mentions?: readonly string[];
}

/** The chat: reads events, knows rooms, says things. */
export interface Chat {
  /** The operator's own user id. */
  readonly self: string;
  /** Names by which people address the operator: user id, display name if set. */
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

/** What the chat tells the operator. Each call says only that something is there to be looked at. */
export interface Listener {
  /** New events stand in the inbox. */
  eventsArrived(): void;
  /** A key came for a Megolm session whose messages could not be read. */
  keyArrived(roomId: string, sessionId: string): void;
  /** Invitations or memberships have changed. */
  roomsChanged(): void;
  /** The homeserver says that these users' devices or identities have changed. */
  devicesChanged(userIds: readonly string[]): void;
  /** Somebody asks, device to device, to verify us. Allowed users are answered by the chat itself. */
  verificationAsked(userId: string): void;
}
