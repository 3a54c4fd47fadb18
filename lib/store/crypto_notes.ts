/**
 * What is to be known of the Rust crypto beside its own database: whose devices have changed since the homeserver last
 * told them, and what it has panicked at. Knows nothing of what is done about it.
 *
 * @module
 */

import type { Database } from "./sqlite.ts";

/** Notes on the crypto. Every call is on disk when it returns. */
export class CryptoNotes {
  readonly #database: Database;

  /** Over an open database. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Users whose devices have changed and have not been told since. */
  staleUsers(): string[] {
    return this.#database.all("SELECT user_id FROM stale_users").map((row) => String(row.user_id));
  }

  /** Notes that these users' devices have changed. */
  addStale(users: readonly string[]): void {
    if (users.length === 0) return;
    this.#database.transaction(() => {
      for (const user of users) this.#database.run("INSERT INTO stale_users VALUES (?) ON CONFLICT DO NOTHING", user);
    });
  }

  /** Notes that a user's devices have been told. */
  deleteStale(user: string): void {
    this.#database.run("DELETE FROM stale_users WHERE user_id = ?", user);
  }

  /** How often the crypto has panicked, by its input. */
  panics(): Map<string, number> {
    const rows = this.#database.all("SELECT input, times FROM panics");
    return new Map(rows.map((row) => [String(row.input), Number(row.times)]));
  }

  /** Notes a panic at each of these inputs. */
  addPanic(inputs: Iterable<string>): void {
    this.#database.transaction(() => {
      for (const input of inputs) {
        const sql = "INSERT INTO panics VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1";
        this.#database.run(sql, input);
      }
    });
  }

  /** Notes that an input was handled. */
  deletePanic(input: string): void {
    this.#database.run("DELETE FROM panics WHERE input = ?", input);
  }
}
