/**
 * The requests of the Rust crypto: where they go, and what of an answer is handed back. The crypto parses an answer as a
 * whole, and other users' homeservers have a say in what stands in it: what does not parse is left out, for the one user
 * or device that it is about. Knows nothing of when requests are sent.
 *
 * @module
 */

import { RequestType, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { count, isObject, type Json, object, parseObject, text } from "../json.ts";
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

/** What of an answer the crypto can parse, and whose entries were left out. */
export interface CryptoAnswer {
  readonly json: Json;
  /** User ids, or user id and device id, as the homeserver wrote them. */
  readonly dropped: readonly string[];
}

/** Reads an answer to a request of the crypto: what is in it has the form that the crypto parses. */
export function cryptoAnswer(type: RequestType, answer: Json): CryptoAnswer {
  const dropped: string[] = [];
  switch (type) {
    case RequestType.KeysQuery: {
      const users = (name: string): Json => ofUsers(answer[name], dropped, json);
      return {
        json: {
          device_keys: ofUsers(
            answer["device_keys"],
            dropped,
            (devices, user) => ofDevices(devices, user, dropped, json),
          ),
          master_keys: users("master_keys"),
          self_signing_keys: users("self_signing_keys"),
          user_signing_keys: users("user_signing_keys"),
          failures: failures(answer),
        },
        dropped,
      };
    }
    case RequestType.KeysClaim: {
      // Whether the keys are keys, the crypto finds out one by one.
      const keys = (value: unknown): unknown => Object.keys(object(value)).every(isKeyId) ? json(value) : undefined;
      return {
        json: {
          one_time_keys: ofUsers(
            answer["one_time_keys"],
            dropped,
            (devices, user) => ofDevices(devices, user, dropped, keys),
          ),
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

/** What an answer tells of the users who were asked for: of anybody else, the crypto would keep it. */
export function onlyAsked({ type, body }: Pick<OutgoingRequest, "type" | "body">, answer: Json): Json {
  const isQuery = type === RequestType.KeysQuery;
  if (!isQuery && type !== RequestType.KeysClaim) return answer;
  const sections = isQuery
    ? ["device_keys", "master_keys", "self_signing_keys", "user_signing_keys"]
    : ["one_time_keys"];
  const asked = object(parseObject(body)?.[isQuery ? "device_keys" : "one_time_keys"]);
  const told = sections.filter((name) => isObject(answer[name])).map((
    name,
  ) => [name, Object.fromEntries(Object.entries(object(answer[name])).filter(([user]) => Object.hasOwn(asked, user)))]);
  return { ...answer, ...Object.fromEntries(told) };
}

/** Numbers of our own keys by algorithm, as a sync or an upload tells them; what is no number counts as none. */
export function keyCounts(counts: unknown): [algorithm: string, count: number][] {
  return Object.entries(object(counts)).filter(([algorithm]) => isText(algorithm))
    .map(([algorithm, value]) => [algorithm, count(value) ?? 0]);
}

/** User ids as the Rust crypto takes them; made anew for each call, because a call consumes them. Invalid ones are left out. */
export function userIds(users: Iterable<string>): UserId[] {
  const valid: UserId[] = [];
  for (const user of users) {
    const id = userId(user);
    if (id !== undefined) valid.push(id);
  }
  return valid;
}

/** JSON that the crypto can parse: half a character, escaped, is an error to it, wherever it stands. */
export function isWellFormed(value: unknown): boolean {
  return !/\\u[dD][89a-fA-F]/.test(JSON.stringify(value));
}

/** An entry for each user for whom `read` makes something of it. */
function ofUsers(entries: unknown, dropped: string[], read: (value: unknown, user: string) => unknown): Json {
  return entriesOf(entries, "", dropped, (user, value) => isUserId(user) ? read(value, user) : undefined);
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

/** The value if it is an object that the crypto can parse. */
function json(value: unknown): Json | undefined {
  return isObject(value) && isWellFormed(value) ? value : undefined;
}

/** Servers that could not be reached; what they failed with is of no use to anybody. */
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

function isUserId(user: string): boolean {
  using id = userId(user);
  return id !== undefined;
}

function userId(user: string): UserId | undefined {
  try {
    return new UserId(user);
  } catch (error) {
    // It says why as a plain Error; anything else is not about the id.
    if (error instanceof WebAssembly.RuntimeError) throw error;
    return undefined;
  }
}
