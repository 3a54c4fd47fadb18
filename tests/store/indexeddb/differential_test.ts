/**
 * Random programs, run by the IndexedDB in SQLite and by fake-indexeddb, which passes most of the Web Platform Tests:
 * every request has the same outcome, in the same order, and the same is left at the end, in memory and on disk.
 *
 * @module
 */

import assert from "node:assert/strict";
import { IDBFactory as FakeFactory, IDBKeyRange as FakeKeyRange } from "fake-indexeddb";
import fc from "fast-check";
import { IDBKeyRange } from "../../../lib/store/indexeddb/mod.ts";
import {
  type Connection,
  type Cursor,
  Disk,
  dump,
  type Factory,
  open,
  type Source,
  type Transaction,
} from "./driver.ts";

const stores = ["one", "two"];
const indexes = { n: "v.n", u: "v.u", both: ["v.n", "v.u"] };

/** Few keys, so that they meet; of each kind; and some values that are none. */
const key = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(1, 2, 3, "a", "b") },
  fc.constantFrom(0, Infinity, new Date(7), "", "\ud800", "a\0", [], ["a", [1]]),
  fc.uint8Array({ maxLength: 2 }).map((bytes) => bytes.buffer),
  { weight: 1, arbitrary: fc.constantFrom(NaN, null, true, {}, [undefined], new Date(NaN)) },
);
const value = fc.oneof(
  fc.record({
    v: fc.record({ n: key, u: key }, { requiredKeys: [] }),
    more: fc.oneof(fc.jsonValue(), fc.constantFrom(undefined, NaN, -0, new Date(3)), fc.uint8Array({ maxLength: 3 })),
  }, { requiredKeys: [] }),
  fc.constantFrom("text", null, 7),
);
const query = fc.oneof(
  // fake-indexeddb knows the options of a later specification, which may stand in place of a query.
  key.filter((key) => key !== true && !(key?.constructor === Object)).map((only) => ({ only })),
  fc.record({ lower: key, isOpen: fc.boolean() }),
  fc.record({ upper: key, isOpen: fc.boolean() }),
  fc.record({ from: key, to: key, isOpen: fc.boolean() }),
  fc.constant({}),
);
const operation = fc.record({
  store: fc.constantFrom(...stores),
  index: fc.option(fc.constantFrom(...Object.keys(indexes)), { nil: undefined }),
  kind: fc.constantFrom("put", "put", "add", "add", "get", "getAll", "getAllKeys", "count", "delete", "clear", "visit"),
  key,
  value,
  query,
  limit: fc.nat(3),
  /** What a cursor does at a record. */
  visits: fc.array(fc.constantFrom("nothing", "update", "delete", "stop"), { maxLength: 4 }),
  /** Whether it is made when the one before it has an outcome, rather than at once. */
  isLater: fc.boolean(),
  /** Whether its error doesn't abort the transaction. */
  isForgiven: fc.boolean(),
});
const transaction = fc.record({
  scope: fc.subarray(stores, { minLength: 1 }),
  isWriter: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)),
  operations: fc.array(operation, { maxLength: 7 }),
  /** After which operation it is aborted. */
  abortAfter: fc.option(fc.nat(6), { freq: 4, nil: undefined }),
});

type Query = { only?: unknown; lower?: unknown; upper?: unknown; from?: unknown; to?: unknown; isOpen?: boolean };
type Ranges = typeof IDBKeyRange | typeof FakeKeyRange;
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;
type Program = (typeof transaction extends fc.Arbitrary<infer T> ? T : never)[];

function rangeOf(query: Query, ranges: Ranges): unknown {
  if ("lower" in query) return ranges.lowerBound(query.lower, query.isOpen);
  if ("upper" in query) return ranges.upperBound(query.upper, query.isOpen);
  if ("from" in query) return ranges.bound(query.from, query.to, query.isOpen, query.isOpen);
  return query.only;
}

/** Makes the stores. The indexes come in a second version, so that they are filled with what is there. */
async function connect(factory: Factory): Promise<Connection> {
  const first = await open(factory, "d", 1, (connection) => {
    for (const name of stores) {
      const store = connection.createObjectStore(name);
      for (const key of [1, 2, 3, "a"]) store.put({ v: { n: 1, u: key } }, key);
    }
  });
  first.close();
  return await open(factory, "d", 2, (_, upgrade) => {
    for (const name of stores) {
      for (const [index, path] of Object.entries(indexes)) {
        upgrade.objectStore(name).createIndex(index, path, { unique: index === "u" });
      }
    }
  });
}

