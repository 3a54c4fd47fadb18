/**
 * Takes over the store in the folder given, and copies the whole folder before each step that leaves something on disk:
 * what is in the copy is what somebody finds who starts after a kill at that point. Prints the steps, a line each.
 * Without a second folder it only takes over.
 *
 * @module
 */

import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { openStore } from "../../lib/store/mod.ts";
import { retireOldStore, takeOver } from "../../lib/takeover/mod.ts";

const [folder = "", copies = ""] = Deno.args;
const { copyFileSync } = Deno;
let steps = 0;
let begun = false;

function step(what: string): void {
  if (!begun || copies === "") return;
  const copy = join(copies, String(steps));
  Deno.mkdirSync(copy);
  for (const { name } of Deno.readDirSync(folder)) copyFileSync(join(folder, name), join(copy, name));
  steps += 1;
  console.log(what.replaceAll(`${folder}/`, ""));
}

for (const name of ["copyFileSync", "renameSync"] as const) {
  const original = Deno[name];
  Deno[name] = (from, to) => {
    step(`${name} ${from} ${to}`);
    original(from, to);
  };
}
const { prepare } = DatabaseSync.prototype;
DatabaseSync.prototype.prepare = function (this: DatabaseSync, sql: string): StatementSync {
  const statement = prepare.call(this, sql);
  if (sql !== "COMMIT") return statement;
  const run = statement.run.bind(statement);
  return Object.assign(statement, {
    run: () => {
      step(`commit in ${this.location()}`);
      return run();
    },
  });
};

await using store = await openStore({ folder, holder: { host: "test", pid: Deno.pid } });
await store.openCrypto();
begun = true;
await takeOver({ store, folder, homeserver: "https://matrix.example.org", user: "toggle" });
retireOldStore(store, folder);
step("done");
begun = false;
