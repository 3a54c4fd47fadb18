/**
 * One login at one homeserver: syncs, reads and says things, joins and leaves. It is the operator's chat; what is
 * done about what it hears is decided there.
 *
 * @module
 */

import { RoomId, type RoomKeyInfo, type RoomKeyWithheldInfo } from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import type { Secret } from "../config/mod.ts";
import { RejectedError, TransientError } from "../errors.ts";
import type { Answer, InboxEvent, Invitation, Listener, Payload, Published, RoomFacts } from "./facts.ts";
import type { Store } from "../store/mod.ts";
import { Chores, type Pace } from "./chores.ts";
import { outgoingEvent } from "./content.ts";
import { gapFiller } from "./back_pagination.ts";
import { ensureIdentity, type IdentityState, untilSigned } from "./cross_signing.ts";
import { type Json, object, text } from "../json.ts";
import type { Machine } from "./olm_machine.ts";
import type { SessionOptions } from "./connect.ts";
import { Polls } from "./sync_loop.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";
import type { RestoreDetection } from "./restore_detection.ts";
import { RoomEncryption } from "./room_encryption.ts";
import { SyncApplier, type SyncEffect, syncFilter } from "./sync_response.ts";
import { Decryption } from "./decryption.ts";
import { Verifier } from "./verification.ts";

const log = getLogger(["openclaw-toggle", "session"]);

const DAY_MS = 24 * 3_600_000;

/** What a session is made of. */
export interface SessionParts extends Pick<SessionOptions, "store" | "allowedUsers" | "onlySignedDevices" | "now"> {
  /** Requests with the access token set. */
  readonly requests: HomeserverClient;
  /** The Rust crypto. */
  readonly machine: Machine;
  /** Tells a store that was restored from a backup. */
  readonly restoreDetection: RestoreDetection;
  /** Our own user id. */
  readonly self: string;
  /** Our device id. */
  readonly deviceId: string;
  /** Our display name, if we have one. */
  readonly displayName: string | undefined;
  /** Password at the homeserver, in case it asks for it before it takes an identity. */
  readonly password: Secret | undefined;
}

/** A running login. */
export class Session implements Disposable {
  /** Our own user id. */
  readonly self: string;
  /** Names by which people address us: user id, localpart, display name if set. */
  readonly names: readonly string[];
  readonly #requests: HomeserverClient;
  readonly #store: Store;
  readonly #machine: Machine;
  readonly #parts: SessionParts;
  readonly #verifier: Verifier;
  readonly #decryption: Decryption;
  readonly #encryption: RoomEncryption;
  readonly #applier: SyncApplier;
  /** Invitations that were answered and that sync has not confirmed yet. */
  readonly #answeredInvitations = new Set<string>();
  readonly #polls = new Polls();
  #advanceVerifications = (): void => {};

  /**
   * Use `openSession`. Does nothing before {@linkcode Session.run}; owns the machine and the requests from now on.
   *
   * @internal
   */
  constructor(parts: SessionParts) {
    const { requests, store, machine, self, displayName, allowedUsers, onlySignedDevices, now } = parts;
    this.self = self;
    this.names = [self, self.slice(1, self.indexOf(":")), ...displayName ? [displayName] : []];
    this.#requests = requests;
    this.#store = store;
    this.#machine = machine;
    this.#parts = parts;
    this.#verifier = new Verifier(machine, allowedUsers, now);
    this.#decryption = new Decryption(machine);
    this.#encryption = new RoomEncryption(requests, store, machine, onlySignedDevices, now);
    this.#applier = new SyncApplier(store, self, now);
  }

