/**
 * Completes a reduced sync response. It loads members lazily, so they are queried room by room.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Throttle } from "../async.ts";
import { RejectedError } from "../errors.ts";
import { type Json, list, object, objects } from "../json.ts";
import type { RoomState } from "../store/mod.ts";
import type { HomeserverClient } from "./homeserver_client.ts";
import { askJoinedMembers, memberEvents } from "./joined_members.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/**
 * Adds the current members to the state of every room in a lazy-loaded sync response that is new to us or has a limited
 * timeline.
 *
 * @throws TransientError if the homeserver didn't answer
 */
export async function withMembers(
  answer: Json,
  { client, rooms }: { readonly client: HomeserverClient; readonly rooms: RoomState },
  signal: AbortSignal,
): Promise<Json> {
  const join = object(object(answer["rooms"])["join"]);
  const throttle = new Throttle({ burst: 10, everyMs: 100 });
  const completed: [roomId: string, room: Json][] = [];
  for (const [roomId, room] of objects(join)) {
    const isKnown = rooms.get(roomId)?.membership === "join" && !rooms.tokenIsAdopted();
    if (isKnown && object(room["timeline"])["limited"] !== true) continue;
    await throttle.turn(signal);
    const members = await membersOf(roomId, client, rooms, signal);
    const state = object(room["state"]);
    completed.push([roomId, {
      ...room,
      state: { ...state, events: [...list(state["events"]), ...members] },
    }]);
  }
  return {
    ...answer,
    rooms: { ...object(answer["rooms"]), join: { ...join, ...Object.fromEntries(completed) } },
  };
}

/**
 * Returns member events that turn the known members into the current ones. Returns none if the homeserver refuses to
 * list them.
 */
async function membersOf(
  roomId: string,
  client: HomeserverClient,
  rooms: RoomState,
  signal: AbortSignal,
): Promise<Json[]> {
  try {
    const joined = await askJoinedMembers(client, roomId, signal);
    return memberEvents(rooms.joinedMembers(roomId), joined);
  } catch (error) {
    if (!(error instanceof RejectedError)) throw error;
    log.warning("knowing only those members of {room} who speak: {reason}", { room: roomId, reason: error.message });
    return [];
  }
}
