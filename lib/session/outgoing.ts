/**
 * HomeserverClient that the Rust crypto wants sent, and where they go. Knows nothing of when.
 *
 * @module
 */

import { RequestType } from "@matrix-org/matrix-sdk-crypto-wasm";
import { path, type Request } from "./homeserver_client.ts";

/** A request that the Rust crypto wants sent; `id` is missing on those that are not marked as sent. */
export interface OutgoingRequest {
  /** Given back when it has been sent. */
  readonly id?: string | undefined;
  /** Which endpoint it is for. */
  readonly type: RequestType;
  /** JSON. */
  readonly body: string;
  /** Event type of to-device messages and of messages in a room. */
  readonly event_type?: string;
  /** Transaction id of the same. */
  readonly txn_id?: string;
  /** Room of a message in a room. */
  readonly room_id?: string;
}

/** Where a request of the crypto goes (Matrix spec v1.16, client-server API, 11.10 to 11.12). */
export function endpoint(request: OutgoingRequest): Request {
  const { body } = request;
  switch (request.type) {
    case RequestType.KeysUpload:
      return { method: "POST", path: "/_matrix/client/v3/keys/upload", body };
    case RequestType.KeysQuery:
      return { method: "POST", path: "/_matrix/client/v3/keys/query", body };
    case RequestType.KeysClaim:
      return { method: "POST", path: "/_matrix/client/v3/keys/claim", body };
    case RequestType.ToDevice:
      return {
        method: "PUT",
        path: path`/_matrix/client/v3/sendToDevice/${request.event_type ?? ""}/${request.txn_id ?? ""}`,
        body,
      };
    default:
      throw new Error(`Cannot send a request of type ${RequestType[request.type]}: the operator makes none`);
  }
}
