import assert from "node:assert/strict";
import { Lifetime } from "../../lib/service/mod.ts";

const noPanic = (error: unknown): never => assert.fail(String(error));

/** A loop that ends when aborted, and notes that. */
function loop(name: string, notes: string[]): (signal: AbortSignal) => Promise<void> {
  return (signal) =>
    new Promise((_, reject) =>
      signal.addEventListener("abort", () => {
        notes.push(`${name} ended`);
        reject(signal.reason);
      })
    );
}

Deno.test("Lifetime ends loops before it closes resources that were opened before them", async () => {
  const notes: string[] = [];
  {
    await using lifetime = new Lifetime(new AbortController().signal, noPanic);
    lifetime.defer(() => void notes.push("session closed"));
    lifetime.start(loop("sync", notes));
    lifetime.start(loop("probe", notes));
    lifetime.defer(() => void notes.push("operator closed"));
  }
  assert.deepEqual(notes, ["sync ended", "probe ended", "operator closed", "session closed"]);
});

Deno.test("Lifetime leaves no listener on the signal that it was given", async () => {
  const counted = new AbortController().signal;
  let listeners = 0;
  const { addEventListener, removeEventListener } = counted;
  counted.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners += 1;
    return addEventListener.apply(counted, args);
  };
  counted.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners -= 1;
    return removeEventListener.apply(counted, args);
  };
  for (let login = 0; login < 3; login += 1) {
    await using lifetime = new Lifetime(counted, noPanic);
    lifetime.start(loop("sync", []));
    assert.equal(listeners, 1);
  }
  assert.equal(listeners, 0);
});

Deno.test("Lifetime.waitFor() and waitForMain() throw the first failure of a loop", async (t) => {
  for (const wait of ["waitFor", "waitForMain"] as const) {
    await t.step(wait, async () => {
      await using lifetime = new Lifetime(new AbortController().signal, noPanic);
      const waiting = lifetime[wait](new Promise<void>(() => {}));
      lifetime.start(() => Promise.reject(new Error("broken")));
      lifetime.start(() => Promise.reject(new Error("broken later")));
      await assert.rejects(waiting, /^Error: broken$/);
    });
  }
});

Deno.test("Lifetime.failOn() ends it when the error arrives, and disposal does not wait for one", async () => {
  const { promise: never } = Promise.withResolvers<unknown>();
  const graceMs = 30_000;
  const began = performance.now();
  {
    await using lifetime = new Lifetime(new AbortController().signal, noPanic, graceMs);
    lifetime.failOn(never);
    lifetime.failOn(Promise.resolve(new Error("disk full")));
    await assert.rejects(lifetime.waitForMain(new Promise<void>(() => {})), /^Error: disk full$/);
  }
  assert.ok(performance.now() - began < graceMs / 2, "it waited for an error that never came");
});

Deno.test("Lifetime.waitFor() rejects when stopped, and a loop that was aborted has not failed", async () => {
  const stopping = new AbortController();
  await using lifetime = new Lifetime(stopping.signal, noPanic);
  lifetime.start(loop("sync", []));
  const waiting = lifetime.waitFor(new Promise<void>(() => {}));
  stopping.abort(new Error("stop"));
  await assert.rejects(waiting, (error) => error === stopping.signal.reason);
});

Deno.test("Lifetime.waitForMain() waits for the grace period, and no longer", async (t) => {
  await t.step("it ends in time", async () => {
    const stopping = new AbortController();
    await using lifetime = new Lifetime(stopping.signal, noPanic);
    const work = Promise.withResolvers<void>();
    let finished = false;
    const waiting = lifetime.waitForMain(work.promise).then(() => finished = true);
    stopping.abort();
    await Promise.resolve();
    assert.equal(finished, false);
    work.resolve();
    await waiting;
  });
  await t.step("it fails meanwhile", async () => {
    const stopping = new AbortController();
    await using lifetime = new Lifetime(stopping.signal, noPanic);
    const work = Promise.withResolvers<void>();
    const waiting = lifetime.waitForMain(work.promise);
    stopping.abort();
    work.reject(new Error("the store is full"));
    await assert.rejects(waiting, /the store is full/);
  });
  await t.step("it does not end", async () => {
    const stopping = new AbortController();
    await using lifetime = new Lifetime(stopping.signal, noPanic, 5);
    lifetime.start(() => new Promise(() => {}));
    stopping.abort();
    await lifetime.waitForMain(new Promise(() => {}));
  });
});

Deno.test("Lifetime reports a panic at once, wherever it occurs", async (t) => {
  const panic = new WebAssembly.RuntimeError("unreachable");
  const ways: [way: string, fail: (lifetime: Lifetime) => Promise<void>][] = [
    ["a loop", (lifetime) => {
      lifetime.start(() => Promise.reject(panic));
      return lifetime.waitFor(new Promise(() => {}));
    }],
    ["the start", (lifetime) => lifetime.waitFor(Promise.reject(panic))],
    ["the work", (lifetime) => lifetime.waitForMain(Promise.reject(panic))],
  ];
  for (const [way, fail] of ways) {
    await t.step(way, async () => {
      const reported: unknown[] = [];
      await using lifetime = new Lifetime(new AbortController().signal, (error) => reported.push(error));
      await assert.rejects(fail(lifetime), (error) => error === panic);
      assert.ok(reported.includes(panic));
    });
  }
});
