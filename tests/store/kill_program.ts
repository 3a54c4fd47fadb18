/**
 * What the kill test kills: it writes numbers through the real IndexedDB and through the journal, one after the other,
 * and tells each on standard output once it is acknowledged. First it tells which it has found.
 *
 * With `late` it takes durability away for the control: what is acknowledged is written 30 ms later.
 *
 * @module
 */

import { type NewEvent, openStore } from "../../lib/store/mod.ts";
import { Database } from "../../lib/store/sqlite.ts";
import { type Connection, open, result, write } from "./indexeddb/driver.ts";

const LATE_MS = 30;
const [folder = "", mode] = Deno.args;
const late = mode === "late";

await using store = await openStore({ folder, holder: { host: "h", pid: Deno.pid } });
await store.openCrypto();
if (late) writeLate();
const connection = await open(Reflect.get(globalThis, "indexedDB"), "numbers", 1, (c) => c.createObjectStore("all"));
let number = await highest(connection);
let place = Number(store.rooms.syncToken() ?? 0);
tell(`found ${number} ${place}`);

while (true) {
  number += 1;
  await write(connection, "all", (all) => {
    all.put({ version: number, ciphertext: "x".repeat(500) }, number);
    all.put(number, "highest");
  });
  tell(`number ${number}`);

  place += 1;
  const event: NewEvent = { roomId: "!r", eventId: `$${place}`, sender: "@a:x", json: {}, receivedAtMs: 0, ageMs: 0 };
  store.transaction(() => {
    store.rooms.addEvent(event, { state: "new" });
    store.rooms.setSyncToken(String(place));
  });
  tell(`event ${place}`);
}

async function highest(connection: Connection): Promise<number> {
  const found = await result(connection.transaction("all").objectStore("all").get("highest"));
  return typeof found === "number" ? found : 0;
}

function tell(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}

/** Has every transaction, of the journal and of IndexedDB, return before anything is written. */
function writeLate(): void {
  const { transaction } = Database.prototype;
  Database.prototype.transaction = function <Result>(writes: () => Result): Result {
    setTimeout(() => transaction.call(this, writes), LATE_MS);
    return undefined as Result;
  };
}
