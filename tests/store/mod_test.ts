import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../../lib/errors.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { event, StoreFolder } from "./folder.ts";
import { complete, type Connection, open, result, write } from "./indexeddb/driver.ts";

const program = new URL("open_program.ts", import.meta.url).pathname;
const session = { homeserver: "https://x", userId: "@me:x", deviceId: "D", accessToken: "secret token" };

/** Runs the other operator; `prefix` is a shell that runs what follows it. */
function other(folder: StoreFolder, ...more: string[]): Deno.Command {
  const args = ["run", "--no-prompt", `--allow-read`, `--allow-write`, program, folder.path, ...more];
  return new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped", stderr: "inherit" });
}

async function firstLine(child: Deno.ChildProcess): Promise<string> {
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await reader.read();
  await reader.cancel();
  return value.trim();
}

/** A digest of each file in the folder. To be taken only between two lives. */
function digests(folder: StoreFolder): string[] {
  return folder.files().filter((name) => Deno.statSync(folder.file(name)).isFile).map((name) => {
    const digest = createHash("sha256").update(Deno.readFileSync(folder.file(name))).digest("hex");
    return `${name} ${digest}`;
  });
}

Deno.test("openStore() persists a session across restarts, and it can be cleared", async () => {
  await using folder = new StoreFolder();
  const first = await folder.reopen();
  assert.equal(first.account.load(), undefined);
  first.account.save({ ...session, accessToken: "r" });
  first.account.save(session);
  const second = await folder.reopen();
  assert.deepEqual(second.account.load(), session);
  second.account.clear();
  assert.equal((await folder.reopen()).account.load(), undefined);
});

Deno.test("openStore() creates files that only the owner can read, and no others", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  await store.openCrypto();
  const mode = (path: string) => ((Deno.statSync(path).mode ?? 0) & 0o7777).toString(8);
  assert.equal(mode(folder.path), "700");
  for (const name of folder.files()) assert.equal(mode(folder.file(name)), "600", name);
  await folder.close();
  assert.deepEqual(folder.files(), ["crypto-1.sqlite3", "key", "state.sqlite3"]);
});

Deno.test("a store's journals stay small, also after a large transaction", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const journal = () => Deno.statSync(folder.file("state.sqlite3-wal")).size;
  let most = 0;
  const commit = (times: number) => {
    for (let time = 0; time < times; time += 1) {
      store.rooms.setSyncToken(`${time} ${"x".repeat(8_000)}`);
      most = Math.max(most, journal());
    }
  };
  commit(300);
  // Half a megabyte, and the commit that goes beyond.
  assert.ok(most < 600_000, `${most} bytes`);
  store.transaction(() => {
    for (let index = 0; index < 300; index += 1) {
      store.rooms.addEvent({ ...event(`$${index}`), json: { body: "x".repeat(20_000) } }, { state: "new" });
    }
  });
  assert.ok(journal() > 5_000_000);
  commit(2);
  assert.ok(journal() < 600_000, `${journal()} bytes`);
});

Deno.test("openStore() accepts what a mount makes of modes", async () => {
  await using folder = new StoreFolder();
  (await folder.reopen()).account.save(session);
  await folder.close();
  Deno.chmodSync(folder.path, 0o2770);
  for (const name of folder.files()) Deno.chmodSync(folder.file(name), 0o660);
  assert.deepEqual((await folder.reopen()).account.load(), session);
});

Deno.test("a store holds no content in clear", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  store.account.save(session);
  store.rooms.addEvent(event("$1"), { state: "new" });
  const acting = { command: "start", parts: [{ target: "hidden target" }] };
  store.journal.saveCommand(1, acting);
  const text = { plain: "hidden answer" };
  store.journal.queueAnswer({
    kind: "answer",
    sequence: 0,
    roomId: "!r",
    eventId: "$1",
    form: "notice",
    text,
    reply: true,
  });
  await folder.close();
  const all = folder.files().map((name) => Buffer.from(Deno.readFileSync(folder.file(name))).toString("latin1")).join();
  assert.ok(all.includes("@ann:x"), "the test looks at the right bytes");
  for (const hidden of ["secret token", "text of $1", "hidden target", "hidden answer"]) {
    assert.equal(all.includes(hidden), false, hidden);
  }
});

