/**
 * A session: one login at one homeserver. It syncs, decrypts, sends, joins and leaves, and is the operator's chat. The
 * operator decides how to react to what arrives.
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
import { identifier, type Json, object, parseObject, text } from "../json.ts";
import type { CryptoMachine } from "./crypto_machine.ts";
import { OwnNames } from "./own_names.ts";
import { HomeserverRetry, type HomeserverRetryOptions, syncLoop } from "./sync_loop.ts";
import { type HomeserverClient, path } from "./homeserver_client.ts";
import { askJoinedMembers } from "./joined_members.ts";
import type { RestoreDetection } from "./restore_detection.ts";
import { RoomEncryption } from "./room_encryption.ts";
import { findSent } from "./sent_messages.ts";
import { SyncApplier, type SyncEffect } from "./sync_response.ts";
import { Decryption } from "./decryption.ts";
import { Verifier } from "./verification.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** Longest interval between two checks for outgoing requests of the crypto, in milliseconds. */
const OUTGOING_AT_LEAST_MS = 10 * 60_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Options of {@linkcode Session}. */
export interface SessionOptions {
  readonly store: Store;
  /** Users whose messages reach the journal. */
  readonly allowedUsers: ReadonlySet<string>;
  /** User IDs of the agents. Their messages and typing are reported as activity but never reach the journal. */
  readonly agents: ReadonlySet<string>;
  /** Whether keys are only sent to devices that their owners have cross-signed. */
  readonly onlySignedDevices: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Authenticated client. */
  readonly client: HomeserverClient;
  /** The Rust crypto. */
  readonly machine: CryptoMachine;
  /** Detects a store that was restored from a backup. */
  readonly restoreDetection: RestoreDetection;
  /** Our own user id. */
  readonly self: string;
  /** Our device id. */
  readonly deviceId: string;
  /** Our display name, if we have one. */
  readonly displayName: string | undefined;
  /** Password for the homeserver, which may require it (UIA) before it accepts an identity. */
  readonly password: Secret | undefined;
}

/** One login. {@linkcode Session.run} keeps it in sync. */
export class Session implements Disposable {
  /** Our own user id. */
  readonly self: string;
  /** Detects a store that was restored from a backup. Its counter must be raised daily. */
  readonly restoreDetection: RestoreDetection;
  readonly #client: HomeserverClient;
  readonly #store: Store;
  readonly #machine: CryptoMachine;
  readonly #options: SessionOptions;
  readonly #verifier: Verifier;
  readonly #decryption: Decryption;
  readonly #encryption: RoomEncryption;
  readonly #applier: SyncApplier;
  /** Rooms whose invitation was answered but not yet confirmed by a sync. */
  readonly #answeredInvitations = new Set<string>();
  readonly #names: OwnNames;
  readonly #cutOffReportedAtMs = new Map<string, number>();
  /** Wakes the loop that sends the crypto's outgoing requests. */
  readonly #outgoing = new Wakeup();

  /**
   * Use `openSession`. The session owns the machine and the client. Nothing is sent before {@linkcode Session.run}.
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

  /** Names that people currently address us by: user ID, localpart, display names. */
  get names(): readonly string[] {
    return this.#names.all;
  }

  /**
   * Syncs until the signal is aborted. Handling a response never delays the next poll. When it returns, everything it
   * started has ended, and the listener receives no more calls.
   *
   * @param synced called after each sync response has been applied
   * @throws the signal's reason; an error when the backoff gives up; TokenRefused if the login has ended
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
    // It may reject before it is awaited below.
    failed.promise.catch(() => {});
    const aborted = (): void => failed.reject(signal.reason);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    const queue = new KeyedQueue(stop, failed.reject);
    const refreshMembers = async (roomId: string, signal: AbortSignal): Promise<void> => {
      await this.refreshMembers(roomId, signal);
      listener.roomsChanged();
    };
    const history = new BackPagination(
      { ...this.#options, refreshMembers },
      {
        filled: () => {
          listener.eventsArrived();
          this.#reportCutOffHistories(listener);
        },
        refused: (event) => listener.refused(event),
        agentRoomActive: (messages) => listener.agentRoomsActive({ messages, typing: new Map() }),
      },
      retryOptions,
      queue,
      stop,
    );
    try {
      this.#registerCallbacks(listener, stop);
      // Deletes keys that arrived after we had left. Recent ones are kept, because we may be about to be invited to
      // their room.
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

  /** Sends the crypto's outgoing requests whenever there may be any. */
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

