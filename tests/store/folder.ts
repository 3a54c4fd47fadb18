/**
 * What the tests of the store share: a temporary folder, events, and a clock that is set by hand.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { type NewEvent, openStore, type Store } from "../../lib/store/mod.ts";

/** A temporary folder with a store, which a test opens as often as it needs. */
export class StoreFolder implements AsyncDisposable {
  /** The store's folder, which does not exist at first. */
  readonly path: string;
  /** What the store's clock shows, milliseconds since the epoch. */
  nowMs = Date.UTC(2026, 0, 1);
  readonly #parent = Deno.makeTempDirSync({ prefix: "store-" });
  #last: Store | undefined;

  constructor() {
    this.path = `${this.#parent}/store`;
  }

  /** Opens the store, after closing it if it is open: a restart. */
  async reopen(key?: Uint8Array): Promise<Store> {
    await this.#last?.close();
    this.#last = undefined;
    return this.#last = await openStore({
      folder: this.path,
      holder: { host: "h", pid: 1 },
      now: () => this.nowMs,
      ...key && { key },
    });
  }

  /** What is left in the store if the process is killed now: copies the files, and opens the copy. */
  async killed(): Promise<StoreFolder> {
    const copy = new StoreFolder();
    copy.nowMs = this.nowMs;
    Deno.mkdirSync(copy.path);
    for (const name of this.files()) Deno.copyFileSync(this.file(name), copy.file(name));
    await copy.reopen();
    return copy;
  }

  /** The store, which must be open. */
  get store(): Store {
    if (this.#last === undefined) throw new Error("Cannot use the store: it is closed");
    return this.#last;
  }

  /** Closes the store. */
  async close(): Promise<void> {
    await this.#last?.close();
    this.#last = undefined;
  }

  /** Path of a file in the folder. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** Names of the files in the folder, sorted. */
  files(): string[] {
    return Array.from(Deno.readDirSync(this.path), ({ name }) => name).sort();
  }

  /** Reads a database as a process would find it that starts now, although the store is open. */
  onDisk<Found>(name: string, read: (database: DatabaseSync) => Found): Found {
    const copy = Deno.makeTempDirSync({ dir: this.#parent });
    for (const file of this.files().filter((file) => file === name || file === `${name}-wal`)) {
      Deno.copyFileSync(this.file(file), `${copy}/${file}`);
    }
    using database = new DatabaseSync(`${copy}/${name}`);
    return read(database);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await Deno.remove(this.#parent, { recursive: true });
  }
}

/** An event of room !r. */
export function event(eventId: string, roomId = "!r"): NewEvent {
  const content = { msgtype: "m.text", body: `text of ${eventId}` };
  return { roomId, eventId, sender: "@ann:x", json: { event_id: eventId, content }, receivedAtMs: 1_000, ageMs: 5 };
}
