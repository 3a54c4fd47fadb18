/**
 * What a person has seen: messages with their edits applied, and waiters for what comes. Knows nothing of requests.
 *
 * @module
 */
import type { JsonObject } from "./api.ts";

/** A message as a person sees it. */
export interface Message {
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id. */
  readonly sender: string;
  /** `undecryptable`, or the event's type; the msgtype without `m.` for messages: `text`, `notice`. */
  readonly kind: string;
  /** The text as it stands after edits; the key of a reaction. */
  readonly body: string;
  /** Its HTML, if it has one. */
  readonly html: string | undefined;
  /** It came encrypted, or what stands here after edits did. */
  readonly encrypted: boolean;
  /** Event id that it replies to, or that a reaction stands under. */
  readonly about: string | undefined;
  /** User ids whose attention is wanted (`m.mentions`). */
  readonly mentions: readonly string[];
  /** Earlier texts, the first one first. */
  readonly earlier: readonly string[];
  /** Milliseconds since the epoch, as the homeserver says. */
  readonly sentAtMs: number;
  /** Transaction id, if this device sent it. */
  readonly transactionId: string | undefined;
}

/** An event after decryption. */
export interface ReadEvent {
  /** Room id. */
  readonly roomId: string;
  /** The event as the homeserver sent it. */
  readonly event: JsonObject;
  /** Type, of the decrypted payload if it was encrypted. */
  readonly type: string;
  /** Content, of the decrypted payload if it was encrypted. */
  readonly content: JsonObject;
  /** It came encrypted. */
  readonly encrypted: boolean;
}

/** The messages of a person, in the order of their arrival. */
export class Conversation {
  readonly #messages = new Map<string, Message>();
  readonly #listeners = new Set<(message: Message) => void>();

  /** All messages, or those of one room. */
  all(roomId?: string): Message[] {
    return [...this.#messages.values()].filter((message) => roomId === undefined || message.roomId === roomId);
  }

  /** Calls for every message, new or edited, until disposed of. */
  listen(listener: (message: Message) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Takes in an event: a message, a reaction, an edit. */
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

/** The value as an object; an empty one if it is none. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null ? value as JsonObject : {};
}
