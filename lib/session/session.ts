/**
 * One login at one homeserver: syncs, reads and says things, joins and leaves. It is the operator's chat; what is
 * done about what it hears is decided there.
 *
 * @module
 */

import type { RoomKeyInfo, RoomKeyWithheldInfo } from "@matrix-org/matrix-sdk-crypto-wasm";
import { NotFoundError, RejectedError, TransientError } from "../errors/mod.ts";
import type { Answer, Chat, InboxEvent, Invitation, Listener, Payload, RoomFacts } from "../operator/mod.ts";
import type { Store } from "../store/mod.ts";
import { Chores, type Pace, persist } from "./chores.ts";
import { outgoingEvent } from "./content.ts";
import { Encryption } from "./encryption.ts";
import { GapFiller } from "./gaps.ts";
import { type Json, text } from "./json.ts";
import { Locks } from "./lock.ts";
import type { Machine } from "./machine.ts";
import { path, REQUEST_DEADLINE_MS, type Requests } from "./request.ts";
import { SyncApplier, type SyncEffect, syncFilter } from "./sync.ts";
import { readEvent } from "./trust.ts";

/** How long the homeserver may hold a sync without news, milliseconds. */
const LONG_POLL_MS = 30_000;
const FIRST_SYNC_DEADLINE_MS = 120_000;

/** Whom a running session tells. */
export interface SessionListener extends Listener {
  /** A sync answer has been applied. */
  synced(): void;
}

/** What a session is made of. */
export interface SessionParts {
  /** Requests with the access token set. */
  readonly requests: Requests;
  /** The durable store. */
  readonly store: Store;
  /** The Rust crypto. */
  readonly machine: Machine;
  /** Our own user id. */
  readonly self: string;
  /** People whose device lists are followed from the start. */
  readonly allowedUsers: Iterable<string>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A running login. */
export class Session implements Chat, Disposable {
  readonly self: string;
  readonly names: readonly string[];
  readonly #requests: Requests;
  readonly #store: Store;
  readonly #machine: Machine;
  readonly #encryption: Encryption;
  readonly #applier: SyncApplier;
  readonly #gaps: GapFiller;
  readonly #roomLocks = new Locks();
  /** Invitations that were answered and that sync has not confirmed yet. */
  readonly #answeredInvitations = new Set<string>();
  #hasSynced = false;

  /**
   * Use `openSession`. Does nothing before {@linkcode Session.run}; owns the machine from now on.
   *
   * @internal
   * @param parts what it is made of
   */
  constructor(parts: SessionParts) {
    this.self = parts.self;
    this.names = [parts.self, parts.self.slice(1, parts.self.indexOf(":"))];
    this.#requests = parts.requests;
    this.#store = parts.store;
    this.#machine = parts.machine;
    this.#encryption = new Encryption(parts.machine);
    this.#applier = new SyncApplier(parts.store, parts.self, parts.now);
    this.#gaps = new GapFiller(parts.requests, parts.store, parts.self, parts.now);
  }

  /**
   * Syncs until the signal ends it. Handling what arrives never holds up the next poll.
   *
   * @throws TransientError if the pace gives up; TokenRefused if the login has ended
   */
  async run(listener: SessionListener, pace: () => Pace, signal: AbortSignal): Promise<void> {
    this.#listenForKeys(listener);
    const chores = new Chores(signal);
    const outgoing = chores.add((now) => this.#machine.sendOutgoing(now), pace());
    const gaps = chores.add(async (now) => {
      if (await this.#gaps.fillAll(now)) listener.eventsArrived();
    }, pace());
    if (this.#store.sync.gaps().length > 0) gaps.wake();
    await Promise.race([
      chores.failed,
      persist(
        async () => {
          const effect = await this.#sync(chores.signal);
          outgoing.wake();
          if (effect.gaps) gaps.wake();
          if (effect.events) listener.eventsArrived();
          if (effect.rooms) listener.roomsChanged();
          listener.synced();
        },
        pace(),
        chores.signal,
      ),
    ]).finally(() => chores.stop());
  }

  /** One poll: to-device messages and device lists first, durably, then everything else with the token. */
  async #sync(signal: AbortSignal): Promise<SyncEffect> {
    const since = this.#store.sync.token();
    // The first answer tells that all is well: the server must not hold it until there is news.
    const timeoutMs = this.#hasSynced ? LONG_POLL_MS : 0;
    const { json } = await this.#requests.send({
      method: "GET",
      path: "/_matrix/client/v3/sync",
      query: { filter: syncFilter(this.self), since, timeout: String(timeoutMs) },
      // Without a token the answer is everything there is, and takes its time.
      deadlineMs: timeoutMs + (since === undefined ? FIRST_SYNC_DEADLINE_MS : REQUEST_DEADLINE_MS),
    }, signal);
    if (text(json["next_batch"]) === undefined) throw new TransientError("Cannot sync: the answer has no next_batch");
    await this.#machine.receive(json);
    const effect = this.#applier.apply(json);
    this.#hasSynced = true;
    for (const roomId of effect.renew) this.#encryption.renew(roomId);
    for (const roomId of this.#answeredInvitations) {
      if (this.#store.sync.room(roomId)?.membership !== "invite") this.#answeredInvitations.delete(roomId);
    }
    return effect;
  }

  #listenForKeys(listener: Listener): void {
    const tell = (infos: readonly (RoomKeyInfo | RoomKeyWithheldInfo)[]): Promise<void> => {
      const sessions = infos.map((info) => [info.roomId.toString(), info.sessionId] as const);
      // Out of the crypto's own call first: reading the message calls into it again.
      queueMicrotask(() => sessions.forEach(([roomId, sessionId]) => listener.keyArrived(roomId, sessionId)));
      return Promise.resolve();
    };
    this.#machine.olm.registerRoomKeyUpdatedCallback(tell);
    this.#machine.olm.registerRoomKeysWithheldCallback(tell);
  }

