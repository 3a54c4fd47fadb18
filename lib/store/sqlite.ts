/**
 * One SQLite database: locked by one process, checked before the first write, migrated to the current schema, and
 * durable after every statement or transaction, except those that may come later.
 *
 * Never open the file by other means in the same process: closing it would drop SQLite's POSIX lock.
 *
 * @module
 */

import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { StoreError } from "../errors.ts";
import type { FailureLatch } from "./failure_latch.ts";
import { createFile, sizeOf } from "./files.ts";

/** Identity and schema of a database. */
export interface Schema {
  /** SQLite's application_id. */
  readonly applicationId: number;
  /** SQL for each step from one user_version to the next. */
  readonly steps: readonly string[];
}

/** Options for opening a database. */
export interface Opening {
  /** A missing or empty file may be created. If false, a missing file means that data was lost, which is an error. */
  readonly mayCreate: boolean;
  /** Describes who holds the lock, such as "host x, pid 7, since …". */
  readonly holder: () => string;
  /** Receives failures, and is checked before each use. */
  readonly latch: FailureLatch;
}

/** A row, by column name. */
export type Row = Record<string, SQLOutputValue>;

// SQLite result codes, https://sqlite.org/rescode.html
const BUSY = 5;
const READ_ONLY = 8;
const IO_ERROR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;
/** Path of a database in memory. */
const MEMORY = ":memory:";
/** The WAL is checkpointed from this many pages of 4 KiB on. Frequent checkpoints cost no more than a late one. */
const MAX_WAL_PAGES = 128;
/** Misuse of SQL, or a violated constraint: the database itself is fine. */
const HARMLESS = new Set([1, 18, 19, 20, 21, 25]);

/** How long a write made by {@linkcode Database.lazily} may stay uncommitted, in milliseconds. */
const COMMITTED_WITHIN_MS = 1_000;

/** An open database. Every method throws StoreError if SQLite fails, and nothing is written after that. */
export class Database {
  readonly #path: string;
  readonly #raw: DatabaseSync;
  readonly #latch: FailureLatch;
  readonly #statements = new Map<string, StatementSync>();
  /** Open calls of {@linkcode transaction} and {@linkcode lazily} in each other. */
  #depth = 0;
  /** Whether one of them must be durable when the outermost has ended. */
  #isUrgent = false;
  /** Commits what has been written lazily; undefined if nothing has. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Use {@linkcode openDatabase}. */
  constructor(path: string, raw: DatabaseSync, latch: FailureLatch) {
    this.#path = path;
    this.#raw = raw;
    this.#latch = latch;
  }

  /** Runs a statement and returns the number of changed rows. A change outside of a transaction is durable on return. */
  run(sql: string, ...values: SQLInputValue[]): number {
    const run = (): number => this.#guard(() => Number(this.#prepare(sql).run(...values).changes));
    return this.#depth === 0 && this.#timer !== undefined ? this.transaction(run) : run();
  }

