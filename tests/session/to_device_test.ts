/** What of others' to-device events reaches the crypto, what of it is kept, and for how long. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { EncryptionSettings, OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";
import { TransientError } from "../../lib/errors.ts";
import { Decryption } from "../../lib/session/decryption.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { CryptoMachine } from "../../lib/session/crypto_machine.ts";
import { MAX_SESSIONS } from "../../lib/store/megolm_index.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { Peer, type PublishedKeys, publishedKeys } from "./peer.ts";

const never = new AbortController().signal;
const [alice, mallory] = ["@alice:localhost", "@mallory:localhost"];
/** So many keys a stranger sends; 60,000 by an argument. */
const MANY = Number(Deno.args.find((argument) => argument.startsWith("--keys="))?.slice(7) ?? 400);

/** Our device over a store in a folder, opened as often as a test likes; Alice is allowed. */
class Fixture implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync();
  #ours: PublishedKeys | undefined;
  #open = new AsyncDisposableStack();
  machine!: CryptoMachine;
  store!: Store;

  static async open(): Promise<Fixture> {
    const fixture = new Fixture();
    await fixture.reopen();
    fixture.#ours = await publishedKeys(fixture.machine.olm);
    return fixture;
  }

  /** A new process over the same folder. */
  async reopen(): Promise<void> {
    await this.#open.disposeAsync();
    this.#open = new AsyncDisposableStack();
    this.store = this.#open.use(await openStore({ folder: this.folder, holder: { host: "test", pid: Deno.pid } }));
    await this.store.openCrypto();
    const client = this.#open.use(new HomeserverClient("http://127.0.0.1:9"));
    const { store } = this;
    const allowedUsers = new Set([alice]);
    this.machine = this.#open.use(
      await CryptoMachine.open({ client, store, self: "@toggle:localhost", deviceId: "TEST", allowedUsers }),
    );
  }

  peer(userId: string, deviceId?: string): Promise<Peer> {
    assert.ok(this.#ours);
    return Peer.meet(this.#ours, userId, deviceId);
  }

  receive(events: readonly object[]): Promise<boolean> {
    return this.machine.receive({ to_device: { events } }, "token", never);
  }

  /** Why an event cannot be decrypted; "read" if it can, though its sender cannot be looked up here. */
  async read(roomId: string, event: Record<string, unknown>): Promise<string> {
    try {
      const payload = await new Decryption(this.machine).read(roomId, String(event["sender"]), event, never);
      return payload.kind === "undecryptable" ? payload.why.kind : "read";
    } catch (error) {
      // The homeserver, which is asked for the device, does not exist.
      if (!(error instanceof TransientError)) throw error;
      return "read";
    }
  }

  /** Number of records in an object store of the crypto, counted in a copy, as the database itself is locked. */
  count(objectStore: string): number {
    const copy = Deno.makeTempDirSync();
    try {
      for (const file of ["crypto-1.sqlite3", "crypto-1.sqlite3-wal"]) {
        Deno.copyFileSync(join(this.folder, file), join(copy, file));
      }
      using database = new DatabaseSync(join(copy, "crypto-1.sqlite3"));
      const sql = "SELECT count(*) AS records FROM records JOIN stores ON stores.id = store WHERE stores.name = ?";
      return Number(database.prepare(sql).get(objectStore)?.["records"]);
    } finally {
      Deno.removeSync(copy, { recursive: true });
    }
  }

  bytes(): number {
    const files = [...Deno.readDirSync(this.folder)].map(({ name }) => Deno.statSync(join(this.folder, name)).size);
    return files.reduce((sum, size) => sum + size, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open.disposeAsync();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("CryptoMachine.receive() stores nothing from users who aren't allowed", async (t) => {
  await using fixture = await Fixture.open();
  using stranger = await fixture.peer(mallory);
  const keys: Awaited<ReturnType<Peer["roomKey"]>>[] = [];
  for (let count = 0; count < MANY; count += 1) keys.push(await stranger.roomKey("!room:localhost"));
  await fixture.receive([]);
  await fixture.reopen();
  const before = fixture.bytes();
  const withheld = (id: number) => ({
    type: "m.room_key.withheld",
    sender: mallory,
    content: {
      algorithm: "m.megolm.v1.aes-sha2",
      code: "m.unverified",
      reason: "none",
      room_id: "!room:localhost",
      sender_key: "k".repeat(43),
      session_id: `session ${id}`,
    },
  });
  await t.step("room keys", async () => {
    for (let from = 0; from < keys.length; from += 100) await fixture.receive(keys.slice(from, from + 100));
    assert.equal(await fixture.read("!room:localhost", await stranger.say("!room:localhost", "start")), "no-key");
  });
  await t.step("keys that are withheld, in clear", async () => {
    await fixture.receive(Array.from({ length: MANY }, (_, id) => withheld(id)));
  });
  await t.step("in another's name, as the homeserver would not send them", async () => {
    await fixture.receive(keys.slice(0, 10).map((event) => ({ ...event, sender: "@nobody:localhost" })));
  });
  await fixture.reopen();
  // 60,000 cost 149 MB once, some 2.5 KB each.
  assert.ok(fixture.bytes() - before < Math.min(1e6, 200 * MANY), `${fixture.bytes() - before} bytes more`);
});

Deno.test("CryptoMachine.receive() takes an allowed user's key, though somebody else has sent it before", async () => {
  await using fixture = await Fixture.open();
  using phone = await fixture.peer(alice);
  const key = await phone.roomKey("!room:localhost");
  const event = await phone.say("!room:localhost", "start");
  await fixture.receive([{ ...key, sender: mallory }]);
  assert.equal(await fixture.read("!room:localhost", event), "no-key");
  await fixture.receive([key]);
  assert.equal(await fixture.read("!room:localhost", event), "read");
});

Deno.test("CryptoMachine.receive() limits the Megolm sessions of an allowed user in a room; the oldest are deleted", async (t) => {
  await using fixture = await Fixture.open();
  using phone = await fixture.peer(alice);
  const [room, other] = ["!room:localhost", "!other:localhost"];
  const send = async (roomId: string) => {
    await fixture.receive([await phone.roomKey(roomId)]);
    return await phone.say(roomId, "status");
  };
  const events: Awaited<ReturnType<typeof send>>[] = [];
  const elsewhere = await send(other);
  for (let count = 0; count < MAX_SESSIONS.perRoom + 2; count += 1) events.push(await send(room));
  const expected = [[0, "no-key"], [1, "no-key"], [2, "read"], [MAX_SESSIONS.perRoom + 1, "read"]] as const;
  for (const when of ["at once", "after a restart"]) {
    await t.step(when, async () => {
      for (const [index, outcome] of expected) {
        const event = events[index];
        assert.ok(event);
        assert.equal(await fixture.read(room, event), outcome, `the session in place ${index}`);
      }
      assert.equal(await fixture.read(other, elsewhere), "read", "another room is not concerned");
    });
    await fixture.reopen();
  }
});

Deno.test("CryptoMachine.forgetRoom() deletes a room's Megolm sessions, and no others", async () => {
  await using fixture = await Fixture.open();
  using phone = await fixture.peer(alice);
  const [left, kept] = ["!left:localhost", "!kept:localhost"];
  // Several in one sync answer, too: it is known of each which room it belongs to.
  await fixture.receive([await phone.roomKey(left), await phone.roomKey(kept), await phone.roomKey(left)]);
  const [there, here] = [await phone.say(left, "stop"), await phone.say(kept, "stop")];
  assert.deepEqual([await fixture.read(left, there), await fixture.read(kept, here)], ["read", "read"]);
  assert.deepEqual(fixture.store.megolm.rooms(Date.now()).sort(), [kept, left].sort());
  await fixture.machine.forgetRoom(left, never);
  for (const _life of [1, 2]) {
    assert.deepEqual([await fixture.read(left, there), await fixture.read(kept, here)], ["no-key", "read"]);
    assert.deepEqual(fixture.store.megolm.rooms(Date.now()), [kept]);
    await fixture.reopen();
  }
});

Deno.test("CryptoMachine.forgetRoom() deletes our own session of a room, though nobody sent one", async () => {
  await using fixture = await Fixture.open();
  const [left, kept] = ["!left:localhost", "!kept:localhost"];
  const records = () => [fixture.count("outbound_group_sessions"), fixture.count("inbound_group_sessions3")];
  for (const room of [left, kept]) await fixture.machine.shareRoomKey(room, [], new EncryptionSettings(), never);
  assert.deepEqual(records(), [2, 2]);
  await fixture.machine.forgetRoom(left, never);
  assert.deepEqual(records(), [1, 1]);
  await fixture.reopen();
  assert.deepEqual([fixture.store.megolm.ofRoom(left), fixture.store.megolm.ofRoom(kept).length], [[], 2]);
});

Deno.test("CryptoMachine skips the to-device event at which the crypto panics", async (t) => {
  await using fixture = await Fixture.open();
  using phone = await fixture.peer(alice);
  const rooms = ["!one:localhost", "!bad:localhost", "!two:localhost"];
  const keys: Awaited<ReturnType<Peer["roomKey"]>>[] = [];
  for (const room of rooms) keys.push(await phone.roomKey(room));
  const bad = JSON.stringify(keys[1]);
  const { receiveSyncChanges } = OlmMachine.prototype;
  OlmMachine.prototype.receiveSyncChanges = function (...input) {
    if (input[0].includes(bad)) throw new WebAssembly.RuntimeError("unreachable");
    return receiveSyncChanges.apply(this, input);
  };
  try {
    for (const life of ["with all of them", "one by one"]) {
      await t.step(`panics ${life}`, async () => {
        await assert.rejects(fixture.receive(keys), WebAssembly.RuntimeError);
      });
      await fixture.reopen();
    }
    await t.step("skips it", async () => {
      assert.equal(await fixture.receive(keys), true);
      const outcomes = [];
      for (const room of rooms) outcomes.push(await fixture.read(room, await phone.say(room, "status")));
      assert.deepEqual(outcomes, ["read", "no-key", "read"]);
    });
    await t.step("forgets it with the next answer", async () => {
      await fixture.machine.receive({ to_device: { events: keys.slice(0, 1) } }, "next token", never);
      assert.deepEqual([...fixture.store.cryptoNotes.panics().keys()].filter((input) => input.startsWith("sync ")), []);
    });
  } finally {
    OlmMachine.prototype.receiveSyncChanges = receiveSyncChanges;
  }
});

Deno.test("Decryption skips an event at which the crypto has panicked twice, and reads others", async () => {
  await using fixture = await Fixture.open();
  using phone = await fixture.peer(alice);
  await fixture.receive([await phone.roomKey("!room:localhost")]);
  const [bad, good] = [await phone.say("!room:localhost", "start"), await phone.say("!room:localhost", "stop")];
  const { decryptRoomEvent } = OlmMachine.prototype;
  OlmMachine.prototype.decryptRoomEvent = function (...input) {
    if (input[0].includes(String(bad["event_id"]))) throw new WebAssembly.RuntimeError("unreachable");
    return decryptRoomEvent.apply(this, input);
  };
  try {
    for (const _life of [1, 2]) {
      await assert.rejects(fixture.read("!room:localhost", bad), WebAssembly.RuntimeError);
      await fixture.reopen();
    }
    assert.equal(await fixture.read("!room:localhost", bad), "broken");
    assert.equal(await fixture.read("!room:localhost", good), "read");
  } finally {
    OlmMachine.prototype.decryptRoomEvent = decryptRoomEvent;
  }
});
