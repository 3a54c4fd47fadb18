/**
 * A SQLite database of ours: opened for one process alone, checked before anything is written to it, moved to the
 * present schema step by step, durable after every statement or transaction. Knows nothing of what it holds.
 *
 * Never open the file by other means in the same process: closing it would drop the POSIX lock that SQLite holds.
 *
 * @module
 */

import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { StoreError } from "../errors.ts";
import type { FailureLatch } from "./failure_latch.ts";
import { createFile, sizeOf } from "./files.ts";

/** What a database must be to be ours. */
export interface Schema {
  /** SQLite's application_id. */
  readonly applicationId: number;
  /** SQL from one user_version to the next. */
  readonly steps: readonly string[];
}

/** How a database is opened. */
export interface Opening {
  /** A file that is missing or empty may be made; otherwise it has been lost and is not made again. */
  readonly mayCreate: boolean;
  /** Says who holds the lock, such as "host x, pid 7, since …". */
  readonly holder: () => string;
  /** Is told of failures, and asked before each use. */
  readonly latch: FailureLatch;
}

/** A row by column name. */
export type Row = Record<string, SQLOutputValue>;

// SQLite result codes, https://sqlite.org/rescode.html
const BUSY = 5;
const READ_ONLY = 8;
const IO_ERROR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;
/** The journal is moved into the main file from so many pages of 4 KiB on, which costs no more than later and in one go. */
const MAX_WAL_PAGES = 128;
/** Wrong use of SQL or a constraint: the database itself is well. */
const HARMLESS = new Set([1, 18, 19, 20, 21, 25]);

/** An open database. Every method throws StoreError when SQLite fails, and nothing is written after that. */
export class Database {
  /** For code that brings SQL of its own; writes belong in {@linkcode transaction}. */
  readonly raw: DatabaseSync;
  readonly #path: string;
  readonly #latch: FailureLatch;
  readonly #statements = new Map<string, StatementSync>();
  #depth = 0;

  /** Use {@linkcode openDatabase}. */
  constructor(path: string, raw: DatabaseSync, latch: FailureLatch) {
    this.#path = path;
    this.raw = raw;
    this.#latch = latch;
  }

  /** Runs a statement; returns how many rows it changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return this.#guard(() => Number(this.#prepare(sql).run(...values).changes));
  }

  /** The first row. */
  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#guard(() => this.#prepare(sql).get(...values));
  }

  /** All rows. */
  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#guard(() => this.#prepare(sql).all(...values));
  }

  /** How many rows have been changed since it was opened, also by what was undone. */
  totalChanges(): number {
    return Number(this.get("SELECT total_changes() AS changes")?.changes);
  }

  /** Runs `f` in one transaction, or as a part of the one under way; what it wrote is undone if it throws. */
  transaction<T>(f: () => T): T {
    const [begin, commit, rollback] = this.#depth === 0
      ? ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"] as const
      : ["SAVEPOINT part", "RELEASE part", "ROLLBACK TO part"] as const;
    this.run(begin);
    this.#depth += 1;
    try {
      const result = this.#guard(f);
      if (result instanceof Promise) {
        throw new TypeError("Cannot wait within a transaction: it would hold other writes");
      }
      this.run(commit);
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some failures; a part that was undone is still to be left.
      if (this.raw.isTransaction) {
        this.raw.exec(rollback);
        if (this.#depth > 1) this.raw.exec(commit);
      }
      throw error;
    } finally {
      this.#depth -= 1;
    }
  }

  /** Moves everything into the main file, unless the store has failed, and closes it. */
  close(): void {
    try {
      if (!this.#latch.error) this.get("PRAGMA wal_checkpoint(TRUNCATE)");
    } finally {
      this.raw.close();
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, statement = this.raw.prepare(sql));
    return statement;
  }

  #guard<T>(f: () => T): T {
    this.#latch.check();
    try {
      return f();
    } catch (error) {
      const code = resultCode(error);
      if (code === undefined || HARMLESS.has(code)) throw error;
      const failure = new StoreError(
        `Cannot use the store ${this.#path}: ${(error as Error).message}; nothing more is written, see to the disk`,
        this.#path,
        error,
      );
      this.#latch.fail(failure);
      throw failure;
    }
  }
}

/**
 * Opens a database of ours and keeps it locked until it is closed.
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

/** A database of the same kind in memory, which ends with the process. */
export function openMemoryDatabase(schema: Schema, latch: FailureLatch): Database {
  const raw = new DatabaseSync(":memory:");
  migrate(raw, schema, 0);
  return new Database(":memory:", raw, latch);
}

/** Looks before it touches: a file that is not ours is left as it was. */
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
  // What is read often is kept by those who read it.
  pragma("cache_size = -512");
  const mode = pragma("journal_mode = WAL");
  pragma(`wal_autocheckpoint = ${MAX_WAL_PAGES}`);
  // A large transaction is longer than that; the file shrinks afterwards.
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

/** SQLite says that another process holds the lock. */
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
