/**
 * Opening a session: the stored login first, else a new one; then the crypto of its device.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { ConfigError, CredentialError } from "../errors/mod.ts";
import type { Store, StoredSession } from "../store/mod.ts";
import { findHomeserver, type HomeserverAddress } from "./homeserver.ts";
import { type Credentials, logIn } from "./login.ts";
import { Machine } from "./machine.ts";
import { Requests, TokenRefused } from "./request.ts";
import { Session } from "./session.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** What a session is opened with. */
export interface SessionOptions {
  /** Where the homeserver is. */
  readonly homeserver: HomeserverAddress;
  /** Who we are. */
  readonly credentials: Credentials;
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
  const { store } = options;
  const requests = new Requests(await findHomeserver(options.homeserver, signal));
  let account = store.account.load();
  if (account !== undefined) mustBeOurs(account, requests.baseUrl, options.credentials.user);
  account ??= await newLogin(requests, options, undefined, signal);
  requests.accessToken = account.accessToken;
  const machine = await Machine.open(requests, account.userId, account.deviceId, store.cryptoKey);
  try {
    await machine.track(options.allowedUsers);
    try {
      await machine.sendOutgoing(signal);
    } catch (error) {
      if (!(error instanceof TokenRefused) || !error.soft) throw error;
      // The device is still there: only its token has ended (client-server API, 5.7.3, "Soft logout").
      log.warning("the homeserver has ended the access token; logging in again as the same device");
      account = await newLogin(requests, options, account.deviceId, signal);
      await machine.sendOutgoing(signal);
    }
  } catch (error) {
    machine[Symbol.dispose]();
    throw error instanceof TokenRefused ? ended(account, error) : error;
  }
  return new Session({
    requests,
    store,
    machine,
    self: account.userId,
    deviceId: account.deviceId,
    password: options.credentials.password,
    allowedUsers: options.allowedUsers,
    onlySignedDevices: options.onlySignedDevices,
    now: options.now,
  });
}

async function newLogin(
  requests: Requests,
  options: SessionOptions,
  deviceId: string | undefined,
  signal: AbortSignal,
): Promise<StoredSession> {
  requests.accessToken = undefined;
  const account = { homeserver: requests.baseUrl, ...await logIn(requests, options.credentials, deviceId, signal) };
  options.store.account.save(account);
  requests.accessToken = account.accessToken;
  log.info("logged in as {user}, device {device}", { user: account.userId, device: account.deviceId });
  return account;
}

/** A stored session serves one account at one homeserver. */
function mustBeOurs(account: StoredSession, homeserver: string, user: string): void {
  const wanted = user.startsWith("@") ? user : `@${user}${account.userId.slice(account.userId.indexOf(":"))}`;
  const problems = [];
  if (wanted !== account.userId) {
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

function ended(account: StoredSession, cause: TokenRefused): CredentialError {
  return new CredentialError(
    `Cannot go on as device ${account.deviceId} of ${account.userId}: ${cause.message}; give another CRYPTO_STORE_PATH ` +
      "to log in as a new device",
    { cause },
  );
}
