import assert from "node:assert/strict";
import { join } from "node:path";
import { StoreError } from "../../lib/errors.ts";
import { openStore, probeStore } from "../../lib/store/mod.ts";

function inFolder(test: (folder: string) => void | Promise<void>): () => Promise<void> {
  return async () => {
    const folder = await Deno.makeTempDir();
    try {
      await test(folder);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  };
}

function contents(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).toSorted();
}

Deno.test(
  "probeStore() makes nothing where there is nothing",
  inFolder((folder) => {
    assert.equal(probeStore(join(folder, "a", "b")), undefined);
    assert.equal(probeStore(folder), undefined);
    assert.deepEqual(contents(folder), []);
  }),
);

Deno.test(
  "probeStore() removes nothing that others put there meanwhile",
  inFolder(async (parent) => {
    const folder = join(parent, "a", "store");
    const args = ["-c", 'until echo >"$1/key"; do :; done', "sh", folder];
    const other = new Deno.Command("sh", { args, stderr: "null" }).spawn();
    let isDone = false;
    const done = other.status.then(() => isDone = true);
    while (!isDone) {
      probeStore(folder);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await done;
    assert.deepEqual(contents(folder), ["key"]);
  }),
);

Deno.test(
  "probeStore() leaves a store as it was",
  inFolder(async (folder) => {
    await (await openStore({ folder, holder: { host: "here", pid: 7 } })).close();
    const before = contents(folder);
    const state = await Deno.readFile(join(folder, "state.sqlite3"));
    assert.equal(probeStore(folder), undefined);
    assert.deepEqual(contents(folder), before);
    assert.deepEqual(await Deno.readFile(join(folder, "state.sqlite3")), state);
    await (await openStore({ folder, holder: { host: "here", pid: 7 } })).close();
  }),
);

Deno.test(
  "probeStore() says what is in the way",
  inFolder(async (folder) => {
    const file = join(folder, "file");
    await Deno.writeTextFile(file, "");
    assert.throws(() => probeStore(file), StoreError);
    assert.throws(() => probeStore(join(file, "store")), StoreError);
    const store = join(folder, "store");
    await Deno.mkdir(store);
    await Deno.writeTextFile(join(store, "state.sqlite3"), "no database".repeat(100));
    assert.throws(() => probeStore(store), /^StoreError: Cannot lock the store .*not a database/);
    assert.deepEqual(contents(store), ["state.sqlite3"]);
  }),
);
