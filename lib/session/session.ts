/**
 * One login at one homeserver: syncs, reads and says things, joins and leaves. It is the operator's chat; what is
 * done about what it hears is decided there.
 *
 * @module
 */

import { RoomId, type RoomKeyInfo, type RoomKeyWithheldInfo } from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import type { Secret } from "../config/mod.ts";
import { KeyedQueue, Wakeup } from "../async.ts";
import { RejectedError, TransientError } from "../errors.ts";
import type { Answer, InboxEvent, Invitation, Listener, Payload, Published, RoomFacts } from "./facts.ts";
import type { Store } from "../store/mod.ts";
import { outgoingEvent } from "./content.ts";
import { BackPagination } from "./back_pagination.ts";
import { ensureIdentity, type IdentityState, untilSigned } from "./cross_signing.ts";
import { type Json, object, parseObject, text } from "../json.ts";
import type { CryptoMachine } from "./crypto_machine.ts";
import { OwnNames } from "./own_names.ts";
import { HomeserverRetry, type HomeserverRetryOptions, syncLoop } from "./sync_loop.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";
import type { RestoreDetection } from "./restore_detection.ts";
import { RoomEncryption } from "./room_encryption.ts";
import { findSent } from "./sent_messages.ts";
import { SyncApplier } from "./sync_response.ts";
import { Decryption } from "./decryption.ts";
import { Verifier } from "./verification.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** How often the crypto is asked what it wants sent, if nothing else gives cause to, milliseconds. */
const OUTGOING_AT_LEAST_MS = 10 * 60_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What a session is made of. */
export interface SessionOptions {
  readonly store: Store;
  /** Whose messages are taken in. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Accounts of agents: what they write and when they type is told, and nothing of theirs is taken in. */
  readonly agents: ReadonlySet<string>;
  /** Keys go only to devices that their owners have signed. */
  readonly onlySignedDevices: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** With the access token set. */
  readonly client: HomeserverClient;
  /** The Rust crypto. */
  readonly machine: CryptoMachine;
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
  /** Tells a store that was restored from a backup, by a counter that is to be raised. */
  readonly restoreDetection: RestoreDetection;
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #machine: CryptoMachine;
  readonly #options: SessionOptions;
  readonly #verifier: Verifier;
  readonly #decryption: Decryption;
  readonly #encryption: RoomEncryption;
  readonly #applier: SyncApplier;
  /** Invitations that were answered and that sync has not confirmed yet. */
  readonly #answeredInvitations = new Set<string>();
  readonly #names: OwnNames;
  readonly #toldOfCutHistoryAtMs = new Map<string, number>();
  /** Wakes the loop that sends what the crypto wants sent. */
  readonly #outgoing = new Wakeup();

  /**
   * Use `openSession`. Does nothing before {@linkcode Session.run}; owns the machine and the client from now on.
   *
   * @internal
   */
  constructor(options: SessionOptions) {
    const { client, store, machine, self, displayName, allowedUsers, onlySignedDevices, now } = options;
    this.self = self;
    this.restoreDetection = options.restoreDetection;
    this.#client = client;
    this.#store = store;
    this.#machine = machine;
    this.#options = options;
    this.#verifier = new Verifier(machine, allowedUsers, now);
    this.#decryption = new Decryption(machine);
    this.#encryption = new RoomEncryption(client, store, machine, onlySignedDevices, now);
    this.#applier = new SyncApplier(store, self, options, now);
    this.#names = new OwnNames(client, store.rooms, self, displayName);
  }

  /** Names by which people address us, as they stand now: user id, localpart, display names. */
  get names(): readonly string[] {
    return this.#names.all;
  }

