/**
 * What the tests of the takeover share: folders as the Python operator leaves them, and what others have encrypted for
 * its device since. The stores were made by `stores/make.py`.
 *
 * @module
 */

import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Json } from "../../lib/session/mod.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";

export const USER = "@toggle:localhost";
export const DEVICE = "OLDDEVICE";
export const ROOM = "!talk:localhost";
export const TOKEN = "the old access token";
export const DATABASE = `${USER}_${DEVICE}.db`;

/** Made by matrix-nio 0.25.2; by 0.26.0; by 0.25.2, and then loaded by 0.26.0. */
export const kinds = ["libolm", "vodozemac", "upgraded"] as const;
export type Kind = typeof kinds[number];

/** An event, and the body of what is encrypted in it. */
interface StoredMessage {
  readonly body: string;
  readonly event: Json;
}

/** What stands outside the store. */
export interface Surroundings {
  readonly deviceKeys: { readonly keys: Readonly<Record<string, string>> } & Json;
  readonly oneTimeKeys: Json;
  /** Devices of the person whose end the Olm sessions have. */
  readonly peerDevices: Json;
  readonly toDevice: readonly StoredMessage[];
  readonly messages: readonly StoredMessage[];
}

const stores = join(import.meta.dirname ?? ".", "stores");

export function surroundings(kind: Kind): Surroundings {
  return JSON.parse(Deno.readTextFileSync(join(stores, kind, "world.json")));
}

/** Opens the fixture's database to look at. */
export function openFixture(kind: Kind): DatabaseSync {
  return new DatabaseSync(join(stores, kind, "store.db"), { readOnly: true });
}

/** Leaves in a folder what the Python operator leaves. */
export function leaveOldStore(folder: string, kind: Kind, accessToken: string): void {
  const database = join(folder, DATABASE);
  Deno.copyFileSync(join(stores, kind, "store.db"), database);
  Deno.chmodSync(database, 0o644);
  const session = { user_id: USER, device_id: DEVICE, access_token: accessToken };
  Deno.writeTextFileSync(join(folder, "session.json"), JSON.stringify(session));
}

/** Changes a database. */
export function alter(database: string, sql: string, ...values: (string | Uint8Array)[]): void {
  const opened = new DatabaseSync(database);
  opened.prepare(sql).run(...values);
  opened.close();
}

/** A folder as the Python operator leaves it. */
export class OldFolder implements AsyncDisposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "takeover-" });

  constructor(kind: Kind) {
    leaveOldStore(this.path, kind, TOKEN);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  write(name: string, text: string): void {
    Deno.writeTextFileSync(this.file(name), text);
  }

  /** Changes the old database. */
  alter(sql: string, ...values: (string | Uint8Array)[]): void {
    alter(this.file(DATABASE), sql, ...values);
  }

  /** Names of the files, but not of those of our own store. */
  oldFiles(): string[] {
    const ours = /^(state|crypto-\d)\.sqlite3(-wal)?$|^key$|^holder\.json$/;
    return Array.from(Deno.readDirSync(this.path), ({ name }) => name).filter((name) => !ours.test(name)).sort();
  }

  /** Opens our store in it, for `use`. */
  async withStore<Result>(use: (store: Store) => Promise<Result>): Promise<Result> {
    await using store = await openStore({ folder: this.path, holder: { host: "test", pid: Deno.pid } });
    await store.openCrypto();
    return await use(store);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
