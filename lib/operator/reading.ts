/**
 * Reads an event and judges it, as things stand at that moment: once when it comes in, once more right before acting.
 * Knows nothing of commands.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { judge, type Readable, type Verdict } from "./access.ts";
import { isRefusal } from "../errors.ts";
import type { InboxEvent, Payload, RoomFacts } from "./ports.ts";
import type { Parts } from "./settings.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** What came of reading an event. */
export type Reading =
  | { readonly kind: "refused"; readonly reason: "not-joined" | "unreadable" }
  | Extract<Payload, { kind: "undecryptable" }>
  | { readonly kind: "readable"; readonly room: RoomFacts; readonly payload: Readable; readonly verdict: Verdict };

/**
 * Reads and judges an event of an allowed user. Whom the user is taken for at first sight is written down before
 * anything is done.
 *
 * @throws TransientError if the homeserver had to be asked and did not answer; nothing is decided then
 */
export async function readAndJudge(
  inbox: InboxEvent,
  { chat, pins, settings, clock }: Pick<Parts, "chat" | "pins" | "settings" | "clock">,
  signal: AbortSignal,
): Promise<Reading> {
  const { roomId, eventId: event, sender } = inbox;
  try {
    if (chat.room(roomId)?.membership !== "join") return { kind: "refused", reason: "not-joined" };
    const payload = await chat.read(inbox, signal);
    const room = chat.room(roomId);
    if (room?.membership !== "join") return { kind: "refused", reason: "not-joined" };
    if (payload.kind === "undecryptable") return payload;
    const { requireEncryption, senderTrust, trustedIdentities } = settings;
    const verdict = judge(payload, {
      encrypted: room.encrypted,
      requireEncryption,
      senderTrust,
      named: trustedIdentities.get(sender),
      pin: pins.get(sender),
      nowMs: clock.now(),
    });
    if (verdict.pin !== undefined) pins.set(sender, verdict.pin);
    return { kind: "readable", room, payload, verdict };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    logger.warn("Cannot read {event} in {room}: {reason}", { room: roomId, event, reason: error.message });
    return { kind: "refused", reason: "unreadable" };
  }
}