  /**
   * Syncs until the signal ends it. Handling what arrives never holds up the next poll. All that it begins has ended when
   * it ends, and the listener is told nothing any more.
   *
   * @param synced told of each sync response that has been applied
   * @throws the signal's reason; an error when the back-off gives up; TokenRefused if the login has ended
   */
  async run(
    listener: Listener,
    synced: () => void,
    retryOptions: HomeserverRetryOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const ending = new AbortController();
    const stop = AbortSignal.any([signal, ending.signal]);
    const failed = Promise.withResolvers<never>();
    // It may fail before it is waited for, which is below.
    failed.promise.catch(() => {});
    const aborted = (): void => failed.reject(signal.reason);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    const queue = new KeyedQueue(stop, failed.reject);
    const history = new BackPagination(
      this.#options,
      {
        filled: () => {
          listener.eventsArrived();
          this.#tellOfCutHistories(listener);
        },
        refused: (event) => listener.refused(event),
        agentRoomActive: (messages) => listener.agentRoomsActive({ messages, typing: new Map() }),
      },
      retryOptions,
      queue,
      stop,
    );
    try {
      this.#listenForKeys(listener, stop);
      // Keys that came after we had left; those that came lately may be of a room to which we are going to be invited.
      for (const roomId of this.#store.megolm.rooms(this.#options.now() - DAY_MS)) {
        await this.#forgetSessions(roomId, stop);
      }
      history.fill();
      queue.run("outgoing", () => this.#sendOutgoing(retryOptions, stop));
      queue.run("sync", () => {
        const receive = async (answer: Json): Promise<void> => {
          await this.#receive(answer, listener, history, stop);
          synced();
        };
        return syncLoop(this.#client, this.#store.rooms, this.#options, receive, retryOptions, stop);
      });
      await failed.promise;
    } finally {
      signal.removeEventListener("abort", aborted);
      ending.abort(new DOMException("The session has ended", "AbortError"));
      await queue.idle();
    }
  }

  /** Sends what the crypto wants sent, whenever there may be something. */
  async #sendOutgoing(retryOptions: HomeserverRetryOptions, signal: AbortSignal): Promise<never> {
    const work = new HomeserverRetry(retryOptions);
    for (;;) {
      await this.#outgoing.wait(OUTGOING_AT_LEAST_MS, signal);
      await work.run(async (signal) => {
        await this.#machine.sendOutgoing(signal);
        await this.#verifier.advance(signal);
      }, signal);
    }
  }

  /** Handles a sync response: to-device messages and device lists first, durably, then everything else with the token. */
  async #receive(answer: Json, listener: Listener, history: BackPagination, signal: AbortSignal): Promise<void> {
    const isForCrypto = await this.#machine.receive(answer, this.#store.rooms.syncToken(), signal);
    const effect = this.#applier.apply(answer, isForCrypto);
    for (const roomId of effect.rotate) this.#encryption.rotate(roomId);
    for (const roomId of Object.keys(object(object(answer["rooms"])["leave"]))) {
      await this.#forgetSessions(roomId, signal);
    }
    for (const roomId of this.#answeredInvitations) {
      if (this.#store.rooms.get(roomId)?.membership !== "invite") this.#answeredInvitations.delete(roomId);
    }
    if (effect.names) this.#names.roomsChanged();
    if (isForCrypto) this.#outgoing.notify();
    if (effect.gaps) history.fill();
    for (const event of effect.refused) listener.refused(event);
    const { activity } = effect;
    // Before the messages themselves: what wakes an agent is written by somebody who talks to it.
    if (activity.messages.length > 0 || activity.typing.size > 0) listener.agentRoomsActive(activity);
    if (effect.events) listener.eventsArrived();
    if (effect.rooms) listener.roomsChanged();
    for (const user of effect.verifiers) listener.verificationAsked(user);
    this.#tellOfCutHistories(listener);
  }

  /** Whatever the server leaves out, and however often, a room is told of it once an hour at most. */
  #tellOfCutHistories(listener: Listener): void {
    for (const { id, roomId } of this.#store.journal.cutHistories()) {
      const nowMs = this.#options.now();
      if (nowMs - (this.#toldOfCutHistoryAtMs.get(roomId) ?? -Infinity) < HOUR_MS) continue;
      this.#store.transaction(() => {
        if (!listener.historyCutOff(roomId, id)) return;
        this.#store.journal.cutHistoryTold(roomId, id);
        this.#toldOfCutHistoryAtMs.set(roomId, nowMs);
      });
    }
  }

  #listenForKeys(listener: Listener, stop: AbortSignal): void {
    // Out of the crypto's own call first: reading the message calls into it again.
    const tell = (what: () => void): Promise<void> => {
      queueMicrotask(() => stop.aborted || what());
      return Promise.resolve();
    };
    const keysArrived = (infos: readonly (RoomKeyInfo | RoomKeyWithheldInfo)[]): Promise<void> => {
      const sessions = infos.map((info) => [info.roomId.toString(), info.sessionId] as const);
      return tell(() => sessions.forEach(([roomId, sessionId]) => listener.keyArrived(roomId, sessionId)));
    };
    const devicesChanged = (users: readonly string[]): Promise<void> => {
      const concerned = users.filter((user) => this.#options.allowedUsers.has(user));
      return tell(() => concerned.length > 0 && listener.devicesChanged(concerned));
    };
    const { olm } = this.#machine;
    olm.registerRoomKeyUpdatedCallback(keysArrived);
    olm.registerRoomKeysWithheldCallback(keysArrived);
    olm.registerDevicesUpdatedCallback(devicesChanged);
    olm.registerUserIdentityUpdatedCallback((user) => devicesChanged([user.toString()]));
  }

  /** Reads an event; what belongs to a verification goes its way. */
  async read(event: InboxEvent, signal: AbortSignal): Promise<Payload> {
    signal.throwIfAborted();
    const payload = await this.#decryption.read(event.roomId, event.sender, event.event, signal);
    if (payload.kind === "undecryptable") return payload;
    if (payload.kind === "decrypted") this.#encryption.noteEncrypted(event.roomId);
    if (isVerification(payload)) await this.#takeVerification(event, payload, signal);
    else if (payload.type === "m.room.message") await this.#names.heard(payload.content, signal);
    return payload;
  }

