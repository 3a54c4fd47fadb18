/**
 * All persistent state, in one folder locked by one process: the account, sync state, the event journal, and the Rust
 * crypto's database. A call's changes are on disk when it returns, except where it says otherwise.
 *
 * @module
 */

import { join } from "node:path";
import { CryptoNotes } from "./crypto_notes.ts";
import { SealedDocument } from "./sealed_document.ts";
import { StoreError } from "../errors.ts";
import { FailureLatch } from "./failure_latch.ts";
import { makeFolder, removeFile, writeFile } from "./files.ts";
import { decodeKey, IDBFactory, type IDBRequest, type IDBTransaction, installGlobals } from "./indexeddb/mod.ts";
import { EventJournal } from "./event_journal.ts";
import { beginKeyChange, finishKeyChange, KEY_FILE, obtainKey } from "./key.ts";
import { type CryptoRecord, MegolmIndex, type SessionStore } from "./megolm_index.ts";
import { Pins } from "./pins.ts";
import { describeHolder, HOLDER_FILE, STATE_FILE } from "./probe.ts";
import { cryptoSchema, stateSchema } from "./schema.ts";
import { resealAll } from "./reseal.ts";
import { Seal } from "./seal.ts";
import { type Database, openDatabase, openMemoryDatabase } from "./sqlite.ts";
import { RoomState } from "./room_state.ts";

export type { StoreError } from "../errors.ts";
export { probeStore } from "./probe.ts";
export { type StoredAnswer, type StoredEntry, type StoredEvent, transactionId } from "./event_journal.ts";
export type { Gap, InitialState, NewEvent, StoredEncryption, StoredRoom } from "./room_state.ts";
export type { Key } from "./indexeddb/mod.ts";
export type { SessionStore } from "./megolm_index.ts";
export type { CryptoNotes, CryptoRecord, EventJournal, MegolmIndex, Pins, RoomState, SealedDocument };

/** Name of the Rust crypto's database. */
export const CRYPTO_NAME = "openclaw-toggle";

/**
 * Object stores of the Rust crypto whose changes needn't be durable at once. An outbound Megolm session is never used by
 * a later process: each starts with new ones, so a ratchet that was not saved does not go back.
 */
const RELAXED: ReadonlySet<string> = new Set<SessionStore>(["outbound_group_sessions"]);

/** A session with the homeserver. */
export interface StoredSession {
  /** Base URL of the homeserver. */
  readonly homeserver: string;
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
  /** What the access token is renewed by; undefined if it cannot be renewed. */
  readonly refreshToken?: string | undefined;
  /** When the access token is to be renewed, milliseconds since the epoch; undefined if it isn't known to expire. */
  readonly refreshAtMs?: number | undefined;
  /** Whether the homeserver has listed the device's keys; undefined in a session stored by an earlier version. */
  readonly isListed?: boolean | undefined;
}

/** Private keys of a cross-signing identity, unpadded base64. */
export interface CrossSigningKeys {
  /** Master key. */
  readonly master: string;
  /** Self-signing key, which signs our own devices. */
  readonly selfSigning: string;
  /** User-signing key, which signs other users. */
  readonly userSigning: string | undefined;
}

