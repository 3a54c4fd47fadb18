/**
 * Plain files of the store: readable by their owner only, and synced to disk.
 *
 * @module
 */

import { rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { StoreError } from "../errors.ts";

/** Read and write for the owner only. Group permissions that a mount adds (fsGroup) are accepted. */
const OWNER_ONLY = 0o600;

/**
 * Creates a folder if it doesn't exist.
 *
 * @throws StoreError if it can't be created or is not a folder
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

/** Size in bytes; undefined if the file doesn't exist. Doesn't open the file. */
export function sizeOf(path: string): number | undefined {
  return attempt("read", path, () => statSync(path, { throwIfNoEntry: false })?.size);
}

/** Creates an empty file and syncs its folder. Fails if the file exists. */
export function createFile(path: string): void {
  attempt("create", path, () => {
    Deno.openSync(path, { write: true, createNew: true, mode: OWNER_ONLY }).close();
    syncFolder(dirname(path));
  });
}

/** Writes a file atomically: after a crash it holds the old or the new content. The content is on disk on return. */
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

/** Content of a file; undefined if it doesn't exist. */
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

/** Removes a file, if it exists. */
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
