/**
 * All state that lasts, in one folder held by one process: the account, the state of syncing, the journal, and the
 * database of the Rust crypto. Whatever returns is on disk.
 *
 * @module
 */

import { join } from "node:path";
import { CryptoNotes } from "./crypto_notes.ts";
import { SealedDocument } from "./sealed_document.ts";
import { StoreError } from "../errors.ts";
import { FailureLatch } from "./failure_latch.ts";
import { makeFolder, removeFile, writeFile } from "./files.ts";
import { decodeKey, type DurableFactory, installGlobals, openDurableIndexedDB } from "./indexeddb/mod.ts";
import { EventJournal } from "./event_journal.ts";
import { obtainKey } from "./key.ts";
import { type CryptoRecord, MegolmIndex } from "./megolm_index.ts";
import { Pins } from "./pins.ts";
import { describeHolder, HOLDER_FILE, STATE_FILE } from "./probe.ts";
import { cryptoSchema, stateSchema } from "./schema.ts";
import { Seal } from "./seal.ts";
import { type Database, openDatabase, openMemoryDatabase } from "./sqlite.ts";
import { RoomState } from "./room_state.ts";

export type { StoreError } from "../errors.ts";
export { probeStore } from "./probe.ts";
export { type StoredAnswer, type StoredEntry, type StoredEvent, transactionId } from "./event_journal.ts";
export type { Entering, Gap, NewEvent, StoredEncryption, StoredRoom } from "./room_state.ts";
export type { Key } from "./indexeddb/mod.ts";
export type { SessionStore } from "./megolm_index.ts";
export type { CryptoNotes, CryptoRecord, EventJournal, MegolmIndex, Pins, RoomState, SealedDocument };

/** Name of the Rust crypto's database. */
export const CRYPTO_NAME = "openclaw-toggle";

/** A session with the homeserver. */
export interface StoredSession {
  /** Base URL of the homeserver that it belongs to. */
  readonly homeserver: string;
  /** Full user id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
  /** The homeserver has listed the device's keys; undefined in a session that an earlier version has stored. */
  readonly isListed?: boolean | undefined;
}

/** Private keys of a cross-signing identity, unpadded base64. */
export interface CrossSigningKeys {
  /** Of the master key. */
  readonly master: string;
  /** Of the key that signs our own devices. */
  readonly selfSigning: string;
  /** Of the key that signs other users. */
  readonly userSigning: string | undefined;
}

