/**
 * Finds messages that were already sent. Each of our messages carries its transaction ID outside the ciphertext,
 * because homeservers remember transaction IDs only for a limited time, and some forget them on a restart or with a new
 * access token.
 *
 * @module
 */

import { RejectedError } from "../errors.ts";
import { identifier, type Json, list, object, text } from "../json.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

/** Content key of the transaction ID. */
const TRANSACTION = "openclaw_toggle.transaction_id";

/**
 * Search limits. The message in doubt is the last one we sent, so it is recent. Some homeservers filter a page after
 * fetching it, so pages may be short.
 */
const [MAX_PAGES, PAGE] = [5, 100];

/** Adds the transaction ID to the content, for {@linkcode findSent}. */
export function withTransactionId(content: Json, transactionId: string): Json {
  return { ...content, [TRANSACTION]: transactionId };
}

/**
 * Searches the latest events of a room for a message of ours.
 *
 * @returns its event ID, or undefined if it isn't found or the homeserver refuses the request
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
    if (found !== undefined) return identifier(found["event_id"]);
    const next = text(json["end"]);
    if (next === undefined || next === from) return undefined;
    from = next;
  }
  return undefined;
}
