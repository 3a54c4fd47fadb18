/**
 * Refreshes the access token (Matrix spec v1.16, client-server API, "Refreshing access tokens"): shortly before it
 * expires, and when the homeserver refuses it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { unlessAborted } from "../async.ts";
import { errorMessage, RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { count, text } from "../json.ts";
import type { StoredSession } from "../store/mod.ts";
import { accessTokenOf, type HomeserverClient, type TokenRenewal } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Time before expiry at which a token is refreshed, in milliseconds. At most a third of the token's lifetime. */
const MARGIN_MS = 60_000;
/**
 * Minimum interval between refreshes, in milliseconds. Otherwise a homeserver that names very short lifetimes could
 * cause a request loop.
 */
const AT_MOST_EVERY_MS = 5_000;
/** After a failure, the current token stays in use for this time, in milliseconds, unless it is refused. */
const RETRY_MS = 30_000;
/** Deadline of a refresh, in milliseconds. All other requests wait for it. */
const DEADLINE_MS = 10_000;

/** The tokens of a stored session. */
export type Tokens = Pick<StoredSession, "accessToken" | "refreshToken" | "refreshAtMs">;

/** Returns when to refresh a token that was requested at `askedAtMs`, or undefined if its lifetime isn't known. */
export function refreshAtMs(expiresInMs: number | undefined, askedAtMs: number): number | undefined {
  if (expiresInMs === undefined) return undefined;
  return askedAtMs + Math.max(expiresInMs - Math.min(MARGIN_MS, expiresInMs / 3), AT_MOST_EVERY_MS);
}

/** Options of {@linkcode TokenRefresh}. */
export interface TokenRefreshOptions {
  /** Client whose access token is replaced. */
  readonly client: HomeserverClient;
  /** The current tokens. */
  readonly tokens: Tokens & { readonly refreshToken: string };
  /** Saves new tokens durably. */
  readonly save: (tokens: Tokens) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Refreshes a client's access token. Concurrent callers share one refresh.
 *
 * The old refresh token stays valid until the new access token is first used. New tokens are saved before that, so a
 * process that is killed in between can continue with either pair.
 */
export class TokenRefresh implements TokenRenewal {
  readonly #client: HomeserverClient;
  readonly #save: (tokens: Tokens) => void;
  readonly #now: () => number;
  readonly #ending = new AbortController();
  #tokens: Tokens & { readonly refreshToken: string };
  #notBeforeMs = -Infinity;
  #refreshing: Promise<void> | undefined;

  constructor({ client, tokens, save, now }: TokenRefreshOptions) {
    this.#client = client;
    this.#tokens = tokens;
    this.#save = save;
    this.#now = now;
  }

  async renewIfDue(signal: AbortSignal): Promise<void> {
    const { refreshAtMs: dueAtMs = Infinity } = this.#tokens;
    if (this.#refreshing === undefined && this.#now() < Math.max(dueAtMs, this.#notBeforeMs)) return;
    try {
      await this.#renew(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!isOfHomeserver(error)) throw error;
      log.warning("failed to refresh the access token, which may soon expire: {reason}", {
        reason: errorMessage(error),
      });
    }
  }

  async renewRefused(accessToken: string | undefined, isSoft: boolean, signal: AbortSignal): Promise<void> {
    // The token was replaced while the request was in flight.
    if (accessToken !== this.#tokens.accessToken) return;
    try {
      await this.#renew(signal);
    } catch (error) {
      if (error instanceof RejectedError) throw new TokenRefused(isSoft);
      throw error instanceof TokenRefused ? new TokenRefused(isSoft || error.soft) : error;
    }
  }

  /** Aborts a refresh in progress and ignores its response. */
  [Symbol.dispose](): void {
    this.#ending.abort(new DOMException("The login is not used any more", "AbortError"));
  }

  /** @param signal ends the wait. The refresh continues, because other callers may be waiting for it */
  async #renew(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#refreshing ??= this.#refresh().catch((error) => {
      this.#notBeforeMs = this.#now() + RETRY_MS;
      throw error;
    }).finally(() => this.#refreshing = undefined);
    await unlessAborted(this.#refreshing, signal);
  }

  async #refresh(): Promise<void> {
    const { signal } = this.#ending;
    const { refreshToken } = this.#tokens;
    const askedAtMs = this.#now();
    const { json } = await this.#client.send({
      method: "POST",
      path: "/_matrix/client/v3/refresh",
      body: { refresh_token: refreshToken },
      deadlineMs: DEADLINE_MS,
      isOpen: true,
    }, signal);
    const accessToken = accessTokenOf(json["access_token"]);
    if (accessToken === undefined) throw new TransientError("Cannot refresh the access token: the answer names none");
    const tokens = {
      accessToken,
      // If the response has no new refresh token, the old one remains valid.
      refreshToken: text(json["refresh_token"]) ?? refreshToken,
      refreshAtMs: refreshAtMs(count(json["expires_in_ms"]), askedAtMs),
    };
    signal.throwIfAborted();
    this.#save(tokens);
    this.#tokens = tokens;
    this.#client.accessToken = accessToken;
    log.debug("refreshed the access token");
  }
}

function isOfHomeserver(error: unknown): boolean {
  return error instanceof TransientError || error instanceof RejectedError || error instanceof TokenRefused;
}
