/**
 * What stands in the operator's answers besides the line that acknowledges the command.
 *
 * @module
 */

import type { Message } from "./conversation.ts";

/** An answer without the line that acknowledges the command; empty while there is nothing else. */
export function withoutAcknowledgement(text: string): string {
  return text.replace(/^🦞 .*(\n|$)/, "");
}

/** What a message answered first; undefined while it does no more than acknowledge the command. */
export function firstAnswer({ body, earlier }: Pick<Message, "body" | "earlier">): string | undefined {
  return [...earlier, body].map(withoutAcknowledgement).find((text) => text !== "");
}
