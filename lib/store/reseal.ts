/**
 * Re-encrypts everything in the state database with another key.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database } from "./sqlite.ts";

/** A column of sealed values. Each is bound to its place: a word and columns of its row (see `seal.ts`). */
interface SealedColumn {
  readonly table: string;
  readonly column: string;
  readonly word?: string;
  /** Columns that the seal is bound to; they also identify the row. */
  readonly bound: readonly string[];
}

/** All sealed columns. `meta` also holds values that aren't sealed; those aren't blobs. */
export const SEALED_COLUMNS: readonly SealedColumn[] = [
  { table: "meta", column: "value", bound: ["name"] },
  { table: "events", column: "content", word: "event", bound: ["room_id", "event_id"] },
  { table: "events", column: "intent", word: "intent", bound: ["room_id", "event_id"] },
  { table: "answers", column: "content", word: "answer", bound: ["transaction_id"] },
  { table: "pins", column: "content", word: "pin", bound: ["user_id"] },
];

/**
 * Opens every seal and seals its value with the other key. Call it in a transaction.
 *
 * @throws StoreError if a seal can't be opened
 */
export function resealAll(database: Database, from: Seal, to: Seal): void {
  for (const { table, column, word, bound } of SEALED_COLUMNS) {
    const sealed = database.all(
      `SELECT ${bound.join(", ")}, ${column} AS sealed FROM ${table} WHERE typeof(${column}) = 'blob'`,
    );
    const where = bound.map((name) => `${name} = ?`).join(" AND ");
    for (const row of sealed) {
      const values = bound.map((name) => String(row[name]));
      const place = word === undefined ? values : [word, ...values];
      const anew = to.close(from.open(row.sealed, ...place), ...place);
      database.run(`UPDATE ${table} SET ${column} = ? WHERE ${where}`, anew, ...values);
    }
  }
}
