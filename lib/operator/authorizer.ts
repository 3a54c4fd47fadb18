/**
 * Decrypts an event and decides whether it is authorized. Runs twice per command: when the event arrives and again
 * right before acting.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Clock } from "../async.ts";
import { authorize, currentPin, type Pins, type Readable, type Verdict } from "../authorization/mod.ts";
import { isRefusal, TransientError } from "../errors.ts";
import type { Chat, OperatorConfig } from "./ports.ts";
import type { InboxEvent, Payload, RoomFacts } from "../session/mod.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Result of {@linkcode Authorizer.authorize}. */
export type Authorization = Extract<Payload, { kind: "undecryptable" }> | {
  readonly kind: "readable";
  /** The room after decryption; undefined if we don't know it. */
  readonly room: RoomFacts | undefined;
  readonly payload: Readable;
  readonly verdict: Verdict;
};

/** The part of the configuration that decides who is trusted. */
type TrustConfig = Pick<OperatorConfig, "allowedRooms" | "requireEncryption" | "senderTrust" | "trustedIdentities">;

/** Authorizes events of allowed users. */
export class Authorizer {
  readonly #chat: Pick<Chat, "published" | "read" | "room">;
  readonly #pins: Pins;
  readonly #clock: Pick<Clock, "now">;
  readonly #config: TrustConfig;
  /** By user, the untrusted identity that was last logged. */
  readonly #logged = new Map<string, string>();

  constructor(
    chat: Pick<Chat, "published" | "read" | "room">,
    pins: Pins,
    clock: Pick<Clock, "now">,
    config: TrustConfig,
  ) {
    this.#chat = chat;
    this.#pins = pins;
    this.#clock = clock;
    this.#config = config;
  }

  /**
   * Decrypts an event of an allowed user and decides whether it may be acted on. The user's pin is on disk when this
   * resolves.
   *
   * @throws TransientError if the homeserver didn't answer a query, or refused it; nothing is decided then
   */
  async authorize(event: InboxEvent, signal: AbortSignal): Promise<Authorization> {
    const { roomId, sender } = event;
    const payload = await pending(() => this.#chat.read(event, signal));
    if (payload.kind === "undecryptable") return payload;
    const facts = payload.kind === "decrypted" && !payload.senderFacts.mismatchedSender
      ? payload.senderFacts
      : undefined;
    const current = facts && await currentPin(this.#pins, sender, facts, this.#clock.now());
    const room = this.#chat.room(roomId);
    const verdict = authorize(payload, {
      ...this.#config,
      room,
      named: this.#config.trustedIdentities.get(sender),
      // A concurrent message of the same sender may have created the pin.
      pin: current ?? this.#pins.get(sender),
      nowMs: this.#clock.now(),
    });
    if (verdict.pin !== undefined) this.#pins.set(sender, verdict.pin);
    const masterKey = facts?.identity?.masterKey;
    if (!verdict.trusted && masterKey !== undefined && ["other-identity", "new-device"].includes(verdict.reason)) {
      this.#logIdentity(sender, masterKey);
    }
    return { kind: "readable", room, payload, verdict };
  }

  /** Removes pinned devices that no longer exist, and pins an identity that a pinned device has signed. */
  async checkDevices(userId: string, signal: AbortSignal): Promise<void> {
    if (this.#pins.get(userId)?.kind !== "devices") return;
    const published = await pending(() => this.#chat.published(userId, signal));
    await currentPin(this.#pins, userId, published, this.#clock.now());
  }

  /** Returns the ids of a user's pinned devices; empty if the user is trusted by identity. */
  trustedDevices(userId: string): readonly string[] {
    const pin = this.#pins.get(userId);
    return pin?.kind === "devices" ? pin.devices.map(({ deviceId }) => deviceId) : [];
  }

  #logIdentity(userId: string, masterKey: string): void {
    if (this.#logged.get(userId) === masterKey) return;
    this.#logged.set(userId, masterKey);
    const all = new Map([...this.#config.trustedIdentities, [userId, masterKey]]);
    const setting = `TRUSTED_IDENTITIES=${[...all].map((each) => each.join("=")).join(",")}`;
    logger.warn("refused the identity {masterKey} of {user}: not trusted; to accept it, set {setting}", {
      masterKey,
      user: userId,
      setting,
    });
  }
}

/** Turns a refusal by the homeserver into a TransientError: a refused query decides nothing, like an unanswered one. */
async function pending<Value>(ask: () => Promise<Value>): Promise<Value> {
  try {
    return await ask();
  } catch (error) {
    throw isRefusal(error) ? new TransientError(error.message, { cause: error }) : error;
  }
}