  /**
   * Handles a sync response. The crypto's part, to-device messages and device lists, is stored first, then everything
   * else together with the token.
   */
  async #receive(answer: Json, listener: Listener, history: BackPagination, signal: AbortSignal): Promise<void> {
    const isForCrypto = await this.#machine.receive(answer, this.#store.rooms.syncToken(), signal);
    const effect = this.#applier.apply(answer, isForCrypto);
    this.#applied(effect);
    for (const roomId of Object.keys(object(object(answer["rooms"])["leave"]))) {
      await this.#forgetSessions(roomId, signal);
    }
    for (const roomId of this.#answeredInvitations) {
      if (this.#store.rooms.get(roomId)?.membership !== "invite") this.#answeredInvitations.delete(roomId);
    }
    if (isForCrypto) this.#outgoing.notify();
    if (effect.gaps) history.fill();
    for (const event of effect.refused) listener.refused(event);
    const { activity } = effect;
    // Activity goes before the messages: the message that wakes an agent comes from someone who talks to it.
    if (activity.messages.length > 0 || activity.typing.size > 0) listener.agentRoomsActive(activity);
    if (effect.events) listener.eventsArrived();
    if (effect.rooms) listener.roomsChanged();
    for (const user of effect.verifiers) listener.verificationAsked(user);
    this.#reportCutOffHistories(listener);
  }

