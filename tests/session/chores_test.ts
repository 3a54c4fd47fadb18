import assert from "node:assert/strict";
import { TransientError } from "../../lib/errors.ts";
import { Chores, type Pace, tireless } from "../../lib/session/chores.ts";

const never = new AbortController().signal;
const pace: Pace = { working: () => {}, failed: () => ({ retry: false }), sleep: () => Promise.resolve() };

Deno.test("Chores.stop() resolves when every piece of work has ended, and not before", async () => {
  const chores = new Chores(never);
  const hanging = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  let ended = 0;
  const work = async (): Promise<void> => {
    begun.resolve();
    await hanging.promise;
    ended += 1;
  };
  chores.add(work, pace).wake();
  chores.repeat(work, pace);
  const failed = assert.rejects(chores.failed, { name: "AbortError" });
  await begun.promise;
  const stopped = chores.stop();
  const first = await Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, 0, "one turn"))]);
  assert.equal(first, "one turn");
  hanging.resolve();
  await stopped;
  assert.equal(ended, 2);
  await failed;
});

Deno.test("Chores fails with what is not to be tried again, unless the pace is tireless", async () => {
  const error = new TransientError("away");
  const chores = new Chores(never);
  chores.add(() => Promise.reject(error), pace).wake();
  await assert.rejects(chores.failed, error);
  assert.deepEqual(tireless(pace).failed(0), { retry: true, waitMs: 60_000 });
  assert.deepEqual(tireless(pace).failed(90_000), { retry: true, waitMs: 90_000 });
  const willing: Pace = { ...pace, failed: () => ({ retry: true, waitMs: 2 }) };
  assert.deepEqual(tireless(willing).failed(0), { retry: true, waitMs: 2 });
});