Deno.test("openStore() refuses a store that another process holds, and says who does", async () => {
  await using folder = new StoreFolder();
  const child = other(folder).spawn();
  assert.equal(await firstLine(child), "opened");
  const error = await refusal(folder);
  assert.match(error.message, /held by host other-host, pid 4711, since 20\d\d-.*Z; end that operator first/);
  child.kill("SIGKILL");
  await child.status;
  await child.stdin.close().catch(() => {});

  // The dead one has left holder.json behind, which holds nothing.
  (await folder.reopen()).account.save(session);
  const second = other(folder).spawn();
  assert.match(await firstLine(second), /^StoreError .*held by host h, pid 1, since 2026-01-01T00:00:00.000Z/);
  await second.stdin.close();
  await second.status;
  assert.deepEqual((await folder.reopen()).account.load(), session);
});

Deno.test("openStore() refuses a store that this process holds", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  assert.match((await refusal(folder)).message, /held by host h, pid 1/);
  store.account.save(session);
});

Deno.test("openStore() refuses keys that do not fit, and changes nothing", async (t) => {
  const [ours, wrong] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const inFile = (folder: StoreFolder, text: string) => Deno.writeTextFileSync(folder.file("key"), text);
  const without = (folder: StoreFolder) => Deno.removeSync(folder.file("key"));
  const rows: [
    name: string,
    made: "file" | "given",
    spoil: (f: StoreFolder) => void,
    given: Uint8Array | undefined,
    RegExp,
  ][] = [
    ["given, differs from the file", "file", () => {}, wrong, /it is not the key in .*\/key, which is in use/],
    ["file gone", "file", without, undefined, /Cannot find the key file .*\/key: .*bring a backup/],
    ["file gone, another given", "file", without, wrong, /made with another key/],
    ["file replaced", "file", (f) => inFile(f, wrong.toBase64()), undefined, /made with another key/],
    ["file damaged", "file", (f) => inFile(f, "c2hvcnQ="), undefined, /does not hold 32 bytes in base64/],
    ["file empty", "file", (f) => inFile(f, ""), undefined, /does not hold 32 bytes in base64/],
    ["given too short", "file", () => {}, ours.subarray(1), /has 31 bytes; give 32/],
    ["given before, none now", "given", () => {}, undefined, /Cannot find the key file/],
    ["given before, another now", "given", () => {}, wrong, /made with another key/],
  ];
  for (const [name, made, spoil, given, message] of rows) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      (await folder.reopen(made === "given" ? ours : undefined)).account.save(session);
      await folder.close();
      const key = made === "given" ? ours : Uint8Array.fromBase64(Deno.readTextFileSync(folder.file("key")).trim());
      spoil(folder);
      const before = digests(folder);
      const error = await refusal(folder, given);
      assert.match(error.message, message);
      for (const one of [key, wrong]) assert.equal(error.message.includes(one.toBase64()), false, "tells a key");
      assert.deepEqual(digests(folder), before);
      if (made === "file") inFile(folder, key.toBase64());
      assert.deepEqual((await folder.reopen(key)).account.load(), session);
    });
  }
});

