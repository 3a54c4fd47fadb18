/**
 * Requests of the Rust crypto: their endpoints, and which parts of an answer go back to the crypto. The crypto parses
 * an answer as a whole, and other users' homeservers supply parts of it. Therefore entries that wouldn't parse are
 * dropped, one user or device at a time.
 *
 * @module
 */

import { RequestType, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { count, isObject, type Json, object, parseObject, text } from "../json.ts";
import { path, type Request } from "./homeserver_client.ts";

/** A request that the Rust crypto wants sent. `id` is absent on requests that aren't marked as sent. */
export interface OutgoingRequest {
  /** Passed back to the crypto once the request has been sent. */
  readonly id?: string | undefined;
  /** Determines the endpoint. */
  readonly type: RequestType;
  /** JSON. */
  readonly body: string;
  /** Event type of a to-device or room message. */
  readonly event_type?: string;
  /** Transaction ID of a to-device or room message. */
  readonly txn_id?: string;
  /** Room ID of a room message. */
  readonly room_id?: string;
}

/** Returns the HTTP request for a request of the crypto (Matrix spec v1.16, client-server API, 11.10 to 11.12). */
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

/** The usable part of an answer, and the malformed entries that were dropped. */
export interface CryptoAnswer {
  readonly json: Json;
  /** User IDs, or user and device IDs, as the homeserver wrote them. */
  readonly dropped: readonly string[];
}

/**
 * Reduces an answer to what the crypto can parse, about the users that were asked for. It would also store data about
 * anyone else.
 */
export function cryptoAnswer({ type, body }: Pick<OutgoingRequest, "type" | "body">, answer: Json): CryptoAnswer {
  const dropped: string[] = [];
  switch (type) {
    case RequestType.KeysQuery: {
      const asked = object(parseObject(body)?.["device_keys"]);
      const users = (section: string): Json => ofUsers(answer[section], asked, dropped, json);
      const devices = (value: unknown, user: string) => ofDevices(value, user, dropped, json);
      return {
        json: {
          device_keys: ofUsers(answer["device_keys"], asked, dropped, devices),
          master_keys: users("master_keys"),
          self_signing_keys: users("self_signing_keys"),
          user_signing_keys: users("user_signing_keys"),
          failures: failures(answer),
        },
        dropped,
      };
    }
    case RequestType.KeysClaim: {
      const asked = object(parseObject(body)?.["one_time_keys"]);
      // The crypto validates the keys themselves, one by one.
      const keys = (value: unknown): unknown => Object.keys(object(value)).every(isKeyId) ? json(value) : undefined;
      const devices = (value: unknown, user: string) => ofDevices(value, user, dropped, keys);
      return {
        json: {
          one_time_keys: ofUsers(answer["one_time_keys"], asked, dropped, devices),
          failures: failures(answer),
        },
        dropped,
      };
    }
    case RequestType.KeysUpload:
      return { json: { one_time_key_counts: Object.fromEntries(keyCounts(answer["one_time_key_counts"])) }, dropped };
    case RequestType.RoomMessage: {
      const eventId = text(answer["event_id"]);
      return { json: { event_id: eventId?.startsWith("$") ? eventId : "$unknown" }, dropped };
    }
    default:
      return { json: {}, dropped };
  }
}

/** Counts of our own keys by algorithm, as in a sync or upload response. A value that isn't a number counts as 0. */
export function keyCounts(counts: unknown): [algorithm: string, count: number][] {
  return Object.entries(object(counts)).filter(([algorithm]) => isText(algorithm))
    .map(([algorithm, value]) => [algorithm, count(value) ?? 0]);
}

/**
 * Converts user IDs for the Rust crypto and skips invalid ones. A call consumes the objects, so each call needs new
 * ones.
 */
export function userIds(users: Iterable<string>): UserId[] {
  const valid: UserId[] = [];
  for (const user of users) {
    const id = userId(user);
    if (id !== undefined) valid.push(id);
  }
  return valid;
}

/** Reports whether the crypto can parse the JSON. It rejects an escaped lone surrogate anywhere in the text. */
export function isWellFormed(value: unknown): boolean {
  return !/\\u[dD][89a-fA-F]/.test(JSON.stringify(value));
}

/** Maps the entry of each user that was asked for. Entries for which `read` returns undefined are dropped. */
function ofUsers(
  entries: unknown,
  asked: Json,
  dropped: string[],
  read: (value: unknown, user: string) => unknown,
): Json {
  const wanted = Object.entries(object(entries)).filter(([user]) => Object.hasOwn(asked, user));
  return entriesOf(Object.fromEntries(wanted), "", dropped, (user, value) => read(value, user));
}

function ofDevices(
  devices: unknown,
  user: string,
  dropped: string[],
  read: (value: unknown) => unknown,
): Json | undefined {
  return isObject(devices) ? entriesOf(devices, `${user} `, dropped, (_, value) => read(value)) : undefined;
}

function entriesOf(
  entries: unknown,
  prefix: string,
  dropped: string[],
  read: (name: string, value: unknown) => unknown,
): Json {
  return Object.fromEntries(
    Object.entries(object(entries)).flatMap(([name, value]) => {
      const made = isText(name) ? read(name, value) : undefined;
      if (made !== undefined) return [[name, made]];
      dropped.push(prefix + name);
      return [];
    }),
  );
}

/** Returns the value if it is an object that the crypto can parse. */
function json(value: unknown): Json | undefined {
  return isObject(value) && isWellFormed(value) ? value : undefined;
}

/** Lists the servers that couldn't be reached. Nothing uses the failure details. */
function failures(answer: Json): Json {
  return Object.fromEntries(Object.keys(object(answer["failures"])).filter(isText).map((server) => [server, {}]));
}

function isText(value: string): boolean {
  return text(value) !== undefined;
}

/** `algorithm:name` (Matrix spec v1.16, client-server API, 11.12.1, `/keys/claim`). */
function isKeyId(id: string): boolean {
  return /^[^:]+:/.test(id) && isText(id);
}

function userId(user: string): UserId | undefined {
  try {
    return new UserId(user);
  } catch (error) {
    // An invalid ID throws a plain Error. A RuntimeError is a panic.
    if (error instanceof WebAssembly.RuntimeError) throw error;
    return undefined;
  }
}
