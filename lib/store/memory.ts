/**
 * One sealed document of the operator's, which satisfies its port of the same name. What is in it, only the operator
 * knows.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** The document of a store. Every call is on disk when it returns. */
export class Memory {
  readonly #database: Database;
  readonly #seal: Seal;

  /** Over an open database. */
  constructor(database: Database, seal: Seal) {
    this.#database = database;
    this.#seal = seal;
  }

  /** The document, as whoever saved it knows it; undefined before it was first saved. */
  load<Remembered>(): Remembered | undefined {
    const row = this.#database.get("SELECT value FROM meta WHERE name = 'memory'");
    return row && this.#seal.open(row.value, "memory") as Remembered;
  }

  /** Replaces the document: JSON. */
  save(remembered: object): void {
    this.#database.run("INSERT OR REPLACE INTO meta VALUES ('memory', ?)", this.#seal.close(remembered, "memory"));
  }
}
