/**
 * Opens a session: with the stored login if there is one, else with a new one, and then opens the device's crypto. A
 * stored login is only replaced once a new one has succeeded.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Login } from "../config/mod.ts";
import { ConfigError, CredentialError, RejectedError, TokenRefused, TransientError } from "../errors.ts";
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

/** Options of {@linkcode openSession}. */
export interface OpenSessionOptions {
  /** Base URL of the homeserver. */
  readonly homeserver: string;
  /** Account and login method. */
  readonly login: Login;
  /** The opened store, including its crypto database. */
  readonly store: Store;
  /** Users whose device lists are tracked from the start. */
  readonly allowedUsers: ReadonlySet<string>;
  /** User IDs of the agents. */
  readonly agents: ReadonlySet<string>;
  /** Whether keys are only sent to devices that their owners have cross-signed. */
  readonly onlySignedDevices: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Repeats a step after each TransientError. Each call has its own backoff. */
  readonly retry: <Value>(step: (signal: AbortSignal) => Promise<Value>, signal: AbortSignal) => Promise<Value>;
  /** Called before each wait for a rate limit, with its length in milliseconds. */
  readonly onWait: (waitMs: number) => void;
}

/**
 * Opens a session. When it returns, the homeserver holds the device's keys.
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
    checkOwner(stored, login.user);
    checkMove(stored, client.baseUrl);
  } // Without an account, the crypto store holds a device that was never ours.
  else await store.emptyCrypto();
  const account = login.method === "token"
    ? await accountOfToken(connecting, stored)
    : stored ?? await newLogin(connecting, undefined);
  const session = await openDevice(connecting, account).catch((error) => {
    if (!(error instanceof DeviceLost)) throw error;
    return replaceLostDevice(connecting, account, error);
  });
  unfinished.move();
  return session;
}

/**
 * Changes the key of the store. The crypto database can't be re-encrypted, so a new device replaces the current one and
 * keeps its cross-signing identity. Rooms, journal and pins stay. The store is closed afterwards.
 *
 * @throws ConfigError if there is no device yet, or if the login method is token, which can't make a new device;
 * CredentialError. On either, nothing has been changed
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
  checkOwner(stored, login.user);
  checkMove(stored, client.baseUrl);
  const identity = await identityOf(client, store, stored);
  const next = await logInAs({ ...options, client, signal }, undefined);
  await store.replaceKey(key, next, identity);
  log.info("encrypted the store with a new key, and replaced device {device} by {next}", {
    device: stored.deviceId,
    next: next.deviceId,
  });
  // Renewed tokens aren't saved: the old login is only used once more, to log out.
  useTokens(client, stored, () => {}, options.now);
  await options.retry((signal) => logOut(client, signal), signal);
}

/** State that the steps of opening a session share. */
interface Connecting extends OpenSessionOptions {
  readonly client: HomeserverClient;
  readonly signal: AbortSignal;
}

/**
 * The device is unusable: it is gone, the homeserver lists other keys for it, or its store was restored from a backup.
 */
class DeviceLost extends Error {
  override readonly name = "DeviceLost";
  /** Whether the store was restored from a backup. */
  readonly isRestored: boolean;
  /** Private keys of the cross-signing identity, if the lost device held them. */
  identity: CrossSigningKeys | undefined;

  constructor(reason: string, { isRestored = false }: { readonly isRestored?: boolean } = {}) {
    super(reason);
    this.isRestored = isRestored;
  }
}

async function openDevice(connecting: Connecting, account: StoredSession): Promise<Session> {
  const { client, store, login, retry, signal } = connecting;
  const { userId: self, deviceId } = account;
  useStoredTokens(connecting, account);
  using unfinished = new DisposableStack();
  const { allowedUsers } = connecting;
  const machine = unfinished.use(await CryptoMachine.open({ client, store, self, deviceId, allowedUsers }));
  await machine.track(allowedUsers);
  const restoreDetection = new RestoreDetection(client, store, self, deviceId);
  const name = await useToken(connecting, account, async () => {
    await publishKeys(connecting, machine, restoreDetection);
    const raised = retry((signal) => restoreDetection.raise(signal), signal);
    const [name] = await Promise.all([displayName(client, self, signal), raised]);
    return name;
  }).catch(async (error) => {
    if (error instanceof DeviceLost) error.identity = await exportIdentity(machine.olm);
    throw error;
  });
  const session = new Session({
    ...connecting,
    client,
    machine,
    restoreDetection,
    self,
    deviceId,
    displayName: name,
    // With jwt and sso, the password must not reach the homeserver.
    password: login.method === "jwt" || login.method === "sso" ? undefined : login.password,
  });
  unfinished.move();
  return session;
}

