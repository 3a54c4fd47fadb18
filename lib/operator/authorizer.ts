/**
 * Reads an event and judges it as things stand at that moment: once when it comes in, once more right before acting.
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

/** What came of reading an event. */
export type Authorization = Extract<Payload, { kind: "undecryptable" }> | {
  readonly kind: "readable";
  /** The room after reading; undefined if we don't know it. */
  readonly room: RoomFacts | undefined;
  readonly payload: Readable;
  readonly verdict: Verdict;
};

/** Who is trusted, as configured. */
type TrustConfig = Pick<OperatorConfig, "allowedRooms" | "requireEncryption" | "senderTrust" | "trustedIdentities">;

/** Judges events of allowed users. */
export class Authorizer {
  readonly #chat: Pick<Chat, "published" | "read" | "room">;
  readonly #pins: Pins;
  readonly #clock: Pick<Clock, "now">;
  readonly #config: TrustConfig;
  /** The untrusted identity that was logged last, by user. */
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
   * Reads an event and decides whether it may be acted on: one of an allowed user. What the user is known by is on disk when it resolves.
   *
   * @throws TransientError if the homeserver had to be asked and did not answer, or refused to: nothing is decided then
   */
  async authorize(inbox: InboxEvent, signal: AbortSignal): Promise<Authorization> {
    const { roomId, sender } = inbox;
    const payload = await pending(() => this.#chat.read(inbox, signal));
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
      // Another message of the sender may have been the first one meanwhile.
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

  /** Strikes pinned devices that are gone, and accepts an identity that a pinned device has signed. */
  async lookAtDevices(userId: string, signal: AbortSignal): Promise<void> {
    if (this.#pins.get(userId)?.kind !== "devices") return;
    const published = await pending(() => this.#chat.published(userId, signal));
    await currentPin(this.#pins, userId, published, this.#clock.now());
  }

  /** Devices by which a user is trusted, where devices are trusted one by one. */
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

/** What the homeserver refuses to tell is not known yet, as when it does not answer: nothing is decided by that. */
async function pending<Value>(ask: () => Promise<Value>): Promise<Value> {
  try {
    return await ask();
  } catch (error) {
    throw isRefusal(error) ? new TransientError(error.message, { cause: error }) : error;
  }
}
