/**
 * Opening a session: the stored login first, else a new one; then the crypto of its device.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Login } from "../config/mod.ts";
import { ConfigError, CredentialError, RejectedError, TransientError } from "../errors.ts";
import type { Store, StoredSession } from "../store/mod.ts";
import { fullUserId, logIn } from "./login.ts";
import { object, text } from "../json.ts";
import { Machine } from "./olm_machine.ts";
import { HomeserverClient, path, TokenRefused } from "./homeserver_client.ts";
import { Session } from "./session.ts";

/** Of a question that may go unanswered, milliseconds. */
const PROFILE_DEADLINE_MS = 5_000;

const log = getLogger(["openclaw-toggle", "session"]);

/** What a session is opened with. */
export interface SessionOptions {
  /** Base URL of the homeserver. */
  readonly homeserver: string;
  /** Who we are, and how that is shown. */
  readonly login: Login;
  /** The store, open; its crypto database too. */
  readonly store: Store;
  /** People whose device lists are followed from the start. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Keys go only to devices that their owners have signed. */
  readonly onlySignedDevices: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Opens a session: its device's keys are with the homeserver when this returns.
 *
 * @throws TransientError if the homeserver did not answer: nothing is half done, call again
 * @throws CredentialError if it refuses the login; ConfigError if the store belongs to another account
 */
export async function openSession(options: SessionOptions, signal: AbortSignal): Promise<Session> {
  const { store, login } = options;
  using unfinished = new DisposableStack();
  const requests = unfinished.use(new HomeserverClient(options.homeserver));
  const stored = store.account.load();
  if (stored !== undefined) mustBeOurs(stored, requests.baseUrl, login.user);
  // Without an account, what the crypto holds is of a device that never came to be ours.
  else await store.emptyCrypto();
  const account = login.method === "token"
    ? await adopt(requests, options, stored, signal)
    : stored ?? await newLogin(requests, options, undefined, signal);
  const session = await begin(requests, options, account, signal).catch(async (error) => {
    if (!(error instanceof DeviceLost)) throw error;
    if (login.method === "token") throw tokenUseless(account, error.message);
    // A device made anew under its old id would never be sent keys again: the crypto takes them for uploaded.
    log.warning(
      "device {device} of {user} is gone ({reason}): going on as a new device; the old one's keys are set aside",
      { device: account.deviceId, user: account.userId, reason: error.message },
    );
    await store.setCryptoAside();
    return await begin(requests, options, await newLogin(requests, options, undefined, signal), signal);
  });
  unfinished.move();
  return session;
}

/** The homeserver does not know our device any more, or knows it by other keys. */
class DeviceLost extends CredentialError {}

async function begin(
  requests: HomeserverClient,
  options: SessionOptions,
  account: StoredSession,
  signal: AbortSignal,
): Promise<Session> {
  const { store, login } = options;
  const { userId: self, deviceId } = account;
  requests.accessToken = account.accessToken;
  const machine = await Machine.open(requests, self, deviceId, store.cryptoKey);
  let name: string | undefined;
  try {
    await machine.track(options.allowedUsers);
    const { ed25519, curve25519 } = machine.olm.identityKeys;
    const ours = `${ed25519.toBase64()} ${curve25519.toBase64()}`;
    const publish = async (): Promise<void> => {
      // First of all, as what we upload would take the place of keys that are not ours.
      let listed = await listedKeys(machine, self, deviceId, signal);
      if (listed === undefined || listed === ours) await machine.sendOutgoing(signal);
      listed ??= await listedKeys(machine, self, deviceId, signal);
      if (listed !== ours) throw new DeviceLost("the homeserver does not list its keys");
    };
    await publish().catch(async (error) => {
      if (!(error instanceof TokenRefused)) throw error;
      if (!error.soft || login.method === "token") throw new DeviceLost(error.message, { cause: error });
      // The device should still be there: only its token has ended (client-server API, 5.7.3, "Soft logout").
      log.warning("the homeserver has ended the access token; logging in again as the same device");
      await newLogin(requests, options, deviceId, signal);
      await publish();
    });
    name = await displayName(requests, self, signal);
  } catch (error) {
    machine[Symbol.dispose]();
    throw error;
  }
  return new Session({
    ...options,
    requests,
    machine,
    self,
    deviceId,
    displayName: name,
    // With jwt and sso it is not the homeserver's to know.
    password: login.method === "jwt" || login.method === "sso" ? undefined : login.password,
  });
}

/** Keys of our device as the homeserver lists them; undefined if it lists none. */
async function listedKeys(
  machine: Machine,
  self: string,
  deviceId: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const devices = object((await machine.query(self, signal))["device_keys"])[self];
  if (devices === undefined) throw new TransientError("Cannot go on: the homeserver does not tell our own devices");
  const keys = machine.listed(self)?.get(deviceId);
  return keys && `${keys.ed25519} ${keys.curve25519}`;
}

/** The name by which people call us; a homeserver that does not tell it does not keep us from starting. */
async function displayName(requests: HomeserverClient, self: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const { json } = await requests.send({
      method: "GET",
      path: path`/_matrix/client/v3/profile/${self}/displayname`,
      deadlineMs: PROFILE_DEADLINE_MS,
    }, signal);
    return text(json["displayname"]);
  } catch (error) {
    if (!(error instanceof RejectedError || error instanceof TransientError)) throw error;
    log.debug("no display name: {reason}", { reason: error.message });
    return undefined;
  }
}

