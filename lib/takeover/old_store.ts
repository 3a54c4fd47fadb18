/**
 * The Python operator's store: minimatrix's `session.json` and matrix-nio's SQLite database. The database is read from
 * a copy.
 *
 * @module
 */

import { existsSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../errors.ts";

const SESSION = "session.json";
/** Secret from which minimatrix derives its cross-signing identity, since 0.0.18. */
const SECRET = "cross_signing_secret";
const COPY = "takeover.sqlite3";
/** Suffixes of SQLite's files beside the database: rollback journal, WAL, and the WAL's index. */
const SUFFIXES = ["-journal", "-wal", "-shm"];
/** matrix-nio's lists of trusted devices, beside the database. Not migrated: trust is established anew. */
const TRUST = [".trusted_devices", ".blacklisted_devices", ".ignored_devices"];
/** Version of matrix-nio's schema that is supported. */
const VERSION = 2;

/** A session of the Python operator. */
export interface OldSession {
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
}

/** A row of matrix-nio's database. */
export type OldRow = Readonly<Record<string, unknown>>;

/** Makes the error for a store that can't be taken over. */
export function cannot(path: string, reason: string, cause?: unknown): StoreError {
  return new StoreError(
    `Cannot take over the Python operator's store: ${path}: ${reason}; bring a backup of the whole folder back, or ` +
      "start once with --fresh-device, which sets these files aside and makes a new device",
    path,
    cause,
  );
}

/** Names of the Python operator's files in a folder; empty if it contains neither a session nor a database. */
export function oldFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
  const files = names.filter((name) =>
    [SESSION, SECRET].includes(name) || /^@.+_.+\.(db(-journal|-wal|-shm)?|\w+_devices)$/.test(name)
  );
  return files.some((name) => name !== SECRET) ? files : [];
}

/**
 * Reads the session.
 *
 * @throws StoreError if its file is missing or can't be read
 */
export function oldSession(folder: string): OldSession {
  const path = join(folder, SESSION);
  try {
    const { user_id: userId, device_id: deviceId, access_token: accessToken } = JSON.parse(Deno.readTextFileSync(path));
    const session = { userId, deviceId, accessToken };
    if (Object.values(session).some((value) => typeof value !== "string" || value === "")) {
      throw new Error("it names no user, device or token");
    }
    return session;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw cannot(path, "it is missing, and with it the access token");
    // The JSON parser's message would quote the token.
    throw cannot(path, error instanceof SyntaxError ? "it is no JSON" : (error as Error).message);
  }
}

/** Name of the session's database file. */
export function databaseName({ userId, deviceId }: { readonly userId: string; readonly deviceId: string }): string {
  return `${userId}_${deviceId}.db`;
}

/** Names of a session's files. The database is last, because the session is recognised by it until it is gone. */
export function filesOf(session: { readonly userId: string; readonly deviceId: string }): string[] {
  const database = databaseName(session);
  const trust = TRUST.map((end) => database.replace(/\.db$/, end));
  return [SESSION, SECRET, ...trust, ...SUFFIXES.map((suffix) => database + suffix), database];
}

/** An open copy of the session's database, and the secret. Disposing deletes the copy. */
export class OldStore implements Disposable {
  /** The session. */
  readonly session: OldSession;
  /** Secret of its cross-signing identity; undefined if there is none. */
  readonly secret: string | undefined;
  /** Path of the original database. */
  readonly path: string;
  readonly #folder: string;
  readonly #database: DatabaseSync;
  readonly #account: OldRow;

  /**
   * Copies the database and opens the copy.
   *
   * @throws StoreError if part of the store is missing, damaged, or of an unknown version
   */
  constructor(folder: string) {
    this.#folder = folder;
    const session = this.session = oldSession(folder);
    this.path = join(folder, databaseName(session));
    const secretPath = join(folder, SECRET);
    removeCopy(this.#folder);
    let database: DatabaseSync | undefined;
    try {
      this.secret = contentOf(secretPath)?.trim();
      this.#copy();
      this.#database = database = new DatabaseSync(join(folder, COPY));
      const [health] = Object.values(database.prepare("PRAGMA quick_check(1)").get() ?? {});
      if (health !== "ok") throw new Error(`it is damaged (${health})`);
      const version = database.prepare("SELECT max(version) AS version FROM storeversion").get()?.version;
      if (version !== VERSION) throw new Error(`its version is ${version}, and only ${VERSION} is known`);
      const account = database.prepare("SELECT * FROM accounts WHERE user_id = ? AND device_id = ?")
        .get(session.userId, session.deviceId);
      if (account === undefined) throw new Error(`it has no account of ${session.userId}, device ${session.deviceId}`);
      this.#account = account;
    } catch (error) {
      database?.close();
      removeCopy(this.#folder);
      const reason = error instanceof Deno.errors.NotFound ? "the file is missing" : (error as Error).message;
      throw cannot(this.path, reason, error);
    }
  }

  /** Pickle of the device's account. */
  get account(): string {
    return textOf(this.#account["account"]);
  }

  /** Sync token; undefined if none was stored. */
  get syncToken(): string | undefined {
    const row = this.#rows("SELECT token FROM synctokens WHERE account_id = ?").next().value;
    return row && textOf(row["token"]);
  }

  /** Ids of the rooms known to be encrypted. */
  get encryptedRooms(): string[] {
    return Array.from(this.#rows("SELECT room_id FROM encryptedrooms WHERE account_id = ?"), (row) => {
      return textOf(row["room_id"]);
    });
  }

  /** Rows of Olm sessions. */
  olmSessions(): Iterable<OldRow> {
    return this.#rows("SELECT * FROM olmsessions WHERE account_id = ? ORDER BY creation_time");
  }

  /** Rows of Megolm sessions. `forwarded` is 1 if the session came from someone other than its owner. */
  megolmSessions(): Iterable<OldRow> {
    return this.#rows(
      `SELECT *, EXISTS (SELECT 1 FROM forwardedchains WHERE session_id = megolm.session_id) AS forwarded
        FROM megolminboundsessions AS megolm WHERE account_id = ?`,
    );
  }

  /** Closes and deletes the copy. */
  [Symbol.dispose](): void {
    this.#database.close();
    removeCopy(this.#folder);
  }

  *#rows(sql: string): Generator<OldRow> {
    try {
      yield* this.#database.prepare(sql).iterate(Number(this.#account["id"]));
    } catch (error) {
      throw cannot(this.path, (error as Error).message, error);
    }
  }

  /** Copies the database and its journals, from which SQLite recovers on opening. Repeats if they changed meanwhile. */
  #copy(): void {
    const copy = join(this.#folder, COPY);
    const before = this.#written();
    for (const suffix of ["", "-journal", "-wal"]) {
      try {
        Deno.copyFileSync(this.path + suffix, copy + suffix);
        Deno.chmodSync(copy + suffix, 0o600);
      } catch (error) {
        if (suffix === "" || !(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    if (this.#written() !== before) {
      removeCopy(this.#folder);
      this.#copy();
    }
  }

  /** Modification times of the database and its journals. */
  #written(): string {
    return ["", "-journal", "-wal"].map((suffix) => statSync(this.path + suffix, { throwIfNoEntry: false })?.mtimeMs)
      .join();
  }
}

/** Deletes the copy, also one left by a killed process. */
export function removeCopy(folder: string): void {
  for (const suffix of ["", ...SUFFIXES]) rmSync(join(folder, COPY + suffix), { force: true });
}

function contentOf(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Text of a column. matrix-nio stores pickles as base64 in a BLOB. */
export function textOf(value: unknown): string {
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value);
}
