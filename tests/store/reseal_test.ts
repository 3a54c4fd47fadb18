import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../../lib/errors.ts";
import type { Store } from "../../lib/store/mod.ts";
import { SEALED_COLUMNS } from "../../lib/store/reseal.ts";
import { event, StoreFolder } from "./folder.ts";

const session = { homeserver: "https://x", userId: "@me:x", deviceId: "OLD", accessToken: "secret token" };
const next = { ...session, deviceId: "NEW" };
const identity = { master: "m", selfSigning: "s", userSigning: "u" };
const target = { targets: [{ name: "clawdbot" }] };
const pin = { kind: "identity", masterKey: "master", sinceMs: 1 };
const intent = { command: "start" };
const answer = { kind: "answer", sequence: 0, roomId: "!r", eventId: "$answered", text: { plain: "on" } };

const given = new Uint8Array(32).fill(7);
const replacing = new Uint8Array(32).fill(9);

/** Writes into every place that is sealed. */
async function fill(store: Store): Promise<void> {
  await store.openCrypto();
  store.account.save(session);
  store.counter.save({ counter: 3 });
  store.targetDocument.save(target);
  store.pins.set("@ann:x", pin);
  for (const id of ["$acting", "$answered"]) store.rooms.addEvent(event(id), { state: "new" });
  const [acting, answered] = store.journal.unsettled(0).map(({ event }) => event.seq);
  store.journal.saveCommand(acting ?? 0, intent);
  store.journal.settle(answered ?? 0, "done", [answer]);
}

function assertKept({ account, counter, carriedIdentity, targetDocument, pins, journal }: Store): void {
  assert.deepEqual(account.load(), next);
  assert.equal(counter.load(), undefined, "a new device counts anew");
  assert.deepEqual(carriedIdentity.load(), identity);
  assert.deepEqual(targetDocument.load(), target);
  assert.deepEqual(pins.get("@ann:x"), pin);
  const [entry] = journal.unsettled(0);
  assert.deepEqual([entry?.event.json, entry?.progress], [event("$acting").json, {
    state: "begun",
    command: intent,
  }]);
  assert.deepEqual(journal.unsentAnswers("!r", 10).map(({ answer }) => answer), [answer]);
}

Deno.test("Store.replaceKey() encrypts everything with the new key, and leaves nothing that the old one opens", async (t) => {
  await t.step("a configured key", async () => {
    await using folder = new StoreFolder();
    await fill(await folder.reopen(given));
    await (await folder.reopen(given)).replaceKey(replacing, next, identity);
    await folder.close();
    assert.deepEqual(folder.files(), ["state.sqlite3"], "neither a key file nor the old device's keys");
    await assert.rejects(
      folder.reopen(given),
      (error) => error instanceof StoreError && /another key/.test(error.message),
    );
    const store = await folder.reopen(replacing);
    assertKept(store);
    await store.openCrypto();
    assert.ok(folder.files().includes("crypto-2.sqlite3"));
  });
  await t.step("the key file", async () => {
    await using folder = new StoreFolder();
    await fill(await folder.reopen());
    const before = Deno.readTextFileSync(folder.file("key"));
    await (await folder.reopen()).replaceKey(replacing, next, identity);
    await folder.close();
    assert.deepEqual(folder.files(), ["key", "state.sqlite3"]);
    assert.notEqual(Deno.readTextFileSync(folder.file("key")), before);
    assertKept(await folder.reopen());
  });
});

Deno.test("openStore() ends a change of the key file that was cut short", async (t) => {
  const replaced = async (folder: StoreFolder): Promise<{ old: string; new: string }> => {
    await fill(await folder.reopen());
    const old = Deno.readTextFileSync(folder.file("key"));
    await (await folder.reopen()).replaceKey(replacing, next, identity);
    await folder.close();
    return { old, new: Deno.readTextFileSync(folder.file("key")) };
  };
  await t.step("after everything was sealed with the new key", async () => {
    await using folder = new StoreFolder();
    const keys = await replaced(folder);
    Deno.writeTextFileSync(folder.file("key"), keys.old);
    Deno.writeTextFileSync(folder.file("next_key"), keys.new);
    assertKept(await folder.reopen());
    assert.equal(Deno.readTextFileSync(folder.file("key")), keys.new);
    assert.ok(!folder.files().includes("next_key"));
  });
  await t.step("before that", async () => {
    await using folder = new StoreFolder();
    await fill(await folder.reopen());
    await folder.close();
    const before = Deno.readTextFileSync(folder.file("key"));
    Deno.writeTextFileSync(folder.file("next_key"), `${replacing.toBase64()}\n`);
    assert.deepEqual((await folder.reopen()).account.load(), session);
    assert.equal(Deno.readTextFileSync(folder.file("key")), before);
    assert.ok(!folder.files().includes("next_key"));
  });
});

Deno.test("SEALED_COLUMNS names every column that can hold a seal", async () => {
  await using folder = new StoreFolder();
  await folder.reopen();
  await folder.close();
  using database = new DatabaseSync(folder.file("state.sqlite3"));
  const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all();
  const blobs = tables.flatMap(({ name }) =>
    database.prepare(`SELECT name, type FROM pragma_table_info('${name}')`).all()
      .filter(({ type }) => type === "BLOB" || type === "ANY").map((column) => `${name}.${column["name"]}`)
  );
  assert.deepEqual(blobs.toSorted(), SEALED_COLUMNS.map(({ table, column }) => `${table}.${column}`).toSorted());
});