/** Uses the account's access token from now on, and refreshes it when needed. */
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

/** Like {@linkcode useTokens}, and saves renewed tokens in the store. */
function useStoredTokens({ client, store, now }: Connecting, account: StoredSession): void {
  useTokens(client, account, (changed) => changeAccount(store, changed), now);
}

/** Updates some fields of the stored account. */
function changeAccount(store: Store, changed: Partial<StoredSession>): void {
  const account = store.account.load();
  if (account === undefined) throw new TypeError("Cannot change the account: there is none");
  store.account.save({ ...account, ...changed });
}

/**
 * Runs `work` with the account's access token. After a soft logout it logs in again as the same device and runs `work`
 * again.
 */
async function useToken<Value>(
  connecting: Connecting,
  account: StoredSession,
  work: () => Promise<Value>,
): Promise<Value> {
  const { client, login } = connecting;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
    // The server at the new address may not be our homeserver.
    if (isMoved(account, client.baseUrl)) throw refusedElsewhere(account, client.baseUrl, error.message);
    if (!error.soft || login.method === "token") throw new DeviceLost(error.message);
    // Only the token has ended; the device should still exist (client-server API, 5.7.3, "Soft logout").
    log.warning("logging in again as the same device: the homeserver ended the access token");
  }
  useStoredTokens(connecting, await newLogin(connecting, account));
  try {
    return await work();
  } catch (error) {
    throw error instanceof TokenRefused ? new DeviceLost(error.message) : error;
  }
}

/**
 * Publishes our device's keys. Checks the listed keys first, because an upload would replace keys that aren't ours.
 *
 * @throws DeviceLost if the homeserver lists the device with other keys or no longer lists it, or if the store was
 * restored from a backup
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
  const checkOurKeys = (keys: string | undefined): void => {
    if (keys === ours) return;
    const reason = `the homeserver ${keys === undefined ? "no longer lists the device" : "lists other keys of it"}`;
    if (isMoved(account, client.baseUrl)) throw refusedElsewhere(account, client.baseUrl, reason);
    throw new DeviceLost(reason);
  };
  const [before, isRestored] = await Promise.all([
    retry((signal) => listedKeys(machine, account, signal), signal),
    retry((signal) => restoreDetection.isRestored(signal), signal),
  ]);
  if (before !== undefined) checkOurKeys(before);
  if (isRestored) {
    throw new DeviceLost("the store is older than what the homeserver knows: it was restored from a backup", {
      isRestored: true,
    });
  }
  await retry((signal) => machine.sendOutgoing(signal), signal);
  if (before === undefined) {
    const isNew = account.isListed === false;
    checkOurKeys(
      await retry(async (signal) => {
        const keys = await listedKeys(machine, account, signal);
        if (keys !== undefined || !isNew) return keys;
        const owner = await deviceOfToken(client, signal);
        if (owner !== undefined && owner !== account.deviceId) {
          throw new DeviceLost(`its token is that of another device, ${owner}`);
        }
        // The worker of the homeserver that answers may not know the upload yet.
        throw new TransientError("Cannot go on: the homeserver does not list the keys of our new device yet");
      }, signal),
    );
  }
  if (account.isListed !== true || isMoved(account, client.baseUrl)) {
    changeAccount(store, { homeserver: client.baseUrl, isListed: true });
  }
}

/** Continues as a new device. Nothing is discarded before the new login has succeeded. */
async function replaceLostDevice(connecting: Connecting, account: StoredSession, lost: DeviceLost): Promise<Session> {
  const { client, store, login, retry, signal } = connecting;
  const { deviceId, userId } = account;
  if (login.method === "token") throw tokenUnusable(account, lost.message);
  const next = await logInAs(connecting, undefined).catch((error) => {
    if (!(error instanceof CredentialError)) throw error;
    throw new CredentialError(
      `Cannot go on as device ${deviceId} of ${userId} (${lost.message}), nor as a new one: ${error.message}. ` +
        "Nothing was set aside: once the homeserver accepts either again, the next start goes on",
      { cause: error },
    );
  });
  // A restored store also holds old tokens, so they may be refused before the counters are compared.
  const before = new RestoreDetection(client, store, userId, deviceId);
  const isRestored = lost.isRestored || await retry((signal) => before.isRestored(signal), signal);
  // Logging in under the old ID would not do: with its old store, the crypto takes the device's keys for uploaded and
  // never uploads them again.
  await store.replaceDevice(next, { identity: lost.identity, settleAll: isRestored });
  log.warning(
    "replaced device {device} of {user} by a new device, {next}, and set its keys aside: {reason}",
    { device: deviceId, user: userId, reason: lost.message, next: next.deviceId },
  );
  if (isRestored) log.warning("ignoring commands sent before now: the store was restored from a backup");
  return await openDevice(connecting, next);
}

