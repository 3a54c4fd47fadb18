/**
 * What the operator needs from the world, declared here and satisfied elsewhere: a chat, a scaler and a journal.
 * Facts come in as plain data; judgement is the operator's alone.
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

/** Why a ciphertext could not be read. `withheld` is the sender's own decision, with its code. */
export type Undecryptable =
  | { readonly kind: "no-key" }
  | { readonly kind: "withheld"; readonly code: string }
  | { readonly kind: "broken"; readonly reason: string };

/** What the crypto says of the device that sent a message, as it stands now. Data, not judgement. */
export interface SenderFacts {
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
  /** The user's published cross-signing identity now; undefined if there is none. */
  readonly identity: { readonly masterKey: string } | undefined;
}

/** A device as the homeserver lists it now. */
export interface DeviceFacts {
  /** Public ed25519 key, unpadded base64. */
  readonly ed25519: string;
  /** The device is gone from the list. */
  readonly deleted: boolean;
  /** Its curve25519 and ed25519 keys are those of the session's sender. */
  readonly sameKeysAsSession: boolean;
  /** It is signed by its owner's self-signing key, and that by the owner's present master key. */
  readonly crossSignedByOwner: boolean;
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
  /** Canonical alias and alternatives that the room claims; not proof that they point to it. */
  readonly aliases: readonly string[];
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
  /** Which part of the conversation about an event this is; with `eventId` and `sequence` it makes the transaction id. */
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
  /** Transaction id of an earlier answer of ours that this one replaces. */
  readonly replaces?: string;
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
   * The room as it stands now; undefined if never heard of.
   *
   * @throws TransientError if the members had to be fetched and were not
   */
  room(roomId: string, signal: AbortSignal): Promise<RoomFacts | undefined>;

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
}

/** A workload that is switched on and off. */
export interface Target {
  /** The name that people use. */
  readonly alias: string;
  /** What kind of workload it is. */
  readonly kind: "deployment" | "statefulset";
  /** Namespace. */
  readonly namespace: string;
  /** Name. */
  readonly name: string;
}

/** A workload's counts as the cluster tells them. */
export interface Scale {
  /** `spec.replicas`: what is wanted. */
  readonly desired: number;
  /** Pods that exist, by a status that is current. */
  readonly current: number;
  /** Pods that are ready. */
  readonly ready: number;
  /** Pods that are available. */
  readonly available: number;
  /** The status speaks of the present spec (`observedGeneration` has caught up). */
  readonly settled: boolean;
  /** For the PATCH that is to change exactly what was read. */
  readonly resourceVersion: string;
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

/** Where a command stands. */
export type Progress =
  | { readonly state: "new" }
  | { readonly state: "undecryptable" }
  | { readonly state: "acting"; readonly intent: Intent };

/** What is about to be done; written down before it is done. */
export interface Intent {
  /** The command in its canonical word: `start`, `stop`. */
  readonly command: string;
  /** Alias of the target. */
  readonly target: string;
  /** Replicas before. */
  readonly before: number;
  /** Replicas wanted. */
  readonly after: number;
  /** The resourceVersion that the PATCH carries. */
  readonly resourceVersion: string;
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
  /** Unsettled events that may be handled now (not those behind a gap), earliest first, after the given place. */
  unsettled(afterSeq: number): readonly Entry[];

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
  acting(seq: number, intent: Intent): void;

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

  /** Event id under which an answer was sent; undefined if it was not, or too long ago. */
  eventIdOf(transactionId: string): string | undefined;
}
