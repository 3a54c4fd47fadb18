/**
 * Size of the operator's store, divided by who can make it grow.
 *
 * @module
 */

import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const MEBI = 2 ** 20;
/** Permitted growth by all that strangers and servers send: of the databases and of their write-ahead logs. */
const MAX_DATABASES_BYTES = 2 * MEBI;
const MAX_LOGS_BYTES = 2 * MEBI;
/** Permitted size of an event of an allowed user. It is kept for a week, with its answers, to detect replays. */
const MAX_EVENT_BYTES = 2_048;
/** Permitted size of a room that the operator was invited to by an allowed user. */
const MAX_ROOM_BYTES = 512;

/** Sizes in bytes. */
export interface StoreSize {
  /** All but the journal: what strangers and servers can make grow. */
  readonly databases: number;
  /** Events and answers, with their indexes. */
  readonly journal: number;
  /** Number of events in the journal. */
  readonly events: number;
  /** Number of events in the journal whose sender isn't allowed. */
  readonly foreign: number;
}

/** Measures the store of a stopped operator. */
export function storeSize(folder: string, allowedUser: string): StoreSize {
  using state = new DatabaseSync(join(folder, "state.sqlite3"));
  const number = (sql: string, ...values: string[]) => Number(state.prepare(sql).get(...values)?.["number"]);
  const journal = number(`SELECT sum(pgsize) AS number FROM dbstat WHERE name IN
    (SELECT name FROM sqlite_schema WHERE tbl_name IN ('events', 'answers'))`);
  return {
    databases: fileSize(folder, /\.sqlite3$/) - journal,
    journal,
    events: number("SELECT count(*) AS number FROM events"),
    foreign: number("SELECT count(*) AS number FROM events WHERE sender <> ?", allowedUser),
  };
}

/** Measures the write-ahead logs of a running operator. */
export function logSize(folder: string): number {
  return fileSize(folder, /-wal$/);
}

/** Measures all files of a running or stopped operator's store. */
export function folderSize(folder: string): number {
  return fileSize(folder, /^/);
}

/**
 * Tells what has grown more than permitted.
 *
 * @param rooms number of rooms that allowed users have invited the operator to in between
 */
export function overgrown(before: StoreSize, after: StoreSize, rooms: number): string[] {
  const databases = MAX_DATABASES_BYTES + rooms * MAX_ROOM_BYTES;
  const journal = (after.events - before.events) * MAX_EVENT_BYTES;
  return [
    ...growth("databases without the journal", before.databases, after.databases, databases),
    ...growth(`journal of ${after.events} events`, before.journal, after.journal, Math.max(0, journal)),
    ...after.foreign > 0 ? [`journal: ${after.foreign} events of users who aren't allowed`] : [],
  ];
}

/** Like {@linkcode overgrown}, for the write-ahead logs. */
export function overgrownLogs(before: number, after: number): string[] {
  return growth("write-ahead logs", before, after, MAX_LOGS_BYTES);
}

/** Formats a number of bytes. */
export function mb(bytes: number): string {
  return `${(bytes / MEBI).toFixed(1)} MB`;
}

function growth(what: string, before: number, after: number, most: number): string[] {
  return after - before > most ? [`${what}: ${mb(before)} → ${mb(after)}, which is more than ${mb(most)}`] : [];
}

function fileSize(folder: string, names: RegExp): number {
  return [...Deno.readDirSync(folder)].filter(({ name }) => names.test(name))
    .reduce((sum, { name }) => sum + Deno.statSync(join(folder, name)).size, 0);
}
