/**
 * Opening a session: the stored login first, else a new one; then the crypto of its device. Before a stored login is
 * given up, a new one has worked.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Login } from "../config/mod.ts";
import { ConfigError, CredentialError, TokenRefused, TransientError } from "../errors.ts";
import { object } from "../json.ts";
import type { CrossSigningKeys, Store, StoredSession } from "../store/mod.ts";
import { exportIdentity } from "./cross_signing.ts";
import { HomeserverClient } from "./homeserver_client.ts";
import { deviceOfToken, fullUserId, type LoggedIn, logIn, logOut } from "./login.ts";
import { CryptoMachine } from "./crypto_machine.ts";
import { RestoreDetection } from "./restore_detection.ts";
import { displayName } from "./own_names.ts";
import { Session } from "./session.ts";
import { refreshAtMs, TokenRefresh, type Tokens } from "./token_refresh.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** What a session is opened with. */
export interface OpenSessionOptions {
  /** Base URL of the homeserver. */
  readonly homeserver: string;
  /** Who we are, and how that is shown. */
  readonly login: Login;
  /** The store, open; its crypto database too. */
  readonly store: Store;
  /** People whose device lists are followed from the start. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Accounts of agents. */
  readonly agents: ReadonlySet<string>;
  /** Keys go only to devices that their owners have signed. */
  readonly onlySignedDevices: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Tries a step again after each TransientError; each call is a kind of request, with waits of its own. */
  readonly retry: <Value>(step: (signal: AbortSignal) => Promise<Value>, signal: AbortSignal) => Promise<Value>;
  /** Told of each wait for a rate limit, milliseconds. */
  readonly onWait: (waitMs: number) => void;
}

/**
 * Opens a session: its device's keys are with the homeserver when this returns.
 *
 * @throws CredentialError if the homeserver refuses the login; ConfigError if the store belongs to another account;
 * whatever `retry` throws when it gives up
 */
export async function openSession(options: OpenSessionOptions, signal: AbortSignal): Promise<Session> {
  const { store, login, onWait } = options;
  using unfinished = new DisposableStack();
  const client = unfinished.use(new HomeserverClient(options.homeserver, { onWait }));
  const connecting: Connecting = { ...options, client, signal };
  const stored = store.account.load();
  if (stored !== undefined) {
    mustBeOurs(stored, login.user);
    mayMove(stored, client.baseUrl);
  } // Without an account, what the crypto holds is of a device that never came to be ours.
  else await store.emptyCrypto();
  const account = login.method === "token"
    ? await adopt(connecting, stored)
    : stored ?? await newLogin(connecting, undefined);
  const session = await begin(connecting, account).catch((error) => {
    if (!(error instanceof DeviceLost)) throw error;
    return beginAnew(connecting, account, error);
  });
  unfinished.move();
  return session;
}

/**
 * Gives the store another key. What the crypto keeps can't be encrypted anew, so a new device takes the place of the
 * present one, with its identity; rooms, journal and pins stay. The store is closed when this returns.
 *
 * @throws ConfigError if there is no device yet, or a token can't make another; CredentialError: nothing is changed then
 */
export async function replaceStoreKey(
  options: OpenSessionOptions,
  key: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const { store, login, onWait } = options;
  const stored = store.account.load();
  if (stored === undefined) {
    throw new ConfigError(["CRYPTO_STORE_PATH: holds no device yet, so there is nothing to do"]);
  }
  if (login.method === "token") {
    throw new ConfigError([
      "AUTH_METHOD: with token, no new device can be made; use an empty folder as CRYPTO_STORE_PATH and a new token",
    ]);
  }
  using client = new HomeserverClient(options.homeserver, { onWait });
  mustBeOurs(stored, login.user);
  mayMove(stored, client.baseUrl);
  const identity = await identityOf(client, store, stored);
  const next = await logInAs({ ...options, client, signal }, undefined);
  await store.replaceKey(key, next, identity);
  log.info("encrypted the store with a new key, and replaced device {device} by {next}", {
    device: stored.deviceId,
    next: next.deviceId,
  });
  // What it may have to be refreshed to is not kept: it is used but for this.
  useTokens(client, stored, () => {}, options.now);
  await options.retry((signal) => logOut(client, signal), signal);
}

