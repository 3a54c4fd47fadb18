/**
 * The messages that a person sees, with edits applied, and listeners for new ones.
 *
 * @module
 */
import type { JsonObject } from "./api.ts";

/** A message as a person sees it. */
export interface Message {
  readonly roomId: string;
  readonly eventId: string;
  readonly sender: string;
  /** `undecryptable` or the event type. For messages the msgtype without `m.`, such as `text` or `notice`. */
  readonly kind: string;
  /** Text after edits; the key of a reaction. */
  readonly body: string;
  /** HTML, if any. */
  readonly html: string | undefined;
  /** Whether it was encrypted, or its latest edit if it was edited. */
  readonly encrypted: boolean;
  /** Event id of the message that it replies to or reacts to. */
  readonly about: string | undefined;
  /** User ids in `m.mentions`. */
  readonly mentions: readonly string[];
  /** Texts before edits, oldest first. */
  readonly earlier: readonly string[];
  /** `origin_server_ts`, milliseconds since the epoch. */
  readonly sentAtMs: number;
  /** Transaction id, if this device sent it. */
  readonly transactionId: string | undefined;
}

/** An event after decryption. */
export interface ReadEvent {
  readonly roomId: string;
  /** The event as sent by the homeserver. */
  readonly event: JsonObject;
  /** Event type, decrypted if necessary. */
  readonly type: string;
  /** Content, decrypted if necessary. */
  readonly content: JsonObject;
  /** Whether the event was encrypted. */
  readonly encrypted: boolean;
}

/** The messages of a person, in order of arrival. */
export class Conversation {
  readonly #messages = new Map<string, Message>();
  readonly #listeners = new Set<(message: Message) => void>();

  /** Returns all messages, or those of one room. */
  all(roomId?: string): Message[] {
    return [...this.#messages.values()].filter((message) => roomId === undefined || message.roomId === roomId);
  }

  /** Calls a listener for every new or edited message, until disposed of. */
  listen(listener: (message: Message) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Adds an event: a message, a reaction or an edit. */
  add({ roomId, event, type, content, encrypted }: ReadEvent): void {
    const relation = objectOf(content["m.relates_to"] ?? objectOf(event["content"])["m.relates_to"]);
    const edited = relation["rel_type"] === "m.replace" ? this.#messages.get(String(relation["event_id"])) : undefined;
    if (edited !== undefined && edited.sender === event["sender"]) {
      const shown = shownOf(type, objectOf(content["m.new_content"]));
      this.#put({ ...edited, ...shown, encrypted, earlier: [...edited.earlier, edited.body] });
      return;
    }
    const about = objectOf(relation["m.in_reply_to"])["event_id"] ?? relation["event_id"];
    const transactionId = objectOf(event["unsigned"])["transaction_id"];
    this.#put({
      roomId,
      eventId: String(event["event_id"]),
      sender: String(event["sender"]),
      ...shownOf(type, content),
      ...(type === "m.reaction" ? { body: String(relation["key"]) } : {}),
      encrypted,
      about: typeof about === "string" ? about : undefined,
      earlier: [],
      sentAtMs: Number(event["origin_server_ts"]),
      transactionId: typeof transactionId === "string" ? transactionId : undefined,
    });
  }

  #put(message: Message): void {
    this.#messages.set(message.eventId, message);
    for (const listener of [...this.#listeners]) listener(message);
  }
}

function shownOf(type: string, content: JsonObject): Pick<Message, "kind" | "body" | "html" | "mentions"> {
  const { msgtype, body, formatted_body: html } = content;
  const named = objectOf(content["m.mentions"])["user_ids"];
  const kind = type === "m.room.encrypted" ? "undecryptable" : String(msgtype ?? type).replace(/^m\.(?!r)/, "");
  return {
    kind,
    body: String(body ?? ""),
    html: typeof html === "string" ? html : undefined,
    mentions: Array.isArray(named) ? named : [],
  };
}

/** Returns the value if it is an object, else an empty object. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null ? value as JsonObject : {};
}
