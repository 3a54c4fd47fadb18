/**
 * The plain files of the store: made for the owner alone, and on disk before they count. Knows nothing of SQLite.
 *
 * @module
 */

import { rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { StoreError } from "../errors.ts";

/** Read and write for the owner alone. What a mount adds for its group (fsGroup) is accepted. */
const OWNER_ONLY = 0o600;

/**
 * Makes a folder if there is none.
 *
 * @throws StoreError if it cannot be made or is no folder
 */
export function makeFolder(folder: string): void {
  try {
    if (!statSync(folder, { throwIfNoEntry: false })) {
      Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
      syncFolder(dirname(folder));
    }
    if (!Deno.statSync(folder).isDirectory) throw new Error("it is a file");
  } catch (error) {
    throw new StoreError(
      `Cannot open the store ${folder}: ${(error as Error).message}; name a folder that the operator may write to`,
      folder,
      error,
    );
  }
}

/** Length in bytes; undefined if there is no such file. Does not open it. */
export function sizeOf(path: string): number | undefined {
  return attempt("read", path, () => statSync(path, { throwIfNoEntry: false })?.size);
}

/** Makes an empty file, which must not exist, and has the folder's entry on disk. */
export function createFile(path: string): void {
  attempt("create", path, () => {
    Deno.openSync(path, { write: true, createNew: true, mode: OWNER_ONLY }).close();
    syncFolder(dirname(path));
  });
}

/** Writes a file so that, whenever we die, it is there whole or not at all; it is on disk when this returns. */
export function writeFile(path: string, text: string): void {
  attempt("write", path, () => {
    const draft = `${path}.new`;
    {
      using file = Deno.openSync(draft, { write: true, create: true, truncate: true, mode: OWNER_ONLY });
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
      file.syncSync();
    }
    Deno.renameSync(draft, path);
    syncFolder(dirname(path));
  });
}

/** The text of a file; undefined if there is none. */
export function readFile(path: string): string | undefined {
  return attempt("read", path, () => {
    try {
      return Deno.readTextFileSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  });
}

/** Removes a file; one that is gone is fine. */
export function removeFile(path: string): void {
  attempt("remove", path, () => rmSync(path, { force: true }));
}

function syncFolder(path: string): void {
  using folder = Deno.openSync(path);
  folder.syncSync();
}

function attempt<T>(verb: string, path: string, f: () => T): T {
  try {
    return f();
  } catch (error) {
    const { message } = error as Error;
    throw new StoreError(`Cannot ${verb} ${path}: ${message}; see to the folder's owner and space`, path, error);
  }
}
