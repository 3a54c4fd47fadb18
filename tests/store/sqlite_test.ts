import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../../lib/errors.ts";
import { FailureLatch } from "../../lib/store/failure_latch.ts";
import { Database, openDatabase, openMemoryDatabase } from "../../lib/store/sqlite.ts";

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
});

/** A database that can't commit as long as another connection reads it, because it has no WAL. */
class LockedNotes implements Disposable {
  readonly #folder = Deno.makeTempDirSync();
  readonly #reader: DatabaseSync;
  readonly latch = new FailureLatch();
  readonly database: Database;

  constructor() {
    const path = join(this.#folder, "notes.sqlite3");
    const raw = new DatabaseSync(path);
    raw.exec(schema.steps.join(";"));
    this.database = new Database(path, raw, this.latch);
    this.#reader = new DatabaseSync(path);
    this.#reader.exec("BEGIN");
    assert.equal(this.left, "");
  }

  write(note: string): void {
    this.database.run("INSERT INTO notes VALUES (?)", note);
  }

  get left(): string {
    return this.#reader.prepare("SELECT note FROM notes").all().map(({ note }) => note).join(" ");
  }

  unlock(): void {
    this.#reader.exec("COMMIT");
  }

  [Symbol.dispose](): void {
    this.database.close();
    this.#reader.close();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

Deno.test("a late commit that fails is the store's failure, and nothing is committed after one", async (t) => {
  const uncaught: unknown[] = [];
  const listen = (event: ErrorEvent): void => {
    event.preventDefault();
    uncaught.push(event.error);
  };
  addEventListener("error", listen);
  try {
    await t.step("its own commit", async () => {
      using notes = new LockedNotes();
      notes.database.lazily(() => notes.write("a"));
      assert.match((await notes.latch.failed).message, /^Cannot use the store .*: database is locked; nothing more/);
      notes.unlock();
      notes.database.close();
      assert.equal(notes.left, "");
    });
    await t.step("the store has failed before", async () => {
      using notes = new LockedNotes();
      notes.unlock();
      notes.database.lazily(() => notes.write("a"));
      notes.latch.fail(new StoreError("the other database has failed", "path"));
      await new Promise((resolve) => setTimeout(resolve, 1_100));
      notes.database.close();
      assert.equal(notes.left, "");
    });
    assert.deepEqual(uncaught, []);
  } finally {
    removeEventListener("error", listen);
  }
});

Deno.test("a transaction that cannot be committed fails as the store does, also with lazy writes before it", () => {
  for (const before of [() => {}, (notes: LockedNotes) => notes.database.lazily(() => notes.write("a"))]) {
    using notes = new LockedNotes();
    before(notes);
    const commit = (): void => notes.database.transaction(() => notes.write("b"));
    assert.throws(commit, { name: "StoreError", message: /database is locked/ });
    assert.throws(commit, notes.latch.error);
    notes.unlock();
    notes.database.close();
    assert.equal(notes.left, "");
  }
});

Deno.test("a database that is closed says so, and can be closed again", () => {
  using notes = new Notes();
  notes.database.close();
  assert.throws(() => notes.write("a"), { name: "StoreError", message: /notes\.sqlite3: it is closed$/ });
});
