/**
 * Pins of allowed users: the identity or devices by which each one is recognised. Stored sealed. Implements the
 * operator's port of the same name; pins are opaque to it.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** The pins of a store. Every call is on disk when it returns. */
export class Pins {
  readonly #database: Database;
  readonly #seal: Seal;

  /** Uses an open database. */
  constructor(database: Database, seal: Seal) {
    this.#database = database;
    this.#seal = seal;
  }

  /** The user's pin; undefined if the user has none yet. */
  get<Pin extends object>(userId: string): Pin | undefined {
    const row = this.#database.get("SELECT content FROM pins WHERE user_id = ?", userId);
    return row && this.#seal.open(row.content, "pin", userId) as Pin;
  }

  /** Sets the user's pin, as JSON. */
  set(userId: string, pin: object): void {
    this.#database.run("INSERT OR REPLACE INTO pins VALUES (?, ?)", userId, this.#seal.close(pin, "pin", userId));
  }
}