  /** Reports cut-off histories, at most once an hour per room, however much the server omits. */
  #reportCutOffHistories(listener: Listener): void {
    for (const { id, roomId } of this.#store.journal.cutOffHistories()) {
      const nowMs = this.#options.now();
      if (nowMs - (this.#cutOffReportedAtMs.get(roomId) ?? -Infinity) < HOUR_MS) continue;
      this.#store.transaction(() => {
        if (!listener.historyCutOff(roomId, id)) return;
        this.#store.journal.markCutOffReported(roomId, id);
        this.#cutOffReportedAtMs.set(roomId, nowMs);
      });
    }
  }

  #registerCallbacks(listener: Listener, stop: AbortSignal): void {
    // Defers the call until the crypto's own call has returned, because reading a message calls into the crypto again.
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

  /** Reads an event. Verification steps are also passed to the crypto. */
  async read(event: InboxEvent, signal: AbortSignal): Promise<Payload> {
    signal.throwIfAborted();
    const payload = await this.#decryption.read(event.roomId, event.sender, event.json, signal);
    if (payload.kind === "undecryptable") return payload;
    if (payload.kind === "decrypted") this.#encryption.noteEncrypted(event.roomId);
    if (isVerification(payload)) await this.#takeVerification(event, payload, signal);
    else if (payload.type === "m.room.message") await this.#names.refreshIfAddressed(payload.content, signal);
    return payload;
  }

  async #takeVerification(
    { json, eventId, roomId, sender }: InboxEvent,
    { type, content }: { type: string; content: Json },
    signal: AbortSignal,
  ): Promise<void> {
    if (!this.#options.allowedUsers.has(sender)) return;
    const { guard, olm } = this.#machine;
    const input = `verification ${roomId} ${eventId}`;
    if (guard.isBarred(input)) return log.error("skipped a verification step: the crypto library panics on it");
    try {
      const clear = JSON.stringify({ ...json, type, content });
      await guard.run(input, () => olm.receiveVerificationEvent(clear, new RoomId(roomId)), signal);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      // Unparsable input is someone's malformed event. It must not end the operator.
      return log.debug("ignored a malformed verification step: {reason}", { reason: String(error) });
    }
    this.#outgoing.notify();
  }

  /**
   * Creates or restores the operator's own cross-signing identity and signs the device. Failing to sign is logged as a
   * warning and isn't an error.
   *
   * @param recoveryKey 32 bytes; undefined if none is configured
   * @param reset creates a new identity even if there is one
   * @throws ConfigError if the recovery key doesn't fit; TransientError if the homeserver didn't answer
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
   * Repeats {@linkcode Session.ensureIdentity} until our device is signed.
   *
   * @param tried called with the result of each attempt
   */
  async untilSigned(
    recoveryKey: Uint8Array<ArrayBuffer> | undefined,
    tried: (state: IdentityState) => void,
    signal: AbortSignal,
  ): Promise<void> {
    await untilSigned((signal) => this.ensureIdentity(recoveryKey, false, signal), () => this.isSigned, tried, signal);
  }

  /** Whether our device is signed by our own cross-signing identity. */
  get isSigned(): boolean {
    return this.#machine.isSigned;
  }

  /** Why no answer can be encrypted, and what to do. Undefined if answers can be encrypted. */
  get signingProblem(): string | undefined {
    if (!this.#options.onlySignedDevices || this.isSigned) return undefined;
    return "SENDER_TRUST=cross-signed, and this device is not signed by the account's own identity: give RECOVERY_KEY, " +
      "or run --reset-identity once";
  }

  /**
   * Returns the identity and devices that the homeserver publishes for a user.
   *
   * @throws TransientError if they are outdated and can't be queried
   */
  published(userId: string, signal: AbortSignal): Promise<Published> {
    signal.throwIfAborted();
    return this.#decryption.published(userId, signal);
  }

  /** Returns the current state of a room, or undefined if it is unknown. */
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

  /**
   * Asks the homeserver for the joined members of a room and stores them. Sync responses may have omitted some.
   *
   * @throws RejectedError if the homeserver refuses; TransientError
   */
  async refreshMembers(roomId: string, signal: AbortSignal): Promise<void> {
    const effect = await this.#applier.refreshMembers(roomId, async () => {
      const joined = await askJoinedMembers(this.#client, roomId, signal);
      if (joined.has(this.self)) return joined;
      throw new TransientError(`Cannot list the members of ${roomId}: the answer omits ourselves`);
    });
    this.#applied(effect);
  }

  /** Follows what has been stored: sessions of rooms that members have left, and our own names. */
  #applied({ rotate, names }: SyncEffect): void {
    for (const roomId of rotate) this.#encryption.rotate(roomId);
    if (names) this.#names.roomsChanged();
  }

  /** Returns the IDs of the rooms that we have joined. */
  joinedRooms(): readonly string[] {
    return this.#store.rooms.all().filter((room) => room.membership === "join").map((room) => room.roomId);
  }

  /** Returns the unanswered invitations. */
  invitations(): readonly Invitation[] {
    return this.#store.rooms.all()
      .filter((room) => room.membership === "invite" && !this.#answeredInvitations.has(room.roomId))
      .map(({ roomId, inviters }) => ({ roomId, inviters }));
  }

  /** Returns the unanswered invitation to a room, or undefined if there is none. */
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

  /**
   * Declines an invitation or leaves a room. An invitation that the homeserver refuses to decline is forgotten all the
   * same.
   */
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

  /** Deletes the Megolm sessions of a room, unless we have joined it or are invited. */
  async #forgetSessions(roomId: string, signal: AbortSignal): Promise<void> {
    const membership = this.#store.rooms.get(roomId)?.membership ?? "leave";
    if (membership !== "leave") return;
    this.#encryption.rotate(roomId);
    await this.#machine.forgetRoom(roomId, signal);
  }

  /**
   * Sends an answer, encrypted if the room has ever been seen encrypted. Repeating a transaction ID doesn't send it
   * twice.
   *
   * @param replacesEventId event ID of the message that an edit replaces
   * @returns event ID
   * @throws RejectedError if this answer can't be sent; TransientError
   */
  async send(
    transactionId: string,
    answer: Answer,
    replacesEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const { type, content } = outgoingEvent(answer, replacesEventId);
    const body = await this.#encryption.send(answer.roomId, transactionId, type, content, signal);
    const eventId = identifier(parseObject(body)?.["event_id"]);
    // An edit needs the event ID. A retry under the same transaction ID doesn't send the message twice.
    if (!eventId) throw new TransientError("Cannot tell as which event it was sent: the answer names none");
    return eventId;
  }

  /** Returns the sender of an event, or undefined if the homeserver refuses to tell. */
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
   * Searches the latest messages of a room for an answer that may already have been sent. The homeserver may have
   * forgotten its transaction ID.
   *
   * @returns event ID, or undefined if it isn't found
   * @throws TransientError
   */
  findSent(transactionId: string, roomId: string, signal: AbortSignal): Promise<string | undefined> {
    return findSent(this.#client, this.self, { roomId, transactionId }, signal);
  }

  /**
   * Returns the IDs of the given rooms. Aliases resolve to the room that they currently point to. `any` yields an empty
   * set.
   */
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
        // Keeps the set non-empty: with an empty set, commands would be accepted in all rooms.
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

/**
 * Reports whether a payload is a step of an in-room verification (Matrix spec v1.16, client-server API, 11.12.2.2, "Key
 * verification framework").
 */
function isVerification(payload: { readonly type: string; readonly content: Json }): boolean {
  const kind = payload.type === "m.room.message" ? text(payload.content["msgtype"]) : payload.type;
  return kind?.startsWith("m.key.verification.") ?? false;
}