/** Options for opening a store. */
export interface StoreOptions {
  /** The store's folder; created if it doesn't exist. */
  readonly folder: string;
  /** The store's key, 32 bytes. Without it the folder's key file is used, or created. */
  readonly key?: Uint8Array | undefined;
  /** How a second operator is told who holds the store. */
  readonly holder: { readonly host: string; readonly pid: number };
  /** Wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/**
 * Opens the store in a folder and keeps it locked until it is closed.
 *
 * @throws StoreError if another process holds it, if a file in it is missing, foreign, damaged or of a newer version,
 * or if the key is not the one it was made with; nothing is changed then
 */
// deno-lint-ignore require-await -- opening may come to need waiting; callers are not to depend on that
export async function openStore(options: StoreOptions): Promise<Store> {
  const { folder, holder, now = Date.now } = options;
  makeFolder(folder);
  const holderPath = join(folder, HOLDER_FILE);
  const latch = new FailureLatch();
  const state = openDatabase(join(folder, STATE_FILE), stateSchema, {
    mayCreate: !Array.from(Deno.readDirSync(folder)).some(({ name }) => /^crypto-\d+\.sqlite3$/.test(name)),
    holder: () => describeHolder(holderPath),
    latch,
  });
  try {
    writeFile(holderPath, JSON.stringify({ ...holder, since: new Date(now()).toISOString() }));
    const check = state.get("SELECT value FROM meta WHERE name = 'key_check'")?.value;
    const keyPath = join(folder, KEY_FILE);
    finishKeyChange(folder, (next) => check !== undefined && isSealedWith(new Seal(next, folder), check));
    const key = obtainKey(keyPath, options.key, check !== undefined);
    const seal = new Seal(key, folder);
    if (check === undefined) state.run("INSERT INTO meta VALUES ('key_check', ?)", seal.close("key", "key_check"));
    else openKeyCheck(seal, check, keyPath);
    return new Store({ folder, latch, state, key, seal, now });
  } catch (error) {
    removeFile(holderPath);
    state.close();
    throw error;
  }
}

/** Opens an in-memory store, for tests. It differs from a stored one only in that it isn't persistent. */
export function openMemoryStore(now: () => number = Date.now): Store {
  const latch = new FailureLatch();
  const key = crypto.getRandomValues(new Uint8Array(32));
  const state = openMemoryDatabase(stateSchema, latch);
  return new Store({ folder: undefined, latch, state, key, seal: new Seal(key, ":memory:"), now });
}

function isSealedWith(seal: Seal, check: unknown): boolean {
  try {
    seal.open(check, "key_check");
    return true;
  } catch (error) {
    if (error instanceof StoreError) return false;
    throw error;
  }
}

function openKeyCheck(seal: Seal, check: unknown, path: string): void {
  try {
    seal.open(check, "key_check");
  } catch (error) {
    throw new StoreError(
      `Cannot read the store: it was made with another key than this one; give that one as CRYPTO_STORE_KEY, or as ${path}`,
      path,
      error,
    );
  }
}

/** The parts of an open store. */
interface StoreParts {
  /** The store's folder; undefined for a store in memory. */
  readonly folder: string | undefined;
  readonly latch: FailureLatch;
  readonly state: Database;
  readonly key: Uint8Array;
  readonly seal: Seal;
  readonly now: () => number;
}

/** An open store. Once it has failed, every call throws that StoreError, and nothing is read or written. */
export class Store implements AsyncDisposable {
  /** 32-byte key with which the Rust crypto encrypts its own database. */
  readonly cryptoKey: Uint8Array;
  /** The stored session. */
  readonly account: SealedDocument<StoredSession>;
  /**
   * Age of this store: raised at each start, once a day, and at shutdown. The account data holds the same number, so a
   * smaller one here means that the store was restored from a backup (SPEC 5b).
   */
  readonly counter: SealedDocument<{ readonly counter: number }>;
  /** Cross-signing keys of the previous device, until this device has imported them. */
  readonly carriedIdentity: SealedDocument<CrossSigningKeys>;
  /** Rooms, members, the sync token and received events. */
  readonly rooms: RoomState;
  /** The event journal. */
  readonly journal: EventJournal;
  /** The operator's state of its targets. */
  readonly targetDocument: SealedDocument<object>;
  /** Pins of allowed users. */
  readonly pins: Pins;
  /** State about the Rust crypto that its own database doesn't hold. */
  readonly cryptoNotes: CryptoNotes;
  readonly #parts: StoreParts;
  #crypto: Database | undefined;
  #factory: IDBFactory | undefined;
  #megolm: MegolmIndex | undefined;
  #closed = false;

  /** Use {@linkcode openStore}. */
  constructor(parts: StoreParts) {
    const { state, key, seal, now } = parts;
    this.#parts = parts;
    this.cryptoKey = key;
    this.account = new SealedDocument(state, seal, "account");
    this.counter = new SealedDocument(state, seal, "counter");
    this.carriedIdentity = new SealedDocument(state, seal, "carried_identity");
    this.rooms = new RoomState(state, seal, now);
    this.journal = new EventJournal(state, seal, now);
    this.targetDocument = new SealedDocument(state, seal, "memory");
    this.pins = new Pins(state, seal);
    this.cryptoNotes = new CryptoNotes(state);
  }

