import assert from "node:assert/strict";
import { Lock } from "../../lib/session/lock.ts";

const never = new AbortController().signal;
const order: string[] = [];
const note = (what: string) => () => Promise.resolve(void order.push(what));

Deno.test("Lock.run() lets one in at a time, in order, also after a failure", async () => {
  const lock = new Lock();
  order.length = 0;
  const first = Promise.withResolvers<void>();
  const runs = [
    lock.run(async () => {
      order.push("first begins");
      await first.promise;
      order.push("first fails");
      throw new Error("first");
    }, never),
    lock.run(note("second"), never),
  ];
  await Promise.resolve();
  first.resolve();
  assert.deepEqual((await Promise.allSettled(runs)).map(({ status }) => status), ["rejected", "fulfilled"]);
  assert.deepEqual(order, ["first begins", "first fails", "second"]);
});

Deno.test("Lock.run() ends a wait with the signal, and lets nobody in before their turn for that", async () => {
  const lock = new Lock();
  order.length = 0;
  const first = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const end = new AbortController();
  const runs = [
    lock.run(() => {
      begun.resolve();
      return first.promise.then(note("first"));
    }, end.signal),
    lock.run(note("second"), end.signal),
    lock.run(note("third"), never),
  ];
  await begun.promise;
  end.abort(new Error("the end"));
  await assert.rejects(runs[1] ?? Promise.resolve(), { message: "the end" });
  await assert.rejects(lock.run(note("fourth"), end.signal), { message: "the end" });
  assert.deepEqual(order, []);
  first.resolve();
  await runs[0];
  await runs[2];
  assert.deepEqual(order, ["first", "third"]);
});
