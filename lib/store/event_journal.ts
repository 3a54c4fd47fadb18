/**
 * The journal: where each event stands between its arrival and being settled, which ciphertexts were used, and the
 * answers that are to be sent. Every call is on disk when it returns. It satisfies the operator's port of the same
 * name, and knows nothing of what commands mean.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Seal } from "./seal.ts";
import type { Database, Row } from "./sqlite.ts";
import type { NewEvent } from "./room_state.ts";

/** What the journal knows of something to be said in a room about an event; how it is said, only its writer knows. */
export interface StoredAnswer {
  /** With `eventId` and `sequence` it makes the transaction id. */
  readonly kind: string;
  /** Counts answers of one kind to one event, from 0. */
  readonly sequence: number;
  /** Room id. */
  readonly roomId: string;
  /** The event that it is about. */
  readonly eventId: string;
}

/** An event in its place. */
export interface StoredEvent extends NewEvent {
  /** Smaller is earlier. */
  readonly seq: number;
}

/** An event that is not settled, with where it stands. What `Command` is made of, only its writer knows. */
export interface StoredEntry<Command> {
  /** The event. */
  readonly inbox: StoredEvent;
  /** Where it stands. */
  readonly progress: { readonly state: "new" } | { readonly state: "undecryptable" } | {
    readonly state: "begun";
    readonly command: Command;
  };
}

/** How long settled events and sent answers are remembered. */
const KEPT_MS = 7 * 24 * 3_600_000;
/** How many settled events are remembered at most. */
const KEPT_EVENTS = 10_000;

/** The transaction id of an answer: the same answer always has the same one, so that it is never said twice. */
export function transactionId(eventId: string, kind: string, sequence: number): string {
  return "t" + createHash("sha256").update(JSON.stringify([eventId, kind, sequence])).digest("base64url");
}

/** The journal of a store. */
export class EventJournal {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #now: () => number;

  /** Over an open database; `now` in milliseconds since the epoch. */
  constructor(database: Database, seal: Seal, now: () => number) {
    this.#database = database;
    this.#seal = seal;
    this.#now = now;
  }

  /** Runs calls in one transaction; all is undone if they throw. */
  transaction<T>(calls: () => T): T {
    return this.#database.transaction(calls);
  }

  /** Unsettled events that may be handled now (not those behind a gap), earliest first, after the given place. */
  unsettled<Command>(afterSeq: number): readonly StoredEntry<Command>[] {
    return this.#entries("state <> 'settled' AND state <> 'held' AND seq > ?", afterSeq);
  }

  /** The same of events that nobody has looked at yet: what waits for a key is not read again and again. */
  arrived(afterSeq: number): readonly StoredEntry<never>[] {
    return this.#entries("state = 'new' AND seq > ?", afterSeq);
  }

  /** Unsettled, undecryptable events of a Megolm session, earliest first. */
  awaitingKey<Command>(roomId: string, sessionId: string): readonly StoredEntry<Command>[] {
    return this.#entries("state = 'undecryptable' AND room_id = ? AND session_id = ?", roomId, sessionId);
  }

  /**
   * Notes that an event cannot be decrypted yet.
   *
   * @throws Error if the event is settled, held or unknown; so do the other calls with a `seq`
   */
  undecryptable(seq: number, sessionId: string | undefined): void {
    this.#update(seq, "state = 'undecryptable', session_id = ?", sessionId ?? null);
  }

