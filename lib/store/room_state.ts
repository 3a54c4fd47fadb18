/**
 * State from syncing: the sync token, rooms and their joined members, new events, and gaps in timelines. The caller
 * writes each sync response in one transaction.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database, Row } from "./sqlite.ts";

/** How far the sync token on disk may lag behind, in milliseconds. */
const TOKEN_LAG_MS = 60_000;

/** A stored room. */
export interface StoredRoom {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** Whether the room was ever seen encrypted. Never reset. */
  readonly encrypted: boolean;
  /** The last usable `m.room.encryption`. Once set, never reset to undefined. */
  readonly encryption: StoredEncryption | undefined;
  /** Senders of all member events for us in an invitation; empty if it contains none. */
  readonly inviters: readonly string[];
  /** Our display name in the room; undefined if we have none or haven't seen one since we joined. */
  readonly ownName: string | undefined;
}

/** Encryption settings of a room. */
export interface StoredEncryption {
  /** Encryption algorithm, such as `m.megolm.v1.aes-sha2`. */
  readonly algorithm: string;
  /** Longest use of a session, in milliseconds. */
  readonly rotationPeriodMs?: number;
  /** Most messages that a session may encrypt. */
  readonly rotationPeriodMessages?: number;
}

/** An event as received. */
export interface NewEvent {
  /** Room id. */
  readonly roomId: string;
  /** Event id. */
  readonly eventId: string;
  /** User id of the sender, as claimed by the homeserver. */
  readonly sender: string;
  /** The event's JSON, as received. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Time of receipt by our clock, milliseconds since the epoch. */
  readonly receivedAtMs: number;
  /** `unsigned.age` at receipt, in milliseconds; undefined if the server gave none. */
  readonly ageMs: number | undefined;
}

/** State that an event is added in: to be handled, held behind a gap, or not to be handled at all. */
export type InitialState =
  | { readonly state: "new" }
  | { readonly state: "held"; readonly gap: number }
  | { readonly state: "settled" };

/** A part of a room's timeline that the homeserver omitted. */
export interface Gap {
  /** A greater id is a later gap. */
  readonly id: number;
  /** Room id. */
  readonly roomId: string;
  /** The timeline's `prev_batch`, where back-pagination starts. */
  readonly from: string;
  /** The sync token before the gap, where back-pagination ends; undefined if there was none. */
  readonly to: string | undefined;
}

/** Rooms, their joined members, the sync token, and received events. */
export class RoomState {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #now: () => number;
  /** Newer than the token on disk. Kept in memory because nothing else had to be written. */
  #unwrittenToken: string | undefined;
  #tokenWrittenAtMs = -Infinity;

  /** Uses an open database; `now` returns milliseconds since the epoch. */
  constructor(database: Database, seal: Seal, now: () => number) {
    this.#database = database;
    this.#seal = seal;
    this.#now = now;
  }

  /** Token to sync from; undefined before the first sync. */
  syncToken(): string | undefined {
    if (this.#unwrittenToken !== undefined) return this.#unwrittenToken;
    const row = this.#database.get("SELECT value FROM meta WHERE name = 'sync_token'");
    return row && String(row.value);
  }

  /**
   * Applies a sync response and its token in one transaction. If the response changes nothing, the token is kept in
   * memory and written within a minute, so that irrelevant responses cost no commit.
   *
   * The homeserver sends the same response again for the token before it. So it may be written lazily: what is done
   * because of its events is never durable without them.
   *
   * @param isDurable effects of this response were already written elsewhere, so the token must be durable as well
   */
  advance(token: string, isDurable: boolean, apply: () => void): void {
    const write = (writes: () => void): void =>
      isDurable ? this.#database.transaction(writes) : this.#database.lazily(writes);
    write(() => {
      const before = this.changes();
      apply();
      const isQuiet = this.changes() === before && !isDurable && !this.tokenIsAdopted();
      if (isQuiet && Math.abs(this.#now() - this.#tokenWrittenAtMs) < TOKEN_LAG_MS) this.#unwrittenToken = token;
      else this.setSyncToken(token);
    });
  }

  /** Number of rows changed in the store so far. */
  changes(): number {
    return this.#database.totalChanges();
  }

  /** Sets the sync token. */
  setSyncToken(token: string): void {
    this.#unwrittenToken = undefined;
    this.#tokenWrittenAtMs = this.#now();
    this.#database.run("INSERT OR REPLACE INTO meta VALUES ('sync_token', ?)", token);
    this.#database.run("DELETE FROM meta WHERE name = 'token_adopted'");
  }

  /** Sets the sync token of another program, which knew rooms that we don't. */
  adoptToken(token: string): void {
    this.setSyncToken(token);
    this.#database.run("INSERT INTO meta VALUES ('token_adopted', 1)");
  }

  /** Whether the token is another program's, so that the full state of rooms must still be fetched. */
  tokenIsAdopted(): boolean {
    return this.#database.get("SELECT 1 FROM meta WHERE name = 'token_adopted'") !== undefined;
  }

  /** All known rooms. */
  all(): StoredRoom[] {
    return this.#database.all("SELECT * FROM rooms WHERE membership IS NOT NULL ORDER BY room_id").map(toRoom);
  }

  /** A room; undefined if it is unknown or was forgotten. */
  get(roomId: string): StoredRoom | undefined {
    const row = this.#database.get("SELECT * FROM rooms WHERE room_id = ? AND membership IS NOT NULL", roomId);
    return row && toRoom(row);
  }

  /** Stores a room. Encryption is sticky: earlier settings are kept, even from before the room was forgotten. */
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
   * Marks a room as encrypted, whatever its state says. Changes nothing else.
   *
   * @param encryption settings to encrypt with from now on; if undefined, the last usable ones are kept
   */
  setEncrypted(roomId: string, encryption?: StoredEncryption): void {
    this.#database.run(
      `INSERT INTO rooms (room_id, encrypted, encryption, inviters) VALUES (?, 1, ?, '[]')
        ON CONFLICT DO UPDATE SET encrypted = 1, encryption = ifnull(excluded.encryption, encryption)`,
      ...[roomId, encryption ? JSON.stringify(encryption) : null],
    );
  }

  /** Forgets a room that we left, and settles its held events. Keeps only the fact that it was encrypted. */
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

  /** Forgets all rooms, as {@linkcode forget} does, and the sync token, so that the next sync is an initial one. */
  forgetAll(): void {
    this.#database.transaction(() => {
      for (const { roomId } of this.all()) this.forget(roomId);
      this.#unwrittenToken = undefined;
      this.#database.run("DELETE FROM meta WHERE name IN ('sync_token', 'token_adopted')");
    });
  }