  /** Returns the first row. */
  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#guard(() => this.#prepare(sql).get(...values));
  }

  /** Returns all rows. */
  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#guard(() => this.#prepare(sql).all(...values));
  }

  /** Number of rows changed since the database was opened, including changes that were rolled back. */
  totalChanges(): number {
    return Number(this.get("SELECT total_changes() AS changes")?.changes);
  }

  /** Runs `f` in a transaction, or in a savepoint if one is open. Rolls back if `f` throws. It is durable on return. */
  transaction<T>(f: () => T): T {
    return this.#nested(f, true);
  }

  /**
   * Like {@linkcode transaction}, but durable only with the next transaction that is, or within a second. For what may
   * be lost with the process, because it would be done again. Whatever is durable later, so is this: the order of
   * writes is kept. A transaction within makes the whole durable on return.
   */
  lazily<T>(f: () => T): T {
    return this.#nested(f, this.#path === MEMORY);
  }

  #nested<T>(f: () => T, isUrgent: boolean): T {
    const isOutermost = this.#depth === 0;
    const isFirst = isOutermost && this.#timer === undefined;
    this.#isUrgent = isUrgent || (this.#isUrgent && !isOutermost);
    this.#exec(isFirst ? "BEGIN IMMEDIATE" : "SAVEPOINT part");
    this.#depth += 1;
    try {
      const result = this.#guard(f);
      if (result instanceof Promise) {
        throw new TypeError("Cannot wait within a transaction: it would hold other writes");
      }
      if (!isFirst) this.#exec("RELEASE part");
      if (isOutermost) this.#end();
      return result;
    } catch (error) {
      // After a failure of the store, closing rolls everything back. Otherwise the lazy writes before this are kept.
      if (!this.#latch.error && this.#raw.isTransaction) this.#rollBack(isFirst);
      throw error;
    } finally {
      this.#depth -= 1;
    }
  }

  #rollBack(isFirst: boolean): void {
    // A savepoint that was rolled back must still be released.
    this.#guard(() => this.#raw.exec(isFirst ? "ROLLBACK" : "ROLLBACK TO part; RELEASE part"));
  }

  /** Ends the outermost transaction: commits it, or has it committed later. */
  #end(): void {
    if (this.#isUrgent) this.#commit();
    else this.#timer ??= setTimeout(() => this.#commitLate(), COMMITTED_WITHIN_MS);
  }

  #commitLate(): void {
    try {
      this.#commit();
    } catch (error) {
      // The latch has told of its own error.
      if (error !== this.#latch.error) throw error;
    }
  }

  #commit(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#exec("COMMIT");
  }

  /** Commits, checkpoints the WAL, unless the store has failed, and closes the database. */
  close(): void {
    if (!this.#raw.isOpen) return;
    try {
      if (!this.#latch.error) {
        if (this.#timer !== undefined) this.#commit();
        this.get("PRAGMA wal_checkpoint(TRUNCATE)");
      }
    } finally {
      clearTimeout(this.#timer);
      this.#raw.close();
    }
  }

  #exec(sql: string): void {
    this.#guard(() => this.#prepare(sql).run());
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, statement = this.#raw.prepare(sql));
    return statement;
  }

  #guard<T>(f: () => T): T {
    this.#latch.check();
    if (!this.#raw.isOpen) throw new StoreError(`Cannot use the store ${this.#path}: it is closed`, this.#path);
    try {
      return f();
    } catch (error) {
      const code = resultCode(error);
      if (code === undefined || HARMLESS.has(code)) throw error;
      const failure = new StoreError(
        `Cannot use the store ${this.#path}: ${(error as Error).message}; nothing more is written; check the disk`,
        this.#path,
        error,
      );
      this.#latch.fail(failure);
      throw failure;
    }
  }
}

/**
 * Opens a database and keeps it locked until it is closed.
 *
 * @throws StoreError if another process holds it, or it is missing, foreign, damaged or of a newer version
 */
export function openDatabase(path: string, schema: Schema, opening: Opening): Database {
  const size = sizeOf(path);
  if (size === undefined && opening.mayCreate) createFile(path);
  let raw: DatabaseSync | undefined;
  try {
    if (!size && !opening.mayCreate) {
      throw new Error(`${size === 0 ? "it is empty" : "the file is missing"}; bring a backup of the whole folder back`);
    }
    raw = new DatabaseSync(path);
    prepare(raw, schema, opening.mayCreate);
    return new Database(path, raw, opening.latch);
  } catch (error) {
    raw?.close();
    throw new StoreError(`Cannot open the store ${path}: ${reason(error, opening)}`, path, error);
  }
}

/** Opens the same kind of database in memory. */
export function openMemoryDatabase(schema: Schema, latch: FailureLatch): Database {
  const raw = new DatabaseSync(MEMORY);
  migrate(raw, schema, 0);
  return new Database(MEMORY, raw, latch);
}

/** Checks the file before changing anything, so that a foreign file stays untouched. */
function prepare(raw: DatabaseSync, schema: Schema, mayCreate: boolean): void {
  const { applicationId, steps } = schema;
  const pragma = (sql: string) => Object.values(raw.prepare(`PRAGMA ${sql}`).get() ?? {})[0];
  pragma("locking_mode = EXCLUSIVE");
  const found = Number(pragma("application_id"));
  const version = Number(pragma("user_version"));
  const tables = Number(raw.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.n);
  const isEmpty = found === 0 && version === 0 && tables === 0;
  if (isEmpty ? !mayCreate : found !== applicationId) {
    throw new Error("it is a database of something else; give the operator a folder of its own");
  }
  if (version > steps.length) {
    throw new Error(`its version ${version} is newer than this program's ${steps.length}; run a newer program`);
  }

  for (const setting of ["synchronous = FULL", "fullfsync = ON", "trusted_schema = OFF", "cell_size_check = ON"]) {
    pragma(setting);
  }
  // A small cache suffices: callers cache what they read often.
  pragma("cache_size = -512");
  const mode = pragma("journal_mode = WAL");
  pragma(`wal_autocheckpoint = ${MAX_WAL_PAGES}`);
  // A large transaction can exceed that. This truncates the file afterwards.
  pragma(`journal_size_limit = ${MAX_WAL_PAGES * 4_096}`);
  if (mode !== "wal") throw new Error(`SQLite keeps the journal mode ${mode}; WAL is needed`);
  raw.prepare("BEGIN IMMEDIATE").run();
  raw.prepare("COMMIT").run();
  const health = pragma("quick_check(1)");
  if (health !== "ok") throw new Error(`it is damaged (${health}); bring a backup of the whole folder back`);
  migrate(raw, schema, version);
}

function migrate(raw: DatabaseSync, { applicationId, steps }: Schema, version: number): void {
  for (const [index, step] of steps.entries()) {
    if (index < version) continue;
    raw.exec(`BEGIN IMMEDIATE; ${step};
      PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${index + 1}; COMMIT`);
  }
}

/** Whether another process holds the lock. */
export function isBusy(error: unknown): boolean {
  return resultCode(error) === BUSY;
}

function resultCode(error: unknown): number | undefined {
  const code = error instanceof Error && "errcode" in error ? error.errcode : undefined;
  return typeof code === "number" ? code & 0xff : undefined;
}

function reason(error: unknown, { holder }: Opening): string {
  const { message } = error as Error;
  switch (resultCode(error)) {
    case BUSY:
      return `held by ${holder()}; end that operator first, one store serves one`;
    case NOT_A_DATABASE:
      return `${message}; give the operator a folder of its own, or bring a backup back`;
    case CORRUPT:
      return `it is damaged (${message}); bring a backup of the whole folder back`;
    case READ_ONLY:
    case IO_ERROR:
    case FULL:
    case CANNOT_OPEN:
      return `${message}; see that the operator may write to the folder, and that the disk is well and not full`;
    default:
      return message;
  }
}
