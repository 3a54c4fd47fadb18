/**
 * What syncing has brought: the token, rooms and members, new events and the gaps before them. All of one sync answer
 * is written in one transaction, by whoever calls. Knows nothing of how events are handled.
 *
 * @module
 */

import type { Seal } from "./seal.ts";
import type { Database, Row } from "./sqlite.ts";

/** A room as it is stored. */
export interface StoredRoom {
  /** Room id. */
  readonly roomId: string;
  /** Our own membership. */
  readonly membership: "join" | "invite" | "leave";
  /** `m.room.encryption` as last seen; once seen it is never undefined again. Periods are milliseconds and messages. */
  readonly encryption: {
    readonly algorithm: string;
    readonly rotationPeriodMs?: number;
    readonly rotationPeriodMessages?: number;
  } | undefined;
  /** Sender of each member event for us in an invitation. */
  readonly inviters: readonly string[];
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
  /** The server's `unsigned.age` at receipt, milliseconds. */
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

/** The state of syncing. */
export class RoomState {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #now: () => number;

  /** Over an open database; `now` in milliseconds since the epoch. */
  constructor(database: Database, seal: Seal, now: () => number) {
    this.#database = database;
    this.#seal = seal;
    this.#now = now;
  }

  /** The token to sync from; undefined before the first sync. */
  syncToken(): string | undefined {
    const row = this.#database.get("SELECT value FROM meta WHERE name = 'sync_token'");
    return row && String(row.value);
  }

  /** Sets the token to sync from. */
  setSyncToken(token: string): void {
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

  /** Writes a room. Encryption is sticky: without it, what was known stays, even from before the room was forgotten. */
  save({ roomId, membership, encryption, inviters }: StoredRoom): void {
    this.#database.run(
      `INSERT INTO rooms VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET membership = excluded.membership,
        encryption = ifnull(excluded.encryption, encryption), inviters = excluded.inviters`,
      ...[roomId, membership, encryption ? JSON.stringify(encryption) : null, JSON.stringify(inviters)],
    );
  }

  /** Forgets a room that was left; what was held behind a gap is settled. Only that it was encrypted stays known. */
  forget(roomId: string): void {
    this.#database.transaction(() => {
      this.#database.run("DELETE FROM rooms WHERE room_id = ? AND encryption IS NULL", roomId);
      this.#database.run("UPDATE rooms SET membership = NULL, inviters = '[]' WHERE room_id = ?", roomId);
      this.#database.run("DELETE FROM members WHERE room_id = ?", roomId);
      this.#database.run(
        `UPDATE events SET state = 'settled', gap = NULL, content = NULL, outcome = 'room-forgotten', settled_at_ms = ?
          WHERE room_id = ? AND state = 'held'`,
        ...[this.#now(), roomId],
      );
      this.#database.run("DELETE FROM gaps WHERE room_id = ?", roomId);
    });
  }

  /** Forgets all rooms, as {@linkcode forget} does, and where syncing stands: the next sync tells everything anew. */
  forgetAll(): void {
    this.#database.transaction(() => {
      for (const { roomId } of this.all()) this.forget(roomId);
      this.#database.run("DELETE FROM meta WHERE name IN ('sync_token', 'token_adopted')");
    });
  }

  /** Membership by user id. */
  members(roomId: string): ReadonlyMap<string, string> {
    const rows = this.#database.all("SELECT user_id, membership FROM members WHERE room_id = ?", roomId);
    return new Map(rows.map((row) => [String(row.user_id), String(row.membership)]));
  }

  /** Sets one member. */
  setMember(roomId: string, userId: string, membership: string): void {
    this.#database.run("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", roomId, userId, membership);
  }

  /** Replaces all members. */
  replaceMembers(roomId: string, members: ReadonlyMap<string, string>): void {
    this.#database.transaction(() => {
      this.#database.run("DELETE FROM members WHERE room_id = ?", roomId);
      for (const [userId, membership] of members) this.setMember(roomId, userId, membership);
    });
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

  /** The newest gap of a room, which events that arrive now are held behind. */
  openGap(roomId: string): number | undefined {
    const id = this.#database.get("SELECT max(id) AS id FROM gaps WHERE room_id = ?", roomId)?.id;
    return typeof id === "number" ? id : undefined;
  }

  /**
   * Fills a gap: its events, earliest first, and behind them those that were held. They are to be handled now, or, if
   * an older gap of the room is still open, held behind that one, so that the order is right whichever is filled first.
   */
  fillGap(id: number, events: readonly NewEvent[]): void {
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
    encryption: row.encryption === null ? undefined : JSON.parse(String(row.encryption)),
    inviters: JSON.parse(String(row.inviters)),
  };
}
