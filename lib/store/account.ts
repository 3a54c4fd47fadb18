/**
 * The stored session of the operator's Matrix account, sealed. Knows nothing of how it was obtained.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** A session with the homeserver. */
export interface StoredSession {
  /** Base URL of the homeserver that it belongs to. */
  readonly homeserver: string;
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
  /** Refresh token, if the homeserver gave one. */
  readonly refreshToken?: string;
}

/** The one session that is stored. */
export class Account {
  readonly #database: Database;
  readonly #seal: Seal;

  /** Over an open database. */
  constructor(database: Database, seal: Seal) {
    this.#database = database;
    this.#seal = seal;
  }

  /** The session; undefined if there is none. */
  load(): StoredSession | undefined {
    const row = this.#database.get("SELECT value FROM meta WHERE name = 'account'");
    return row && this.#seal.open(row.value, "account") as StoredSession;
  }

  /** Replaces the session. */
  save(session: StoredSession): void {
    this.#database.run("INSERT OR REPLACE INTO meta VALUES ('account', ?)", this.#seal.close(session, "account"));
  }

  /** Forgets the session. */
  clear(): void {
    this.#database.run("DELETE FROM meta WHERE name = 'account'");
  }
}
