/**
 * State about the Rust crypto that its own database doesn't hold: users with outdated device lists, and inputs that
 * made it panic.
 *
 * @module
 */

import type { Database } from "./sqlite.ts";

/** Notes about the crypto. Every call is on disk when it returns. */
export class CryptoNotes {
  readonly #database: Database;

  /** Uses an open database. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Users whose device list has changed and hasn't been fetched since. */
  staleUsers(): string[] {
    return this.#database.all("SELECT user_id FROM stale_users").map((row) => String(row.user_id));
  }

  /** Marks the device lists of these users as outdated. */
  addStale(users: readonly string[]): void {
    if (users.length === 0) return;
    this.#database.transaction(() => {
      for (const user of users) this.#database.run("INSERT INTO stale_users VALUES (?) ON CONFLICT DO NOTHING", user);
    });
  }

  /** Marks a user's device list as up to date. */
  deleteStale(user: string): void {
    this.#database.run("DELETE FROM stale_users WHERE user_id = ?", user);
  }

  /** Number of panics, by input. */
  panics(): Map<string, number> {
    const rows = this.#database.all("SELECT input, times FROM panics");
    return new Map(rows.map((row) => [String(row.input), Number(row.times)]));
  }

  /** Counts one panic for each of these inputs. */
  recordPanic(inputs: Iterable<string>): void {
    this.#database.transaction(() => {
      for (const input of inputs) {
        const sql = "INSERT INTO panics VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1";
        this.#database.run(sql, input);
      }
    });
  }

  /** Clears the panics of an input that has since been handled. */
  deletePanic(input: string): void {
    this.#database.run("DELETE FROM panics WHERE input = ?", input);
  }
}
