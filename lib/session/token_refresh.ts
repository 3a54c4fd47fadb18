/**
 * Renewing the access token by the refresh token (Matrix spec v1.16, client-server API, "Refreshing access tokens"):
 * shortly before it expires, and when the homeserver refuses it. Knows nothing of logging in.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { unlessAborted } from "../async.ts";
import { errorMessage, RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { count, text } from "../json.ts";
import type { StoredSession } from "../store/mod.ts";
import type { HomeserverClient, TokenRenewal } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** A token is renewed so long before it expires, milliseconds; of a short life, a third before. */
const MARGIN_MS = 60_000;
/** However short a life the homeserver names, milliseconds: more often would be a request loop at its bidding. */
const AT_MOST_EVERY_MS = 5_000;
/** After a failure the token in use goes on being used for so long, milliseconds, unless it is refused. */
const RETRY_MS = 30_000;
/** Of the request; all others wait for it, milliseconds. */
const DEADLINE_MS = 10_000;

/** The part of a session that is renewed. */
export type Tokens = Pick<StoredSession, "accessToken" | "refreshToken" | "refreshAtMs">;

/** When a token is to be renewed that was asked for at `askedAtMs`; undefined if it isn't known to expire. */
export function refreshAtMs(expiresInMs: number | undefined, askedAtMs: number): number | undefined {
  if (expiresInMs === undefined) return undefined;
  return askedAtMs + Math.max(expiresInMs - Math.min(MARGIN_MS, expiresInMs / 3), AT_MOST_EVERY_MS);
}

/** What a {@linkcode TokenRefresh} works with. */
export interface TokenRefreshOptions {
  /** Whose access token is replaced. */
  readonly client: HomeserverClient;
  /** The tokens in use. */
  readonly tokens: Tokens & { readonly refreshToken: string };
  /** Saves new ones, durably. */
  readonly save: (tokens: Tokens) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Renews the access token of a client. However many requests need it, one asks, and all wait for that.
 *
 * The old refresh token stays valid until the new access token is first used. So the new pair is on disk before that: a
 * process that is killed in between goes on with either.
 */
export class TokenRefresh implements TokenRenewal {
  readonly #client: HomeserverClient;
  readonly #save: (tokens: Tokens) => void;
  readonly #now: () => number;
  readonly #ending = new AbortController();
  #tokens: Tokens & { readonly refreshToken: string };
  #notBeforeMs = -Infinity;
  #underWay: Promise<void> | undefined;

  constructor({ client, tokens, save, now }: TokenRefreshOptions) {
    this.#client = client;
    this.#tokens = tokens;
    this.#save = save;
    this.#now = now;
  }

  async renewIfDue(signal: AbortSignal): Promise<void> {
    const { refreshAtMs: dueAtMs = Infinity } = this.#tokens;
    if (this.#underWay === undefined && this.#now() < Math.max(dueAtMs, this.#notBeforeMs)) return;
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
    // It was replaced while the request was on its way.
    if (accessToken !== this.#tokens.accessToken) return;
    try {
      await this.#renew(signal);
    } catch (error) {
      if (error instanceof RejectedError) throw new TokenRefused(isSoft);
      throw error instanceof TokenRefused ? new TokenRefused(isSoft || error.soft) : error;
    }
  }

  /** Ends a request that is under way; its answer, should it come, is not used. */
  [Symbol.dispose](): void {
    this.#ending.abort(new DOMException("The login is not used any more", "AbortError"));
  }

  /** @param signal ends the wait; the request goes on, as others may wait for it, too */
  async #renew(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#underWay ??= this.#refresh().catch((error) => {
      this.#notBeforeMs = this.#now() + RETRY_MS;
      throw error;
    }).finally(() => this.#underWay = undefined);
    await unlessAborted(this.#underWay, signal);
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
    const accessToken = text(json["access_token"]);
    if (!accessToken) throw new TransientError("Cannot refresh the access token: the answer names none");
    const tokens = {
      accessToken,
      // Without a new one, the old one can be used again.
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
