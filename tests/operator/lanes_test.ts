import assert from "node:assert/strict";
import { Lanes } from "../../lib/operator/lanes.ts";
import { rest } from "./fakes.ts";

function raise(error: unknown): never {
  throw error;
}

Deno.test("Lanes.run() does one thing after the other under a name, names side by side", async () => {
  const done: string[] = [];
  const first = Promise.withResolvers<void>();
  const lanes = new Lanes(new AbortController().signal, raise);
  lanes.run("a", () => first.promise.then(() => void done.push("a1")));
  lanes.run("a", () => Promise.resolve(void done.push("a2")));
  lanes.run("b", () => Promise.resolve(void done.push("b1")));
  await rest();
  assert.deepEqual(done, ["b1"]);
  first.resolve();
  await lanes.idle();
  assert.deepEqual(done, ["b1", "a1", "a2"]);
});

Deno.test("Lanes.run() begins nothing after the stop", async () => {
  const stop = new AbortController();
  const lanes = new Lanes(stop.signal, raise);
  lanes.run("a", () => Promise.resolve(stop.abort()));
  lanes.run("a", () => assert.fail("begun"));
  await lanes.idle();
});

Deno.test("Lanes.run() tells of failures, and of none that is the end itself", async (t) => {
  const reason = new Error("over");
  const rows: [told: boolean, name: string, stopped: boolean, error: Error][] = [
    [true, "a failure", false, new Error("disk full")],
    [true, "a failure at the end", true, new Error("disk full")],
    [true, "an abort that nobody asked for", false, new DOMException("aborted", "AbortError")],
    [false, "the reason of the end", true, reason],
    [false, "an abort at the end", true, new DOMException("aborted", "AbortError")],
  ];
  for (const [told, name, stopped, error] of rows) {
    await t.step(name, async () => {
      const stop = new AbortController();
      const failures: unknown[] = [];
      const lanes = new Lanes(stop.signal, (failure) => void failures.push(failure));
      lanes.run("a", () => {
        if (stopped) stop.abort(reason);
        return Promise.reject(error);
      });
      await lanes.idle();
      assert.deepEqual(failures, told ? [error] : []);
    });
  }
});
