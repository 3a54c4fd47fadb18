/**
 * A second operator for the tests: opens the store in the folder given, says how that went, and holds it until its
 * standard input ends. With `fill` or `fill-crypto` it writes until it is refused and says how that went.
 *
 * @module
 */

import { StoreError } from "../../lib/errors.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { open, write } from "./indexeddb/driver.ts";

const TEXT = "x".repeat(10_000);
const [folder = "", what] = Deno.args;
try {
  await using store = await openStore({ folder, holder: { host: "other-host", pid: 4711 } });
  if (what === "fill") {
    await fill(store, (i) => {
      const event = { roomId: "!r", eventId: `$${i}`, sender: "@a:x", json: { TEXT }, receivedAtMs: 0, ageMs: 0 };
      store.transaction(() => store.rooms.addEvent(event, { state: "new" }));
    });
  } else if (what === "fill-crypto") {
    await store.openCrypto();
    const connection = await open(Reflect.get(globalThis, "indexedDB"), "d", 1, (c) => c.createObjectStore("s"));
    await fill(store, (i) => write(connection, "s", (s) => s.put(TEXT, i)));
  } else {
    console.log("opened");
    await Deno.stdin.readable.pipeTo(new WritableStream());
  }
} catch (error) {
  console.log(error instanceof StoreError ? `StoreError ${error.message}` : error);
}

/** Writes until it is refused; then says with what, and whether the store is closed to other writes. */
async function fill(store: Store, write: (i: number) => unknown): Promise<void> {
  try {
    for (let i = 0; i < 1_000; i++) {
      await write(i);
      console.log(`wrote ${i}`);
    }
  } catch (error) {
    const failed = await store.failed;
    let next: unknown;
    try {
      store.rooms.setSyncToken("later");
    } catch (error) {
      next = error;
    }
    console.log(JSON.stringify({ name: (error as Error).name, message: failed.message, latched: next === failed }));
  }
}