/** Every homeserver answers a query for our own keys, so a refusal is a temporary fault. */
function asTransient(error: unknown): never {
  if (!(error instanceof RejectedError)) throw error;
  throw new TransientError(error.message, { cause: error });
}

/** Returns our device's keys as the homeserver lists them, or undefined if it doesn't list the device. */
async function listedKeys(
  machine: CryptoMachine,
  { userId, deviceId }: StoredSession,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { device_keys } = await machine.query(userId, signal).catch(asTransient);
  const devices = object(device_keys)[userId];
  if (devices === undefined) throw new TransientError("Cannot go on: the homeserver does not tell our own devices");
  const keys = machine.listed(userId)?.get(deviceId);
  return keys && `${keys.ed25519} ${keys.curve25519}`;
}

/** Logs in and saves the account, for a first device or, after a soft logout, for an existing one. */
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
 * Continues as the device of the given token. If that device is new to us, it must not have keys yet: ours would
 * replace them and lock out whoever holds them.
 */
async function accountOfToken(
  { client, store, login, retry, now, signal }: Connecting,
  stored: StoredSession | undefined,
): Promise<StoredSession> {
  const found = await retry(async (signal) => {
    const found = await logIn(client, login, undefined, signal);
    // A token is one device's for life. To switch would set keys aside that the homeserver lists.
    if (stored?.isListed && stored.accessToken === found.accessToken && stored.deviceId !== found.deviceId) {
      throw new TransientError(
        `Cannot go on as device ${stored.deviceId}: the homeserver takes its token for that of device ${found.deviceId}`,
      );
    }
    return found;
  }, signal).catch((error) => {
    if (!(error instanceof CredentialError) || stored === undefined || !isMoved(stored, client.baseUrl)) throw error;
    throw refusedElsewhere(stored, client.baseUrl, error.message);
  });
  const account = storedSession(client.baseUrl, found, now());
  if (stored?.deviceId === found.deviceId) {
    // A refresh token in the store belongs to an earlier access token of the device, so it isn't kept.
    const known = { ...account, homeserver: stored.homeserver, isListed: stored.isListed };
    store.account.save(known);
    return known;
  }
  const { userId, deviceId } = account;
  const body = { device_keys: { [userId]: [deviceId] } };
  const { json } = await retry(
    (signal) => client.send({ method: "POST", path: "/_matrix/client/v3/keys/query", body }, signal).catch(asTransient),
    signal,
  );
  if (object(object(json["device_keys"])[userId])[deviceId] !== undefined) {
    throw tokenUnusable(account, "it has encryption keys already, which are not in this store");
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

/** Exports the cross-signing identity's private keys from the store of our previous device, if it holds them. */
async function identityOf(
  client: HomeserverClient,
  store: Store,
  { userId, deviceId }: StoredSession,
): Promise<CrossSigningKeys | undefined> {
  const allowedUsers = new Set<string>();
  using machine = await CryptoMachine.open({ client, store, self: userId, deviceId, allowedUsers });
  return await exportIdentity(machine.olm);
}

function tokenUnusable({ deviceId }: StoredSession, reason: string): CredentialError {
  return new CredentialError(
    `Cannot go on as device ${deviceId} of MATRIX_ACCESS_TOKEN: ${reason}; log in for a new token, and give that`,
  );
}

/** Checks that the stored session belongs to the configured user. */
function checkOwner({ userId }: StoredSession, user: string): void {
  if (fullUserId(user, userId) === userId) return;
  throw new ConfigError([
    `MATRIX_USER: the store in CRYPTO_STORE_PATH belongs to ${userId} (got "${user}"); use that user or another folder`,
  ]);
}

function isMoved({ homeserver }: StoredSession, baseUrl: string): boolean {
  return new URL(homeserver).href !== new URL(baseUrl).href;
}

/**
 * Checks a change of the homeserver's URL before the stored token is sent to the new one, and logs it.
 *
 * @throws ConfigError if the change is from https to http
 */
function checkMove(account: StoredSession, baseUrl: string): void {
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
