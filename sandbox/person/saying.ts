/**
 * How a person says things: message contents as clients make them. Knows nothing of sending.
 *
 * @module
 */
import type { JsonObject } from "./api.ts";

/** How something is said. */
export interface Saying {
  /** Event id that it replies to. */
  readonly replyTo?: string;
  /** Event id of an earlier message that it replaces. */
  readonly edits?: string;
  /** User ids whose attention is wanted. */
  readonly mentions?: string[];
  /** HTML of the same. */
  readonly html?: string;
  /** In clear, even if the room is encrypted. */
  readonly clear?: boolean;
  /** Transaction id; a new one if not given. */
  readonly transactionId?: string;
}

/** The content of an m.room.message (Matrix spec v1.16, client-server API, 11.3). */
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
