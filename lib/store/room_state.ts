/**
 * What syncing has brought: the token, rooms and their joined members, new events and the gaps before them. All of one
 * sync response is written in one transaction, by whoever calls. Knows nothing of how events are handled.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database, Row } from "./sqlite.ts";

/** How long the sync token on disk may lag behind, milliseconds. */
const TOKEN_LAG_MS = 60_000;

/** A room as it is stored. */
export interface StoredRoom {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** It has once been seen encrypted: this never goes back. */
  readonly encrypted: boolean;
  /** The last usable `m.room.encryption`; once there is one, it never goes back to undefined. */
  readonly encryption: StoredEncryption | undefined;
  /** Who invited us, by each member event for us in an invitation; none if it holds no such event. */
  readonly inviters: readonly string[];
  /** Our own display name in the room; undefined if we have none, or it has not been told since we joined. */
  readonly ownName: string | undefined;
}

/** Settings that a room can be encrypted by. */
export interface StoredEncryption {
  /** Algorithm. */
  readonly algorithm: string;
  /** How long a session may be used, milliseconds. */
  readonly rotationPeriodMs?: number;
  /** For how many messages a session may be used. */
  readonly rotationPeriodMessages?: number;
}

/** An event as it arrives. */
export interface NewEvent {
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id that the homeserver names as the sender. */
  readonly sender: string;
  /** The event as the server sent it. */
  readonly event: Readonly<Record<string, unknown>>;
  /** When it was received, milliseconds since the epoch, our clock. */
  readonly receivedAtMs: number;
  /** The server's `unsigned.age` at receipt, milliseconds; undefined if the server gave none. */
  readonly ageMs: number | undefined;
}

/** How an event enters: to be handled, behind a gap, or never to be handled. */
export type Entering =
  | { readonly state: "new" }
  | { readonly state: "held"; readonly gap: number }
  | { readonly state: "settled" };

/** A part of a room's timeline that the homeserver left out. */
export interface Gap {
  /** Greater is later. */
  readonly id: number;
  /** Room id. */
  readonly roomId: string;
  /** The timeline's `prev_batch`, where reading backwards begins. */
  readonly from: string;
  /** The sync token before it, where reading ends; undefined if there was none. */
  readonly to: string | undefined;
}

/** Rooms, their joined members, the sync token, and events as they arrive. */
export class RoomState {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #now: () => number;
  /** Where syncing has got since the token on disk, without anything to be written. */
  #unwrittenToken: string | undefined;
  #tokenWrittenAtMs = -Infinity;

  /** Over an open database; `now` in milliseconds since the epoch. */
  constructor(database: Database, seal: Seal, now: () => number) {
    this.#database = database;
    this.#seal = seal;
    this.#now = now;
  }