  /** Resolves with the store's first failure; stays pending as long as there is none. */
  get failed(): Promise<StoreError> {
    return this.#parts.latch.failed;
  }

  /** Runs calls to account, rooms, journal, target document and pins in one transaction; rolls back if `f` throws. */
  transaction<T>(f: () => T): T {
    return this.#parts.state.transaction(f);
  }

  /**
   * Opens the Rust crypto's database and makes it the global `indexedDB`.
   *
   * @throws StoreError if it is missing although it was created before, or foreign, damaged or of a newer version
   */
  // deno-lint-ignore require-await -- opening may come to need waiting; callers are not to depend on that
  async openCrypto(): Promise<void> {
    const { folder, latch, state } = this.#parts;
    if (folder === undefined) {
      this.#crypto = openMemoryDatabase(cryptoSchema, latch);
      return this.#useCrypto(this.#crypto);
    }
    const number = this.#meta("crypto");
    const path = join(folder, `crypto-${number}.sqlite3`);
    const crypto = openDatabase(path, cryptoSchema, {
      mayCreate: this.#meta("crypto_begun") < number,
      holder: () => describeHolder(join(folder, HOLDER_FILE)),
      latch,
    });
    try {
      state.run("UPDATE meta SET value = ? WHERE name = 'crypto_begun'", number);
      this.#useCrypto(crypto);
      this.#crypto = crypto;
    } catch (error) {
      crypto.close();
      if (error instanceof StoreError) throw error;
      throw new StoreError(`Cannot read the store ${path}: ${(error as Error).message}`, path, error);
    }
  }

