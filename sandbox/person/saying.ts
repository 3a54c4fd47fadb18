/**
 * Builds message contents as clients do.
 *
 * @module
 */
import type { JsonObject } from "./api.ts";

/** Options of a message. */
export interface Saying {
  /** Event id of the message that it replies to. */
  readonly replyTo?: string;
  /** Event id of the message that it replaces. */
  readonly edits?: string;
  /** User ids for `m.mentions`. */
  readonly mentions?: string[];
  /** The message as HTML. */
  readonly html?: string;
  /** Sends the message unencrypted, even in an encrypted room. */
  readonly clear?: boolean;
  /** Transaction id. Default: a new one. */
  readonly transactionId?: string;
}

/** Builds the content of an m.room.message (Matrix spec v1.16, client-server API, 11.3). */
export function contentOf(text: string, { replyTo, edits, mentions, html }: Saying): JsonObject {
  const plain: JsonObject = {
    msgtype: "m.text",
    body: text,
    ...(html === undefined ? {} : { format: "org.matrix.custom.html", formatted_body: html }),
    ...(mentions === undefined ? {} : { "m.mentions": { user_ids: mentions } }),
  };
  if (edits !== undefined) {
    const relation = { rel_type: "m.replace", event_id: edits };
    return { ...plain, body: `* ${text}`, "m.new_content": plain, "m.relates_to": relation };
  }
  return replyTo === undefined ? plain : { ...plain, "m.relates_to": { "m.in_reply_to": { event_id: replyTo } } };
}
