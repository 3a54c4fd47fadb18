/**
 * The event journal: the state of each event from arrival to settlement, the ciphertexts that have been used, and the
 * queued answers. Every call is on disk when it returns, except where it says otherwise. Implements the operator's port
 * of the same name; commands are opaque to it.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Seal } from "./seal.ts";
import type { Database, Row } from "./sqlite.ts";
import type { NewEvent } from "./room_state.ts";

/** The fields of an answer that the journal uses. The rest is opaque to it. */
export interface StoredAnswer {
  /** Part of the transaction id, with `eventId` and `sequence`. */
  readonly kind: string;
  /** Numbers the answers of one kind to one event, from 0. */
  readonly sequence: number;
  /** Room id. */
  readonly roomId: string;
  /** The event that is answered. */
  readonly eventId: string;
}

/** A stored event. */
export interface StoredEvent extends NewEvent {
  /** Position in the journal; a smaller one is earlier. */
  readonly seq: number;
}

/** An unsettled event and its state. `Command` is opaque to the journal. */
export interface StoredEntry<Command> {
  /** The event. */
  readonly event: StoredEvent;
  /** State of the event. */
  readonly progress: { readonly state: "new" } | { readonly state: "undecryptable" } | {
    readonly state: "begun";
    readonly command: Command;
  };
}

/** How long settled events and sent answers are kept. */
const KEPT_MS = 7 * 24 * 3_600_000;
/** Most settled events that are kept. */
const KEPT_EVENTS = 10_000;

/** Transaction id of an answer. It is deterministic, so that an answer that is sent again is not duplicated. */
export function transactionId(eventId: string, kind: string, sequence: number): string {
  return "t" + createHash("sha256").update(JSON.stringify([eventId, kind, sequence])).digest("base64url");
}

/** The journal of a store. */
export class EventJournal {
  readonly #database: Database;
  readonly #seal: Seal;
  readonly #now: () => number;

  /** Uses an open database; `now` returns milliseconds since the epoch. */
  constructor(database: Database, seal: Seal, now: () => number) {
    this.#database = database;
    this.#seal = seal;
    this.#now = now;
  }

  /**
   * Runs calls in one transaction, which is rolled back if they throw. It is durable on return if one of the calls is,
   * which all are but {@linkcode claim} and, for a room's only answer, {@linkcode markSent}.
   */
  transaction<T>(calls: () => T): T {
    return this.#database.lazily(calls);
  }

  /** Unsettled events after a position, earliest first, without those held behind a gap. */
  unsettled<Command>(afterSeq: number): readonly StoredEntry<Command>[] {
    return this.#entries("state <> 'settled' AND state <> 'held' AND seq > ?", afterSeq);
  }

  /** Like {@linkcode unsettled}, but only new events, so that events waiting for a key aren't read on every pass. */
  newEvents(afterSeq: number): readonly StoredEntry<never>[] {
    return this.#entries("state = 'new' AND seq > ?", afterSeq);
  }

  /** Undecryptable events of a Megolm session, earliest first. */
  awaitingKey<Command>(roomId: string, sessionId: string): readonly StoredEntry<Command>[] {
    return this.#entries("state = 'undecryptable' AND room_id = ? AND session_id = ?", roomId, sessionId);
  }

  /**
   * Marks an event as not decryptable yet.
   *
   * @throws Error if the event is settled, held or unknown; so do the other methods that take a `seq`
   */
  markUndecryptable(seq: number, sessionId: string | undefined): void {
    this.#database.transaction(() => this.#update(seq, "state = 'undecryptable', session_id = ?", sessionId ?? null));
  }

