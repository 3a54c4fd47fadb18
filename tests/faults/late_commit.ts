/**
 * Removes a durability guarantee from the operator, for controls. Preloaded into it. Commits to the database named by
 * LATE_DATABASE are reported at once but happen up to 400 ms later. With LATE_FROM set to `signal`, nothing is
 * committed any more after SIGUSR2, which is confirmed on standard error.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";

const LATE_MS = 400;
const name = Deno.env.get("LATE_DATABASE") ?? "";
const fromSignal = Deno.env.get("LATE_FROM") === "signal";

/** SQL that marks an opened and checked database, and SQL that is run before it is closed. */
const FIRST =
  { "state.sqlite3": "name = 'key_check'", "crypto-1.sqlite3": "SELECT id, name, version FROM databases" }[name] ?? "";
const LAST = "wal_checkpoint";
/** Turns transactions into savepoints of the one that is committed late. */
const PARTS: Readonly<Record<string, string>> = {
  "BEGIN IMMEDIATE": "SAVEPOINT early",
  COMMIT: "RELEASE early",
  ROLLBACK: "ROLLBACK TO early; RELEASE early",
};

const { prepare, exec } = DatabaseSync.prototype;
/** Open late transactions, and the timers that commit them. */
const held = new Map<DatabaseSync, ReturnType<typeof setInterval> | undefined>();
/** Those with an open part. Lazy writes keep one open for a while; it can't be committed before its end. */
const inPart = new Set<DatabaseSync>();

DatabaseSync.prototype.prepare = function (this: DatabaseSync, sql: string): StatementSync {
  if (sql.includes(FIRST) && !held.has(this) && this.location()?.endsWith(`/${name}`)) begin(this);
  if (sql.includes(LAST) && held.has(this)) {
    clearInterval(held.get(this));
    held.delete(this);
    exec.call(this, "COMMIT");
  }
  const statement = prepare.call(this, sql);
  // Statements are prepared once and reused, so their replacement is chosen when they run.
  if (sql in PARTS) Object.assign(statement, { run: () => (this.exec(sql), { changes: 0, lastInsertRowid: 0 }) });
  return statement;
};
DatabaseSync.prototype.exec = function (this: DatabaseSync, sql: string): void {
  exec.call(this, held.has(this) ? PARTS[sql] ?? sql : sql);
  if (sql === "BEGIN IMMEDIATE") inPart.add(this);
  else if (sql === "COMMIT" || sql === "ROLLBACK") inPart.delete(this);
};

function begin(database: DatabaseSync): void {
  if (!fromSignal) return hold(database, setInterval(() => commit(database), LATE_MS));
  Deno.addSignalListener("SIGUSR2", () => {
    hold(database, undefined);
    console.error("nothing is committed any more");
  });
}

function commit(database: DatabaseSync): void {
  if (!inPart.has(database)) exec.call(database, "COMMIT; BEGIN IMMEDIATE");
}

function hold(database: DatabaseSync, commits: ReturnType<typeof setInterval> | undefined): void {
  // An open part becomes a part of what is committed late.
  exec.call(database, inPart.has(database) ? "SAVEPOINT early" : "BEGIN IMMEDIATE");
  held.set(database, commits);
}
