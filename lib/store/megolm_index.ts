/**
 * Index of the Megolm sessions in the Rust crypto's database, by room and sender. The crypto stores every session that
 * it receives, never deletes one, and has only hashes as keys. Records are indexed in the transaction that writes them.
 *
 * @module
 */

import { decodeKey, encodeKey, type Key } from "./indexeddb/mod.ts";
import type { Database } from "./sqlite.ts";

/**
 * Object stores of matrix-sdk-indexeddb that grow with what others send and with rooms. A key is `hash(room)`,
 * separator, `hash(session)`; of our own outbound session, of which a room has one, `hash(room)`.
 */
export type SessionStore = "inbound_group_sessions3" | "withheld_sessions" | "outbound_group_sessions";

const STORES: readonly SessionStore[] = ["inbound_group_sessions3", "withheld_sessions", "outbound_group_sessions"];
const SEPARATOR = "\u001d";

/** How many sessions of one sender are kept. The oldest are deleted first. */
export const MAX_SESSIONS = {
  /** Per room. A phone makes one a week, or every 100 messages. */
  perRoom: 100,
  /** Over all rooms. */
  perSender: 1_000,
} as const;

/** The index's tables, in the database that holds the records. */
export const megolmIndexSchema = `
  CREATE TABLE megolm_sessions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, key BLOB NOT NULL, room_hash TEXT NOT NULL,
    sender TEXT, noted_at_ms INTEGER NOT NULL, UNIQUE (store, key)
  ) STRICT;
  CREATE INDEX megolm_sessions_of ON megolm_sessions (sender, store, room_hash, seq);
  -- Hashes of room ids, as far as they could be learned from received sessions.
  CREATE TABLE megolm_rooms (
    store TEXT NOT NULL, room_id TEXT NOT NULL, room_hash TEXT NOT NULL, PRIMARY KEY (store, room_id)
  ) STRICT, WITHOUT ROWID;
`;

/** A record in the crypto's database. */
export interface CryptoRecord {
  /** Name of the object store. */
  readonly store: string;
  /** Key in the object store. */
  readonly key: Key;
}

/** Index of one Rust crypto database. */
export class MegolmIndex {
  readonly #database: Database;
  readonly #now: () => number;
  #sender: string | undefined;
  #added: { readonly store: string; readonly roomHash: string }[] = [];

  /** Uses an open database; `now` returns milliseconds since the epoch. */
  constructor(database: Database, now: () => number) {
    this.#database = database;
    this.#now = now;
  }

  /** Called for each record that is written, within the same transaction. */
  written(store: string, key: Key): void {
    if (!isSessions(store) || typeof key !== "string") return;
    const roomHash = key.split(SEPARATOR, 1).join();
    const isNew = this.#database.run(
      "INSERT INTO megolm_sessions (store, key, room_hash, sender, noted_at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      ...[store, encodeKey(key), roomHash, this.#sender ?? null, this.#now()],
    );
    if (isNew > 0) this.#added.push({ store, roomHash });
  }

  /** Called for each record that is deleted, within the same transaction. */
  deleted(store: string, key: Key): void {
    if (!isSessions(store)) return;
    this.#database.run("DELETE FROM megolm_sessions WHERE store = ? AND key = ?", store, encodeKey(key));
  }

  /** Indexes records from before the index existed. Their senders are unknown. */
  backfill(records: Iterable<CryptoRecord>): void {
    this.#database.transaction(() => {
      for (const { store, key } of records) this.written(store, key);
    });
    this.#added = [];
  }

  /**
   * Attributes the records written from now on to a sender, until the next call.
   *
   * @param sender undefined if unknown; such sessions don't count towards {@linkcode MAX_SESSIONS}
   */
  setSender(sender: string | undefined): void {
    this.#sender = sender;
    this.#added = [];
  }

  /**
   * Learns the hashes that rooms are stored under.
   *
   * @param roomIds rooms of the sessions received since {@linkcode setSender}, in order; nothing is learned unless all
   * of those sessions were new
   */
  learnRooms(store: SessionStore, roomIds: readonly string[]): void {
    const hashes = this.#added.filter((added) => added.store === store).map(({ roomHash }) => roomHash);
    if (hashes.length !== roomIds.length) return;
    for (const [place, roomId] of roomIds.entries()) {
      const sql = "INSERT INTO megolm_rooms VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
      this.#database.run(sql, store, roomId, hashes[place] ?? "");
    }
  }

  /** Sessions beyond {@linkcode MAX_SESSIONS} of the sender last given to {@linkcode setSender}. */
  excessSessions(): CryptoRecord[] {
    if (this.#added.length === 0 || this.#sender === undefined) return [];
    const beyond = (condition: string, limit: number, ...values: string[]) =>
      this.#database.all(
        `SELECT store, key FROM megolm_sessions WHERE sender = ? AND store = ? ${condition}
          ORDER BY seq DESC LIMIT -1 OFFSET ${limit}`,
        ...[this.#sender ?? null, ...values],
      ).map(toRecord);
    const rooms = new Map(this.#added.map((added) => [`${added.store} ${added.roomHash}`, added]));
    return [
      ...[...rooms.values()].flatMap(({ store, roomHash }) =>
        beyond("AND room_hash = ?", MAX_SESSIONS.perRoom, store, roomHash)
      ),
      ...STORES.flatMap((store) => beyond("", MAX_SESSIONS.perSender, store)),
    ];
  }

  /** Rooms with stored sessions, none of them received after `untilMs`. */
  rooms(untilMs: number): string[] {
    return this.#database.all(
      `SELECT room_id FROM megolm_rooms AS r WHERE EXISTS
        (SELECT 1 FROM megolm_sessions AS s WHERE s.store = r.store AND s.room_hash = r.room_hash)
        GROUP BY room_id HAVING max((SELECT max(noted_at_ms) FROM megolm_sessions AS s
          WHERE s.store = r.store AND s.room_hash = r.room_hash)) <= ?`,
      untilMs,
    ).map((row) => String(row.room_id));
  }

  /** All sessions of a room, of any sender. */
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