  /** The token to sync from; undefined before the first sync. */
  syncToken(): string | undefined {
    if (this.#unwrittenToken !== undefined) return this.#unwrittenToken;
    const row = this.#database.get("SELECT value FROM meta WHERE name = 'sync_token'");
    return row && String(row.value);
  }

  /**
   * Applies a sync response, together with the token that it ends with, in one transaction. Where that changes nothing, the
   * token is kept in memory, and written a minute later at most: what is of no concern to us costs no commit.
   *
   * @param isDurable somebody else has written down what came of this response: the token must not lag behind
   */
  advance(token: string, isDurable: boolean, apply: () => void): void {
    this.#database.transaction(() => {
      const before = this.changes();
      apply();
      const isQuiet = this.changes() === before && !isDurable && !this.tokenIsAdopted();
      if (isQuiet && Math.abs(this.#now() - this.#tokenWrittenAtMs) < TOKEN_LAG_MS) this.#unwrittenToken = token;
      else this.setSyncToken(token);
    });
  }

  /** How many rows of the store have been changed so far. */
  changes(): number {
    return this.#database.totalChanges();
  }

  /** Sets the token to sync from. */
  setSyncToken(token: string): void {
    this.#unwrittenToken = undefined;
    this.#tokenWrittenAtMs = this.#now();
    this.#database.run("INSERT OR REPLACE INTO meta VALUES ('sync_token', ?)", token);
    this.#database.run("DELETE FROM meta WHERE name = 'token_adopted'");
  }

  /** Sets the token of another program, which knew rooms that are not known here. */
  adoptToken(token: string): void {
    this.setSyncToken(token);
    this.#database.run("INSERT INTO meta VALUES ('token_adopted', 1)");
  }

  /** The token is another program's: what it stands for is still to be told in full. */
  tokenIsAdopted(): boolean {
    return this.#database.get("SELECT 1 FROM meta WHERE name = 'token_adopted'") !== undefined;
  }

  /** All rooms. */
  all(): StoredRoom[] {
    return this.#database.all("SELECT * FROM rooms WHERE membership IS NOT NULL ORDER BY room_id").map(toRoom);
  }

  /** A room; undefined if it is not known, or forgotten. */
  get(roomId: string): StoredRoom | undefined {
    const row = this.#database.get("SELECT * FROM rooms WHERE room_id = ? AND membership IS NOT NULL", roomId);
    return row && toRoom(row);
  }

  /** Writes a room. Encryption is sticky: what was known of it stays, even from before the room was forgotten. */
  save({ roomId, membership, encrypted, encryption, inviters, ownName }: StoredRoom): void {
    this.#database.run(
      `INSERT INTO rooms (room_id, membership, encrypted, encryption, inviters, own_name) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET membership = excluded.membership, encrypted = max(encrypted, excluded.encrypted),
        encryption = ifnull(excluded.encryption, encryption), inviters = excluded.inviters, own_name = excluded.own_name`,
      ...[roomId, membership, Number(encrypted || encryption !== undefined)],
      ...[encryption ? JSON.stringify(encryption) : null, JSON.stringify(inviters), ownName ?? null],
    );
  }

