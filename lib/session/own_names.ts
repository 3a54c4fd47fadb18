/**
 * The names by which people address us, also those that we are given while we run. The sync filter leaves our own
 * events out, so a new name is asked for when somebody seems to use one.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError, TransientError } from "../errors.ts";
import { type Json, object, text, texts } from "../json.ts";
import type { RoomState } from "../store/mod.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** Of a question that may go unanswered, milliseconds. */
const PROFILE_DEADLINE_MS = 5_000;
/** How long a profile is good for, milliseconds: people may make us ask no more often than that. */
const PROFILE_FRESH_MS = 2_000;

/** What stands before a command for one of several: `The Claw: status`. */
const ADDRESS = /^\s*@?[^\s:,][^:,\n]{0,100}[:,]\s/;

/** Our own names: user id, localpart, display name of the profile, display names in rooms. */
export class OwnNames {
  readonly #client: HomeserverClient;
  readonly #rooms: RoomState;
  readonly #self: string;
  #profileName: string | undefined;
  #askedAtMs = -Infinity;
  #all: readonly string[] = [];

  constructor(client: HomeserverClient, rooms: RoomState, self: string, profileName: string | undefined) {
    this.#client = client;
    this.#rooms = rooms;
    this.#self = self;
    this.#profileName = profileName;
    this.roomsChanged();
  }

  /** All names; the user id first. */
  get all(): readonly string[] {
    return this.#all;
  }

  /** A name in a room has changed, as the store has it. */
  roomsChanged(): void {
    const localpart = this.#self.slice(1, this.#self.indexOf(":"));
    const given = [this.#profileName ?? "", ...this.#rooms.ownNames()].filter((name) => name.trim() !== "");
    this.#all = [...new Set([this.#self, localpart, ...given])];
  }

  /** Asks for our name, if a message may address us by one that we don't know yet. */
  async heard(message: Json, signal: AbortSignal): Promise<void> {
    if (performance.now() - this.#askedAtMs < PROFILE_FRESH_MS || !this.#mayHoldNewName(message)) return;
    this.#askedAtMs = performance.now();
    const name = await displayName(this.#client, this.#self, signal);
    if (name === undefined || name === this.#profileName) return;
    this.#profileName = name;
    this.roomsChanged();
  }

  #mayHoldNewName(message: Json): boolean {
    const body = text(message["body"]);
    if (message["msgtype"] !== "m.text" || body === undefined) return false;
    const lower = body.trimStart().toLowerCase();
    if (this.#all.some((name) => lower.startsWith(name.toLowerCase()))) return false;
    return ADDRESS.test(body) || texts(object(message["m.mentions"])["user_ids"]).includes(this.#self);
  }
}

/** The name by which people call us; a homeserver that does not tell it keeps us from nothing. */
export async function displayName(
  client: HomeserverClient,
  self: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const { json } = await client.send({
      method: "GET",
      path: path`/_matrix/client/v3/profile/${self}/displayname`,
      deadlineMs: PROFILE_DEADLINE_MS,
    }, signal);
    return text(json["displayname"]);
  } catch (error) {
    if (!(error instanceof RejectedError || error instanceof TransientError)) throw error;
    log.debug("failed to read the own display name: {reason}", { reason: error.message });
    return undefined;
  }
}
