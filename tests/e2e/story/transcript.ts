/**
 * Renders a conversation like two kinds of chat apps do: those that apply edits in place, and those that don't support
 * edits.
 *
 * @module
 */

import type { SeenEvent } from "../../../testbed/mod.ts";
import { editedBy, textOf } from "../conversation.ts";

/** Reports whether a message notifies phones. */
export function rings({ content }: SeenEvent): boolean {
  return content["msgtype"] === "m.text" && content["m.mentions"]?.user_ids?.length > 0;
}

/** Renders both views, one below the other. */
export function transcript(title: string, events: readonly SeenEvent[]): string {
  const messages = events.filter(({ type }) => type === "m.room.message");
  const inPlace = messages.filter((event) => editedBy(event) === undefined).map((event) => {
    const edits = messages.filter((each) => editedBy(each) === event.eventId);
    return line(event, textOf(edits.at(-1) ?? event), edits.length);
  });
  const asSent = messages.map((event) => line(event, String(event.content["body"]), 0));
  return [`── ${title}`, "  where edits are shown", ...inPlace, "  where they are not", ...asSent].join("\n");
}

function line(event: SeenEvent, text: string, edits: number): string {
  const who = event.sender.replace(/^@([^:]*):.*$/, "$1");
  const marks = [...rings(event) ? ["rings"] : [], ...edits === 0 ? [] : [edits === 1 ? "edited" : `edited ${edits}×`]];
  const after = marks.length === 0 ? "" : `  (${marks.join(", ")})`;
  return `    ${who.padEnd(6)} ${text.replaceAll("\n", "\n           ")}${after}`;
}
