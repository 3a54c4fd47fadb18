/**
 * From an event's content to the text that might be a command, and whether its form rules that out. Knows nothing of
 * commands, nor of who is believed.
 *
 * @module
 */

import type { Readable } from "./access.ts";
import type { InboxEvent } from "./ports.ts";

/** A text message. */
export interface Message {
  /** Its body; of an edit, the new one. */
  readonly text: string;
  /** The form that keeps it from being a command, whatever its text. */
  readonly form: "plain" | "edit" | "reply";
  /** It mentions the operator (`m.mentions`). */
  readonly mentionsUs: boolean;
}

/**
 * Reads a text message (Matrix spec v1.16, client-server API, 11.2.1). Relations count inside and outside of the
 * ciphertext. Any reply is a reply, also to our own words: whose message it answers is nothing the reader can tell.
 *
 * @param payload what was read of the event
 * @param self our user id
 * @returns undefined for everything that is not `m.text`
 */
export function messageOf(payload: Readable, self: string): Message | undefined {
  const { type, content } = payload;
  if (type !== "m.room.message" || content.msgtype !== "m.text" || typeof content.body !== "string") return undefined;

  const relations = [content["m.relates_to"], payload.kind === "decrypted" ? payload.outerRelation : undefined]
    .map(fieldsOf);
  const replaced = fieldsOf(content["m.new_content"]);
  const users = fieldsOf(content["m.mentions"])?.user_ids;
  const mentionsUs = Array.isArray(users) && users.includes(self);
  if (replaced !== undefined || relations.some((relation) => relation?.rel_type === "m.replace")) {
    return { text: typeof replaced?.body === "string" ? replaced.body : content.body, form: "edit", mentionsUs };
  }
  return { text: content.body, form: relations.some(isReply) ? "reply" : "plain", mentionsUs };
}

/**
 * Age of an event, milliseconds: the server's own at receipt and the time since; without that, by the sender's clock.
 * Neither is proof, as the homeserver tells both.
 */
export function ageOf({ ageMs, receivedAtMs, event }: InboxEvent, nowMs: number): number {
  if (ageMs !== undefined) return Math.max(0, ageMs) + Math.max(0, nowMs - receivedAtMs);
  const sentAtMs = event.origin_server_ts;
  return Math.max(0, nowMs - (typeof sentAtMs === "number" ? sentAtMs : receivedAtMs));
}

/** In a thread, a reply may be there only for clients without threads (`is_falling_back`): that is none. */
function isReply(relation: Readonly<Record<string, unknown>> | undefined): boolean {
  if (relation === undefined || fieldsOf(relation["m.in_reply_to"]) === undefined) return false;
  return relation.rel_type !== "m.thread" || relation.is_falling_back !== true;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : undefined;
}
