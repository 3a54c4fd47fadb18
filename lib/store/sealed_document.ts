/**
 * Sealed JSON documents, one of each name.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** A JSON document. Every call is on disk when it returns. */
export class SealedDocument<Value extends object> {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #name: string;

  /** Uses an open database. */
  constructor(database: Database, seal: Seal, name: string) {
    this.#database = database;
    this.#seal = seal;
    this.#name = name;
  }

  /** The document, typed as its writer knows it; undefined if there is none. */
  load<Known extends Value = Value>(): Known | undefined {
    const row = this.#database.get("SELECT value FROM meta WHERE name = ?", this.#name);
    return row && this.#seal.open(row.value, this.#name) as Known;
  }

  /** Replaces the document. */
  save(value: Value): void {
    this.#database.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", this.#name, this.#seal.close(value, this.#name));
  }

  /** Deletes the document. */
  clear(): void {
    this.#database.run("DELETE FROM meta WHERE name = ?", this.#name);
  }
}
