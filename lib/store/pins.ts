/**
 * What each allowed user is known by, sealed. It satisfies the operator's port of the same name, and knows nothing
 * of what a pin is.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

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
  get<Pin extends object>(userId: string): Pin | undefined {
    const row = this.#database.get("SELECT content FROM pins WHERE user_id = ?", userId);
    return row && this.#seal.open(row.content, "pin", userId) as Pin;
  }

  /** Sets the user's pin: JSON. */
  set(userId: string, pin: object): void {
    this.#database.run("INSERT OR REPLACE INTO pins VALUES (?, ?)", userId, this.#seal.close(pin, "pin", userId));
  }
}