  /** Our display names in the rooms that we have joined. */
  ownNames(): string[] {
    const sql = "SELECT DISTINCT own_name FROM rooms WHERE membership = 'join' AND own_name IS NOT NULL";
    return this.#database.all(sql).map(({ own_name }) => String(own_name));
  }

  /** User ids of all joined members. Reads them all, so its cost grows with the room. */
  joinedMembers(roomId: string): string[] {
    const rows = this.#database.all("SELECT user_id FROM joined_members WHERE room_id = ?", roomId);
    return rows.map(({ user_id }) => String(user_id));
  }

  /** Number of joined members. */
  joinedCount(roomId: string): number {
    const row = this.#database.get("SELECT count(*) AS joined FROM joined_members WHERE room_id = ?", roomId);
    return Number(row?.joined);
  }

  /** Whether a user has joined. */
  isJoined(roomId: string, userId: string): boolean {
    const sql = "SELECT 1 FROM joined_members WHERE room_id = ? AND user_id = ?";
    return this.#database.get(sql, roomId, userId) !== undefined;
  }

  /** Whether any of these users has joined. Takes one lookup per user. */
  isAnyJoined(roomId: string, userIds: ReadonlySet<string>): boolean {
    return [...userIds].some((userId) => this.isJoined(roomId, userId));
  }

