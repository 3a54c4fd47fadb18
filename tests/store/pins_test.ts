import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { Pin } from "../../lib/authorization/mod.ts";
import { stateSchema } from "../../lib/store/schema.ts";
import { StoreError } from "../../lib/errors.ts";
import { StoreFolder } from "./folder.ts";

const identity: Pin = { kind: "identity", masterKey: "master", sinceMs: 1 };
const devices: Pin = {
  kind: "devices",
  devices: [{ deviceId: "PHONE", ed25519: "key" }],
  sinceMs: 2,
};

function sql(path: string, ...statements: string[]): void {
  using database = new DatabaseSync(path);
  for (const statement of statements) database.exec(statement);
}

Deno.test("openStore() takes over a store from before there were pins", async () => {
  await using folder = new StoreFolder();
  Deno.mkdirSync(folder.path, { mode: 0o700 });
  sql(
    folder.file("state.sqlite3"),
    stateSchema.steps[0] ?? "",
    `INSERT INTO rooms VALUES ('!r', 'join', '{"algorithm":"a"}', 1, '[]', '["#r:x"]')`,
    `PRAGMA application_id = ${stateSchema.applicationId}`,
    "PRAGMA user_version = 1",
  );
  const { rooms, pins } = await folder.reopen();
  assert.deepEqual(rooms.all(), [
    { roomId: "!r", membership: "join", encrypted: true, encryption: undefined, inviters: [], ownName: undefined },
  ]);
  pins.set("@ann:x", identity);
  assert.deepEqual(pins.get("@ann:x"), identity);
});

Deno.test("Pins persists each user's last pin across a restart", async () => {
  await using folder = new StoreFolder();
  const { pins } = await folder.reopen();
  assert.equal(pins.get("@ann:x"), undefined);
  pins.set("@ann:x", devices);
  pins.set("@ann:x", identity);
  pins.set("@bob:x", devices);
  const later = (await folder.reopen()).pins;
  assert.deepEqual(later.get("@ann:x"), identity);
  assert.deepEqual(later.get("@bob:x"), devices);
  assert.equal(later.get("@Ann:x"), undefined);
});

Deno.test("Pins of one user cannot stand in for another's, nor be read in a copy", async () => {
  await using folder = new StoreFolder();
  const { pins } = await folder.reopen();
  pins.set("@ann:x", { ...identity, masterKey: "a key to be found" });
  pins.set("@eve:x", { ...identity, masterKey: "eve" });
  await folder.close();
  const path = folder.file("state.sqlite3");
  assert.ok(!new TextDecoder("latin1").decode(Deno.readFileSync(path)).includes("a key to be found"));
  sql(path, "UPDATE pins SET content = (SELECT content FROM pins WHERE user_id = '@eve:x')");
  const later = (await folder.reopen()).pins;
  assert.throws(() => later.get("@ann:x"), StoreError);
});
