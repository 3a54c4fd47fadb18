/**
 * Reading the outside of a Megolm message: which session, which place in it. Knows nothing of keys.
 *
 * @module
 */

import type { CiphertextKey } from "../operator/mod.ts";
import { object, text } from "../json.ts";

/**
 * Reads the session id and the message index of an `m.room.encrypted` event's content. The index is the varint after
 * the version byte and the tag 0x08 (Olm project, "Megolm group ratchet", message format version 3).
 *
 * @returns undefined if the content is no Megolm message
 */
export function ciphertextKey(content: unknown): CiphertextKey | undefined {
  const sessionId = text(object(content)["session_id"]);
  const ciphertext = text(object(content)["ciphertext"]);
  if (sessionId === undefined || ciphertext === undefined) return undefined;
  // Version, tag and a varint of at most 5 bytes stand in the first 12 base64 characters.
  let head: Uint8Array;
  try {
    head = Uint8Array.fromBase64(ciphertext.slice(0, 12).replace(/=+$/, ""));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (head[0] !== 3 || head[1] !== 0x08) return undefined;
  let messageIndex = 0;
  for (let place = 0; place < 5; place += 1) {
    const byte = head[2 + place];
    if (byte === undefined) return undefined;
    messageIndex += (byte & 0x7f) * 2 ** (7 * place);
    if ((byte & 0x80) === 0) return { sessionId, messageIndex };
  }
  return undefined;
}