Deno.test("openStore() refuses files that it cannot read, and leaves them as they are", async (t) => {
  const state = (folder: StoreFolder) => folder.file("state.sqlite3");
  const crypto = (folder: StoreFolder) => folder.file("crypto-1.sqlite3");
  const sql = (path: string, sql: string) => {
    using database = new DatabaseSync(path);
    database.exec(sql);
  };
  const overwrite = (path: string, at: number) => {
    const bytes = Deno.readFileSync(path);
    bytes.fill(0xa5, at);
    Deno.writeFileSync(path, bytes);
  };
  const rows: [name: string, spoil: (folder: StoreFolder) => void, message: RegExp][] = [
    ["state truncated in the middle", (f) => Deno.truncateSync(state(f), 20_000), /state\.sqlite3: it is damaged/],
    ["state truncated to nothing", (f) => Deno.truncateSync(state(f)), /state\.sqlite3: it is empty; bring a backup/],
    ["state gone", (f) => Deno.removeSync(state(f)), /state\.sqlite3: the file is missing/],
    ["state overwritten from its second page", (f) => overwrite(state(f), 4_096), /state\.sqlite3: it is damaged/],
    ["state no database", (f) => Deno.writeTextFileSync(state(f), "x".repeat(9_000)), /file is not a database/],
    ["state of another program", (f) => {
      Deno.removeSync(state(f));
      sql(state(f), "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    }, /a database of something else; give the operator a folder of its own/],
    ["state of a later version", (f) => sql(state(f), "PRAGMA user_version = 999"), /999 is newer than this program's/],
    ["crypto truncated in the middle", (f) => Deno.truncateSync(crypto(f), 9_000), /crypto-1\.sqlite3: it is damaged/],
    ["crypto truncated to nothing", (f) => Deno.truncateSync(crypto(f)), /crypto-1\.sqlite3: it is empty/],
    ["crypto gone", (f) => Deno.removeSync(crypto(f)), /crypto-1\.sqlite3: the file is missing/],
    ["crypto swapped for state", (f) => Deno.copyFileSync(state(f), crypto(f)), /a database of something else/],
    ["crypto with a value that is none", (f) => {
      sql(crypto(f), "INSERT INTO indexes (store, name, key_path, is_unique) VALUES (1, 'i', 'x', 0)");
    }, /Cannot read the store .*crypto-1\.sqlite3/],
  ];
  for (const [name, spoil, message] of rows) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      await (await folder.reopen()).openCrypto();
      await folder.close();
      spoil(folder);
      const before = digests(folder);
      assert.match((await refusal(folder)).message, message);
      assert.deepEqual(digests(folder), before);
    });
  }
});

Deno.test("a record of the crypto that can't be read ends the store", async () => {
  await using folder = new StoreFolder();
  await (await folder.reopen()).openCrypto();
  let connection = await open(Reflect.get(globalThis, "indexedDB"), "d", 1, (c) => c.createObjectStore("s"));
  await write(connection, "s", (store) => store.put("value", "key"));
  connection.close();
  await folder.close();
  {
    using database = new DatabaseSync(folder.file("crypto-1.sqlite3"));
    database.exec("UPDATE records SET value = 'half'");
  }
  const store = await folder.reopen();
  await store.openCrypto();
  connection = await open(Reflect.get(globalThis, "indexedDB"), "d");
  const reading = result(connection.transaction("s").objectStore("s").get("key"));
  await assert.rejects(reading, { name: "UnknownError" });
  const failure = await store.failed;
  assert.match(
    failure.message,
    /^Cannot read the crypto's records in the store .*; bring a backup of the whole folder/,
  );
  assert.throws(() => store.rooms.setSyncToken("later"), failure);
});

Deno.test("of the crypto's changes, only those of outbound Megolm sessions may be durable later", async (t) => {
  const [outbound, inbound] = ["outbound_group_sessions", "inbound_group_sessions3"];
  const rows: [name: string, change: (connection: Connection) => Promise<void>, left: string][] = [
    ["outbound", (c) => write(c, outbound, (store) => store.put("late", "a")), ""],
    ["inbound", (c) => write(c, inbound, (store) => store.put("now", "a")), "now"],
    ["deletion of inbound", async (c) => {
      await write(c, inbound, (store) => store.put("now", "a"));
      await write(c, inbound, (store) => store.delete("a"));
    }, ""],
    ["outbound, then inbound", async (c) => {
      await write(c, outbound, (store) => store.put("late", "a"));
      await write(c, inbound, (store) => store.put("now", "a"));
    }, "late now"],
    ["both at once", async (c) => {
      const transaction = c.transaction([outbound, inbound], "readwrite");
      transaction.objectStore(outbound).put("with it", "a");
      transaction.objectStore(inbound).put("now", "a");
      await complete(transaction);
    }, "now with it"],
    ["outbound, in a transaction over both", async (c) => {
      const transaction = c.transaction([outbound, inbound], "readwrite");
      transaction.objectStore(outbound).put("late", "a");
      await complete(transaction);
    }, ""],
  ];
  for (const [name, change, left] of rows) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      const store = await folder.reopen();
      await store.openCrypto();
      const connection = await open(Reflect.get(globalThis, "indexedDB"), "d", 1, (c) => {
        for (const name of [outbound, inbound]) c.createObjectStore(name);
      });
      await change(connection);
      const found = folder.onDisk("crypto-1.sqlite3", (database) => {
        const records = database.prepare("SELECT value FROM records ORDER BY value").all();
        return records.map(({ value }) => JSON.parse(String(value))).join(" ");
      });
      assert.equal(found, left);
      connection.close();
    });
  }
});