/** Runs a program, and tells the outcome of every request, by transaction. */
async function run(factory: Factory, ranges: Ranges, program: Program): Promise<unknown> {
  const connection = await connect(factory);
  const told = await Promise.all(program.map(({ scope, isWriter, operations, abortAfter }) => {
    const made = connection.transaction(scope, isWriter ? "readwrite" : "readonly");
    return outcomes(made, operations, abortAfter, ranges);
  }));
  connection.close();
  return told;
}

function outcomes(
  made: Transaction,
  operations: readonly Operation[],
  abortAfter: number | undefined,
  ranges: Ranges,
): Promise<unknown[]> {
  const told: unknown[] = [];
  const { promise, resolve } = Promise.withResolvers<unknown[]>();
  const end = (how: string) => {
    told.push([how, made.error?.name]);
    resolve(told);
  };
  made.addEventListener("complete", () => end("complete"));
  made.addEventListener("abort", () => end("abort"));
  /** Makes operations from `index` on, up to one that is to be made later. */
  const makeFrom = (index: number): void => {
    const operation = operations[index];
    if (operation === undefined) return;
    const next = operations[index + 1];
    const after = (hasFailed = false): void => {
      // fake-indexeddb lets the error replace an abort that its own handler has asked for.
      if (abortAfter === index && !hasFailed) attempt(`abort after ${index}`, told, () => made.abort());
      else if (next?.isLater) makeFrom(index + 1);
    };
    const isMade = attempt(`operation ${index}`, told, () => make(made, operation, index, ranges, told, after));
    if (!next?.isLater || !isMade) makeFrom(index + 1);
  };
  makeFrom(0);
  return promise;
}

/** Runs `work`, and tells what it throws. */
function attempt(what: string, told: unknown[], work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    told.push([what, "threw", error.name]);
    return false;
  }
}

function make(
  made: Transaction,
  { store: name, index, kind, key, value, query, limit, visits, isForgiven }: Operation,
  number: number,
  ranges: Ranges,
  told: unknown[],
  after: (hasFailed?: boolean) => void,
): void {
  const store = made.objectStore(name);
  const source: Source = index === undefined ? store : store.index(index);
  const range = () => rangeOf(query, ranges);
  const visiting = [...visits];
  const request = kind === "put"
    ? store.put(value, key)
    : kind === "add"
    ? store.add(value, key)
    : kind === "get"
    ? source.get(range())
    : kind === "getAll"
    ? source.getAll(range(), limit)
    : kind === "getAllKeys"
    ? source.getAllKeys(range(), limit)
    : kind === "count"
    ? source.count(range())
    : kind === "delete"
    ? store.delete(range())
    : kind === "clear"
    ? store.clear()
    : source.openCursor(range());
  const tell = (what: string, outcome: unknown) => told.push([number, kind, what, structuredClone(outcome)]);
  const fails = (request: { addEventListener: typeof made.addEventListener; readonly error: DOMException | null }) => {
    request.addEventListener("error", (event) => {
      tell("error", request.error?.name);
      if (isForgiven) event.preventDefault();
    });
  };
  fails(request);
  request.addEventListener("error", () => after(true));
  request.addEventListener("success", () => {
    if (kind !== "visit") {
      tell("success", request.result);
      return after();
    }
    const cursor = request.result as Cursor | null;
    if (cursor === null) {
      tell("end", undefined);
      return after();
    }
    tell("at", [cursor.key, cursor.primaryKey, cursor.value]);
    const visit = visiting.shift();
    if (visit === "stop") return after();
    attempt(`visit of ${number}`, told, () => {
      if (visit === "update") fails(cursor.update(value));
      if (visit === "delete") fails(cursor.delete());
      cursor.continue();
    });
  });
}

Deno.test("random programs have the same outcomes as with fake-indexeddb, and leave the same on disk", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { maxLength: 5 }), async (program) => {
      using disk = new Disk();
      const [ours, theirs] = [disk.life(), new FakeFactory() as unknown as Factory];
      const [told, expected] = await Promise.all([
        run(ours, IDBKeyRange, program),
        run(theirs, FakeKeyRange, program),
      ]);
      assert.deepEqual(told, expected);
      const left = await dump(theirs);
      assert.deepEqual(await dump(ours), left);
      assert.deepEqual(await dump(disk.life()), left);
      assert.deepEqual(disk.failures, []);
    }),
    { numRuns: Number(Deno.env.get("RUNS") ?? 150) },
  );
});
