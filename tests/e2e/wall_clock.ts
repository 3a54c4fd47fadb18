/**
 * The wall clock of a process, to be set at will by libfaketime. Timers go on as they are: only what the time is changes.
 *
 * @module
 */

import { join } from "node:path";

/** A wall clock. */
export class WallClock {
  /** Variables with which a process goes by it. */
  readonly environment: Readonly<Record<string, string>>;
  readonly #file: string;

  private constructor(library: string, file: string) {
    this.#file = file;
    this.environment = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
    };
  }

  /**
   * A clock that is right; undefined where Debian and others put libfaketime there is none.
   *
   * @param folder where its file is made
   */
  static async find(folder: string): Promise<WallClock | undefined> {
    for await (const { name } of Deno.readDir("/usr/lib")) {
      const library = join("/usr/lib", name, "faketime", "libfaketimeMT.so.1");
      if (!await Deno.stat(library).then(() => true, () => false)) continue;
      const clock = new WallClock(library, join(await Deno.makeTempDir({ dir: folder }), "clock"));
      await clock.set(0);
      return clock;
    }
    return undefined;
  }

  /** Sets it so many seconds ahead of the right time. */
  async set(seconds: number): Promise<void> {
    await Deno.writeTextFile(this.#file, `${seconds < 0 ? "" : "+"}${seconds}\n`);
  }
}
