/**
 * From an event's content to the text that might be a command, and whether its form rules that out.
 *
 * @module
 */

import type { Readable } from "../authorization/mod.ts";
import { type Json, object, text, texts } from "../json.ts";
import type { InboxEvent } from "../session/mod.ts";

/** What a person has said. */
export interface Message {
  /** Its body, without the quotation of what it replies to; of an edit, the new one. Of a file, its name. */
  readonly text: string;
  /** The same as HTML, if it came so; also without the quotation. */
  readonly html: string | undefined;
  /** It is `m.text`: only that can be a command. */
  readonly isText: boolean;
  /** It replaces another message. */
  readonly isEdit: boolean;
  /** What it replies to; undefined for a message that is no reply. */
  readonly repliedTo: RepliedTo | undefined;
  /** User ids whose attention is wanted (`m.mentions`). */
  readonly mentions: readonly string[];
}

/** The message that another one replies to. */
export interface RepliedTo {
  /** Event id of each message that the reply names: one, unless the inside and the outside of a ciphertext differ. */
  readonly eventIds: readonly string[];
  /** Its sender, as the reply's quotation names them; undefined without a quotation. */
  readonly quotedUser: string | undefined;
}

/** What people say: texts, pictures, voice messages. Notices are what programs say. */
const SAID = ["m.text", "m.emote", "m.image", "m.audio", "m.video", "m.file", "m.location"];

/**
 * Reads a message (Matrix spec v1.16, client-server API, 11.2.1). Relations count inside and outside of the ciphertext:
 * some clients put them outside only, and a server can add them there.
 *
 * @returns undefined for everything that nobody has said
 */
export function messageOf({ event }: InboxEvent, payload: Readable): Message | undefined {
  const { type, content } = payload;
  const kind = text(content["msgtype"]) ?? "";
  const body = text(content["body"]);
  if (type !== "m.room.message" || !SAID.includes(kind) || body === undefined) return undefined;

  const contents = [content, object(event["content"])];
  const relations = [
    ...contents.map((each) => object(each["m.relates_to"])),
    ...payload.kind === "decrypted" ? [object(payload.outerRelation)] : [],
  ];
  const said = {
    text: body,
    html: text(content["formatted_body"])?.replace(/<mx-reply>.*?<\/mx-reply>/gs, ""),
    isText: kind === "m.text",
    isEdit: false,
    repliedTo: undefined,
    mentions: texts(object(content["m.mentions"])["user_ids"]),
  };
  if (
    contents.some((each) => "m.new_content" in each) ||
    relations.some((relation) => relation["rel_type"] === "m.replace")
  ) {
    const replaced = text(object(content["m.new_content"])["body"]);
    return { ...said, text: replaced ?? body, isEdit: true };
  }
  const eventIds = [...new Set(relations.flatMap(repliesTo))];
  if (eventIds.length === 0) return said;
  const { rest, quotedUser } = withoutQuotation(body);
  return { ...said, text: rest, repliedTo: { eventIds, quotedUser } };
}

/**
 * Age of an event, milliseconds: the server's own at receipt and the time since; without that, by the sender's clock.
 * Neither is proof, as the homeserver tells both.
 */
export function ageOf(
  { ageMs, receivedAtMs, event }: Pick<InboxEvent, "ageMs" | "event" | "receivedAtMs">,
  nowMs: number,
): number {
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