  /**
   * Claims a ciphertext for an event, in the name of its sender; claiming it again for the same event is no repeat.
   *
   * @returns false if another event of the same sender has claimed it before, or so long ago that it is only known that
   * one has
   */
  claim(seq: number, { sessionId, messageIndex }: { sessionId: string; messageIndex: number }): boolean {
    return this.#database.transaction(() => {
      const sql = "SELECT room_id, sender, session_id, message_index FROM events WHERE seq = ?";
      const row = this.#database.get(sql, seq);
      if (typeof row?.message_index === "number") {
        return row.session_id === sessionId && row.message_index === messageIndex;
      }
      const isUsed = this.#database.get(
        `SELECT 1 FROM events WHERE room_id = ?1 AND session_id = ?2 AND message_index = ?3 AND sender = ?4
          UNION ALL
          SELECT 1 FROM claim_floors
            WHERE room_id = ?1 AND session_id = ?2 AND sender IN (?4, '') AND message_index >= ?3`,
        ...[row?.room_id ?? null, sessionId, messageIndex, row?.sender ?? null],
      );
      if (isUsed) return false;
      this.#update(seq, "session_id = ?, message_index = ?", sessionId, messageIndex);
      return true;
    });
  }

  /** Writes down a command that is being carried out: JSON, kept until the event is settled. */
  begin(seq: number, command: object): void {
    this.#database.transaction(() => {
      const row = this.#database.get("SELECT room_id, event_id FROM events WHERE seq = ?", seq);
      const sealed = this.#seal.close(command, "intent", String(row?.room_id), String(row?.event_id));
      this.#update(seq, "state = 'acting', intent = ?", sealed);
    });
  }

  /** Settles an event, forgets its content, and queues its answers, all in one transaction. */
  settle(seq: number, outcome: string, answers: readonly StoredAnswer[]): void {
    this.#database.transaction(() => {
      const change = "state = 'settled', content = NULL, intent = NULL, outcome = ?, settled_at_ms = ?";
      this.#update(seq, change, outcome, this.#now());
      for (const answer of answers) this.say(answer);
    });
  }

  /** Queues an answer. One whose transaction id is known, sent or not, is left as it is. */
  say<Answer extends StoredAnswer>(answer: Answer): void {
    const id = transactionId(answer.eventId, answer.kind, answer.sequence);
    this.#database.run(
      `INSERT INTO answers (transaction_id, room_id, event_id, written_at_ms, content) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (transaction_id) DO NOTHING`,
      ...[id, answer.roomId, answer.eventId, this.#now(), this.#seal.close(answer, "answer", id)],
    );
  }

  /** Rooms with unsent answers, the room of the earliest one first. */
  roomsToAnswer(): readonly string[] {
    const sql = "SELECT room_id FROM answers WHERE content IS NOT NULL GROUP BY room_id ORDER BY min(id)";
    return this.#database.all(sql).map(({ room_id }) => String(room_id));
  }

  /** Unsent answers of a room, earliest first, so many at most: after an outage there may be thousands. */
  unsent<Answer extends StoredAnswer>(
    roomId: string,
    most: number,
  ): readonly { transactionId: string; answer: Answer; writtenAtMs: number }[] {
    const sql = "SELECT * FROM answers WHERE room_id = ? AND content IS NOT NULL ORDER BY id LIMIT ?";
    return this.#database.all(sql, roomId, most).map((row) => {
      const id = String(row.transaction_id);
      const answer = this.#seal.open(row.content, "answer", id) as Answer;
      return { transactionId: id, answer, writtenAtMs: Number(row.written_at_ms) };
    });
  }

  /** Notes that an answer was sent, and as which event. */
  sent(transactionId: string, eventId: string): void {
    const sql = "UPDATE answers SET sent_as = ?, content = NULL WHERE transaction_id = ?";
    this.#database.run(sql, eventId, transactionId);
  }

  /** Gives an unsent answer up. It is not queued again. */
  drop(transactionId: string): void {
    this.#database.run("UPDATE answers SET content = NULL WHERE transaction_id = ?", transactionId);
  }

  /** Settles every event that is not settled, with one outcome, and drops every answer that was not sent. */
  settleAll(outcome: string): void {
    this.#database.transaction(() => {
      this.#database.run(
        `UPDATE events SET state = 'settled', gap = NULL, content = NULL, intent = NULL, outcome = ?, settled_at_ms = ?
          WHERE state <> 'settled'`,
        ...[outcome, this.#now()],
      );
      this.#database.run("UPDATE answers SET content = NULL WHERE content IS NOT NULL");
    });
  }

  /** Whether an answer was sent as this event, not too long ago. */
  isOurs(eventId: string): boolean {
    return this.#database.get("SELECT 1 FROM answers WHERE sent_as = ?", eventId) !== undefined;
  }

  /** Event id under which an answer was sent; undefined if it was not, or too long ago. */
  sentAs({ eventId, kind, sequence }: Omit<StoredAnswer, "roomId">): string | undefined {
    const id = transactionId(eventId, kind, sequence);
    const row = this.#database.get("SELECT sent_as FROM answers WHERE transaction_id = ?", id);
    return typeof row?.sent_as === "string" ? row.sent_as : undefined;
  }

  /** Rooms in whose timeline a part could not be had, and that have not been told, with the ids of those parts. */
  cutHistories(): readonly { readonly id: number; readonly roomId: string }[] {
    // Several of one room are one piece of news.
    return this.#database.all("SELECT max(id) AS id, room_id FROM cut_histories GROUP BY room_id ORDER BY 1")
      .map((row) => ({ id: Number(row.id), roomId: String(row.room_id) }));
  }

  /** The room has been told of that part, and of all before it. */
  cutHistoryTold(roomId: string, id: number): void {
    this.#database.run("DELETE FROM cut_histories WHERE room_id = ? AND id <= ?", roomId, id);
  }

  /**
   * Settles undecryptable events older than a week or beyond 10,000. Forgets such settled ones, and their answers, but no
   * ciphertext that was used, nor what was said of a user or a room, which is said but once.
   */
  prune(): void {
    const oldest = (state: string, sinceMs: string) =>
      `state = '${state}' AND (${sinceMs} < ?1 OR seq <=
        ifnull((SELECT seq FROM events WHERE state = '${state}' ORDER BY seq DESC LIMIT 1 OFFSET ${KEPT_EVENTS}), -1))`;
    const old = oldest("settled", "settled_at_ms");
    const before = this.#now() - KEPT_MS;
    this.#database.transaction(() => {
      this.#database.run(
        `UPDATE events SET state = 'settled', content = NULL, outcome = 'undecryptable', settled_at_ms = ?2
          WHERE ${oldest("undecryptable", "received_at_ms")}`,
        ...[before, this.#now()],
      );
      this.#database.run(
        `INSERT INTO claim_floors SELECT room_id, session_id, sender, max(message_index) FROM events
          WHERE ${old} AND message_index IS NOT NULL GROUP BY room_id, session_id, sender
          ON CONFLICT DO UPDATE SET message_index = max(message_index, excluded.message_index)`,
        before,
      );
      this.#database.run(`DELETE FROM events WHERE ${old}`, before);
      this.#database.run(
        `DELETE FROM answers WHERE content IS NULL AND written_at_ms < ? AND event_id NOT GLOB '[@!]*' AND NOT EXISTS
          (SELECT 1 FROM events WHERE events.room_id = answers.room_id AND events.event_id = answers.event_id)`,
        before,
      );
    });
  }

  #update(seq: number, change: string, ...values: (string | number | null | Uint8Array)[]): void {
    const sql = `UPDATE events SET ${change} WHERE seq = ? AND state <> 'settled' AND state <> 'held'`;
    if (this.#database.run(sql, ...values, seq) === 0) {
      throw new Error(`Cannot change the event in place ${seq}: it is settled, held behind a gap or unknown`);
    }
  }

  #entries<Command>(condition: string, ...values: (string | number)[]): StoredEntry<Command>[] {
    return this.#database.all(`SELECT * FROM events WHERE ${condition} ORDER BY seq`, ...values)
      .map((row) => this.#toEntry(row));
  }

  #toEntry<Command>(row: Row): StoredEntry<Command> {
    const [roomId, eventId] = [String(row.room_id), String(row.event_id)];
    const inbox = {
      seq: Number(row.seq),
      roomId,
      eventId,
      sender: String(row.sender),
      event: this.#seal.open(row.content, "event", roomId, eventId) as Record<string, unknown>,
      receivedAtMs: Number(row.received_at_ms),
      ageMs: row.age_ms === null ? undefined : Number(row.age_ms),
    };
    if (row.state === "acting") {
      const command = this.#seal.open(row.intent, "intent", roomId, eventId) as Command;
      return { inbox, progress: { state: "begun", command } };
    }
    return { inbox, progress: { state: row.state === "undecryptable" ? "undecryptable" : "new" } };
  }
}