/** What the steps of opening share. */
interface Connecting extends OpenSessionOptions {
  readonly client: HomeserverClient;
  readonly signal: AbortSignal;
}

/** The device cannot be used any more: it is gone, has other keys, or its store is of the past. */
class DeviceLost extends Error {
  override readonly name = "DeviceLost";
  /** The store was restored from a backup. */
  readonly isRestored: boolean;
  /** Private keys of the identity, where the lost device held them. */
  identity: CrossSigningKeys | undefined;

  constructor(reason: string, { isRestored = false }: { readonly isRestored?: boolean } = {}) {
    super(reason);
    this.isRestored = isRestored;
  }
}

async function begin(connecting: Connecting, account: StoredSession): Promise<Session> {
  const { client, store, login, signal } = connecting;
  const { userId: self, deviceId } = account;
  useStoredTokens(connecting, account);
  using unfinished = new DisposableStack();
  const { allowedUsers } = connecting;
  const machine = unfinished.use(await CryptoMachine.open({ client, store, self, deviceId, allowedUsers }));
  await machine.track(allowedUsers);
  const restoreDetection = new RestoreDetection(client, store, self, deviceId);
  try {
    await useToken(connecting, account, () => publishKeys(connecting, machine, restoreDetection));
  } catch (error) {
    if (error instanceof DeviceLost) error.identity = await exportIdentity(machine.olm);
    throw error;
  }
  const session = new Session({
    ...connecting,
    client,
    machine,
    restoreDetection,
    self,
    deviceId,
    displayName: await displayName(client, self, signal),
    // With jwt and sso it is not the homeserver's to know.
    password: login.method === "jwt" || login.method === "sso" ? undefined : login.password,
  });
  unfinished.move();
  return session;
}

/** Sends the account's access token from now on, and renews it. */
function useTokens(
  client: HomeserverClient,
  { accessToken, refreshToken, refreshAtMs }: StoredSession,
  save: (changed: Tokens) => void,
  now: () => number,
): void {
  if (refreshToken === undefined) return client.authenticate(accessToken);
  const tokens = { accessToken, refreshToken, refreshAtMs };
  client.authenticate(accessToken, new TokenRefresh({ client, tokens, save, now }));
}

/** The same; new tokens take the place of the stored ones. */
function useStoredTokens({ client, store, now }: Connecting, account: StoredSession): void {
  useTokens(client, account, (changed) => changeAccount(store, changed), now);
}

/** Changes something of the stored account, and leaves the rest as it is now. */
function changeAccount(store: Store, changed: Partial<StoredSession>): void {
  const account = store.account.load();
  if (account === undefined) throw new TypeError("Cannot change the account: there is none");
  store.account.save({ ...account, ...changed });
}

/** Does something by the account's access token; one that has ended softly is replaced by one for the same device. */
async function useToken(connecting: Connecting, account: StoredSession, work: () => Promise<void>): Promise<void> {
  const { client, login } = connecting;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
    // Whoever answers there may not be our homeserver at all.
    if (isMoved(account, client.baseUrl)) throw refusedElsewhere(account, client.baseUrl, error.message);
    if (!error.soft || login.method === "token") throw new DeviceLost(error.message);
    // The device should still be there: only its token has ended (client-server API, 5.7.3, "Soft logout").
    log.warning("logging in again as the same device: the homeserver ended the access token");
  }
  useStoredTokens(connecting, await newLogin(connecting, account));
  try {
    await work();
  } catch (error) {
    throw error instanceof TokenRefused ? new DeviceLost(error.message) : error;
  }
}

/**
 * Publishes our device's keys. Looks first, as what we upload would take the place of keys that are not ours.
 *
 * @throws DeviceLost if the homeserver lists the device with other keys, or no longer, or our store is of the past
 */
