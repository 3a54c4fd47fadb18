import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { FailureLatch } from "../../lib/store/failure_latch.ts";
import { type Database, openDatabase, openMemoryDatabase } from "../../lib/store/sqlite.ts";

const schema = { applicationId: 1, steps: ["CREATE TABLE notes (note TEXT PRIMARY KEY) STRICT"] };

/** A database on disk, and what would be left of it if the process ended now. */
class Notes implements Disposable {
  readonly #folder = Deno.makeTempDirSync();
  database = this.#open();

  #open(): Database {
    const path = join(this.#folder, "notes.sqlite3");
    return openDatabase(path, schema, { mayCreate: true, holder: () => "nobody", latch: new FailureLatch() });
  }

  reopen(): void {
    this.database.close();
    this.database = this.#open();
  }

  write(note: string): void {
    this.database.run("INSERT INTO notes VALUES (?)", note);
  }

  /** What this process reads. */
  get seen(): string {
    return this.database.all("SELECT note FROM notes").map(({ note }) => note).join(" ");
  }

  /** What is left if it is killed now. */
  get left(): string {
    const copy = Deno.makeTempDirSync({ dir: this.#folder });
    for (const file of ["notes.sqlite3", "notes.sqlite3-wal"]) {
      try {
        Deno.copyFileSync(join(this.#folder, file), join(copy, file));
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    using database = new DatabaseSync(join(copy, "notes.sqlite3"));
    return database.prepare("SELECT note FROM notes").all().map(({ note }) => note).join(" ");
  }

  [Symbol.dispose](): void {
    this.database.close();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

function fail(): never {
  throw new Error("thrown on purpose");
}

Deno.test("lazily() is durable with what is durable after it, and never out of order", async (t) => {
  const steps: [name: string, act: (notes: Notes) => unknown, left: string][] = [
    ["alone", () => {}, ""],
    ["then lazily", (notes) => notes.database.lazily(() => notes.write("b")), ""],
    ["then a transaction", (notes) => notes.database.transaction(() => notes.write("b")), "a b"],
    ["then a change outside of transactions", (notes) => notes.write("b"), "a b"],
    ["then a transaction that fails", (notes) => {
      assert.throws(() => notes.database.transaction(() => (notes.write("b"), fail())), /on purpose/);
    }, ""],
    ["then lazily, with a transaction within", (notes) => {
      notes.database.lazily(() => {
        notes.write("b");
        notes.database.transaction(() => notes.write("c"));
      });
    }, "a b c"],
    ["then a transaction, with lazily within", (notes) => {
      notes.database.transaction(() => notes.database.lazily(() => notes.write("b")));
    }, "a b"],
    ["then lazily, with a part that fails", (notes) => {
      notes.database.lazily(() => {
        notes.write("b");
        assert.throws(() => notes.database.lazily(() => (notes.write("c"), fail())), /on purpose/);
      });
      assert.equal(notes.seen, "a b");
    }, ""],
  ];
  for (const [name, act, left] of steps) {
    await t.step(name, () => {
      using notes = new Notes();
      notes.database.lazily(() => notes.write("a"));
      act(notes);
      assert.equal(notes.left, left);
      assert.ok(notes.seen.startsWith("a"), "this process reads what it has written");
      notes.write("z");
      assert.equal(notes.left, notes.seen);
    });
  }
});

Deno.test("lazily() that fails at first leaves nothing, and no transaction", () => {
  using notes = new Notes();
  assert.throws(() => notes.database.lazily(() => (notes.write("a"), fail())), /on purpose/);
  assert.equal(notes.seen, "");
  notes.write("b");
  assert.equal(notes.left, "b");
});

Deno.test("what was written lazily is committed when the database is closed, and within a second", async () => {
  using notes = new Notes();
  notes.database.lazily(() => notes.write("a"));
  assert.equal(notes.left, "");
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  assert.equal(notes.left, "a");
  notes.database.lazily(() => notes.write("b"));
  notes.reopen();
  assert.equal(notes.left, "a b");
});

Deno.test("in memory, where nothing is durable, lazily() sets no timer", () => {
  const database = openMemoryDatabase(schema, new FailureLatch());
  database.lazily(() => database.run("INSERT INTO notes VALUES ('a')"));
  assert.equal(database.all("SELECT * FROM notes").length, 1);
  database.close();
});
