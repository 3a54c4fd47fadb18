/**
 * Reads the session and message index of encrypted events, as anyone can see them. Shares no code with what it checks.
 *
 * @module
 */

/** An encrypted event. */
export interface Sent {
  /** User ID. */
  readonly sender: string;
  /** Content of the m.room.encrypted event. */
  readonly content: Readonly<Record<string, unknown>>;
}

/**
 * Counts the sessions, and the message indices that aren't greater than all earlier ones of their session, which means
 * that a ratchet went back.
 *
 * @param sent events of one sender in one room, oldest first
 */
export function wireFaults(sent: readonly Sent[]): { readonly faults: number; readonly sessions: number } {
  const last = new Map<string, number>();
  let faults = 0;
  for (const { content } of sent) {
    const index = messageIndex(String(content["ciphertext"]));
    const session = String(content["session_id"]);
    if (index <= (last.get(session) ?? -1)) faults += 1;
    last.set(session, Math.max(index, last.get(session) ?? -1));
  }
  return { faults, sessions: last.size };
}

/** Reads the varint after version byte and tag (Olm project, "Megolm group ratchet", message format version 3). */
function messageIndex(ciphertext: string): number {
  const bytes = atob(ciphertext.slice(0, 12)).split("").map((letter) => letter.charCodeAt(0));
  if (bytes[0] !== 3 || bytes[1] !== 8) {
    throw new Error(`Cannot read a ciphertext: it begins with ${bytes.slice(0, 2)}`);
  }
  const digits = bytes.slice(2, 1 + bytes.findIndex((byte, index) => index > 1 && byte < 0x80));
  return digits.reduceRight((sum, digit) => sum * 0x80 + (digit & 0x7f), 0);
}