  /**
   * Syncs until the signal ends it. Handling what arrives never holds up the next poll.
   *
   * @param synced told of each sync answer that has been applied
   * @throws TransientError if the pace gives up; TokenRefused if the login has ended
   */
  async run(listener: Listener, synced: () => void, pace: () => Pace, signal: AbortSignal): Promise<void> {
    this.#listenForKeys(listener);
    // Keys that came after we had left; those that came lately may be of a room to which we are going to be invited.
    for (const roomId of this.#store.megolm.rooms(this.#parts.now() - DAY_MS)) {
      await this.#forgetSessions(roomId, signal);
    }
    const chores = new Chores(signal);
    const outgoing = chores.add(async (now) => {
      await this.#machine.sendOutgoing(now);
      await this.#verifier.advance(now);
    }, pace());
    this.#advanceVerifications = () => outgoing.wake();
    const fillGaps = gapFiller(this.#parts, chores, pace, () => listener.eventsArrived());
    fillGaps();
    chores.repeat(async (now) => {
      const { effect, isForCrypto } = await this.#sync(now);
      if (isForCrypto) outgoing.wake();
      if (effect.gaps) fillGaps();
      if (effect.events) listener.eventsArrived();
      if (effect.rooms) listener.roomsChanged();
      for (const user of effect.verifiers) listener.verificationAsked(user);
      synced();
    }, pace());
    await chores.failed.finally(() => chores.stop());
  }

  /** One poll: to-device messages and device lists first, durably, then everything else with the token. */
  async #sync(signal: AbortSignal): Promise<{ readonly effect: SyncEffect; readonly isForCrypto: boolean }> {
    const since = this.#store.rooms.syncToken();
    const inFull = this.#store.rooms.tokenIsAdopted();
    const { heldMs, deadlineMs } = this.#polls.next(since !== undefined && !inFull);
    const filter = syncFilter(this.self);
    const query = { filter, since, timeout: String(heldMs), full_state: inFull ? "true" : undefined };
    const { json } = await this.#requests.send({
      method: "GET",
      path: "/_matrix/client/v3/sync",
      query,
      deadlineMs,
    }, signal);
    if (text(json["next_batch"]) === undefined) throw new TransientError("Cannot sync: the answer has no next_batch");
    const isForCrypto = await this.#machine.receive(json, since, signal);
    const effect = this.#applier.apply(json);
    this.#polls.wentWell();
    for (const roomId of effect.renew) this.#encryption.rotate(roomId);
    for (const roomId of Object.keys(object(object(json["rooms"])["leave"]))) {
      await this.#forgetSessions(roomId, signal);
    }
    for (const roomId of this.#answeredInvitations) {
      if (this.#store.rooms.get(roomId)?.membership !== "invite") this.#answeredInvitations.delete(roomId);
    }
    return { effect, isForCrypto };
  }

  #listenForKeys(listener: Listener): void {
    const tell = (infos: readonly (RoomKeyInfo | RoomKeyWithheldInfo)[]): Promise<void> => {
      const sessions = infos.map((info) => [info.roomId.toString(), info.sessionId] as const);
      // Out of the crypto's own call first: reading the message calls into it again.
      queueMicrotask(() => sessions.forEach(([roomId, sessionId]) => listener.keyArrived(roomId, sessionId)));
      return Promise.resolve();
    };
    const { olm } = this.#machine;
    olm.registerRoomKeyUpdatedCallback(tell);
    olm.registerRoomKeysWithheldCallback(tell);
    const tellOfDevices = (users: readonly string[]): Promise<void> => {
      const concerned = users.filter((user) => this.#parts.allowedUsers.has(user));
      if (concerned.length > 0) queueMicrotask(() => listener.devicesChanged(concerned));
      return Promise.resolve();
    };
    olm.registerDevicesUpdatedCallback(tellOfDevices);
    olm.registerUserIdentityUpdatedCallback((user) => tellOfDevices([user.toString()]));
  }

  /** Reads an event; what belongs to a verification goes its way. */
  async read(event: InboxEvent, signal: AbortSignal): Promise<Payload> {
    signal.throwIfAborted();
    const payload = await this.#decryption.read(event.roomId, event.sender, event.event, signal);
    if (payload.kind === "decrypted") this.#encryption.noteEncrypted(event.roomId);
    if (payload.kind !== "undecryptable" && isVerification(payload)) {
      await this.#takeVerification(event, payload, signal);
    }
    return payload;
  }

  async #takeVerification(
    { event, eventId, roomId, sender }: InboxEvent,
    { type, content }: { type: string; content: Json },
    signal: AbortSignal,
  ): Promise<void> {
    if (!this.#parts.allowedUsers.has(sender)) return;
    const { guard, olm } = this.#machine;
    const input = `verification ${roomId} ${eventId}`;
    if (guard.isBarred(input)) return log.error("skipped a step of a verification: the crypto panics at it");
    try {
      const clear = JSON.stringify({ ...event, type, content });
      await guard.run(input, () => olm.receiveVerificationEvent(clear, new RoomId(roomId)), signal);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      // What the crypto cannot even parse is somebody's malformed event; it must not end the operator.
      return log.debug("not a step of a verification: {reason}", { reason: String(error) });
    }
    this.#advanceVerifications();
  }

  /**
   * Brings the operator's own cross-signing identity into order; that it cannot be signed is worth a warning, not an end.
   *
   * @param recoveryKey 32 bytes; undefined if none is configured
   * @param reset makes a new identity whatever there is
   * @throws ConfigError if the recovery key does not fit; TransientError if the homeserver did not answer
   */
  async ensureIdentity(
    recoveryKey: Uint8Array<ArrayBuffer> | undefined,
    reset: boolean,
    signal: AbortSignal,
  ): Promise<IdentityState> {
    const state = await ensureIdentity({ ...this.#parts, recoveryKey }, reset, signal);
    if (state.signed) log.info("own cross-signing identity: {masterKey}", { masterKey: state.masterKey });
    else log.warn("this device is not signed, so some clients may ignore it: {reason}", { reason: state.reason });
    return state;
  }

  /**
   * Brings the operator's own identity into order, for as long as it takes until our device is signed.
   *
   * @param tried told after each try
   */
  async untilSigned(
    recoveryKey: Uint8Array<ArrayBuffer> | undefined,
    tried: (state: IdentityState) => void,
    signal: AbortSignal,
  ): Promise<void> {
    await untilSigned((signal) => this.ensureIdentity(recoveryKey, false, signal), () => this.isSigned, tried, signal);
  }

  /** Our device is signed by our own cross-signing identity. */
  get isSigned(): boolean {
    return this.#machine.isSigned;
  }

  /** What the homeserver publishes of a user. */
  published(userId: string, signal: AbortSignal): Promise<Published> {
    signal.throwIfAborted();
    return this.#decryption.published(userId, signal);
  }

  /** The room as it stands now; undefined if never heard of. */
  room(roomId: string): RoomFacts | undefined {
    const room = this.#store.rooms.get(roomId);
    return room && {
      roomId,
      membership: room.membership,
      encrypted: room.encryption !== undefined,
      sendProblem: this.#encryption.problem(room),
      joined: this.#encryption.joined(roomId),
    };
  }

  /** Rooms that we have joined. */
  joinedRooms(): readonly string[] {
    return this.#store.rooms.all().filter((room) => room.membership === "join").map((room) => room.roomId);
  }

  /** Invitations that wait for an answer. */
  invitations(): readonly Invitation[] {
    return this.#store.rooms.all()
      .filter((room) => room.membership === "invite" && !this.#answeredInvitations.has(room.roomId))
      .map(({ roomId, inviters }) => ({ roomId, inviters }));
  }

  /** The invitation to a room as it stands now; undefined if there is none that waits for an answer. */
  invitation(roomId: string): Invitation | undefined {
    const room = this.#store.rooms.get(roomId);
    if (room?.membership !== "invite" || this.#answeredInvitations.has(roomId)) return undefined;
    return { roomId, inviters: room.inviters };
  }

  /** Accepts an invitation. */
  async join(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#requests.send(
      { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/join`, body: {} },
      signal,
    );
    this.#answeredInvitations.add(roomId);
  }

  /** Declines an invitation, or leaves a room. */
  async leave(roomId: string, signal: AbortSignal): Promise<void> {
    await this.#requests.send(
      { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/leave`, body: {} },
      signal,
    );
    this.#store.rooms.forget(roomId);
    await this.#forgetSessions(roomId, signal);
  }

  /** Deletes the Megolm sessions of a room, unless we are in it, or invited. */
  async #forgetSessions(roomId: string, signal: AbortSignal): Promise<void> {
    const membership = this.#store.rooms.get(roomId)?.membership ?? "leave";
    if (membership === "leave") await this.#machine.forgetRoom(roomId, signal);
  }

  /**
   * Sends an answer: encrypted wherever the room has once been seen encrypted. The same transaction id never sends it twice.
   *
   * @param replacesEventId event id of the message that an edit replaces
   * @returns event id
   * @throws RejectedError if this answer cannot be sent; TransientError
   */
  async send(
    transactionId: string,
    answer: Answer,
    replacesEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const { type, content } = outgoingEvent(answer, replacesEventId);
    const body = await this.#encryption.send(answer.roomId, transactionId, type, content, signal);
    return text(object(JSON.parse(body))["event_id"]) ?? "";
  }

  /** The ids of rooms, of which some may be given by an alias, which counts as what it points to now; none for `any`. */
  async roomIds(rooms: readonly string[] | "any", signal: AbortSignal): Promise<ReadonlySet<string>> {
    const ids = new Set<string>();
    if (rooms === "any") return ids;
    for (const room of rooms) {
      try {
        ids.add(room.startsWith("#") ? await this.#resolveAlias(room, signal) : room);
      } catch (error) {
        if (!(error instanceof RejectedError)) throw error;
        log.warn("Cannot find a room by the alias {alias}: {reason}; see ALLOWED_ROOMS", {
          alias: room,
          reason: error.message,
        });
        // It still counts as named: without any room, commands would be taken in all of them.
        ids.add(room);
      }
    }
    return ids;
  }

  async #resolveAlias(alias: string, signal: AbortSignal): Promise<string> {
    const { json } = await this.#requests.send(
      { method: "GET", path: path`/_matrix/client/v3/directory/room/${alias}` },
      signal,
    );
    return text(json["room_id"]) ?? "";
  }

  /**
   * Raises the counter by which a store that was restored from a backup is noticed: once a day, and at the end.
   *
   * @throws TransientError if the homeserver did not answer
   */
  async raiseStoreCounter(signal: AbortSignal): Promise<void> {
    await this.#parts.restoreDetection.raise(signal);
  }

  /** Closes the crypto and the connections. */
  [Symbol.dispose](): void {
    this.#machine[Symbol.dispose]();
    this.#requests[Symbol.dispose]();
  }
}

/** Belongs to a verification in a room (Matrix spec v1.16, client-server API, 11.12.2.2, "Key verification framework"). */
function isVerification(payload: { readonly type: string; readonly content: Json }): boolean {
  const kind = payload.type === "m.room.message" ? text(payload.content["msgtype"]) : payload.type;
  return kind?.startsWith("m.key.verification.") ?? false;
}