  /**
   * Claims a ciphertext for an event and its sender, to detect replays. Repeating a claim for the same event succeeds.
   * The claim is durable with the next call that changes the event's state.
   *
   * @returns false if another event of the same sender has claimed it, or if the claim floor left by pruned events
   * covers its index
   */
  claim(seq: number, { sessionId, messageIndex }: { sessionId: string; messageIndex: number }): boolean {
    return this.#database.lazily(() => {
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

  /** Stores the command being carried out, as JSON, until the event is settled. */
  saveCommand(seq: number, command: object): void {
    this.#database.transaction(() => {
      const row = this.#database.get("SELECT room_id, event_id FROM events WHERE seq = ?", seq);
      const sealed = this.#seal.close(command, "intent", String(row?.room_id), String(row?.event_id));
      this.#update(seq, "state = 'acting', intent = ?", sealed);
    });
  }

  /** Settles an event, deletes its content, and queues its answers, in one transaction. */
  settle(seq: number, outcome: string, answers: readonly StoredAnswer[]): void {
    this.#database.transaction(() => {
      const change = "state = 'settled', content = NULL, intent = NULL, outcome = ?, settled_at_ms = ?";
      this.#update(seq, change, outcome, this.#now());
      for (const answer of answers) this.queueAnswer(answer);
    });
  }

  /** Queues an answer. Does nothing if its transaction id is known, whether sent or not. */
  queueAnswer<Answer extends StoredAnswer>(answer: Answer): void {
    const id = transactionId(answer.eventId, answer.kind, answer.sequence);
    this.#write(
      `INSERT INTO answers (transaction_id, room_id, event_id, written_at_ms, content) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (transaction_id) DO NOTHING`,
      ...[id, answer.roomId, answer.eventId, this.#now(), this.#seal.close(answer, "answer", id)],
    );
  }

  /** Rooms with unsent answers, ordered by their earliest one. */
  roomsWithUnsentAnswers(): readonly string[] {
    const sql = "SELECT room_id FROM answers WHERE content IS NOT NULL GROUP BY room_id ORDER BY min(id)";
    return this.#database.all(sql).map(({ room_id }) => String(room_id));
  }

  /** At most `limit` unsent answers of a room, earliest first. After an outage there may be thousands. */
  unsentAnswers<Answer extends StoredAnswer>(
    roomId: string,
    limit: number,
  ): readonly { transactionId: string; answer: Answer; writtenAtMs: number }[] {
    const sql = "SELECT * FROM answers WHERE room_id = ? AND content IS NOT NULL ORDER BY id LIMIT ?";
    return this.#database.all(sql, roomId, limit).map((row) => {
      const id = String(row.transaction_id);
      const answer = this.#seal.open(row.content, "answer", id) as Answer;
      return { transactionId: id, answer, writtenAtMs: Number(row.written_at_ms) };
    });
  }

  /**
   * Marks an answer as sent, with the id of the event that was sent. That needn't be durable at once unless another
   * answer waits in the room: the next run searches each room for the answer that it finds unsent first.
   */
  markSent(transactionId: string, eventId: string): void {
    const mark = (): void => {
      const sql = "UPDATE answers SET sent_as = ?, content = NULL WHERE transaction_id = ?";
      this.#database.run(sql, eventId, transactionId);
    };
    const others = this.#database.get(
      `SELECT 1 FROM answers WHERE room_id = (SELECT room_id FROM answers WHERE transaction_id = ?1)
        AND content IS NOT NULL AND transaction_id <> ?1`,
      transactionId,
    );
    if (others === undefined) this.#database.lazily(mark);
    else this.#database.transaction(mark);
  }

  /** Gives up on an unsent answer. It can't be queued again. */
  dropAnswer(transactionId: string): void {
    this.#write("UPDATE answers SET content = NULL WHERE transaction_id = ?", transactionId);
  }

  /** Settles all unsettled events with one outcome, and drops all unsent answers. */
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

  /** Whether this event is an answer of ours. False for answers that have been pruned. */
  isOurs(eventId: string): boolean {
    return this.#database.get("SELECT 1 FROM answers WHERE sent_as = ?", eventId) !== undefined;
  }

  /** Id of the event that an answer was sent as; undefined if it wasn't sent or has been pruned. */
  sentAs({ eventId, kind, sequence }: Omit<StoredAnswer, "roomId">): string | undefined {
    const id = transactionId(eventId, kind, sequence);
    const row = this.#database.get("SELECT sent_as FROM answers WHERE transaction_id = ?", id);
    return typeof row?.sent_as === "string" ? row.sent_as : undefined;
  }

  /** Rooms that must still be told that part of their timeline is missing, with the id of the latest such part. */
  cutOffHistories(): readonly { readonly id: number; readonly roomId: string }[] {
    // One notice per room, however many parts are missing.
    return this.#database.all("SELECT max(id) AS id, room_id FROM cut_histories GROUP BY room_id ORDER BY 1")
      .map((row) => ({ id: Number(row.id), roomId: String(row.room_id) }));
  }

  /** Marks the room as told about that missing part and all earlier ones. */
  markCutOffReported(roomId: string, id: number): void {
    this.#write("DELETE FROM cut_histories WHERE room_id = ? AND id <= ?", roomId, id);
  }

  /**
   * Settles undecryptable events that are older than a week or beyond 10,000. Deletes settled events by the same
   * limits, and their answers. Keeps used ciphertexts, and answers about a user or a room, which are sent only once.
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

  /** Runs a statement whose change is durable on return, or with the transaction that it is in. */
  #write(sql: string, ...values: (string | number | Uint8Array)[]): void {
    this.#database.transaction(() => this.#database.run(sql, ...values));
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
    const event = {
      seq: Number(row.seq),
      roomId,
      eventId,
      sender: String(row.sender),
      json: this.#seal.open(row.content, "event", roomId, eventId) as Record<string, unknown>,
      receivedAtMs: Number(row.received_at_ms),
      ageMs: row.age_ms === null ? undefined : Number(row.age_ms),
    };
    if (row.state === "acting") {
      const command = this.#seal.open(row.intent, "intent", roomId, eventId) as Command;
      return { event, progress: { state: "begun", command } };
    }
    return { event, progress: { state: row.state === "undecryptable" ? "undecryptable" : "new" } };
  }
}
