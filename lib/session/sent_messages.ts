/**
 * Finding what was sent before: each message of ours bears its transaction id, outside the ciphertext. A homeserver has
 * to know a transaction id again, but not for ever, and some forget it with a restart or a new access token.
 *
 * @module
 */

import { RejectedError } from "../errors.ts";
import { type Json, list, object, text } from "../json.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

/** Where a message's content has its transaction id. */
const TRANSACTION = "openclaw_toggle.transaction_id";

/** How far back it is looked: what may have been sent is the last that was. Some homeservers filter a page afterwards. */
const [MAX_PAGES, PAGE] = [5, 100];

/** The content with its transaction id, by which {@linkcode findSent} knows it again. */
export function withTransactionId(content: Json, transactionId: string): Json {
  return { ...content, [TRANSACTION]: transactionId };
}

/**
 * Looks for a message of ours among the latest of a room.
 *
 * @returns its event id; undefined if it isn't there, or we may not look
 * @throws TransientError
 */
export async function findSent(
  client: HomeserverClient,
  self: string,
  { roomId, transactionId }: { readonly roomId: string; readonly transactionId: string },
  signal: AbortSignal,
): Promise<string | undefined> {
  const filter = JSON.stringify({ senders: [self] });
  let from: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    let json: Json;
    try {
      ({ json } = await client.send({
        method: "GET",
        path: path`/_matrix/client/v3/rooms/${roomId}/messages`,
        query: { dir: "b", limit: String(PAGE), filter, from },
      }, signal));
    } catch (error) {
      if (error instanceof RejectedError) return undefined;
      throw error;
    }
    const found = list(json["chunk"]).map(object)
      .find(({ sender, content }) => sender === self && object(content)[TRANSACTION] === transactionId);
    if (found !== undefined) return text(found["event_id"]);
    const next = text(json["end"]);
    if (next === undefined || next === from) return undefined;
    from = next;
  }
  return undefined;
}
