/**
 * Decrypts events and collects what the crypto currently knows about the senders' devices and identities. It returns
 * facts only: trust is decided elsewhere, and the crypto's own trust flags are ignored.
 *
 * @module
 */

import {
  type DecryptedRoomEvent,
  DecryptionErrorCode,
  DecryptionSettings,
  MegolmDecryptionError,
  RoomId,
  ShieldStateCode,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { TransientError } from "../errors.ts";
import type { CiphertextKey, ListedDevice, Payload, Published, SenderFacts, Undecryptable } from "./facts.ts";
import { getLogger } from "@logtape/logtape";
import { type Json, object, parseObject, text } from "../json.ts";
import type { CryptoMachine, ListedKeys } from "./crypto_machine.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Cached results, valid until the crypto's knowledge may have changed. */
class Findings {
  readonly users = new Map<string, KnownUser>();
  /** Decrypted messages by event. */
  readonly messages = new WeakMap<Json, Payload>();
}

interface KnownUser {
  readonly identity: Published["identity"];
  /** All listed devices, and some that are no longer listed. */
  readonly devices: readonly KnownDevice[];
}

interface KnownDevice extends ListedDevice {
  /** Public curve25519 identity key, unpadded base64. Undefined if the device has none. */
  readonly curve25519: string | undefined;
  /** Whether the device is no longer listed. */
  readonly deleted: boolean;
}

/** Decrypts events. A look-up in the crypto takes milliseconds, so results are cached while they are valid. */
export class Decryption {
  readonly #machine: CryptoMachine;
  #findings = new Findings();
  #revision = 0;

  constructor(machine: CryptoMachine) {
    this.#machine = machine;
  }

  /**
   * Decrypts an event as the server sent it. The same event object is only decrypted again if the crypto's knowledge
   * has changed.
   *
   * @throws TransientError if the sender's device list is outdated and can't be queried
   */
  async read(roomId: string, sender: string, event: Json, signal: AbortSignal): Promise<Payload> {
    const outer = object(event["content"]);
    if (event["type"] !== "m.room.encrypted") {
      return { kind: "clear", type: text(event["type"]) ?? "", content: outer };
    }
    const ciphertext = ciphertextKey(outer);
    if (ciphertext === undefined) {
      return { kind: "undecryptable", why: { kind: "broken", reason: "not a Megolm message" }, sessionId: undefined };
    }
    // Taken before the first await: if the crypto learns something meanwhile, the payload goes into an outdated cache.
    const { messages } = this.#current();
    const remembered = this.#machine.isStale(sender) ? undefined : messages.get(event);
    if (remembered !== undefined) return remembered;
    const { guard } = this.#machine;
    const input = `event ${roomId} ${text(event["event_id"]) ?? ""}`;
    if (guard.isBarred(input)) {
      log.error("skipped {event} in {room}: the crypto library panics on it", {
        event: event["event_id"],
        room: roomId,
      });
      return { kind: "undecryptable", why: { kind: "broken", reason: "panic" }, sessionId: ciphertext.sessionId };
    }
    const decrypted = await guard.run(input, () => decrypt(this.#machine, roomId, event), signal);
    if ("kind" in decrypted) return { kind: "undecryptable", why: decrypted, sessionId: ciphertext.sessionId };
    using message = decrypted;
    const inner = object(parseObject(message.event));
    const payload: Payload = {
      kind: "decrypted",
      type: text(inner["type"]) ?? "",
      content: object(inner["content"]),
      outerRelation: outer["m.relates_to"],
      ciphertext,
      senderFacts: await this.#senderFacts(sender, message, signal),
    };
    messages.set(event, payload);
    return payload;
  }

  /**
   * Returns the identity and devices that the homeserver publishes for a user.
   *
   * @throws TransientError if they are outdated and can't be queried
   */
  async published(userId: string, signal: AbortSignal): Promise<Published> {
    const { identity, devices } = await this.#known(userId, (all) => all.length > 0, signal);
    return { identity, devices: devices.filter(({ deleted }) => !deleted).map(listed) };
  }

  /** Returns the cache, emptied if the crypto's knowledge may have changed. */
  #current(): Findings {
    const { revision } = this.#machine;
    if (revision !== this.#revision) {
      this.#revision = revision;
      this.#findings = new Findings();
    }
    return this.#findings;
  }

  async #senderFacts(
    sender: string,
    message: DecryptedRoomEvent,
    signal: AbortSignal,
  ): Promise<SenderFacts> {
    const named = message.senderDevice?.toString();
    // Match by the device ID that the crypto names, or else by the session's sender key.
    const isSenders = ({ deviceId, curve25519 }: KnownDevice): boolean =>
      named === undefined ? curve25519 === message.senderCurve25519Key : deviceId === named;
    const { identity, devices } = await this.#known(sender, (listed) => listed.some(isSenders), signal);
    const device = devices.find(isSenders);
    const code = message.shieldState(false).code;
    return {
      deviceId: device?.deviceId ?? named,
      mismatchedSender: code === ShieldStateCode.MismatchedSender,
      authenticityNotGuaranteed: code === ShieldStateCode.AuthenticityNotGuaranteed,
      forwardedBy: message.forwarder?.toString(),
      device: device && {
        ...listed(device),
        deleted: device.deleted,
        sameKeysAsSession: device.curve25519 === message.senderCurve25519Key &&
          device.ed25519 === message.senderClaimedEd25519Key,
      },
      identity,
      devices: devices.filter(({ deleted }) => !deleted).map(listed),
    };
  }

  /** Returns a user's current identity and devices. Queries them if they have changed or if `suffices` is false. */
  async #known(
    userId: string,
    suffices: (devices: readonly KnownDevice[]) => boolean,
    signal: AbortSignal,
  ): Promise<KnownUser> {
    let found = this.#machine.isStale(userId) ? undefined : await this.#snapshot(userId);
    let isTold = true;
    if (found === undefined || !suffices(found.devices) || this.#machine.listed(userId) === undefined) {
      const answer = await this.#machine.query(userId, signal);
      found = await this.#snapshot(userId);
      // If nothing has changed, the previous list is good enough: the user's own homeserver may be down.
      isTold = suffices(found.devices) || userId in object(answer["device_keys"]);
    }
    // Until the homeserver answers, an unknown device means pending, not refused.
    if (!isTold || this.#machine.isStale(userId)) {
      throw new TransientError(`Cannot judge a message of ${userId}: the homeserver did not tell their devices`);
    }
    return found;
  }

  /** Reads identity and devices consistently: either may change while the other is being read. */
  async #snapshot(userId: string): Promise<KnownUser> {
    for (;;) {
      const { users } = this.#current();
      const remembered = users.get(userId);
      if (remembered !== undefined) return remembered;
      const before = await masterKeyOf(this.#machine, userId);
      using list = await this.#machine.olm.getUserDevices(new UserId(userId));
      const devices = list.devices().map((each) => {
        using device = each;
        const held = {
          deviceId: device.deviceId.toString(),
          ed25519: device.ed25519Key?.toBase64() ?? "",
          curve25519: device.curve25519Key?.toBase64(),
          crossSignedByOwner: device.isCrossSignedByOwner(),
          deleted: device.isDeleted(),
        };
        return asListed(held, this.#machine.listed(userId)?.get(held.deviceId));
      });
      const after = await masterKeyOf(this.#machine, userId);
      if (before !== after) continue;
      const found = { identity: after === undefined ? undefined : identityOf(after), devices };
      // If something has changed meanwhile, this map is no longer in use.
      users.set(userId, found);
      return found;
    }
  }
}

async function decrypt(
  machine: CryptoMachine,
  roomId: string,
  event: Json,
): Promise<DecryptedRoomEvent | Undecryptable> {
  try {
    return await machine.olm.decryptRoomEvent(
      JSON.stringify(event),
      new RoomId(roomId),
      new DecryptionSettings(TrustRequirement.Untrusted),
    );
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    // Unparsable input is someone's malformed event. It must not end the operator.
    if (!(error instanceof MegolmDecryptionError)) return { kind: "broken", reason: "malformed" };
    using failure = error;
    if (failure.code === DecryptionErrorCode.MismatchedSender) return { kind: "forged" };
    if (failure.withheldCode !== undefined) return { kind: "withheld", code: failure.withheldCode };
    if (
      failure.code === DecryptionErrorCode.MissingRoomKey || failure.code === DecryptionErrorCode.UnknownMessageIndex
    ) {
      return { kind: "no-key" };
    }
    return { kind: "broken", reason: DecryptionErrorCode[failure.code] };
  }
}

function listed({ deviceId, ed25519, crossSignedByOwner }: KnownDevice): ListedDevice {
  return { deviceId, ed25519, crossSignedByOwner };
}

/**
 * Applies the keys that the homeserver lists now. Different keys mean a different device, so signatures on the old one
 * don't count.
 */
function asListed(held: KnownDevice, now: ListedKeys | undefined): KnownDevice {
  if (now === undefined || (now.ed25519 === held.ed25519 && now.curve25519 === held.curve25519)) return held;
  return { ...held, ed25519: now.ed25519 ?? "", curve25519: now.curve25519, crossSignedByOwner: false };
}

/** Returns a user's master key with its signatures, as JSON. */
async function masterKeyOf(machine: CryptoMachine, userId: string): Promise<string | undefined> {
  using identity = await machine.olm.getIdentity(new UserId(userId));
  return identity?.masterKey;
}

function identityOf(crossSigningKey: string): NonNullable<Published["identity"]> {
  return { masterKey: publicKey(crossSigningKey), crossSigningKey: object(JSON.parse(crossSigningKey)) };
}

/**
 * Returns the only public key in a cross-signing key's JSON (Matrix spec v1.16, client-server API, 11.12.3,
 * "CrossSigningKey").
 */
export function publicKey(crossSigningKey: string): string {
  return text(Object.values(object(object(JSON.parse(crossSigningKey))["keys"]))[0]) ?? "";
}

/**
 * Reads the session ID and the message index from an `m.room.encrypted` event's content. The index is the varint after
 * the version byte and the tag 0x08 (Olm project, "Megolm group ratchet", message format version 3).
 *
 * @returns undefined if the content isn't a Megolm message
 */
export function ciphertextKey(content: unknown): CiphertextKey | undefined {
  const sessionId = text(object(content)["session_id"]);
  const ciphertext = text(object(content)["ciphertext"]);
  if (sessionId === undefined || ciphertext === undefined) return undefined;
  // The first 12 base64 characters hold version, tag and a varint of up to 5 bytes.
  let head: Uint8Array;
  try {
    head = Uint8Array.fromBase64(ciphertext.slice(0, 12).replace(/=+$/, ""));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (head[0] !== 3 || head[1] !== 0x08) return undefined;
  let messageIndex = 0;
  for (let place = 0; place < 5; place += 1) {
    const byte = head[2 + place];
    if (byte === undefined) return undefined;
    messageIndex += (byte & 0x7f) * 2 ** (7 * place);
    if ((byte & 0x80) === 0) return { sessionId, messageIndex };
  }
  return undefined;
}
