/**
 * The operator's own cross-signing identity. It is created at the first start, kept in secret storage if there is a
 * recovery key, and signs the device, because some clients ignore unsigned devices. An existing identity is never
 * replaced silently.
 *
 * @module
 */

import { DeviceId, type OlmMachine, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { getLogger } from "@logtape/logtape";
import { Backoff, type Clock, operatorPolicy, retry, systemClock } from "../async.ts";
import type { Secret } from "../config/mod.ts";
import {
  ConfigError,
  CredentialError,
  errorMessage,
  RejectedError,
  StoreError,
  TokenRefused,
  TransientError,
} from "../errors.ts";
import { type Json, list, object, text, texts } from "../json.ts";
import type { CrossSigningKeys, Store } from "../store/mod.ts";
import type { HomeserverClient } from "./homeserver_client.ts";
import { SecretStorage } from "./secret_storage.ts";
import type { CryptoMachine } from "./crypto_machine.ts";
import { publicKey } from "./decryption.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Interval between attempts to have our device signed, in milliseconds. */
const TRY_AGAIN_MS = 10 * 60_000;
/** Interval at which we check whether someone else has signed it, in milliseconds. */
const LOOK_AGAIN_MS = 10_000;
/** Consecutive homeserver failures after which one attempt gives up. */
const FEW_TIMES = 5;
const MASTER = "m.cross_signing.master";
const SELF_SIGNING = "m.cross_signing.self_signing";
const USER_SIGNING = "m.cross_signing.user_signing";

/** Dependencies and secrets of {@linkcode ensureIdentity}. */
export interface IdentityOptions {
  readonly client: HomeserverClient;
  readonly machine: CryptoMachine;
  readonly store: Store;
  readonly self: string;
  readonly deviceId: string;
  /** Password for the homeserver, which may require it (UIA) before it accepts an identity. */
  readonly password: Secret | undefined;
  /** 32 bytes; undefined if none is configured. */
  readonly recoveryKey: Uint8Array<ArrayBuffer> | undefined;
}

/** Result of {@linkcode ensureIdentity}. */
export type IdentityState = { readonly signed: true; readonly masterKey: string } | {
  readonly signed: false;
  /** The cause and the remedy, in one sentence. */
  readonly reason: string;
};

/**
 * Creates the identity if the account has none, restores it if the recovery key opens it, and completes it if a crash
 * interrupted this. Safe to call at every start.
 *
 * @param reset creates a new identity even if there is one
 * @throws ConfigError if the recovery key doesn't fit the account's secret storage; TransientError; with `reset`,
 * CredentialError if the homeserver demands authentication that we can't give, RejectedError if it refuses the identity
 */
export async function ensureIdentity(
  options: IdentityOptions,
  reset: boolean,
  signal: AbortSignal,
): Promise<IdentityState> {
  try {
    return await setUpIdentity(options, reset, signal);
  } catch (error) {
    if (reset || signal.aborted || isUnrelated(error)) throw error;
    return { signed: false, reason: errorMessage(error) };
  }
}

/**
 * Reports whether an error is not about the identity: store, crypto, login or configuration errors, and transient ones.
 */
function isUnrelated(error: unknown): boolean {
  const kinds = [StoreError, WebAssembly.RuntimeError, TokenRefused, ConfigError, TransientError];
  return kinds.some((kind) => error instanceof kind);
}

/**
 * Calls `ensure` repeatedly until our device is signed.
 *
 * @param ensure one attempt. Homeserver failures are retried a few times and then become the reason
 * @param isSigned polled between attempts, because the account's owner may sign the device from another client
 * @param tried called with the result of each attempt
 */
export async function untilSigned(
  ensure: (signal: AbortSignal) => Promise<IdentityState>,
  isSigned: () => boolean,
  tried: (state: IdentityState) => void,
  signal: AbortSignal,
  { sleep }: Pick<Clock, "sleep"> = systemClock,
): Promise<void> {
  for (;;) {
    const state = await tryFewTimes(ensure, signal, sleep);
    tried(state);
    if (state.signed) return;
    for (let waitedMs = 0; waitedMs < TRY_AGAIN_MS && !isSigned(); waitedMs += LOOK_AGAIN_MS) {
      await sleep(LOOK_AGAIN_MS, signal);
    }
  }
}

async function tryFewTimes(
  ensure: (signal: AbortSignal) => Promise<IdentityState>,
  signal: AbortSignal,
  sleep: Clock["sleep"],
): Promise<IdentityState> {
  const backoff = new Backoff({ ...operatorPolicy(FEW_TIMES), minSpanMs: 0 });
  try {
    return await retry(ensure, { backoff, sleep }, signal);
  } catch (error) {
    if (!(error instanceof Error && error.cause instanceof TransientError)) throw error;
    return { signed: false, reason: error.message };
  }
}

/** Exports the private keys of the identity, if this device holds them. */
export async function exportIdentity(olm: OlmMachine): Promise<CrossSigningKeys | undefined> {
  using keys = await olm.exportCrossSigningKeys();
  const { masterKey: master, self_signing_key: selfSigning, userSigningKey: userSigning } = keys ?? {};
  return master === undefined || selfSigning === undefined ? undefined : { master, selfSigning, userSigning };
}

async function setUpIdentity(options: IdentityOptions, reset: boolean, signal: AbortSignal): Promise<IdentityState> {
  const { machine, self } = options;
  // A known identity was reported when the session was opened. A missing one is queried again, so that none is
  // replaced.
  if (!machine.hasIdentity(self) || machine.isStale(self)) {
    const answer = await machine.query(self, signal);
    if (object(answer["device_keys"])[self] === undefined) {
      throw new TransientError("Cannot look after the own identity: the homeserver does not tell our own keys");
    }
  }
  const storage = options.recoveryKey && await SecretStorage.open(options.client, self, options.recoveryKey, signal);
  if (reset || !machine.hasIdentity(self)) {
    await createIdentity(options, reset, signal);
  } else if (!await holdsPrivateKeys(machine.olm) && !await restore(options, storage, signal)) {
    // Another device of the account may have signed ours.
    if (machine.isSigned) return { signed: true, masterKey: await ownMasterKey(machine.olm, self) ?? "" };
    return {
      signed: false,
      reason: storage === undefined
        ? "the account has a cross-signing identity, and its private keys are not here: give RECOVERY_KEY, or make a new " +
          "identity with --reset-identity"
        : "the account's secret storage does not hold its present cross-signing identity, which may have been reset " +
          "elsewhere: make a new one with --reset-identity",
    };
  }
  options.store.carriedIdentity.clear();
  await signDevice(options, signal);
  if (storage !== undefined) await saveToStorage(machine.olm, storage, signal);
  return { signed: true, masterKey: await ownMasterKey(machine.olm, self) ?? "" };
}

async function ownMasterKey(olm: OlmMachine, self: string): Promise<string | undefined> {
  using identity = await olm.getIdentity(new UserId(self));
  return identity === undefined ? undefined : publicKey(identity.masterKey);
}

async function holdsPrivateKeys(olm: OlmMachine): Promise<boolean> {
  using status = await olm.crossSigningStatus();
  return status.hasMaster && status.hasSelfSigning;
}

/**
 * Uploads the keys, then their signatures. After a crash in between, the next start still holds the keys and completes
 * this.
 */
async function createIdentity(options: IdentityOptions, reset: boolean, signal: AbortSignal): Promise<void> {
  const { machine, client } = options;
  // An upload that is still pending would be part of the result, and be sent by the session's loop as well.
  await machine.sendKeys(signal);
  const made = await machine.olm.bootstrapCrossSigning(reset);
  const keys = object(JSON.parse(made.uploadSigningKeysRequest.body));
  await uploadSigningKeys(options, keys, signal);
  await uploadSignatures(client, made.uploadSignaturesRequest.body, signal);
  await machine.query(options.self, signal);
  log.info("created a cross-signing identity for {user}", { user: options.self });
}

/** Uploads cross-signing keys, with the password if the homeserver asks for it (client-server API, 5.5 and 11.12.3). */
async function uploadSigningKeys(options: IdentityOptions, keys: Json, signal: AbortSignal): Promise<void> {
  const upload = (auth: Json | undefined): Promise<unknown> =>
    options.client.send({
      method: "POST",
      path: "/_matrix/client/v3/keys/device_signing/upload",
      body: auth === undefined ? keys : { ...keys, auth },
    }, signal);
  try {
    await upload(undefined);
  } catch (error) {
    if (!(error instanceof RejectedError) || error.status !== 401) throw error;
    const flows = list(error.answer["flows"]).map((flow) => texts(object(flow)["stages"]).join(" and "));
    if (options.password === undefined || !flows.includes("m.login.password")) {
      throw authenticationRequired(options.self, flows, error);
    }
    await upload({
      type: "m.login.password",
      identifier: { type: "m.id.user", user: options.self },
      password: options.password.reveal(),
      session: text(error.answer["session"]),
    });
  }
}

/** Builds the error for authentication that the homeserver demands and we can't give, with the possible remedies. */
function authenticationRequired(self: string, flows: readonly string[], cause: RejectedError): CredentialError {
  const ways = flows.includes("m.login.password")
    ? ["with AUTH_METHOD=token, give MATRIX_PASSWORD, which is used for that alone"]
    : [];
  const page = Object.values(object(cause.answer["params"])).map((each) => text(object(each)["url"])).find(Boolean);
  if (page !== undefined) ways.push(`log in at ${page.slice(0, 200)} and approve it`);
  ways.push(
    "whoever runs it can allow it once, on Synapse by a POST to " +
      `/_synapse/admin/v1/users/${self}/_allow_cross_signing_replacement_without_uia`,
  );
  return new CredentialError(
    `Cannot publish a cross-signing identity: the homeserver first asks for ${flows.join(", or ") || "more"}, ` +
      `which was not given; ${ways.join("; or ")}`,
    { cause },
  );
}

/** Imports the identity's private keys into the crypto, from the previous device or from secret storage. */
async function restore(
  { machine, self, store }: IdentityOptions,
  storage: SecretStorage | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const carried = store.carriedIdentity.load();
  if (carried !== undefined && await importKeys(machine.olm, carried)) {
    log.info("kept the cross-signing identity of {user} from the previous device", { user: self });
    return true;
  }
  if (storage === undefined) return false;
  const [master, selfSigning, userSigning] = await Promise.all(
    [MASTER, SELF_SIGNING, USER_SIGNING].map((name) => storage.get(name, signal)),
  );
  if (master === undefined || selfSigning === undefined) return false;
  if (!await importKeys(machine.olm, { master, selfSigning, userSigning })) return false;
  log.info("restored the cross-signing identity of {user}", { user: self });
  return true;
}

/** Returns false if the keys don't belong to the account's current identity. */
async function importKeys(olm: OlmMachine, { master, selfSigning, userSigning }: CrossSigningKeys): Promise<boolean> {
  try {
    using _status = await olm.importCrossSigningKeys(master, selfSigning, userSigning);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    log.debug("ignored private keys of another cross-signing identity: {reason}", { reason: String(error) });
    return false;
  }
  return await holdsPrivateKeys(olm);
}

async function signDevice(options: IdentityOptions, signal: AbortSignal): Promise<void> {
  const { olm } = options.machine;
  using device = await olm.getDevice(new UserId(options.self), new DeviceId(options.deviceId));
  if (device === undefined || device.isCrossSignedByOwner()) return;
  const request = await device.verify();
  await uploadSignatures(options.client, request.body, signal);
  await options.machine.query(options.self, signal);
}

async function uploadSignatures(client: HomeserverClient, body: string, signal: AbortSignal): Promise<void> {
  const { json } = await client.send(
    { method: "POST", path: "/_matrix/client/v3/keys/signatures/upload", body },
    signal,
  );
  const failures = Object.keys(object(json["failures"]));
  if (failures.length > 0) {
    throw new RejectedError(
      `Cannot upload signatures: the homeserver refused those of ${failures.join(", ")}`,
      200,
      "",
    );
  }
}

/** Saves to secret storage the keys that are missing there. */
async function saveToStorage(olm: OlmMachine, storage: SecretStorage, signal: AbortSignal): Promise<void> {
  const keys = await exportIdentity(olm);
  if (keys === undefined) return;
  const { master, selfSigning, userSigning } = keys;
  for (const [name, secret] of [[MASTER, master], [SELF_SIGNING, selfSigning], [USER_SIGNING, userSigning]] as const) {
    if (secret !== undefined && await storage.get(name, signal) !== secret) await storage.set(name, secret, signal);
  }
}
