/**
 * The joined members of a room, as the homeserver lists them when asked.
 *
 * @module
 */

import { type Json, objects, text } from "../json.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

/**
 * Asks for the joined members of a room (Matrix spec v1.16, client-server API, 11.3, "joined_members").
 *
 * @returns profiles by user id
 * @throws RejectedError if we are not in the room; TransientError
 */
export async function askJoinedMembers(
  client: HomeserverClient,
  roomId: string,
  signal: AbortSignal,
): Promise<Map<string, Json>> {
  const request = { method: "GET", path: path`/_matrix/client/v3/rooms/${roomId}/joined_members` } as const;
  const { json } = await client.send(request, signal);
  return new Map(objects(json["joined"]));
}

/** Member events that lead from the members known so far to the joined ones. */
export function memberEvents(known: readonly string[], joined: ReadonlyMap<string, Json>): Json[] {
  return [
    ...known.filter((user) => !joined.has(user)).map((user) => memberEvent(user, { membership: "leave" })),
    ...[...joined].map(([user, profile]) =>
      memberEvent(user, { membership: "join", displayname: text(profile["display_name"]) })
    ),
  ];
}

function memberEvent(user: string, content: Json): Json {
  return { type: "m.room.member", state_key: user, sender: user, content };
}