Deno.test("what the crypto asks for while its database is closed fails, and doesn't end the store", async (t) => {
  const rows: [name: string, close: (store: Store) => Promise<void>][] = [
    ["the store is closed", (store) => store.close()],
    ["the device is replaced", async (store) => {
      await store.replaceDevice({ ...session, deviceId: "E" });
      store.rooms.setSyncToken("later");
    }],
  ];
  for (const [name, close] of rows) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      const store = await folder.reopen();
      await store.openCrypto();
      const connection = await open(Reflect.get(globalThis, "indexedDB"), "d", 1, (c) => {
        c.createObjectStore("read");
        c.createObjectStore("written");
      });
      const reading = result(connection.transaction("read").objectStore("read").get("key"));
      const writing = write(connection, "written", (store) => store.put("value", "key"));
      const refused = { name: "UnknownError", message: /it is closed/ };
      await Promise.all([close(store), assert.rejects(reading, refused), assert.rejects(writing, refused)]);
      assert.equal(await Promise.race([store.failed, Promise.resolve("none")]), "none");
      if (name !== "the store is closed") assert.equal(store.rooms.syncToken(), "later");
    });
  }
});

Deno.test("openStore() refuses a folder that is a file, or a file that is a folder", async () => {
  await using folder = new StoreFolder();
  Deno.writeTextFileSync(folder.path, "");
  assert.match((await refusal(folder)).message, /Cannot open the store .*name a folder that the operator may write to/);
  Deno.removeSync(folder.path);
  Deno.mkdirSync(folder.file("state.sqlite3"), { recursive: true });
  assert.match((await refusal(folder)).message, /Cannot open the store .*state\.sqlite3/);
});

Deno.test("a store opens after a kill at any point of its first opening", async (t) => {
  const rows: [name: string, leave: (folder: StoreFolder) => void][] = [
    ["nothing", () => {}],
    ["the folder", (f) => Deno.mkdirSync(f.path)],
    ["an empty state", (f) => (Deno.mkdirSync(f.path), Deno.writeTextFileSync(f.file("state.sqlite3"), ""))],
    ["half a key", (f) => (Deno.mkdirSync(f.path), Deno.writeTextFileSync(f.file("key.new"), "AAA"))],
  ];
  for (const [name, leave] of rows) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      leave(folder);
      const store = await folder.reopen();
      store.account.save(session);
      await folder.close();
      // Begun, but nothing in it yet.
      Deno.writeTextFileSync(folder.file("crypto-1.sqlite3"), "");
      const next = await folder.reopen();
      assert.deepEqual(next.account.load(), session);
      await next.openCrypto();
    });
  }
});

Deno.test("a failed store writes nothing more, gives the reason, and has kept what it acknowledged", async (t) => {
  const rows = [["fill", "StoreError", "state"], ["fill-crypto", "UnknownError", "crypto-1"]] as const;
  for (const [what, name, database] of rows) {
    await t.step(what, async () => {
      await using folder = new StoreFolder();
      await folder.reopen();
      await folder.close();
      // A limit on the length of files stands for a full disk; the signal that comes with it is ignored.
      const limited = ["-c", `trap '' XFSZ; ulimit -f 1000; exec "$@"`, "sh"];
      const args = [...limited, Deno.execPath(), "run", "--allow-read", "--allow-write", program, folder.path, what];
      const { stdout } = await new Deno.Command("sh", { args, stderr: "inherit" }).output();
      const lines = new TextDecoder().decode(stdout).trim().split("\n");
      const failure = JSON.parse(lines.pop() ?? "");
      assert.deepEqual([failure.name, failure.latched], [name, true]);
      const why = `Cannot use the store .*/${database}\\.sqlite3: (disk I/O error|database or disk is full)`;
      assert.match(failure.message, new RegExp(why));

      assert.ok(lines.length > 10, `${lines.length} were written before`);
      const store = await folder.reopen();
      assert.equal(store.rooms.syncToken(), undefined);
      if (what === "fill") return assert.equal(store.journal.unsettled(0).length, lines.length);
      await store.openCrypto();
      const connection = await open(Reflect.get(globalThis, "indexedDB"), "d");
      const keys = await result(connection.transaction("s").objectStore("s").getAllKeys());
      assert.deepEqual(keys, Array.from(lines, (_, i) => i));
    });
  }
});

Deno.test("a store that is closed says so", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  await store.close();
  await store.close();
  assert.throws(() => store.account.load(), { name: "StoreError", message: /it is closed/ });
});

/** The error with which opening the folder, and the crypto in it, is refused. */
async function refusal(folder: StoreFolder, key?: Uint8Array): Promise<StoreError> {
  let store: Store | undefined;
  try {
    store = await openStore({ folder: folder.path, holder: { host: "third", pid: 3 }, ...key && { key } });
    await store.openCrypto();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  } finally {
    await store?.close();
  }
  throw new Error("It was not refused");
}
