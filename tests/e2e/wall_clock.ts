/**
 * Sets the wall clock of a process, through libfaketime. Timers are not affected: only the time of day changes.
 *
 * @module
 */

import { join } from "node:path";

/** The wall clock of a process. */
export class WallClock {
  /** Environment variables that make a process use it. */
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
   * Returns a correct clock, or undefined if libfaketime isn't where Debian and other distributions install it.
   *
   * @param folder folder for the clock's file
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

  /** Sets the clock this many seconds ahead of the correct time. */
  async set(seconds: number): Promise<void> {
    await Deno.writeTextFile(this.#file, `${seconds < 0 ? "" : "+"}${seconds}\n`);
  }
}
