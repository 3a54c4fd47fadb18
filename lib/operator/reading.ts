/**
 * Reads an event and judges it, as things stand at that moment: once when it comes in, once more right before acting.
 * Knows nothing of commands.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { judge, type Readable, type Verdict } from "./access.ts";
import { isRefused } from "./patience.ts";
import type { InboxEvent, RoomFacts, Undecryptable } from "./ports.ts";
import type { Parts } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** What came of reading an event. */
export type Reading =
  | { readonly kind: "refused"; readonly reason: "not-joined" | "unreadable" }
  | {
    readonly kind: "undecryptable";
    readonly room: RoomFacts;
    readonly why: Undecryptable;
    readonly sessionId: string | undefined;
  }
  | { readonly kind: "readable"; readonly room: RoomFacts; readonly payload: Readable; readonly verdict: Verdict };

/**
 * Reads and judges an event of an allowed user.
 *
 * @throws TransientError if the homeserver had to be asked and did not answer; nothing is decided then
 */
export async function readAndJudge(
  inbox: InboxEvent,
  { chat, settings }: Pick<Parts, "chat" | "settings">,
  signal: AbortSignal,
): Promise<Reading> {
  try {
    const room = await chat.room(inbox.roomId, signal);
    if (room?.membership !== "join") return { kind: "refused", reason: "not-joined" };
    const payload = await chat.read(inbox, signal);
    if (payload.kind === "undecryptable") return { ...payload, room };
    return { kind: "readable", room, payload, verdict: judge(payload, room, settings.requireEncryption) };
  } catch (error) {
    if (!isRefused(error)) throw error;
    const { roomId: room, eventId: event } = inbox;
    logger.warn("Cannot read {event} in {room}: {reason}", { room, event, reason: error.message });
    return { kind: "refused", reason: "unreadable" };
  }
}
