/**
 * Decrypting events, and gathering what the crypto knows of their senders' devices and identities as they stand now. Facts
 * only; who is trusted is decided elsewhere. The crypto's own marks of trust are not looked at.
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
import { type Json, object, text } from "../json.ts";
import type { CryptoMachine, ListedKeys } from "./crypto_machine.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** What was found in the crypto: good until that may have changed. */
class Findings {
  readonly users = new Map<string, KnownUser>();
  /** Messages that were decrypted, by their events. */
  readonly messages = new WeakMap<Json, Payload>();
}

interface KnownUser {
  readonly identity: Published["identity"];
  /** All that are listed, and some that no longer are. */
  readonly devices: readonly KnownDevice[];
}

interface KnownDevice extends ListedDevice {
  /** Public key of encryption, unpadded base64; undefined if it has none. */
  readonly curve25519: string | undefined;
  /** It is no longer listed. */
  readonly deleted: boolean;
}

/** Decrypts events. Looking something up in the crypto takes milliseconds, so findings are kept as long as they hold. */
export class Decryption {
  readonly #machine: CryptoMachine;
  #findings = new Findings();
  #revision = 0;

  constructor(machine: CryptoMachine) {
    this.#machine = machine;
  }

  /**
   * Reads an event as the server sent it; the same object again is decrypted anew only if what the crypto knows has
   * changed.
   *
   * @throws TransientError if the sender's devices are not known as they are now, and could not be asked for
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
    // Taken before anything is waited for: should the crypto learn something meanwhile, the payload is not kept for long.
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
    const inner = object(JSON.parse(message.event));
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
   * What the homeserver publishes of a user.
   *
   * @throws TransientError if it is not known as it is now, and could not be asked for
   */
  async published(userId: string, signal: AbortSignal): Promise<Published> {
    const { identity, devices } = await this.#known(userId, (all) => all.length > 0, signal);
    return { identity, devices: devices.filter(({ deleted }) => !deleted).map(listed) };
  }

  /** What was found, unless the crypto may know better by now. */
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
    // By the id that the crypto names, or, where it names none, by the key that made the session.
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

  /** A user's identity and devices as they are now; asked for anew if they have changed or what is sought is not there. */
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
      // Where nothing has changed, what was known before is good enough: the user's own homeserver may be away.
      isTold = suffices(found.devices) || userId in object(answer["device_keys"]);
    }
    // Unknown is pending, not refused, until the homeserver has told.
    if (!isTold || this.#machine.isStale(userId)) {
      throw new TransientError(`Cannot judge a message of ${userId}: the homeserver did not tell their devices`);
    }
    return found;
  }

  /** Identity and devices of one moment: both may change while we look at one of them. */
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
      // Should something have changed meanwhile, this is no longer the map that is asked.
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
    // What the crypto cannot even parse is somebody's malformed event; it must not end the operator.
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

/** A device as it is listed now. Under other keys than the crypto holds it is another device, and nobody's word for it counts. */
function asListed(held: KnownDevice, now: ListedKeys | undefined): KnownDevice {
  if (now === undefined || (now.ed25519 === held.ed25519 && now.curve25519 === held.curve25519)) return held;
  return { ...held, ed25519: now.ed25519 ?? "", curve25519: now.curve25519, crossSignedByOwner: false };
}

/** A user's master key with its signatures, as JSON. */
async function masterKeyOf(machine: CryptoMachine, userId: string): Promise<string | undefined> {
  using identity = await machine.olm.getIdentity(new UserId(userId));
  return identity?.masterKey;
}

function identityOf(crossSigningKey: string): NonNullable<Published["identity"]> {
  return { masterKey: publicKey(crossSigningKey), crossSigningKey: object(JSON.parse(crossSigningKey)) };
}

/** The one public key in a cross-signing key's JSON (Matrix spec v1.16, client-server API, 11.12.3, "CrossSigningKey"). */
export function publicKey(crossSigningKey: string): string {
  return text(Object.values(object(object(JSON.parse(crossSigningKey))["keys"]))[0]) ?? "";
}

/**
 * Reads the session id and the message index of an `m.room.encrypted` event's content. The index is the varint after
 * the version byte and the tag 0x08 (Olm project, "Megolm group ratchet", message format version 3).
 *
 * @returns undefined if the content is no Megolm message
 */
export function ciphertextKey(content: unknown): CiphertextKey | undefined {
  const sessionId = text(object(content)["session_id"]);
  const ciphertext = text(object(content)["ciphertext"]);
  if (sessionId === undefined || ciphertext === undefined) return undefined;
  // Version, tag and a varint of at most 5 bytes stand in the first 12 base64 characters.
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
