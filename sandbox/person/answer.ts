/**
 * Reads the operator's answers without the line that acknowledges the command.
 *
 * @module
 */

import type { Message } from "./conversation.ts";

/** Removes the acknowledgement from an answer. Empty while there is nothing else. */
export function withoutAcknowledgement(text: string): string {
  return text.replace(/^🦞 .*(\n|$)/, "");
}

/** Returns the first answer of a message, before its edits; undefined while it only acknowledges the command. */
export function firstAnswer({ body, earlier }: Pick<Message, "body" | "earlier">): string | undefined {
  return [...earlier, body].map(withoutAcknowledgement).find((text) => text !== "");
}