async function publishKeys(
  { client, store, retry, signal }: Connecting,
  machine: CryptoMachine,
  restoreDetection: RestoreDetection,
): Promise<void> {
  const account = store.account.load();
  if (account === undefined) throw new TypeError("Cannot publish keys: there is no account");
  const { ed25519, curve25519 } = machine.olm.identityKeys;
  const ours = `${ed25519.toBase64()} ${curve25519.toBase64()}`;
  const mustBeOurKeys = (keys: string | undefined): void => {
    if (keys === ours) return;
    const reason = `the homeserver ${keys === undefined ? "no longer lists the device" : "lists other keys of it"}`;
    if (isMoved(account, client.baseUrl)) throw refusedElsewhere(account, client.baseUrl, reason);
    throw new DeviceLost(reason);
  };
  const before = await retry((signal) => listedKeys(machine, account, signal), signal);
  if (before !== undefined) mustBeOurKeys(before);
  if (await retry((signal) => restoreDetection.isRestored(signal), signal)) {
    throw new DeviceLost("the store is older than what the homeserver knows: it was restored from a backup", {
      isRestored: true,
    });
  }
  await retry((signal) => machine.sendOutgoing(signal), signal);
  if (before === undefined) {
    const isNew = account.isListed === false;
    mustBeOurKeys(
      await retry(async (signal) => {
        const keys = await listedKeys(machine, account, signal);
        if (keys !== undefined || !isNew) return keys;
        const owner = await deviceOfToken(client, signal);
        if (owner !== undefined && owner !== account.deviceId) {
          throw new DeviceLost(`its token is that of another device, ${owner}`);
        }
        // What was just uploaded may be unknown yet to the part of the homeserver that is asked.
        throw new TransientError("Cannot go on: the homeserver does not list the keys of our new device yet");
      }, signal),
    );
  }
  if (account.isListed !== true || isMoved(account, client.baseUrl)) {
    changeAccount(store, { homeserver: client.baseUrl, isListed: true });
  }
  await retry((signal) => restoreDetection.raise(signal), signal);
}

/** Goes on as a new device. Nothing is given up before that login has worked. */
async function beginAnew(connecting: Connecting, account: StoredSession, lost: DeviceLost): Promise<Session> {
  const { client, store, login, retry, signal } = connecting;
  const { deviceId, userId } = account;
  if (login.method === "token") throw tokenUseless(account, lost.message);
  const next = await logInAs(connecting, undefined).catch((error) => {
    if (!(error instanceof CredentialError)) throw error;
    throw new CredentialError(
      `Cannot go on as device ${deviceId} of ${userId} (${lost.message}), nor as a new one: ${error.message}. ` +
        "Nothing was set aside: once the homeserver accepts either again, the next start goes on",
      { cause: error },
    );
  });
  // Of a store that was restored, the tokens are of the past, too: they may be refused before its age is seen.
  const before = new RestoreDetection(client, store, userId, deviceId);
  const isRestored = lost.isRestored || await retry((signal) => before.isRestored(signal), signal);
  // A device made anew under its old id would never be sent keys again: the crypto takes them for uploaded.
  await store.replaceDevice(next, { identity: lost.identity, settleAll: isRestored });
  log.warning(
    "replaced device {device} of {user} by a new device, {next}, and set its keys aside: {reason}",
    { device: deviceId, user: userId, reason: lost.message, next: next.deviceId },
  );
  if (isRestored) log.warning("ignoring commands sent before now: the store was restored from a backup");
  return await begin(connecting, next);
}

/** Keys of our device as the homeserver lists them; undefined if it lists none. */
async function listedKeys(
  machine: CryptoMachine,
  { userId, deviceId }: StoredSession,
  signal: AbortSignal,
): Promise<string | undefined> {
  const devices = object((await machine.query(userId, signal))["device_keys"])[userId];
  if (devices === undefined) throw new TransientError("Cannot go on: the homeserver does not tell our own devices");
  const keys = machine.listed(userId)?.get(deviceId);
  return keys && `${keys.ed25519} ${keys.curve25519}`;
}

/** Logs in and keeps what came of it: for the first device, or for one that stays. */
async function newLogin(connecting: Connecting, device: StoredSession | undefined): Promise<StoredSession> {
  const next = await logInAs(connecting, device?.deviceId);
  const account = { ...next, isListed: device === undefined ? false : device.isListed };
  connecting.store.account.save(account);
  return account;
}

async function logInAs(
  { client, login, retry, now, signal }: Connecting,
  deviceId: string | undefined,
): Promise<StoredSession> {
  const [loggedIn, askedAtMs] = await retry(async (signal) => {
    const askedAtMs = now();
    return [await logIn(client, login, deviceId, signal), askedAtMs] as const;
  }, signal);
  log.info("logged in as {user}, device {device}", { user: loggedIn.userId, device: loggedIn.deviceId });
  return storedSession(client.baseUrl, loggedIn, askedAtMs);
}