  /** At most `limit` rooms that we and any of these users have joined. */
  joinedWith(userIds: ReadonlySet<string>, limit: number): string[] {
    if (userIds.size === 0) return [];
    const rows = this.#database.all(
      `SELECT room_id FROM rooms WHERE membership = 'join' AND EXISTS (SELECT 1 FROM json_each(?) AS user
        JOIN joined_members AS member ON member.room_id = rooms.room_id AND member.user_id = user.value)
        ORDER BY room_id LIMIT ?`,
      ...[JSON.stringify([...userIds]), limit],
    );
    return rows.map(({ room_id }) => String(room_id));
  }

  /**
   * Updates which users are joined. If a user occurs more than once, the last note wins.
   *
   * @returns users who were joined and left in one of these notes, even if they came back
   */
  updateMembers(roomId: string, notes: readonly (readonly [userId: string, joined: boolean])[]): string[] {
    if (notes.length === 0) return [];
    const last = JSON.stringify([...new Map(notes)]);
    return this.#database.transaction(() => {
      // SQLite runs a CROSS JOIN in the written order: one lookup by key per note.
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
  setMemberName(roomId: string, userId: string, name: string | undefined): void {
    const sql = "UPDATE joined_members SET name = ?1 WHERE room_id = ?2 AND user_id = ?3 AND name IS NOT ?1";
    this.#database.run(sql, name ?? null, roomId, userId);
  }

  /** A joined member's display name; undefined if it wasn't set. */
  nameOf(roomId: string, userId: string): string | undefined {
    const sql = "SELECT name FROM joined_members WHERE room_id = ? AND user_id = ?";
    const name = this.#database.get(sql, roomId, userId)?.name;
    return typeof name === "string" ? name : undefined;
  }

  /** Forgets the joined members of a room. */
  forgetMembers(roomId: string): void {
    this.#database.run("DELETE FROM joined_members WHERE room_id = ?", roomId);
  }

  /**
   * Appends an event, as durably as the transaction that this is called in.
   *
   * @returns false if the event is already known
   */
  addEvent(event: NewEvent, initial: InitialState): boolean {
    const { roomId, eventId, sender, receivedAtMs, ageMs } = event;
    return this.#database.lazily(() => {
      if (this.hasEvent(roomId, eventId)) return false;
      const settled = initial.state === "settled";
      this.#database.run(
        `INSERT INTO events (seq, room_id, event_id, sender, received_at_ms, age_ms, state, gap, content, outcome,
          settled_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[this.#nextPlace(), roomId, eventId, sender, Math.round(receivedAtMs)],
        ...[
          ageMs === undefined ? null : Math.round(ageMs),
          initial.state,
          initial.state === "held" ? initial.gap : null,
        ],
        settled ? null : this.#seal.close(event.json, "event", roomId, eventId),
        ...settled ? ["silent", this.#now()] : [null, null],
      );
      return true;
    });
  }

  /** Whether the event is known. */
  hasEvent(roomId: string, eventId: string): boolean {
    return this.#database.get("SELECT 1 FROM events WHERE room_id = ? AND event_id = ?", roomId, eventId) !== undefined;
  }

  /** Unfilled gaps, oldest first. */
  gaps(): Gap[] {
    return this.#database.all("SELECT * FROM gaps ORDER BY id").map(toGap);
  }

  /** Rooms with gaps that are not filled, the room of the oldest one first. */
  roomsWithGaps(): string[] {
    const rows = this.#database.all("SELECT room_id FROM gaps GROUP BY room_id ORDER BY min(id)");
    return rows.map(({ room_id }) => String(room_id));
  }

  /** A room's oldest gap, which is to be filled first; undefined if it has none. */
  oldestGap(roomId: string): Gap | undefined {
    const row = this.#database.get("SELECT * FROM gaps WHERE room_id = ? ORDER BY id LIMIT 1", roomId);
    return row && toGap(row);
  }

  /** Adds a gap and returns its id. */
  addGap({ roomId, from, to }: Omit<Gap, "id">): number {
    const sql = "INSERT INTO gaps (room_id, from_token, to_token) VALUES (?, ?, ?) RETURNING id";
    return Number(this.#database.get(sql, roomId, from, to ?? null)?.id);
  }

  /** Number of unfilled gaps in a room. */
  gapCount(roomId: string): number {
    return Number(this.#database.get("SELECT count(*) AS gaps FROM gaps WHERE room_id = ?", roomId)?.gaps);
  }

  /** Records that part of a room's timeline is unavailable, apart from its gaps. Replaces earlier records of the room. */
  recordCutOffHistory(roomId: string): void {
    this.#database.transaction(() => {
      this.#database.run("DELETE FROM cut_histories WHERE room_id = ?", roomId);
      this.#database.run("INSERT INTO cut_histories (room_id) VALUES (?)", roomId);
    });
  }

  /** The newest gap of a room. Events that arrive now are held behind it. */
  openGap(roomId: string): number | undefined {
    const id = this.#database.get("SELECT max(id) AS id FROM gaps WHERE room_id = ?", roomId)?.id;
    return typeof id === "number" ? id : undefined;
  }

  /**
   * Fills a gap: appends its events, earliest first, and then the events held behind it. They become ready to be
   * handled, or, if the room has an older gap, are held behind that one. So the order is right whichever gap is filled
   * first.
   *
   * @param cutOff earlier events existed, or may have existed, but weren't available
   */
  fillGap(id: number, events: readonly NewEvent[], cutOff = false): void {
    this.#database.transaction(() => {
      const gap = this.#database.get("SELECT room_id FROM gaps WHERE id = ?", id);
      if (!gap) return;
      const sql = "SELECT max(id) AS id FROM gaps WHERE room_id = ? AND id < ?";
      const older = this.#database.get(sql, gap.room_id ?? null, id)?.id;
      const initial: InitialState = typeof older === "number" ? { state: "held", gap: older } : { state: "new" };
      for (const event of events) this.addEvent(event, initial);
      for (const { seq } of this.#database.all("SELECT seq FROM events WHERE gap = ? ORDER BY seq", id)) {
        this.#database.run(
          "UPDATE events SET seq = ?, state = ?, gap = ? WHERE seq = ?",
          ...[this.#nextPlace(), initial.state, initial.state === "held" ? initial.gap : null, seq ?? null],
        );
      }
      this.#database.run("DELETE FROM gaps WHERE id = ?", id);
      if (cutOff) this.recordCutOffHistory(String(gap.room_id));
    });
  }

  /**
   * Positions are never reused, not even after all events are pruned, because readers remember how far they have read.
   */
  #nextPlace(): number {
    const row = this.#database.get("UPDATE meta SET value = value + 1 WHERE name = 'place' RETURNING value");
    return Number(row?.value);
  }
}

function toGap(row: Row): Gap {
  return {
    id: Number(row.id),
    roomId: String(row.room_id),
    from: String(row.from_token),
    to: row.to_token === null ? undefined : String(row.to_token),
  };
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