/** How a store is opened. */
export interface StoreOptions {
  /** The folder; made if there is none. */
  readonly folder: string;
  /** The key, 32 bytes; without it the folder's key file is used, or made. */
  readonly key?: Uint8Array | undefined;
  /** Who is to be named to a second operator. */
  readonly holder: { readonly host: string; readonly pid: number };
  /** Clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/**
 * Opens the store of a folder and keeps it locked until it is closed.
 *
 * @throws StoreError if another process holds it, or a file in it is missing, foreign, damaged or of a newer version,
 * or the key is not the one it was made with; nothing is changed then
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
    const keyPath = join(folder, "key");
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

/** A store that is kept in memory and ends with the process: the same in all but that, for tests of those who use one. */
export function openMemoryStore(now: () => number = Date.now): Store {
  const latch = new FailureLatch();
  const key = crypto.getRandomValues(new Uint8Array(32));
  const state = openMemoryDatabase(stateSchema, latch);
  return new Store({ folder: undefined, latch, state, key, seal: new Seal(key, ":memory:"), now });
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

/** What a store is made of. */
interface Parts {
  /** The folder; undefined if it is all in memory. */
  readonly folder: string | undefined;
  readonly latch: FailureLatch;
  readonly state: Database;
  readonly key: Uint8Array;
  readonly seal: Seal;
  readonly now: () => number;
}

/** An open store. After a failure nothing is read or written any more: every call throws that StoreError. */
export class Store implements AsyncDisposable {
  /** 32 bytes, for the Rust crypto's own encryption of what it stores. */
  readonly cryptoKey: Uint8Array;
  /** The stored session. */
  readonly account: SealedDocument<StoredSession>;
  /** How often the store was begun to be used, as the account's data has it, too (SPEC 5b). */
  readonly counter: SealedDocument<{ readonly counter: number }>;
  /** The identity that a device before this one held, until this one holds it. */
  readonly carriedIdentity: SealedDocument<CrossSigningKeys>;
  /** Rooms, members, the sync token and events as they arrive. */
  readonly rooms: RoomState;
  /** The journal. */
  readonly journal: EventJournal;
  /** What the operator remembers of its targets. */
  readonly targetDocument: SealedDocument<object>;
  /** What users are known by. */
  readonly pins: Pins;
  /** What is to be known of the crypto beside its own database. */
  readonly cryptoNotes: CryptoNotes;
  readonly #parts: Parts;
  #crypto: Database | undefined;
  #megolm: MegolmIndex | undefined;
  #closed = false;

  /** Use {@linkcode openStore}. */
  constructor(parts: Parts) {
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

  /** Resolves when the store has failed, never otherwise. */
  get failed(): Promise<StoreError> {
    return this.#parts.latch.failed;
  }

  /** Runs calls to account, rooms, journal, target document and pins in one transaction; all is undone if `f` throws. */
  transaction<T>(f: () => T): T {
    return this.#parts.state.transaction(f);
  }

  /**
   * Loads the database of the Rust crypto and makes it the global `indexedDB`.
   *
   * @throws StoreError if it is missing though it was begun, foreign, damaged or of a newer version
   */
  async openCrypto(): Promise<void> {
    const { folder, latch, state } = this.#parts;
    if (folder === undefined) {
      this.#crypto = openMemoryDatabase(cryptoSchema, latch);
      return await this.#useCrypto(this.#crypto);
    }
    const meta = (name: string) => Number(state.get("SELECT value FROM meta WHERE name = ?", name)?.value);
    const number = meta("crypto");
    const path = join(folder, `crypto-${number}.sqlite3`);
    const crypto = openDatabase(path, cryptoSchema, {
      mayCreate: meta("crypto_begun") < number,
      holder: () => describeHolder(join(folder, HOLDER_FILE)),
      latch,
    });
    try {
      state.run("UPDATE meta SET value = ? WHERE name = 'crypto_begun'", number);
      await this.#useCrypto(crypto);
      this.#crypto = crypto;
    } catch (error) {
      crypto.close();
      if (error instanceof StoreError) throw error;
      throw new StoreError(`Cannot read the store ${path}: ${(error as Error).message}`, path, error);
    }
  }

  /** Which Megolm sessions the open database of the Rust crypto holds. */
  get megolm(): MegolmIndex {
    if (this.#megolm === undefined) throw new Error("Cannot look into the crypto's database: it is not open");
    return this.#megolm;
  }

  /** Deletes records of the Rust crypto's database, beside the crypto, which reads them anew each time. */
  async deleteCryptoRecords(records: readonly CryptoRecord[]): Promise<void> {
    if (records.length === 0) return;
    const factory: IndexedDBFactory = Reflect.get(globalThis, "indexedDB");
    const opened = factory.open(`${CRYPTO_NAME}::matrix-sdk-crypto`);
    await settled(opened, "success");
    const database = opened.result;
    try {
      const transaction = database.transaction([...new Set(records.map(({ store }) => store))], "readwrite");
      for (const { store, key } of records) transaction.objectStore(store).delete(key);
      await settled(transaction, "complete");
    } finally {
      database.close();
    }
  }

  async #useCrypto(crypto: Database): Promise<void> {
    const index = new MegolmIndex(crypto, this.#parts.now);
    installGlobals(await openDurableIndexedDB(crypto.raw, (writes) => crypto.transaction(writes), index));
    if (crypto.get("SELECT 1 FROM megolm_sessions") === undefined) index.adopt(recordsOf(crypto));
    this.#megolm = index;
  }

  /** Empties the database of the Rust crypto, which nothing is using, of what a beginning that was cut short has left. */
  async emptyCrypto(): Promise<void> {
    const factory: DurableFactory = Reflect.get(globalThis, "indexedDB");
    for (const { name } of await factory.databases()) await settled(factory.deleteDatabase(name), "success");
  }

  /**
   * Goes on as another device: its account takes the place of the old one's, and the Rust crypto's database is set aside
   * for an empty one. Journal, pins and what is known of rooms stay. What uses the crypto is to be closed before.
   *
   * @param identity private keys that the old device held, to be handed to the new one
   * @param settleAll nothing that was received is handled any more, answers are dropped, and syncing begins anew: what
   * the store says of them is of the past
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
      state.run("UPDATE meta SET value = value + 1 WHERE name = 'crypto'");
      this.account.save(account);
      this.counter.clear();
      if (identity !== undefined) this.carriedIdentity.save(identity);
      if (!settleAll) return;
      this.journal.settleAll("store-restored");
      this.rooms.forgetAll();
    });
    this.#crypto?.close();
    this.#crypto = undefined;
    await this.openCrypto();
  }

  /** Moves everything into the main files and gives the lock back. What uses the crypto is to be closed before. */
  // deno-lint-ignore require-await -- closing may come to need waiting; callers are not to depend on that
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { folder, latch, state } = this.#parts;
    try {
      this.#crypto?.close();
    } finally {
      // While the lock is still held: the file may be another's right after.
      if (folder !== undefined) removeFile(join(folder, HOLDER_FILE));
      state.close();
      latch.close(folder ?? ":memory:");
    }
  }

  /** Closes. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** IndexedDB as far as it is used here; Deno has no types for it. */
interface IndexedDBFactory {
  open(name: string): Failing & {
    readonly result: {
      transaction(stores: readonly string[], mode: "readwrite"): Failing & {
        objectStore(name: string): { delete(key: unknown): unknown };
      };
      close(): void;
    };
  };
}

type Failing = EventTarget & { readonly error: unknown };

/** Waits for the one event or for its failure. */
function settled(target: Failing, done: "success" | "complete"): Promise<void> {
  return new Promise((resolve, reject) => {
    target.addEventListener(done, () => resolve());
    for (const failure of ["error", "abort"]) target.addEventListener(failure, () => reject(target.error));
  });
}

/** All records of the crypto's database. */
function* recordsOf(crypto: Database): Generator<CryptoRecord> {
  const sql = "SELECT stores.name, records.key FROM records JOIN stores ON stores.id = records.store";
  for (const { name, key } of crypto.all(sql)) yield { store: String(name), key: decodeKey(key as Uint8Array) };
}