  /**
   * Notes that a room is encrypted, whatever its state says, and leaves the rest as it is.
   *
   * @param encryption settings to encrypt by from now on; without any, the last usable ones stay
   */
  setEncrypted(roomId: string, encryption?: StoredEncryption): void {
    this.#database.run(
      `INSERT INTO rooms (room_id, encrypted, encryption, inviters) VALUES (?, 1, ?, '[]')
        ON CONFLICT DO UPDATE SET encrypted = 1, encryption = ifnull(excluded.encryption, encryption)`,
      ...[roomId, encryption ? JSON.stringify(encryption) : null],
    );
  }

  /** Forgets a room that was left; what was held behind a gap is settled. Only that it was encrypted stays known. */
  forget(roomId: string): void {
    this.#database.transaction(() => {
      this.#database.run("DELETE FROM rooms WHERE room_id = ? AND NOT encrypted", roomId);
      this.#database.run(
        "UPDATE rooms SET membership = NULL, inviters = '[]', own_name = NULL WHERE room_id = ?",
        roomId,
      );
      this.forgetMembers(roomId);
      this.#database.run(
        `UPDATE events SET state = 'settled', gap = NULL, content = NULL, outcome = 'room-forgotten', settled_at_ms = ?
          WHERE room_id = ? AND state = 'held'`,
        ...[this.#now(), roomId],
      );
      this.#database.run("DELETE FROM gaps WHERE room_id = ?", roomId);
      this.#database.run("DELETE FROM cut_histories WHERE room_id = ?", roomId);
    });
  }

  /** Forgets all rooms, as {@linkcode forget} does, and where syncing stands: the next sync tells everything anew. */
  forgetAll(): void {
    this.#database.transaction(() => {
      for (const { roomId } of this.all()) this.forget(roomId);
      this.#unwrittenToken = undefined;
      this.#database.run("DELETE FROM meta WHERE name IN ('sync_token', 'token_adopted')");
    });
  }

  /** Our own display names in the rooms that we have joined. */
  ownNames(): string[] {
    const sql = "SELECT DISTINCT own_name FROM rooms WHERE membership = 'join' AND own_name IS NOT NULL";
    return this.#database.all(sql).map(({ own_name }) => String(own_name));
  }

  /** User ids of all joined members: one read, as long as the room is large. */
  joinedMembers(roomId: string): string[] {
    const rows = this.#database.all("SELECT user_id FROM joined_members WHERE room_id = ?", roomId);
    return rows.map(({ user_id }) => String(user_id));
  }

  /** How many members have joined. */
  joinedCount(roomId: string): number {
    const row = this.#database.get("SELECT count(*) AS joined FROM joined_members WHERE room_id = ?", roomId);
    return Number(row?.joined);
  }

  /** Whether a user has joined. */
  isJoined(roomId: string, userId: string): boolean {
    const sql = "SELECT 1 FROM joined_members WHERE room_id = ? AND user_id = ?";
    return this.#database.get(sql, roomId, userId) !== undefined;
  }

  /**
   * Notes of users whether they are joined now; of several notes of one user, the last one holds.
   *
   * @returns users who were joined and by one of these notes have left, if only to come back
   */
  updateMembers(roomId: string, notes: readonly (readonly [userId: string, joined: boolean])[]): string[] {
    if (notes.length === 0) return [];
    const last = JSON.stringify([...new Map(notes)]);
    return this.#database.transaction(() => {
      // A cross join is done in the order in which it is written: one look-up by key for each note.
      const left = this.#database.all(
        `SELECT DISTINCT user_id FROM json_each(?2) AS note CROSS JOIN joined_members
          WHERE room_id = ?1 AND user_id = note.value ->> 0 AND NOT note.value ->> 1`,
        ...[roomId, JSON.stringify(notes)],
      );
      this.#database.run(
        `DELETE FROM joined_members
          WHERE room_id = ?1 AND user_id IN (SELECT value ->> 0 FROM json_each(?2) WHERE NOT value ->> 1)`,
        ...[roomId, last],
      );
      this.#database.run(
        `INSERT OR IGNORE INTO joined_members (room_id, user_id)
          SELECT ?1, value ->> 0 FROM json_each(?2) WHERE value ->> 1`,
        ...[roomId, last],
      );
      return left.map(({ user_id }) => String(user_id));
    });
  }

  /** Sets a joined member's display name. */
  nameMember(roomId: string, userId: string, name: string | undefined): void {
    const sql = "UPDATE joined_members SET name = ?1 WHERE room_id = ?2 AND user_id = ?3 AND name IS NOT ?1";
    this.#database.run(sql, name ?? null, roomId, userId);
  }

  /** A joined member's display name; undefined if it was never set. */
  nameOf(roomId: string, userId: string): string | undefined {
    const sql = "SELECT name FROM joined_members WHERE room_id = ? AND user_id = ?";
    const name = this.#database.get(sql, roomId, userId)?.name;
    return typeof name === "string" ? name : undefined;
  }

  /** Forgets who has joined. */
  forgetMembers(roomId: string): void {
    this.#database.run("DELETE FROM joined_members WHERE room_id = ?", roomId);
  }

  /**
   * Takes an event in, after all that are there.
   *
   * @returns false if the event is known already
   */
  addEvent(event: NewEvent, how: Entering): boolean {
    const { roomId, eventId, sender, receivedAtMs, ageMs } = event;
    return this.#database.transaction(() => {
      if (this.knows(roomId, eventId)) return false;
      const settled = how.state === "settled";
      this.#database.run(
        `INSERT INTO events (seq, room_id, event_id, sender, received_at_ms, age_ms, state, gap, content, outcome,
          settled_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[this.#nextPlace(), roomId, eventId, sender, Math.round(receivedAtMs)],
        ...[ageMs === undefined ? null : Math.round(ageMs), how.state, how.state === "held" ? how.gap : null],
        settled ? null : this.#seal.close(event.event, "event", roomId, eventId),
        ...settled ? ["silent", this.#now()] : [null, null],
      );
      return true;
    });
  }

  /** An event has been taken in. */
  knows(roomId: string, eventId: string): boolean {
    return this.#database.get("SELECT 1 FROM events WHERE room_id = ? AND event_id = ?", roomId, eventId) !== undefined;
  }

  /** Gaps that are not filled, oldest first, which is also the order to fill them in. */
  gaps(): Gap[] {
    return this.#database.all("SELECT * FROM gaps ORDER BY id").map((row) => ({
      id: Number(row.id),
      roomId: String(row.room_id),
      from: String(row.from_token),
      to: row.to_token === null ? undefined : String(row.to_token),
    }));
  }

  /** Writes a gap down; returns its id. */
  addGap({ roomId, from, to }: Omit<Gap, "id">): number {
    const sql = "INSERT INTO gaps (room_id, from_token, to_token) VALUES (?, ?, ?) RETURNING id";
    return Number(this.#database.get(sql, roomId, from, to ?? null)?.id);
  }

  /** How many gaps of a room are not filled. */
  gapCount(roomId: string): number {
    return Number(this.#database.get("SELECT count(*) AS gaps FROM gaps WHERE room_id = ?", roomId)?.gaps);
  }

  /** Notes that a part of a room's timeline can't be had, besides its gaps; what was noted before is no news any more. */
  cutHistory(roomId: string): void {
    this.#database.transaction(() => {
      this.#database.run("DELETE FROM cut_histories WHERE room_id = ?", roomId);
      this.#database.run("INSERT INTO cut_histories (room_id) VALUES (?)", roomId);
    });
  }

  /** The newest gap of a room, which events that arrive now are held behind. */
  openGap(roomId: string): number | undefined {
    const id = this.#database.get("SELECT max(id) AS id FROM gaps WHERE room_id = ?", roomId)?.id;
    return typeof id === "number" ? id : undefined;
  }

  /**
   * Fills a gap: its events, earliest first, and behind them those that were held. They are to be handled now, or, if
   * an older gap of the room is still open, held behind that one, so that the order is right whichever is filled first.
   *
   * @param cutOff there were, or may have been, earlier events that could not be had
   */
  fillGap(id: number, events: readonly NewEvent[], cutOff = false): void {
    this.#database.transaction(() => {
      const gap = this.#database.get("SELECT room_id FROM gaps WHERE id = ?", id);
      if (!gap) return;
      const sql = "SELECT max(id) AS id FROM gaps WHERE room_id = ? AND id < ?";
      const older = this.#database.get(sql, gap.room_id ?? null, id)?.id;
      const how: Entering = typeof older === "number" ? { state: "held", gap: older } : { state: "new" };
      for (const event of events) this.addEvent(event, how);
      for (const { seq } of this.#database.all("SELECT seq FROM events WHERE gap = ? ORDER BY seq", id)) {
        this.#database.run(
          "UPDATE events SET seq = ?, state = ?, gap = ? WHERE seq = ?",
          ...[this.#nextPlace(), how.state, how.state === "held" ? how.gap : null, seq ?? null],
        );
      }
      this.#database.run("DELETE FROM gaps WHERE id = ?", id);
      if (cutOff) this.cutHistory(String(gap.room_id));
    });
  }

  /** Places are never given twice, not even after all events are pruned: readers remember how far they have read. */
  #nextPlace(): number {
    const row = this.#database.get("UPDATE meta SET value = value + 1 WHERE name = 'place' RETURNING value");
    return Number(row?.value);
  }
}

function toRoom(row: Row): StoredRoom {
  return {
    roomId: String(row.room_id),
    membership: String(row.membership) as StoredRoom["membership"],
    encrypted: row.encrypted === 1,
    encryption: row.encryption === null ? undefined : JSON.parse(String(row.encryption)),
    inviters: JSON.parse(String(row.inviters)),
    ownName: row.own_name === null ? undefined : String(row.own_name),
  };
}
