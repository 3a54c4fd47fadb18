/**
 * Takes over the Python operator's store, once: its device becomes ours, with account, Olm and Megolm sessions. The old
 * files are only read, and renamed some time after everything is on disk in our store.
 *
 * The takeover is complete once our store holds the device's account. If the process is killed before that, the next
 * start begins again; if it is killed after that, only the files remain to be renamed.
 *
 * @module
 */

import { createHmac } from "node:crypto";
import { join } from "node:path";
import { getLogger } from "@logtape/logtape";
import {
  BaseMigrationData,
  DeviceId,
  initAsync,
  Migration,
  PickledInboundGroupSession,
  PickledSession,
  RoomId,
  StoreHandle,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import { CRYPTO_NAME, type Store } from "../store/mod.ts";
import {
  cannot,
  databaseName,
  filesOf,
  oldFiles,
  type OldRow,
  type OldSession,
  oldSession,
  OldStore,
  removeCopy,
  textOf,
} from "./old_store.ts";
import { libolmPickle, PICKLE_KEY } from "./pickle.ts";

const log = getLogger(["openclaw-toggle", "takeover"]);
/** Sessions migrated per call. */
const BATCH = 100;
const MEGOLM = "m.megolm.v1.aes-sha2";

/** Options of {@linkcode takeOver}. */
export interface TakeOverOptions {
  /** Our store, open, including its crypto database, which nothing uses yet. */
  readonly store: Store;
  /** Folder of both stores. */
  readonly folder: string;
  /** Base URL of the homeserver. */
  readonly homeserver: string;
  /** Configured user: a localpart or a full user id. */
  readonly user: string;
}

/**
 * Looks for a store of the Python operator in a folder. Changes nothing.
 *
 * @returns its owner as text; undefined if there is no such store
 * @throws StoreError if part of it is missing
 */
export function findOldStore(folder: string): string | undefined {
  const files = oldFiles(folder);
  if (files.length === 0) return undefined;
  const session = oldSession(folder);
  const database = databaseName(session);
  if (!files.includes(database)) throw cannot(join(folder, database), "the file is missing");
  return `device ${session.deviceId} of ${session.userId}`;
}

/**
 * Takes over the Python operator's store, if there is one and ours is new.
 *
 * @throws StoreError if it can't be read or belongs to another user; ours stays new then
 */
export async function takeOver({ store, folder, homeserver, user }: TakeOverOptions): Promise<void> {
  const files = oldFiles(folder);
  if (files.length === 0) return;
  const ours = store.account.load();
  if (ours !== undefined || store.rooms.syncToken() !== undefined) {
    if (retireOldStore(store, folder)) return;
    return log.warn("ignored {files} of the Python operator: this operator has its own store; delete them", {
      files: files.join(", "),
    });
  }
  const { session, rooms, syncToken } = await importCrypto(store, folder, user).catch((error) => {
    rethrowUnlessOldStoreFailed(error, store);
    throw error;
  });
  store.transaction(() => {
    for (const roomId of rooms) {
      store.rooms.setEncrypted(roomId, { algorithm: MEGOLM });
    }
    if (syncToken !== undefined) store.rooms.adoptToken(syncToken);
    store.account.save({ homeserver, ...session });
  });
  log.info("took over device {device} of {user} from the Python operator, with {rooms} encrypted rooms", {
    device: session.deviceId,
    user: session.userId,
    rooms: rooms.length,
  });
}

/**
 * Renames the files of a store that was taken over. Call it only when the Python operator has surely ended: a rolling
 * update of a Deployment runs both for a while, and a Python operator without its database logs in as a new device.
 *
 * @returns false if there are no such files
 */
export function retireOldStore(store: Store, folder: string): boolean {
  const ours = store.account.load();
  if (ours === undefined || !oldFiles(folder).includes(databaseName(ours))) return false;
  rename(folder, filesOf(ours), "imported");
  log.info("renamed the Python operator's files to *.imported: they hold live keys; delete them once all is well");
  return true;
}

/** Renames the Python operator's files, so that they aren't taken over. */
export function setOldStoreAside(folder: string): void {
  removeCopy(folder);
  rename(folder, oldFiles(folder), "aside");
}

/** Renames the files that exist, one by one, and makes them readable by their owner only. */
function rename(folder: string, files: readonly string[], suffix: string): void {
  for (const name of files) {
    const path = join(folder, name);
    try {
      closeToOthers(path);
      Deno.renameSync(path, `${path}.${suffix}`);
      log.debug("renamed {name} to {name}.{suffix}", { name, suffix });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw cannot(path, (error as Error).message, error);
    }
  }
}

/** Restricts a file to its owner. The mode can't be changed if the Python operator ran as another user. */
function closeToOthers(path: string): void {
  try {
    Deno.chmodSync(path, 0o600);
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    log.warn("failed to restrict access to {path}, which holds live keys: it belongs to another user", { path });
  }
}

/** Migrates the crypto data to the Rust crypto, and returns the rest. */
async function importCrypto(
  store: Store,
  folder: string,
  user: string,
): Promise<{ session: OldSession; rooms: readonly string[]; syncToken: string | undefined }> {
  using old = new OldStore(folder);
  const { path, session, encryptedRooms: rooms, syncToken } = old;
  if (session.userId !== user && !session.userId.startsWith(`@${user}:`)) {
    throw cannot(path, `it belongs to ${session.userId}, and MATRIX_USER is ${user}`);
  }
  await initAsync();
  await store.emptyCrypto();
  using handle = await StoreHandle.openWithKey(CRYPTO_NAME, store.cryptoKey);
  try {
    await Migration.migrateBaseData(baseData(old), PICKLE_KEY, handle);
  } catch (error) {
    rethrowUnlessOldStoreFailed(error, store);
    throw cannot(path, `the device's account cannot be read (${error})`, error);
  }
  await importSessions(store, "Olm", old.olmSessions(), async (rows) => {
    await Migration.migrateOlmSessions(rows.map(olmSession), PICKLE_KEY, handle);
  });
  await importSessions(store, "Megolm", old.megolmSessions(), async (rows) => {
    await Migration.migrateMegolmSessions(rows.map(megolmSession), PICKLE_KEY, handle);
  });
  return { session, rooms, syncToken };
}

/** @throws the error, unless reading the old store caused it: the crypto panicked, or our store failed */
function rethrowUnlessOldStoreFailed(error: unknown, store: Store): void {
  if (error instanceof WebAssembly.RuntimeError) throw error;
  store.account.load(); // throws if the store has failed
}

/** Skips and reports unreadable sessions: broken Olm sessions are re-established, Megolm sessions may be sent again. */
async function importSessions(
  store: Store,
  kind: string,
  rows: Iterable<OldRow>,
  migrate: (rows: readonly OldRow[]) => Promise<void>,
): Promise<void> {
  let [all, lost] = [0, 0];
  const attempt = async (batch: readonly OldRow[]): Promise<void> => {
    try {
      await migrate(batch);
    } catch (error) {
      rethrowUnlessOldStoreFailed(error, store);
      // One bad session fails its whole batch.
      if (batch.length > 1) {
        for (const row of batch) await attempt([row]);
      } else lost += 1;
    }
  };
  for (const batch of batches(rows)) {
    all += batch.length;
    await attempt(batch);
  }
  log.info("took over {count} {kind} sessions", { kind, count: all - lost });
  if (lost > 0) {
    log.warn("skipped {lost} of {all} {kind} sessions: unreadable, so what they encrypted stays encrypted", {
      ...{ lost, all, kind },
    });
  }
}

function* batches(rows: Iterable<OldRow>): Generator<OldRow[]> {
  let batch: OldRow[] = [];
  for (const row of rows) {
    batch.push(row);
    if (batch.length === BATCH) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

function baseData({ session, account, secret }: OldStore): BaseMigrationData {
  const data = new BaseMigrationData();
  data.userId = new UserId(session.userId);
  data.deviceId = new DeviceId(session.deviceId);
  data.pickledAccount = libolmPickle("account", account);
  if (secret) {
    const key = (usage: string): string =>
      createHmac("sha256", secret).update(`minimatrix cross-signing ${usage}`).digest("base64").replace(/=+$/, "");
    data.privateCrossSigningMasterKey = key("master");
    data.privateCrossSigningSelfSigningKey = key("self_signing");
    data.privateCrossSigningUserSigningKey = key("user_signing");
  }
  return data;
}

function olmSession(row: OldRow): PickledSession {
  const made = new PickledSession();
  made.pickle = libolmPickle("session", textOf(row["session"]));
  made.senderKey = textOf(row["sender_key"]);
  made.creationTime = time(row["creation_time"]);
  made.lastUseTime = time(row["last_usage_date"]);
  made.createdUsingFallbackKey = false;
  return made;
}

/** Parses local time without a zone as UTC. Only the order matters: the newest session is the one in use. */
function time(value: unknown): Date {
  const date = new Date(`${textOf(value).replace(" ", "T").slice(0, 23)}Z`);
  return Number.isNaN(date.getTime()) ? new Date(0) : date;
}

function megolmSession(row: OldRow): PickledInboundGroupSession {
  const made = new PickledInboundGroupSession();
  made.pickle = libolmPickle("group session", textOf(row["session"]));
  made.senderKey = textOf(row["sender_key"]);
  made.senderSigningKey = textOf(row["fp_key"]);
  made.roomId = new RoomId(textOf(row["room_id"]));
  made.imported = row["forwarded"] === 1;
  made.backedUp = false;
  return made;
}