  read(event: InboxEvent, signal: AbortSignal): Promise<Payload> {
    signal.throwIfAborted();
    return readEvent(this.#machine, event.roomId, event.sender, event.event, signal);
  }

  room(roomId: string): Promise<RoomFacts | undefined> {
    const room = this.#store.sync.room(roomId);
    return Promise.resolve(
      room && {
        roomId,
        membership: room.membership,
        encrypted: room.encryption !== undefined,
        joined: this.#joined(roomId),
        aliases: room.aliases,
      },
    );
  }

  #joined(roomId: string): string[] {
    return [...this.#store.sync.members(roomId)].flatMap(([user, membership]) => membership === "join" ? [user] : []);
  }

  joinedRooms(): readonly string[] {
    return this.#store.sync.rooms().filter((room) => room.membership === "join").map((room) => room.roomId);
  }

  invitations(): readonly Invitation[] {
    return this.#store.sync.rooms()
      .filter((room) => room.membership === "invite" && !this.#answeredInvitations.has(room.roomId))
      .map(({ roomId, inviters }) => ({ roomId, inviters }));
  }

  async join(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#requests.send(
      { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/join`, body: {} },
      signal,
    );
    this.#answeredInvitations.add(roomId);
  }

  async leave(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#requests.send(
      { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/leave`, body: {} },
      signal,
    );
    const room = this.#store.sync.room(roomId);
    if (room === undefined) return;
    this.#store.transaction(() => {
      this.#store.sync.saveRoom({ ...room, membership: "leave", inviters: [] });
      this.#store.sync.replaceMembers(roomId, new Map());
    });
  }

  send(
    transactionId: string,
    answer: Answer,
    replacesEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    return this.#roomLocks.run(answer.roomId, async () => {
      const { type, content } = outgoingEvent(answer, replacesEventId);
      const room = this.#store.sync.room(answer.roomId);
      if (room?.membership !== "join") throw new RejectedError(`Cannot speak in ${answer.roomId}: not joined`, 0, "");
      const sent = room.encryption === undefined ? { type, body: content } : {
        type: "m.room.encrypted",
        body: await this.#encrypt(answer.roomId, room.encryption, type, content, signal),
      };
      const { json } = await this.#requests.send({
        method: "PUT",
        path: path`/_matrix/client/v3/rooms/${answer.roomId}/send/${sent.type}/${transactionId}`,
        body: sent.body,
      }, signal);
      return text(json["event_id"]) ?? "";
    });
  }

  #encrypt(
    roomId: string,
    encryption: Parameters<Encryption["encrypt"]>[1],
    type: string,
    content: Json,
    signal: AbortSignal,
  ): Promise<string> {
    return this.#encryption.encrypt(roomId, encryption, this.#joined(roomId), type, content, signal);
  }

  /**
   * The room that an alias points to, by the homeserver's directory.
   *
   * @throws NotFoundError if it points to none
   */
  async resolveAlias(alias: string, signal: AbortSignal): Promise<string> {
    try {
      const { json } = await this.#requests.send(
        { method: "GET", path: path`/_matrix/client/v3/directory/room/${alias}` },
        signal,
      );
      return text(json["room_id"]) ?? "";
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      throw new NotFoundError(`Cannot find a room by the alias ${alias}: ${error.message}`, { cause: error });
    }
  }

  /** Closes the crypto. */
  [Symbol.dispose](): void {
    this.#machine[Symbol.dispose]();
  }
}
