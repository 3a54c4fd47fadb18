/**
 * From an event's content to the text that might be a command, and whether its form rules that out.
 *
 * @module
 */

import type { Readable } from "../authorization/mod.ts";
import { type Json, list, object, text } from "../json.ts";
import type { InboxEvent } from "../session/mod.ts";

/** A text message. */
export interface Message {
  /** Its body, without the quotation of what it replies to; of an edit, the new one. */
  readonly text: string;
  /** It replaces another message. */
  readonly isEdit: boolean;
  /** What it replies to; undefined for a message that is no reply. */
  readonly repliedTo: RepliedTo | undefined;
  /** It mentions the operator (`m.mentions`). */
  readonly mentionsUs: boolean;
}

/** The message that another one replies to. */
export interface RepliedTo {
  /** Event id of each message that the reply names: one, unless the inside and the outside of a ciphertext differ. */
  readonly eventIds: readonly string[];
  /** Its sender, as the reply's quotation names them; undefined without a quotation. */
  readonly quotedUser: string | undefined;
}

/**
 * Reads a text message (Matrix spec v1.16, client-server API, 11.2.1). Relations count inside and outside of the
 * ciphertext: some clients put them outside only, and a server can add them there.
 *
 * @param self our user id
 * @returns undefined for everything that is not `m.text`
 */
export function messageOf({ event }: InboxEvent, payload: Readable, self: string): Message | undefined {
  const { type, content } = payload;
  const body = text(content["body"]);
  if (type !== "m.room.message" || content["msgtype"] !== "m.text" || body === undefined) return undefined;

  const contents = [content, object(event["content"])];
  const relations = [
    ...contents.map((each) => object(each["m.relates_to"])),
    ...payload.kind === "decrypted" ? [object(payload.outerRelation)] : [],
  ];
  const mentionsUs = list(object(content["m.mentions"])["user_ids"]).includes(self);
  if (
    contents.some((each) => "m.new_content" in each) ||
    relations.some((relation) => relation["rel_type"] === "m.replace")
  ) {
    const replaced = text(object(content["m.new_content"])["body"]);
    return { text: replaced ?? body, isEdit: true, repliedTo: undefined, mentionsUs };
  }
  const eventIds = [...new Set(relations.flatMap(repliesTo))];
  if (eventIds.length === 0) return { text: body, isEdit: false, repliedTo: undefined, mentionsUs };
  const { rest, quotedUser } = withoutQuotation(body);
  return { text: rest, isEdit: false, repliedTo: { eventIds, quotedUser }, mentionsUs };
}

/**
 * Age of an event, milliseconds: the server's own at receipt and the time since; without that, by the sender's clock.
 * Neither is proof, as the homeserver tells both.
 */
export function ageOf({ ageMs, receivedAtMs, event }: InboxEvent, nowMs: number): number {
  if (ageMs !== undefined) return Math.max(0, ageMs) + Math.max(0, nowMs - receivedAtMs);
  const sentAtMs = event["origin_server_ts"];
  return Math.max(0, nowMs - (typeof sentAtMs === "number" ? sentAtMs : receivedAtMs));
}

/**
 * The thread that an event belongs to, by its root's event id. Relations stand outside of a ciphertext (Matrix spec
 * v1.16, client-server API, 11.12.5.1, "Event relationships and encryption").
 */
export function threadOf({ event }: InboxEvent): string | undefined {
  const relation = object(object(event["content"])["m.relates_to"]);
  return relation["rel_type"] === "m.thread" ? text(relation["event_id"]) : undefined;
}

/** The part of an answer that puts it into a thread. */
export function inThread(threadId: string | undefined): { readonly threadId?: string } {
  return threadId === undefined ? {} : { threadId };
}

/** In a thread, a reply may be there only for clients without threads (`is_falling_back`): that is none. */
function repliesTo(relation: Json): string[] {
  if (relation["rel_type"] === "m.thread" && relation["is_falling_back"] === true) return [];
  const eventId = text(object(relation["m.in_reply_to"])["event_id"]);
  return eventId === undefined ? [] : [eventId];
}

/**
 * Takes the quotation off that older clients put before a reply: lines that begin with `>`, and an empty one (Matrix spec
 * v1.12, client-server API, 11.3.3.1, "Fallbacks for rich replies").
 */
function withoutQuotation(body: string): { readonly rest: string; readonly quotedUser: string | undefined } {
  const lines = body.split("\n");
  const own = lines.findIndex((line) => !line.startsWith(">"));
  if (own < 1) return { rest: body, quotedUser: undefined };
  const rest = lines.slice(lines[own]?.trim() === "" ? own + 1 : own).join("\n");
  return { rest, quotedUser: /^> (?:\* )?<(@[^>]*)>/.exec(body)?.[1] };
}
