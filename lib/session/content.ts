/**
 * Event content of answers: `m.room.message` and `m.reaction`.
 *
 * @module
 */

import type { Answer } from "./facts.ts";
import type { Json } from "../json.ts";

/** Builds an answer's event. `replaced` is the event ID of the message that it edits. */
export function outgoingEvent(answer: Answer, replaced: string | undefined): { type: string; content: Json } {
  if (answer.form === "reaction") {
    const annotation = { rel_type: "m.annotation", event_id: answer.eventId, key: answer.text.plain };
    return { type: "m.reaction", content: { "m.relates_to": annotation } };
  }
  const message = body(answer, "");
  if (replaced === undefined) {
    return { type: "m.room.message", content: { ...message, ...relation(answer) } };
  }
  // The outer body is the fallback for clients without edits (client-server API, 11.12.1, "Event replacements").
  return {
    type: "m.room.message",
    content: {
      ...body(answer, "* "),
      "m.new_content": message,
      "m.relates_to": { rel_type: "m.replace", event_id: replaced },
    },
  };
}

/**
 * Builds `m.relates_to`. In a thread, the reply is part of the thread relation (Matrix spec v1.16, client-server API,
 * 11.12.4, "Threading").
 */
function relation({ eventId, reply, threadId }: Answer): Json {
  const inReplyTo = { "m.in_reply_to": { event_id: eventId } };
  if (threadId === undefined) return reply ? { "m.relates_to": inReplyTo } : {};
  const thread = { rel_type: "m.thread", event_id: threadId, is_falling_back: !reply };
  return { "m.relates_to": { ...thread, ...inReplyTo } };
}

function body(answer: Answer, prefix: string): Json {
  const { plain, html } = answer.text;
  return {
    msgtype: answer.form === "text" ? "m.text" : "m.notice",
    body: prefix + plain,
    ...(html === undefined ? {} : { format: "org.matrix.custom.html", formatted_body: prefix + html }),
    "m.mentions": answer.mentions === undefined ? {} : { user_ids: answer.mentions },
  };
}