  async #takeVerification(
    { event, eventId, roomId, sender }: InboxEvent,
    { type, content }: { type: string; content: Json },
    signal: AbortSignal,
  ): Promise<void> {
    if (!this.#options.allowedUsers.has(sender)) return;
    const { guard, olm } = this.#machine;
    const input = `verification ${roomId} ${eventId}`;
    if (guard.isBarred(input)) return log.error("skipped a verification step: the crypto library panics on it");
    try {
      const clear = JSON.stringify({ ...event, type, content });
      await guard.run(input, () => olm.receiveVerificationEvent(clear, new RoomId(roomId)), signal);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      // What the crypto cannot even parse is somebody's malformed event; it must not end the operator.
      return log.debug("ignored a malformed verification step: {reason}", { reason: String(error) });
    }
    this.#outgoing.notify();
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
    const state = await ensureIdentity({ ...this.#options, recoveryKey }, reset, signal);
    if (state.signed) log.info("signed by the own cross-signing identity {masterKey}", { masterKey: state.masterKey });
    else log.warn("device is not signed, so some clients may ignore it: {reason}", { reason: state.reason });
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

  /** Why no answer can be encrypted, and what to do; undefined if it can. */
  get signingProblem(): string | undefined {
    if (!this.#options.onlySignedDevices || this.isSigned) return undefined;
    return "SENDER_TRUST=cross-signed, and this device is not signed by the account's own identity: give RECOVERY_KEY, " +
      "or run --reset-identity once";
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
      encrypted: room.encrypted,
      sendProblem: this.#encryption.problem(room),
      joinedCount: this.#store.rooms.joinedCount(roomId),
      isJoined: (user) => this.#store.rooms.isJoined(roomId, user),
      nameOf: (user) => this.#store.rooms.nameOf(roomId, user),
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
    await this.#client.send(
      { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/join`, body: {} },
      signal,
    );
    this.#answeredInvitations.add(roomId);
  }

  /** Declines an invitation, or leaves a room. An invitation that can't be declined is forgotten, as one that can. */
  async leave(roomId: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#client.send(
        { method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/leave`, body: {} },
        signal,
      );
    } catch (error) {
      const isInvited = this.#store.rooms.get(roomId)?.membership === "invite";
      if (isInvited && error instanceof RejectedError) this.#store.rooms.forget(roomId);
      throw error;
    }
    this.#store.rooms.forget(roomId);
    await this.#forgetSessions(roomId, signal);
  }

  /** Deletes the Megolm sessions of a room, unless we are in it, or invited. */
  async #forgetSessions(roomId: string, signal: AbortSignal): Promise<void> {
    const membership = this.#store.rooms.get(roomId)?.membership ?? "leave";
    if (membership !== "leave") return;
    this.#encryption.rotate(roomId);
    await this.#machine.forgetRoom(roomId, signal);
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
    const eventId = text(parseObject(body)?.["event_id"]);
    // Under the same transaction id it is not sent twice, and edits need to know what they edit.
    if (!eventId) throw new TransientError("Cannot tell as which event it was sent: the answer names none");
    return eventId;
  }

  /** Who sent an event, as the homeserver says; undefined if it doesn't tell. */
  async senderOf(roomId: string, eventId: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      const { json } = await this.#client.send(
        { method: "GET", path: path`/_matrix/client/v3/rooms/${roomId}/event/${eventId}` },
        signal,
      );
      return text(json["sender"]);
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      return undefined;
    }
  }

  /**
   * Looks for an answer that may have been sent before, among the latest messages of its room: the homeserver may have
   * forgotten the transaction id.
   *
   * @returns event id; undefined if it isn't there
   * @throws TransientError
   */
  findSent(transactionId: string, roomId: string, signal: AbortSignal): Promise<string | undefined> {
    return findSent(this.#client, this.self, { roomId, transactionId }, signal);
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
        log.warn("failed to resolve {alias} of ALLOWED_ROOMS: {reason}", {
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
    const { json } = await this.#client.send(
      { method: "GET", path: path`/_matrix/client/v3/directory/room/${alias}` },
      signal,
    );
    return text(json["room_id"]) ?? "";
  }

  /** Closes the crypto and the connections. */
  [Symbol.dispose](): void {
    this.#machine[Symbol.dispose]();
    this.#client[Symbol.dispose]();
  }
}

/** Belongs to a verification in a room (Matrix spec v1.16, client-server API, 11.12.2.2, "Key verification framework"). */
function isVerification(payload: { readonly type: string; readonly content: Json }): boolean {
  const kind = payload.type === "m.room.message" ? text(payload.content["msgtype"]) : payload.type;
  return kind?.startsWith("m.key.verification.") ?? false;
}
