/**
 * Whom each allowed user is believed to be, sealed: an identity, or devices. It satisfies the operator's port of the
 * same name, and knows nothing of how pins are judged by.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** What a user is believed by. */
export type StoredPin =
  & { readonly sinceMs: number; readonly roomId?: string | undefined }
  & (
    | { readonly kind: "identity"; readonly masterKey: string }
    | {
      readonly kind: "devices";
      readonly devices: readonly { readonly deviceId: string; readonly ed25519: string }[];
      readonly pending: readonly { readonly shownId: string; readonly deviceId?: string; readonly key: string }[];
    }
  );

/** The pins of a store. Every call is on disk when it returns. */
export class Pins {
  readonly #database: Database;
  readonly #seal: Seal;

  /** Over an open database. */
  constructor(database: Database, seal: Seal) {
    this.#database = database;
    this.#seal = seal;
  }

  /** The user's pin; undefined before first sight. */
  get(userId: string): StoredPin | undefined {
    const row = this.#database.get("SELECT content FROM pins WHERE user_id = ?", userId);
    return row && this.#seal.open(row.content, "pin", userId) as StoredPin;
  }

  /** Sets the user's pin. */
  set(userId: string, pin: StoredPin): void {
    this.#database.run("INSERT OR REPLACE INTO pins VALUES (?, ?)", userId, this.#seal.close(pin, "pin", userId));
  }
}
