import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore } from "../../lib/store/mod.ts";
import { retireOldStore, takeOver } from "../../lib/takeover/mod.ts";
import { DATABASE, OldFolder } from "./old.ts";

/** What a folder comes to: all that is stored in the clear, how much of what is not, and the names of the files. */
async function endOf(folder: string): Promise<unknown> {
  await using store = await openStore({ folder, holder: { host: "test", pid: Deno.pid } });
  await store.openCrypto();
  await takeOver({ store, folder, homeserver: "https://matrix.example.org", user: "toggle" });
  retireOldStore(store, folder);
  const state = {
    account: store.account.load(),
    token: store.rooms.syncToken(),
    adopted: store.rooms.tokenIsAdopted(),
  };
  await store.close();
  using crypto = disposable(new DatabaseSync(join(folder, "crypto-1.sqlite3")));
  const records = crypto.database.prepare(
    `SELECT databases.name AS name, stores.name AS store, count(records.key) AS records
      FROM databases JOIN stores ON stores.database = databases.id LEFT JOIN records ON records.store = stores.id
      GROUP BY stores.id ORDER BY 1, 2`,
  ).all();
  using rooms = disposable(new DatabaseSync(join(folder, "state.sqlite3")));
  const encrypted = rooms.database.prepare("SELECT room_id, membership, encryption FROM rooms").all();
  const files = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
  return { state, records, encrypted, files };
}

Deno.test("takeOver() reports a full disk as such, and resumes once there is space", async () => {
  const program = join(import.meta.dirname ?? ".", "snapshots_program.ts");
  const outcomes: string[] = [];
  for (const blocks of [100, 200, 400, 800]) {
    await using folder = new OldFolder("libolm");
    // A limit on the length of files stands for a full disk; the signal that comes with it is ignored.
    const limited = ["-c", `trap '' XFSZ; ulimit -f ${blocks}; exec "$@"`, "sh"];
    const args = [...limited, Deno.execPath(), "run", "-A", "--quiet", program, folder.path];
    const { stderr, success } = await new Deno.Command("sh", { args }).output();
    const said = new TextDecoder().decode(stderr);
    outcomes.push(success ? "taken over" : "failed");
    if (!success) {
      assert.match(said, /Cannot (use|open) the store .*sqlite3: /);
      assert.doesNotMatch(said, /--fresh-device/);
    }
    await endOf(folder.path);
    assert.ok(Deno.statSync(folder.file(`${DATABASE}.imported`)).isFile);
  }
  assert.ok(outcomes.includes("failed"), outcomes.join());
});

function disposable(database: DatabaseSync): Disposable & { readonly database: DatabaseSync } {
  return { database, [Symbol.dispose]: () => database.close() };
}

Deno.test("takeOver() killed before any step reaches the same result after a restart", async (t) => {
  await using folder = new OldFolder("vodozemac");
  const copies = Deno.makeTempDirSync({ prefix: "takeover-copies-" });
  try {
    const program = join(import.meta.dirname ?? ".", "snapshots_program.ts");
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", program, folder.path, copies],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    const steps = new TextDecoder().decode(stdout).trimEnd().split("\n");
    const wanted = await endOf(folder.path);
    const kinds = steps.map((step) => step.replace(/ @.*$| .*imported$/, ""));
    assert.equal(kinds[0], "copyFileSync");
    assert.ok(kinds.filter((kind) => kind === "commit in crypto-1.sqlite3").length > 10);
    assert.deepEqual(kinds.slice(-4), ["commit in state.sqlite3", "renameSync", "renameSync", "done"]);
    for (const [index, step] of steps.entries()) {
      await t.step(`${index}: ${step}`, async () => assert.deepEqual(await endOf(join(copies, String(index))), wanted));
    }
  } finally {
    await Deno.remove(copies, { recursive: true });
  }
});