function storedSession(homeserver: string, { expiresInMs, ...loggedIn }: LoggedIn, askedAtMs: number): StoredSession {
  return { homeserver, ...loggedIn, refreshAtMs: refreshAtMs(expiresInMs, askedAtMs), isListed: false };
}

/**
 * Goes on as the device of the token that was given. One that is new to us must have no keys yet: ours would take their
 * place, and whoever holds them would be cut off.
 */
async function adopt(
  { client, store, login, retry, now, signal }: Connecting,
  stored: StoredSession | undefined,
): Promise<StoredSession> {
  const found = await retry((signal) => logIn(client, login, undefined, signal), signal).catch((error) => {
    if (!(error instanceof CredentialError) || stored === undefined || !isMoved(stored, client.baseUrl)) throw error;
    throw refusedElsewhere(stored, client.baseUrl, error.message);
  });
  const account = storedSession(client.baseUrl, found, now());
  if (stored?.deviceId === found.deviceId) {
    // What the store has to renew an earlier token of the device by does not belong to this one.
    const known = { ...account, homeserver: stored.homeserver, isListed: stored.isListed };
    store.account.save(known);
    return known;
  }
  const { userId, deviceId } = account;
  const body = { device_keys: { [userId]: [deviceId] } };
  const { json } = await retry(
    (signal) => client.send({ method: "POST", path: "/_matrix/client/v3/keys/query", body }, signal),
    signal,
  );
  if (object(object(json["device_keys"])[userId])[deviceId] !== undefined) {
    throw tokenUseless(account, "it has encryption keys already, which are not in this store");
  }
  if (stored === undefined) store.account.save(account);
  else {
    log.warning("switched to device {device} of the given token, and set the keys of {old} aside", {
      device: deviceId,
      old: stored.deviceId,
    });
    await store.replaceDevice(account, { identity: await identityOf(client, store, stored) });
  }
  return account;
}

/** The identity's private keys, where a device that we have been before holds them. */
async function identityOf(
  client: HomeserverClient,
  store: Store,
  { userId, deviceId }: StoredSession,
): Promise<CrossSigningKeys | undefined> {
  const allowedUsers = new Set<string>();
  using machine = await CryptoMachine.open({ client, store, self: userId, deviceId, allowedUsers });
  return await exportIdentity(machine.olm);
}

function tokenUseless({ deviceId }: StoredSession, reason: string): CredentialError {
  return new CredentialError(
    `Cannot go on as device ${deviceId} of MATRIX_ACCESS_TOKEN: ${reason}; log in for a new token, and give that`,
  );
}

/** A stored session serves one account. */
function mustBeOurs({ userId }: StoredSession, user: string): void {
  if (fullUserId(user, userId) === userId) return;
  throw new ConfigError([
    `MATRIX_USER: the store in CRYPTO_STORE_PATH belongs to ${userId} (got "${user}"); use that user or another folder`,
  ]);
}

function isMoved({ homeserver }: StoredSession, baseUrl: string): boolean {
  return new URL(homeserver).href !== new URL(baseUrl).href;
}

/** Says that the homeserver has moved, before the stored token is sent to where it is now. */
function mayMove(account: StoredSession, baseUrl: string): void {
  if (!isMoved(account, baseUrl)) return;
  const { homeserver, userId } = account;
  if (new URL(homeserver).protocol === "https:" && new URL(baseUrl).protocol === "http:") {
    throw new ConfigError([
      `MATRIX_HOMESERVER: would get the token of ${homeserver} without TLS (got "${baseUrl}"); use an https URL or ` +
      "another CRYPTO_STORE_PATH",
    ]);
  }
  log.warning("moved the session of {user} from {from} to {to}: MATRIX_HOMESERVER has changed", {
    user: userId,
    from: homeserver,
    to: baseUrl,
  });
}

function refusedElsewhere({ homeserver, userId }: StoredSession, baseUrl: string, reason: string): CredentialError {
  return new CredentialError(
    `Cannot go on as ${userId} at ${baseUrl}, where the homeserver has moved from ${homeserver}: ${reason}. Nothing was ` +
      `set aside; give ${homeserver} as MATRIX_HOMESERVER again, or another folder as CRYPTO_STORE_PATH`,
  );
}
