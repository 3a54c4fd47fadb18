/**
 * Extracts from an event the text that may be a command, and whether the form of the event rules that out.
 *
 * @module
 */

import type { Readable } from "../authorization/mod.ts";
import { type Json, object, text, texts } from "../json.ts";
import type { InboxEvent } from "../session/mod.ts";

/** A message that a person has sent. */
export interface Message {
  /** Body, without the quotation of a replied-to message. For an edit, the new body. For a file, its name. */
  readonly text: string;
  /** HTML body, if there is one, also without the quotation. */
  readonly html: string | undefined;
  /** Whether the msgtype is `m.text`. Only that can be a command. */
  readonly isText: boolean;
  /** Whether it replaces another message. */
  readonly isEdit: boolean;
  /** The message that it replies to; undefined if it isn't a reply. */
  readonly repliedTo: RepliedTo | undefined;
  /** User ids in `m.mentions`. */
  readonly mentions: readonly string[];
}

/** A message that another one replies to. */
export interface RepliedTo {
  /** Event ids that the reply names. More than one only if the inside and the outside of the ciphertext differ. */
  readonly eventIds: readonly string[];
  /** Its sender according to the reply's quotation; undefined without a quotation. */
  readonly quotedUser: string | undefined;
}

/** Message types that people send. `m.notice` is for bots. */
const SAID = ["m.text", "m.emote", "m.image", "m.audio", "m.video", "m.file", "m.location"];

/**
 * Reads a message (Matrix spec v1.16, client-server API, 11.2.1). Relations count inside and outside the ciphertext:
 * some clients put them only outside, and a server can add them there.
 *
 * @returns undefined for anything but a message of a person
 */
export function messageOf({ json }: InboxEvent, payload: Readable): Message | undefined {
  const { type, content } = payload;
  const kind = text(content["msgtype"]) ?? "";
  const body = text(content["body"]);
  if (type !== "m.room.message" || !SAID.includes(kind) || body === undefined) return undefined;

  const contents = [content, object(json["content"])];
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
 * Returns the age of an event in milliseconds: the age that our homeserver gave on receipt, plus the time since.
 * Without that, it is computed from `origin_server_ts`. Neither is proof, because the homeserver reports both.
 */
export function ageOf(
  { ageMs, receivedAtMs, json }: Pick<InboxEvent, "ageMs" | "json" | "receivedAtMs">,
  nowMs: number,
): number {
  if (ageMs !== undefined) return Math.max(0, ageMs) + Math.max(0, nowMs - receivedAtMs);
  const sentAtMs = json["origin_server_ts"];
  return Math.max(0, nowMs - (typeof sentAtMs === "number" ? sentAtMs : receivedAtMs));
}

/**
 * Returns the thread that an event belongs to, by the event id of its root. Relations are outside the ciphertext
 * (Matrix spec v1.16, client-server API, 11.12.5.1, "Event relationships and encryption").
 */
export function threadOf({ json }: InboxEvent): string | undefined {
  const relation = object(object(json["content"])["m.relates_to"]);
  return relation["rel_type"] === "m.thread" ? text(relation["event_id"]) : undefined;
}

/** Returns the part of an answer that puts it into a thread. */
export function inThread(threadId: string | undefined): { readonly threadId?: string } {
  return threadId === undefined ? {} : { threadId };
}

/**
 * In a thread, a reply with `is_falling_back` is there only for clients without threads. It doesn't count as a reply.
 */
function repliesTo(relation: Json): string[] {
  if (relation["rel_type"] === "m.thread" && relation["is_falling_back"] === true) return [];
  const eventId = text(object(relation["m.in_reply_to"])["event_id"]);
  return eventId === undefined ? [] : [eventId];
}

/**
 * Removes the quotation that older clients put before a reply: lines that begin with `>`, followed by an empty line
 * (Matrix spec v1.12, client-server API, 11.3.3.1, "Fallbacks for rich replies").
 */
function withoutQuotation(body: string): { readonly rest: string; readonly quotedUser: string | undefined } {
  const lines = body.split("\n");
  const own = lines.findIndex((line) => !line.startsWith(">"));
  if (own < 1) return { rest: body, quotedUser: undefined };
  const rest = lines.slice(lines[own]?.trim() === "" ? own + 1 : own).join("\n");
  return { rest, quotedUser: /^> (?:\* )?<(@[^>]*)>/.exec(body)?.[1] };
}
