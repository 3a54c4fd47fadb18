/**
 * Checks whether a store can be opened, without reading, migrating or creating it.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../errors.ts";
import { makeFolder, readFile, removeFile, sizeOf, writeFile } from "./files.ts";
import { isBusy } from "./sqlite.ts";

/** File that says which process holds the store. */
export const HOLDER_FILE = "holder.json";
/** Database whose lock is the lock of the store. */
export const STATE_FILE = "state.sqlite3";

/**
 * Checks that the folder is writable and that the store in it, if any, can be locked. Leaves nothing behind.
 *
 * @returns who holds the store; undefined if nobody does
 * @throws StoreError if the store couldn't be opened for another reason
 */
export function probeStore(folder: string): string | undefined {
  let missing: string | undefined;
  for (let path = folder; sizeOf(path) === undefined && path !== dirname(path); path = dirname(path)) missing = path;
  makeFolder(folder);
  try {
    const trial = join(folder, "conntest");
    writeFile(trial, "");
    removeFile(trial);
    return sizeOf(join(folder, STATE_FILE)) === undefined ? undefined : holderOf(folder);
  } finally {
    for (let path = folder; missing !== undefined && isRemoved(path) && path !== missing;) path = dirname(path);
  }
}

/** Removes an empty folder. If an operator has meanwhile created its store there, the folder stays. */
function isRemoved(folder: string): boolean {
  try {
    Deno.removeSync(folder);
    return true;
  } catch (error) {
    if ([...Deno.readDirSync(folder)].length === 0) throw error;
    return false;
  }
}

function holderOf(folder: string): string | undefined {
  const path = join(folder, STATE_FILE);
  const database = new DatabaseSync(path);
  try {
    // Errors of exec() have no result code.
    database.prepare("PRAGMA locking_mode = EXCLUSIVE").get();
    for (const step of ["BEGIN IMMEDIATE", "ROLLBACK"]) database.prepare(step).run();
    return undefined;
  } catch (error) {
    if (isBusy(error)) return describeHolder(join(folder, HOLDER_FILE));
    throw new StoreError(`Cannot lock the store ${path}: ${(error as Error).message}`, path, error);
  } finally {
    database.close();
  }
}

/** Reads who holds the store. The file is only informative, so it may be missing or damaged. */
export function describeHolder(path: string): string {
  try {
    const { host, pid, since } = JSON.parse(readFile(path) ?? "");
    return `host ${host}, pid ${pid}, since ${since}`;
  } catch {
    return "another process, which has left no name";
  }
}
