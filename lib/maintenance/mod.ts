/**
 * What the program does instead of running the operator: the health check, and the replacement of keys.
 *
 * @module
 */

import { type Config, encodeRecoveryKey } from "../config/mod.ts";
import { ConfigError, errorMessage } from "../errors.ts";
import { askReadiness } from "../service/mod.ts";
import {
  findHomeserver,
  HomeserverClient,
  type OpenSessionOptions,
  replaceStoreKey,
  SecretStorage,
  whileLoggedIn,
} from "../session/mod.ts";

/** Where results and failures are printed, one line a call. */
export interface Terminal {
  /** Prints a result. */
  log(line: string): void;
  /** Prints a message that isn't a result. */
  error(line: string): void;
}

/** Returns the exit code that says whether the operator running with this configuration is ready, and prints why. */
export async function healthcheck({ httpAddress }: Pick<Config, "httpAddress">, terminal: Terminal): Promise<number> {
  if (httpAddress === undefined || httpAddress.port === 0) {
    const given = httpAddress === undefined ? "off" : "on any free port";
    terminal.error(`HTTP_ADDRESS: ${given}, so there is nothing to ask; use e.g. 127.0.0.1:8080`);
    return 1;
  }
  const { ok, reason } = await askReadiness(httpAddress, new AbortController().signal);
  if (ok) terminal.log(reason);
  else terminal.error(reason);
  return ok ? 0 : 1;
}

/**
 * Replaces the configured recovery key by a new one, and prints that.
 *
 * @returns exit code
 * @throws ConfigError if none is configured, or it doesn't open the account's secret storage
 */
export async function rotateRecoveryKey(
  { recoveryKey, homeserver, login }: Pick<Config, "recoveryKey" | "homeserver" | "login">,
  terminal: Terminal,
): Promise<number> {
  if (recoveryKey === undefined) {
    throw new ConfigError(["RECOVERY_KEY: not set; give the present one, which --rotate-recovery-key replaces"]);
  }
  const next = crypto.getRandomValues(new Uint8Array(32));
  const { signal } = new AbortController();
  // Print the key before it is needed for the first time, so that it can't be lost.
  const onWrite = (): void => terminal.log(encodeRecoveryKey(next));
  try {
    using client = new HomeserverClient(await findHomeserver(homeserver, signal));
    await whileLoggedIn(client, login, async (self) => {
      await SecretStorage.replaceKey(client, self, { key: recoveryKey.reveal(), next, onWrite }, signal);
      terminal.error(`The secret storage of ${self} is encrypted under the new key. Set RECOVERY_KEY to it.`);
    }, signal);
    return 0;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    terminal.error(`${errorMessage(error)}. If a new key was printed, keep both keys and try again with either`);
    return 1;
  }
}

/**
 * Replaces the store's key by a new one, which is printed if the present one is configured. The store is closed
 * afterwards.
 */
export async function rotateStoreKey(
  options: OpenSessionOptions,
  { storeKey }: Pick<Config, "storeKey">,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const key = crypto.getRandomValues(new Uint8Array(32));
  // A configured key isn't in a file of ours. Print the new one first, so that it can't be lost.
  if (storeKey !== undefined) terminal.log(key.toBase64());
  await replaceStoreKey(options, key, signal);
}
