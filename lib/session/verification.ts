/**
 * Verification by emoji (SAS): accepts requests of allowed users, logs the emojis, and confirms. Verification lets
 * people check the operator's identity. It doesn't raise the operator's trust in them, so the crypto's record of it is
 * reset, and the signature that it would publish is not sent (see `crypto_machine.ts`).
 *
 * @module
 */

import {
  DeviceId,
  LocalTrust,
  OtherUserIdentity,
  Sas,
  UserId,
  VerificationMethod,
  type VerificationRequest,
  VerificationRequestPhase,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import type { CryptoMachine } from "./crypto_machine.ts";
import type { OutgoingRequest } from "./crypto_requests.ts";

const log = getLogger(["openclaw-toggle", "session"]);
/** Requests that are accepted per user and interval. A person verifies rarely; more requests come from a program. */
const MAX_REQUESTS = 5;
const PER_MS = 10 * 60_000;

/** Handles verification requests, both to-device and in-room. */
export class Verifier {
  readonly #machine: CryptoMachine;
  readonly #allowedUsers: readonly string[];
  readonly #now: () => number;
  readonly #accepted = new Map<string, number[]>();
  /** Finished verifications that the crypto still lists. */
  #ended = new Set<string>();

  /** Accepts requests of `allowedUsers` and ignores all others. `now` returns milliseconds since the epoch. */
  constructor(machine: CryptoMachine, allowedUsers: Iterable<string>, now: () => number) {
    this.#machine = machine;
    this.#allowedUsers = [...allowedUsers];
    this.#now = now;
  }

  /**
   * Advances every verification as far as the other side permits.
   *
   * @throws TransientError if the homeserver didn't accept a message
   */
  async advance(signal: AbortSignal): Promise<void> {
    const known = new Set<string>();
    for (const user of this.#allowedUsers) {
      for (const request of this.#machine.olm.getVerificationRequests(new UserId(user))) {
        const flow = `${user} ${request.flowId}`;
        known.add(flow);
        await this.#step(user, flow, request, signal);
      }
    }
    this.#ended = this.#ended.intersection(known);
  }

  async #step(user: string, flow: string, request: VerificationRequest, signal: AbortSignal): Promise<void> {
    if (this.#ended.has(flow)) return;
    if (request.isCancelled()) return void this.#ended.add(flow);
    if (request.isDone()) {
      this.#ended.add(flow);
      return await this.#forget(user, request.otherDeviceId?.toString());
    }
    if (request.phase() === VerificationRequestPhase.Requested && !request.weStarted()) {
      return await this.#answer(user, request, signal);
    }
    const verification = request.getVerification();
    if (verification instanceof Sas) await this.#compare(user, verification, signal);
  }

  async #answer(user: string, request: VerificationRequest, signal: AbortSignal): Promise<void> {
    const recent = (this.#accepted.get(user) ?? []).filter((atMs) => this.#now() - atMs < PER_MS);
    const accepts = recent.length < MAX_REQUESTS;
    this.#accepted.set(user, accepts ? [...recent, this.#now()] : recent);
    log[accepts ? "info" : "warning"](
      accepts ? "{user} verifies this device" : "{user} asks to verify this device too often: refused",
      { user },
    );
    await this.#send(
      accepts ? request.acceptWithMethods([VerificationMethod.SasV1]) : request.cancel(),
      signal,
    );
  }

  async #compare(user: string, sas: Sas, signal: AbortSignal): Promise<void> {
    if (!sas.hasBeenAccepted()) await this.#send(sas.accept(), signal);
    if (!sas.canBePresented() || sas.haveWeConfirmed()) return;
    const emojis = sas.emoji()?.map(({ symbol, description }) => `${symbol} ${description}`).join(", ");
    log.info("showed emojis for verification to {user}: {emojis}", {
      user,
      emojis: emojis ?? sas.decimals()?.join(" ") ?? "",
    });
    for (const request of await sas.confirm()) await this.#send(request, signal);
  }

  async #send(request: OutgoingRequest | undefined, signal: AbortSignal): Promise<void> {
    if (request !== undefined) await this.#machine.sendAll([request], signal);
  }

  /** Resets the trust that the crypto has recorded for the user's device and identity. */
  async #forget(user: string, deviceId: string | undefined): Promise<void> {
    log.info("verified by {user}", { user });
    if (deviceId !== undefined) {
      using device = await this.#machine.olm.getDevice(new UserId(user), new DeviceId(deviceId));
      await device?.setLocalTrust(LocalTrust.Unset);
    }
    using identity = await this.#machine.olm.getIdentity(new UserId(user));
    if (identity instanceof OtherUserIdentity) await identity.withdrawVerification();
  }
}
