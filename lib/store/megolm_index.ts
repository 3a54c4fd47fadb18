/**
 * Which records of the Rust crypto's database hold Megolm sessions, of which room, and who sent them: the crypto stores
 * what it is sent and deletes none of it, and its own keys are hashes. A record is noted in the transaction that writes
 * it. Knows nothing of what the sessions decrypt.
 *
 * @module
 */

import { decodeKey, encodeKey, type Key } from "./indexeddb/mod.ts";
import type { Database } from "./sqlite.ts";

/** The object stores of matrix-sdk-indexeddb that grow with what others send; keys are `hash(room)`, separator, `hash(session)`. */
export type SessionStore = "inbound_group_sessions3" | "withheld_sessions";

const STORES: readonly SessionStore[] = ["inbound_group_sessions3", "withheld_sessions"];
const SEPARATOR = "\u001d";

/** How many sessions of one sender are kept; the oldest go. */
export const MAX_SESSIONS = {
  /** In one room: a phone makes one a week, or after 100 messages. */
  perRoom: 100,
  /** In all rooms. */
  perSender: 1_000,
} as const;

/** Tables of the index, in the database that holds the records. */
export const megolmIndexSchema = `
  CREATE TABLE megolm_sessions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, key BLOB NOT NULL, room_hash TEXT NOT NULL,
    sender TEXT, noted_at_ms INTEGER NOT NULL, UNIQUE (store, key)
  ) STRICT;
  CREATE INDEX megolm_sessions_of ON megolm_sessions (sender, store, room_hash, seq);
  -- Hashed room ids, as far as they could be told from what was received.
  CREATE TABLE megolm_rooms (
    store TEXT NOT NULL, room_id TEXT NOT NULL, room_hash TEXT NOT NULL, PRIMARY KEY (store, room_id)
  ) STRICT, WITHOUT ROWID;
`;

/** A record of the crypto's database. */
export interface CryptoRecord {
  /** Name of the object store. */
  readonly store: string;
  /** Its key there. */
  readonly key: Key;
}

/** The index of one database of the Rust crypto. */
export class MegolmIndex {
  readonly #database: Database;
  readonly #now: () => number;
  #sender: string | undefined;
  #noted: { readonly store: string; readonly roomHash: string }[] = [];

  /** Over an open database; `now` in milliseconds since the epoch. */
  constructor(database: Database, now: () => number) {
    this.#database = database;
    this.#now = now;
  }

  /** Called for each record that is written, within its transaction. */
  written(store: string, key: Key): void {
    if (!isSessions(store) || typeof key !== "string") return;
    const roomHash = key.split(SEPARATOR, 1).join();
    const isNew = this.#database.run(
      "INSERT INTO megolm_sessions (store, key, room_hash, sender, noted_at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      ...[store, encodeKey(key), roomHash, this.#sender ?? null, this.#now()],
    );
    if (isNew > 0) this.#noted.push({ store, roomHash });
  }

  /** Called for each record that is deleted, within its transaction. */
  deleted(store: string, key: Key): void {
    if (!isSessions(store)) return;
    this.#database.run("DELETE FROM megolm_sessions WHERE store = ? AND key = ?", store, encodeKey(key));
  }

  /** Notes records that were written before there was an index; nobody knows any more who sent them. */
  adopt(records: Iterable<CryptoRecord>): void {
    this.#database.transaction(() => {
      for (const { store, key } of records) this.written(store, key);
    });
    this.#noted = [];
  }

  /**
   * From now on, what is written was sent by this user: one at a time, and until the next call.
   *
   * @param sender undefined: nobody knows; such sessions are not counted
   */
  attribute(sender: string | undefined): void {
    this.#sender = sender;
    this.#noted = [];
  }

  /**
   * Learns by which hash rooms are stored.
   *
   * @param roomIds rooms of the sessions that were received since {@linkcode attribute}, in their order; if not all of
   * them were new, nothing is learnt
   */
  learnRooms(store: SessionStore, roomIds: readonly string[]): void {
    const hashes = this.#noted.filter((noted) => noted.store === store).map(({ roomHash }) => roomHash);
    if (hashes.length !== roomIds.length) return;
    for (const [place, roomId] of roomIds.entries()) {
      const sql = "INSERT INTO megolm_rooms VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
      this.#database.run(sql, store, roomId, hashes[place] ?? "");
    }
  }

  /** Sessions beyond {@linkcode MAX_SESSIONS}, of the sender that was named last. */
  surplus(): CryptoRecord[] {
    if (this.#noted.length === 0 || this.#sender === undefined) return [];
    const beyond = (condition: string, most: number, ...values: string[]) =>
      this.#database.all(
        `SELECT store, key FROM megolm_sessions WHERE sender = ? AND store = ? ${condition}
          ORDER BY seq DESC LIMIT -1 OFFSET ${most}`,
        ...[this.#sender ?? null, ...values],
      ).map(toRecord);
    const rooms = new Map(this.#noted.map((noted) => [`${noted.store} ${noted.roomHash}`, noted]));
    return [
      ...[...rooms.values()].flatMap(({ store, roomHash }) =>
        beyond("AND room_hash = ?", MAX_SESSIONS.perRoom, store, roomHash)
      ),
      ...STORES.flatMap((store) => beyond("", MAX_SESSIONS.perSender, store)),
    ];
  }

  /** Room ids of which sessions are stored, and none that came later than `untilMs`. */
  rooms(untilMs: number): string[] {
    return this.#database.all(
      `SELECT room_id FROM megolm_rooms AS r WHERE EXISTS
        (SELECT 1 FROM megolm_sessions AS s WHERE s.store = r.store AND s.room_hash = r.room_hash)
        GROUP BY room_id HAVING max((SELECT max(noted_at_ms) FROM megolm_sessions AS s
          WHERE s.store = r.store AND s.room_hash = r.room_hash)) <= ?`,
      untilMs,
    ).map((row) => String(row.room_id));
  }

  /** Sessions of a room, whoever sent them. */
  ofRoom(roomId: string): CryptoRecord[] {
    return this.#database.all(
      "SELECT s.store, s.key FROM megolm_sessions AS s JOIN megolm_rooms AS r USING (store, room_hash) WHERE r.room_id = ?",
      roomId,
    ).map(toRecord);
  }
}

function isSessions(store: string): boolean {
  return STORES.some((name) => name === store);
}

function toRecord({ store, key }: Record<string, unknown>): CryptoRecord {
  return { store: String(store), key: decodeKey(key as Uint8Array) };
}
