import assert from "node:assert/strict";
import { ConfigError, CredentialError, PermissionError, TransientError } from "../../lib/errors/mod.ts";
import { Backoff, retrying, sleep } from "../../lib/service/mod.ts";

/** A timer, a connection or a listener left behind fails the test. */
const leavesNothing = { sanitizeOps: true, sanitizeResources: true };

/** Retries without jitter on a clock that the waiting itself moves; keeps every wait. */
function set(mostFailures = 4, leastSpanMs = 0) {
  const clock = { nowMs: 0 };
  const controller = new AbortController();
  const waits: number[] = [];
  const told: string[] = [];
  const policy = { firstMs: 1_000, longestMs: 8_000, mostFailures, leastSpanMs, forgivenAfterMs: 180_000 };
  const options = {
    backoff: new Backoff(policy, () => clock.nowMs, () => 1),
    signal: controller.signal,
    onFailure: (error: Error, waitMs: number) => told.push(`${error.message}, ${waitMs}`),
    wait: (ms: number) => {
      waits.push(ms);
      clock.nowMs += ms;
      return Promise.resolve();
    },
  };
  return { clock, controller, waits, told, options };
}

/** Work that fails with these errors one after the other, then succeeds; counts its runs. */
function failing(...errors: Error[]) {
  const runs = { count: 0 };
  const work = () => {
    const error = errors[runs.count++];
    return error === undefined ? Promise.resolve("done") : Promise.reject(error);
  };
  return { runs, work };
}

Deno.test("retrying() waits longer after each failure and heeds the server's wish", async () => {
  const { waits, told, options } = set();
  const asked = new TransientError("429", { retryAfterMs: 30_000 });
  const { work } = failing(new TransientError("refused"), asked, new TransientError("502"));
  assert.equal(await retrying(work, options), "done");
  assert.deepEqual(waits, [1_000, 30_000, 4_000]);
  assert.deepEqual(told, ["refused, 1000", "429, 30000", "502, 4000"]);
});

Deno.test("retrying() gives up with the last failure as the cause", async () => {
  const { waits, options } = set(3);
  const { work } = failing(...["a", "b", "c"].map((name) => new TransientError(name)));
  await assert.rejects(retrying(work, options), (error: Error) => {
    assert.equal(error.message, "Gave up after 3 failures in a row: c");
    assert.ok(!(error instanceof TransientError), "an outer retrying() must not begin again");
    assert.ok(error.cause instanceof TransientError);
    return true;
  });
  assert.deepEqual(waits, [1_000, 2_000]);
});

Deno.test("retrying() never retries what time can't cure", async (t) => {
  const errors = [
    new ConfigError(["x"]),
    new CredentialError("x"),
    new PermissionError("patch", "deployments"),
    new Error("disk full"),
    new TypeError("a mistake of ours"),
  ];
  for (const error of errors) {
    await t.step(error.name, async () => {
      const { waits, options } = set();
      const { runs, work } = failing(error);
      await assert.rejects(retrying(work, options), error);
      assert.equal(runs.count, 1);
      assert.deepEqual(waits, []);
    });
  }
});

Deno.test("retrying() forgives failures when the work says that it goes well for long enough", async () => {
  const { clock, waits, options } = set();
  const runs = { count: 0 };
  await retrying((_signal, working) => {
    runs.count += 1;
    if (runs.count === 3) working();
    if (runs.count === 3) clock.nowMs += 180_000;
    return runs.count === 5 ? Promise.resolve() : Promise.reject(new TransientError("x"));
  }, options);
  assert.deepEqual(waits, [1_000, 2_000, 1_000, 2_000]);
});

Deno.test("retrying() looks at the signal first", async () => {
  const { controller, options } = set();
  controller.abort(new Error("stopping"));
  const { runs, work } = failing();
  await assert.rejects(retrying(work, options), { message: "stopping" });
  assert.equal(runs.count, 0);
});

Deno.test("retrying() ends with the signal's reason when a failure comes of stopping, or while it waits", async (t) => {
  await t.step("in the work", async () => {
    const { controller, waits, options } = set();
    const work = () => {
      controller.abort(new Error("stopping"));
      return Promise.reject(new TransientError("connection closed"));
    };
    await assert.rejects(retrying(work, options), { message: "stopping" });
    assert.deepEqual(waits, []);
  });
  await t.step("in the wait", async () => {
    const { controller, options } = set();
    const { runs, work } = failing(new TransientError("x"));
    const onFailure = () => queueMicrotask(() => controller.abort(new Error("stopping")));
    await assert.rejects(retrying(work, { ...options, onFailure, wait: sleep }), { message: "stopping" });
    assert.equal(runs.count, 1);
  });
  await t.step("but not when the failure is worth knowing", async () => {
    const { controller, options } = set();
    const work = () => {
      controller.abort(new Error("stopping"));
      return Promise.reject(new Error("disk full"));
    };
    await assert.rejects(retrying(work, options), { message: "disk full" });
  });
});

Deno.test("sleep() ends at once when aborted, before or meanwhile", leavesNothing, async () => {
  await assert.rejects(sleep(60_000, AbortSignal.abort(new Error("before"))), { message: "before" });
  const controller = new AbortController();
  const sleeping = sleep(60_000, controller.signal);
  controller.abort(new Error("meanwhile"));
  await assert.rejects(sleeping, { message: "meanwhile" });
});

Deno.test("sleep() doesn't overflow into no sleep at all", leavesNothing, async () => {
  const controller = new AbortController();
  const first = await Promise.race([
    sleep(1e12, controller.signal).then(() => "long", () => "aborted"),
    sleep(5, controller.signal).then(() => "short"),
  ]);
  controller.abort();
  assert.equal(first, "short");
});