  /** Index of the Megolm sessions in the open crypto database. */
  get megolm(): MegolmIndex {
    if (this.#megolm === undefined) throw new Error("Cannot look into the crypto's database: it is not open");
    return this.#megolm;
  }

  /** Size of the Olm account in the Rust crypto's database, in bytes. It grows with each unused one-time key. */
  olmAccountSize(): number {
    // The account is the largest record of this object store.
    const sql = `SELECT max(octet_length(value)) AS size FROM records JOIN stores ON stores.id = records.store
      WHERE stores.name = 'core'`;
    return Number(this.#crypto?.get(sql)?.size ?? 0);
  }

  /** Deletes records from the Rust crypto's database behind the crypto's back. It reads these records on every use. */
  async deleteCryptoRecords(records: readonly CryptoRecord[]): Promise<void> {
    if (records.length === 0) return;
    const opened = this.#indexedDB().open(`${CRYPTO_NAME}::matrix-sdk-crypto`);
    await settled(opened, "success");
    using database = opened.result;
    const transaction = database.transaction(records.map(({ store }) => store), "readwrite");
    for (const { store, key } of records) transaction.objectStore(store).delete(key);
    await settled(transaction, "complete");
  }

  #useCrypto(crypto: Database): void {
    const index = new MegolmIndex(crypto, this.#parts.now);
    const failed = (error: unknown): void => this.#failed(error);
    installGlobals(this.#factory = new IDBFactory({ sql: crypto, observer: index, relaxed: RELAXED, failed }));
    if (crypto.get("SELECT 1 FROM megolm_sessions") === undefined) index.backfill(recordsOf(crypto));
    this.#megolm = index;
  }

  /** Empties the Rust crypto's database of what an interrupted start left in it. The crypto must not be using it. */
  async emptyCrypto(): Promise<void> {
    const factory = this.#indexedDB();
    for (const { name } of await factory.databases()) await settled(factory.deleteDatabase(name), "success");
  }

  /** A record of the crypto's database can't be read: it was altered, or the disk is failing. */
  #failed(error: unknown): void {
    // The latch knows of it, or the database was closed.
    if (error instanceof StoreError) return;
    const { folder = ":memory:", latch } = this.#parts;
    const reason = error instanceof Error ? error.message : String(error);
    const text =
      `Cannot read the crypto's records in the store ${folder}: ${reason}; bring a backup of the whole folder back`;
    latch.fail(new StoreError(text, folder, error));
  }

  #indexedDB(): IDBFactory {
    if (this.#factory === undefined) throw new Error("Cannot use the crypto's database: it is not open");
    return this.#factory;
  }

  #meta(name: string): number {
    return Number(this.#parts.state.get("SELECT value FROM meta WHERE name = ?", name)?.value);
  }

  /** Within a transaction: the next crypto database is another device's, and the account is that device's. */
  #useDevice(account: StoredSession, identity: CrossSigningKeys | undefined): void {
    const { folder, state } = this.#parts;
    // A restored state.sqlite3 may lie beside the crypto database of a later device.
    const taken = folder === undefined ? [] : cryptoFiles(folder).map(({ number }) => number);
    state.run("UPDATE meta SET value = ? WHERE name = 'crypto'", Math.max(this.#meta("crypto"), ...taken) + 1);
    this.account.save(account);
    this.counter.clear();
    if (identity !== undefined) this.carriedIdentity.save(identity);
  }

  /**
   * Switches to another device: its account replaces the old one, and the Rust crypto gets a new, empty database.
   * Journal, pins and rooms are kept. Whatever uses the crypto must be closed before.
   *
   * @param identity cross-signing keys of the old device, to hand to the new one
   * @param settleAll settles all received events, drops all answers, and restarts syncing, because a restored store
   * holds outdated state
   */
  async replaceDevice(
    account: StoredSession,
    { identity, settleAll = false }: {
      readonly identity?: CrossSigningKeys | undefined;
      readonly settleAll?: boolean;
    } = {},
  ): Promise<void> {
    const { state } = this.#parts;
    state.transaction(() => {
      this.#useDevice(account, identity);
      if (!settleAll) return;
      this.journal.settleAll("store-restored");
      this.rooms.forgetAll();
    });
    this.#crypto?.close();
    this.#crypto = undefined;
    await this.openCrypto();
  }

  /**
   * Re-encrypts the store with another key and closes it. The Rust crypto's database can't be re-encrypted, so a new device
   * replaces the present one, and that database is deleted. Whatever uses the crypto must be closed before.
   *
   * @param key 32 bytes; also written to the key file, if there is one
   * @param account the new device
   * @param identity the old device's private cross-signing keys, for the new one
   */
  async replaceKey(key: Uint8Array, account: StoredSession, identity: CrossSigningKeys | undefined): Promise<void> {
    const { folder, state, seal } = this.#parts;
    if (folder === undefined) throw new TypeError("Cannot replace the key of a store in memory");
    beginKeyChange(folder, key);
    const next = new Seal(key, folder);
    state.transaction(() => {
      this.#useDevice(account, identity);
      resealAll(state, seal, next);
    });
    finishKeyChange(folder, () => true);
    // Free pages may still hold data encrypted with the old key.
    state.run("VACUUM");
    this.#crypto?.close();
    this.#crypto = undefined;
    for (const { path } of cryptoFiles(folder)) removeFile(path);
    await this.close();
  }

  /** Checkpoints the databases and releases the lock. Whatever uses the crypto must be closed before. */
  // deno-lint-ignore require-await -- closing may come to need waiting; callers are not to depend on that
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { folder, latch, state } = this.#parts;
    try {
      this.#crypto?.close();
    } finally {
      // Removed while we still hold the lock: right after, it may be another process's file.
      if (folder !== undefined) removeFile(join(folder, HOLDER_FILE));
      state.close();
      latch.close(folder ?? ":memory:");
    }
  }

  /** Closes the store. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Waits for an event, or rejects on failure. */
function settled(target: IDBRequest | IDBTransaction, done: "success" | "complete"): Promise<void> {
  return new Promise((resolve, reject) => {
    target.addEventListener(done, () => resolve());
    for (const failure of ["error", "abort"]) target.addEventListener(failure, () => reject(target.error));
  });
}

/** The files of all crypto databases in the folder, with their numbers. */
function cryptoFiles(folder: string): { readonly path: string; readonly number: number }[] {
  return Array.from(Deno.readDirSync(folder)).flatMap(({ name }) => {
    const number = /^crypto-(\d+)\.sqlite3(-wal|-shm)?$/.exec(name)?.[1];
    return number === undefined ? [] : [{ path: join(folder, name), number: Number(number) }];
  });
}

/** All records of the crypto's database. */
function* recordsOf(crypto: Database): Generator<CryptoRecord> {
  const sql = "SELECT stores.name, records.key FROM records JOIN stores ON stores.id = records.store";
  for (const { name, key } of crypto.all(sql)) yield { store: String(name), key: decodeKey(key as Uint8Array) };
}
