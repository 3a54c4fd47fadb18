/**
 * Tracks the names that people address us by, including new ones. The sync filter drops our own member events, so the
 * display name is queried again when someone seems to use an unknown name.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { RejectedError, TransientError } from "../errors.ts";
import { type Json, object, text, texts } from "../json.ts";
import type { RoomState } from "../store/mod.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** Deadline of a profile request, in milliseconds. Short, because a missing answer does no harm. */
const PROFILE_DEADLINE_MS = 5_000;
/** Minimum interval between profile requests, in milliseconds. It limits how often other people can trigger one. */
const PROFILE_FRESH_MS = 2_000;

/** Matches an address before a command: `The Claw: status`. */
const ADDRESS = /^\s*@?[^\s:,][^:,\n]{0,100}[:,]\s/;

/** Our own names: user ID, localpart, profile display name, and display names in rooms. */
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

  /** All names, the user ID first. */
  get all(): readonly string[] {
    return this.#all;
  }

  /** Reads our names in rooms from the store again. */
  roomsChanged(): void {
    const localpart = this.#self.slice(1, this.#self.indexOf(":"));
    const given = [this.#profileName ?? "", ...this.#rooms.ownNames()].filter((name) => name.trim() !== "");
    this.#all = [...new Set([this.#self, localpart, ...given])];
  }

  /** Queries our display name if a message may address us by an unknown one. */
  async refreshIfAddressed(message: Json, signal: AbortSignal): Promise<void> {
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

/** Queries our display name. Failures are logged and yield undefined. */
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