async function newLogin(
  requests: HomeserverClient,
  options: SessionOptions,
  deviceId: string | undefined,
  signal: AbortSignal,
): Promise<StoredSession> {
  const account = { homeserver: requests.baseUrl, ...await logIn(requests, options.login, deviceId, signal) };
  options.store.account.save(account);
  log.info("logged in as {user}, device {device}", { user: account.userId, device: account.deviceId });
  return account;
}

/**
 * Goes on as the device of the token that was given. One that is new to us must have no keys yet: ours would take their
 * place, and whoever holds them would be cut off.
 */
async function adopt(
  requests: HomeserverClient,
  { store, login }: SessionOptions,
  stored: StoredSession | undefined,
  signal: AbortSignal,
): Promise<StoredSession> {
  const account = { homeserver: requests.baseUrl, ...await logIn(requests, login, undefined, signal) };
  const { userId, deviceId } = account;
  if (stored?.deviceId !== deviceId) {
    const body = { device_keys: { [userId]: [deviceId] } };
    const { json } = await requests.send({ method: "POST", path: "/_matrix/client/v3/keys/query", body }, signal);
    const published = object(object(json["device_keys"])[userId])[deviceId];
    if (published !== undefined) {
      throw tokenUseless(account, "it has encryption keys already, which are not in this store");
    }
    if (stored !== undefined) {
      log.warning("going on as device {device}, whose token was given: the keys of {old} are set aside", {
        device: deviceId,
        old: stored.deviceId,
      });
      await store.setCryptoAside();
    }
  }
  store.account.save(account);
  return account;
}

function tokenUseless({ deviceId }: StoredSession, reason: string): CredentialError {
  return new CredentialError(
    `Cannot go on as device ${deviceId} of MATRIX_ACCESS_TOKEN: ${reason}; log in for a new token, and give that`,
  );
}

/** A stored session serves one account at one homeserver. */
function mustBeOurs(account: StoredSession, homeserver: string, user: string): void {
  const problems = [];
  if (fullUserId(user, account.userId) !== account.userId) {
    problems.push(
      `MATRIX_USER: "${user}" is not ${account.userId}, to whom the store in CRYPTO_STORE_PATH belongs; ` +
        "give that user, or another folder",
    );
  }
  if (homeserver !== account.homeserver) {
    problems.push(
      `MATRIX_HOMESERVER: "${homeserver}" is not ${account.homeserver}, with which the store in CRYPTO_STORE_PATH was ` +
        "made; give that homeserver, or another folder",
    );
  }
  if (problems.length > 0) throw new ConfigError(problems);
}
