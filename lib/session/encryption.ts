/**
 * Encrypting for a room: keys go to every device of every joined member, then the message is encrypted. Knows nothing
 * of what is said. Everything for one room happens under that room's lock, which the caller holds.
 *
 * @module
 */

import {
  CollectStrategy,
  EncryptionAlgorithm,
  EncryptionSettings,
  HistoryVisibility,
  RoomId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { RejectedError } from "../errors/mod.ts";
import { type Machine, userIds } from "./machine.ts";

/** A room's `m.room.encryption`, as far as it is of use. */
export interface RoomEncryption {
  /** `m.megolm.v1.aes-sha2`, or something that we do not speak. */
  readonly algorithm: string;
  /** How long a session may be used, milliseconds. */
  readonly rotationPeriodMs?: number;
  /** How many messages a session may encrypt. */
  readonly rotationPeriodMessages?: number;
}

const MEGOLM = "m.megolm.v1.aes-sha2";
/** The specification's defaults and what we let a room ask for (client-server API, 11.12.5, `m.room.encryption`). */
const WEEK_MS = 604_800_000;
const HOUR_MS = 3_600_000;

/** Encrypts for rooms, renewing their sessions where they must not be used any longer. */
export class Encryption {
  readonly #machine: Machine;
  readonly #onlySignedDevices: boolean;
  /** Rooms whose session was made by this process, or renewed since it started. */
  readonly #fresh = new Set<string>();

  /**
   * @param machine the Rust crypto
   * @param onlySignedDevices keys go to devices that their owners have signed, and to no others
   */
  constructor(machine: Machine, onlySignedDevices: boolean) {
    this.#machine = machine;
    this.#onlySignedDevices = onlySignedDevices;
  }

  /**
   * Has the room's session made anew before it is used again: somebody has left, or the room's policy has changed.
   */
  renew(roomId: string): void {
    this.#fresh.delete(roomId);
  }

  /**
   * Shares the room's session where it has not been shared yet, and encrypts.
   *
   * @param joined user ids of the joined members, who may change while we wait
   * @returns the `m.room.encrypted` content
   * @throws RejectedError if the room wants an algorithm that we do not speak: nothing is sent in clear instead
   * @throws RejectedError also if the homeserver refuses to hand a key over; TransientError if that could not be asked
   */
  async encrypt(
    roomId: string,
    encryption: RoomEncryption,
    joined: () => readonly string[],
    type: string,
    content: unknown,
    signal: AbortSignal,
  ): Promise<string> {
    if (encryption.algorithm !== MEGOLM) {
      throw new RejectedError(`Cannot encrypt for ${roomId}: it asks for ${encryption.algorithm}`, 0, "");
    }
    const { olm } = this.#machine;
    if (!this.#fresh.has(roomId)) {
      // A volume restored from a snapshot would use message indices again: no session outlives the process.
      await olm.invalidateGroupSession(new RoomId(roomId));
      this.#fresh.add(roomId);
    }
    await this.#machine.track(joined());
    await this.#machine.sendKeys(signal);
    const claim = await olm.getMissingSessions(userIds(joined()));
    if (claim) await this.#machine.sendAll([claim], signal);
    const shares = await olm.shareRoomKey(new RoomId(roomId), userIds(joined()), this.#settings(encryption));
    await this.#machine.share(shares, signal);
    return await olm.encryptRoomEvent(new RoomId(roomId), type, JSON.stringify(content));
  }

  #settings(encryption: RoomEncryption): EncryptionSettings {
    const made = new EncryptionSettings();
    made.algorithm = EncryptionAlgorithm.MegolmV1AesSha2;
    made.historyVisibility = HistoryVisibility.Joined;
    made.sharingStrategy = this.#onlySignedDevices
      ? CollectStrategy.identityBasedStrategy()
      : CollectStrategy.allDevices();
    const periodMs = Math.min(Math.max(encryption.rotationPeriodMs ?? WEEK_MS, HOUR_MS), WEEK_MS);
    made.rotationPeriod = BigInt(periodMs) * 1_000n;
    made.rotationPeriodMessages = BigInt(Math.min(Math.max(encryption.rotationPeriodMessages ?? 100, 1), 10_000));
    return made;
  }
}
