import assert from "node:assert/strict";
import {
  Backoff,
  type BackoffPolicy,
  Deadline,
  KeyedMutex,
  KeyedQueue,
  Mutex,
  type NextTry,
  operatorPolicy,
  retry,
  Semaphore,
  sleep,
  Throttle,
  Wakeup,
} from "../lib/async.ts";
import { ConfigError, CredentialError, PermissionError, TransientError } from "../lib/errors.ts";

const policy: BackoffPolicy = {
  initialMs: 1_000,
  maxMs: 8_000,
  maxFailures: 6,
  minSpanMs: 0,
  resetAfterMs: 180_000,
};

/** A back-off without jitter on a clock that the test moves. */
function onTestClock(changes: Partial<BackoffPolicy> = {}) {
  const clock = { nowMs: 0 };
  return { clock, backoff: new Backoff({ ...policy, ...changes }, () => clock.nowMs, () => 1) };
}

function waits(tries: NextTry[]): (number | "gives up")[] {
  return tries.map((next) => next.retry ? next.waitMs : "gives up");
}

Deno.test("Backoff.failed() doubles up to the longest wait, then gives up", () => {
  const { backoff } = onTestClock();
  const tries = Array.from({ length: 6 }, () => backoff.failed());
  assert.deepEqual(waits(tries), [1_000, 2_000, 4_000, 8_000, 8_000, "gives up"]);
});

Deno.test("Backoff.failed() gives up only when the failures span long enough", () => {
  const { clock, backoff } = onTestClock({ minSpanMs: 900_000 });
  clock.nowMs = 50_000;
  const tries = Array.from({ length: 6 }, () => backoff.failed());
  for (const nowMs of [949_999, 950_000]) {
    clock.nowMs = nowMs;
    tries.push(backoff.failed());
  }
  assert.deepEqual(waits(tries), [1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, "gives up"]);
});

Deno.test("Backoff.failed() doesn't give up on a long span of few failures", () => {
  const { clock, backoff } = onTestClock({ minSpanMs: 900_000 });
  backoff.failed();
  clock.nowMs = 2_000_000;
  assert.deepEqual(waits([backoff.failed()]), [2_000]);
});

Deno.test("Backoff.failed() forgets failures only after working for long enough", async (t) => {
  const rows: [workedMs: number, then: number][] = [[179_999, 4_000], [180_000, 1_000]];
  for (const [workedMs, then] of rows) {
    await t.step(`after ${workedMs} ms of working the next wait is ${then} ms`, () => {
      const { clock, backoff } = onTestClock();
      backoff.failed();
      backoff.failed();
      backoff.working();
      clock.nowMs += workedMs / 2;
      backoff.working();
      clock.nowMs += workedMs / 2;
      assert.deepEqual(waits([backoff.failed()]), [then]);
    });
  }
});

Deno.test("Backoff.failed() restarts the span once failures are forgotten", () => {
  const { clock, backoff } = onTestClock({ maxFailures: 2, minSpanMs: 900_000 });
  backoff.failed();
  backoff.working();
  clock.nowMs = 1_000_000;
  assert.deepEqual(waits([backoff.failed(), backoff.failed()]), [1_000, 2_000]);
});

Deno.test("Backoff.failed() waits for as long as the server asks instead of its own wait, within bounds", async (t) => {
  const rows: [askedMs: number, waitMs: number][] = [
    [700, 700],
    [30_000, 30_000],
    [1, 250],
    [8_640_000_000, 300_000],
  ];
  for (const [askedMs, waitMs] of rows) {
    await t.step(`asked for ${askedMs} ms`, () => {
      const { backoff } = onTestClock();
      for (let failures = 0; failures < 4; failures += 1) backoff.failed();
      assert.deepEqual(waits([backoff.failed(askedMs)]), [waitMs]);
    });
  }
});

Deno.test("Backoff.failed() waits between half and all of the ceiling", () => {
  const atRandom = (random: number) => new Backoff(policy, () => 0, () => random).failed();
  assert.deepEqual(waits([atRandom(0), atRandom(0.5)]), [500, 750]);
});

Deno.test("operatorPolicy() retries for 15 minutes, however few retries are set", () => {
  const clock = { nowMs: 0 };
  const backoff = new Backoff(operatorPolicy(3), () => clock.nowMs, () => 1);
  const sequence: number[] = [];
  for (let next = backoff.failed(); next.retry; next = backoff.failed()) {
    sequence.push(next.waitMs);
    clock.nowMs += next.waitMs;
  }
  assert.deepEqual(sequence.slice(0, 6), [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  assert.equal(clock.nowMs, 900_000);
});

/** A timer, a connection or a listener left behind fails the test. */
const leavesNothing = { sanitizeOps: true, sanitizeResources: true };

/** Retries without jitter on a clock that the waiting itself moves; keeps every wait. */
function set(maxFailures = 4, minSpanMs = 0) {
  const clock = { nowMs: 0 };
  const controller = new AbortController();
  const waits: number[] = [];
  const told: string[] = [];
  const policy = { initialMs: 1_000, maxMs: 8_000, maxFailures, minSpanMs, resetAfterMs: 180_000 };
  const options = {
    backoff: new Backoff(policy, () => clock.nowMs, () => 1),
    onRetry: (error: Error, waitMs: number) => told.push(`${error.message}, ${waitMs}`),
    sleep: (ms: number) => {
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

Deno.test("retry() waits longer after each failure and heeds the server's wish", async () => {
  const { controller, waits, told, options } = set();
  const asked = new TransientError("429", { retryAfterMs: 30_000 });
  const { work } = failing(new TransientError("refused"), asked, new TransientError("502"));
  assert.equal(await retry(work, options, controller.signal), "done");
  assert.deepEqual(waits, [1_000, 30_000, 4_000]);
  assert.deepEqual(told, ["refused, 1000", "429, 30000", "502, 4000"]);
});

Deno.test("retry() gives up with the last failure as the cause", async () => {
  const { controller, waits, options } = set(3);
  const { work } = failing(...["a", "b", "c"].map((name) => new TransientError(name)));
  await assert.rejects(retry(work, options, controller.signal), (error: Error) => {
    assert.equal(error.message, "Gave up after 3 failures in a row: c");
    assert.ok(!(error instanceof TransientError), "an outer retry() must not begin again");
    assert.ok(error.cause instanceof TransientError);
    return true;
  });
  assert.deepEqual(waits, [1_000, 2_000]);
});

Deno.test("retry() never retries what time can't cure", async (t) => {
  const errors = [
    new ConfigError(["x"]),
    new CredentialError("x"),
    new PermissionError("patch", "deployments"),
    new Error("disk full"),
    new TypeError("a mistake of ours"),
  ];
  for (const error of errors) {
    await t.step(error.name, async () => {
      const { controller, waits, options } = set();
      const { runs, work } = failing(error);
      await assert.rejects(retry(work, options, controller.signal), error);
      assert.equal(runs.count, 1);
      assert.deepEqual(waits, []);
    });
  }
});

Deno.test("retry() forgives failures when the work says that it goes well for long enough", async () => {
  const { clock, controller, waits, options } = set();
  const runs = { count: 0 };
  await retry(
    (_signal, working) => {
      runs.count += 1;
      if (runs.count === 3) working();
      if (runs.count === 3) clock.nowMs += 180_000;
      return runs.count === 5 ? Promise.resolve() : Promise.reject(new TransientError("x"));
    },
    options,
    controller.signal,
  );
  assert.deepEqual(waits, [1_000, 2_000, 1_000, 2_000]);
});

Deno.test("retry() checks the signal first", async () => {
  const { controller, options } = set();
  controller.abort(new Error("stopping"));
  const { runs, work } = failing();
  await assert.rejects(retry(work, options, controller.signal), { message: "stopping" });
  assert.equal(runs.count, 0);
});

Deno.test("retry() ends with the signal's reason when a failure comes of stopping, or while it waits", async (t) => {
  await t.step("in the work", async () => {
    const { controller, waits, options } = set();
    const work = () => {
      controller.abort(new Error("stopping"));
      return Promise.reject(new TransientError("connection closed"));
    };
    await assert.rejects(retry(work, options, controller.signal), { message: "stopping" });
    assert.deepEqual(waits, []);
  });
  await t.step("in the wait", async () => {
    const { controller, options } = set();
    const { runs, work } = failing(new TransientError("x"));
    const onRetry = () => queueMicrotask(() => controller.abort(new Error("stopping")));
    await assert.rejects(retry(work, { ...options, onRetry, sleep }, controller.signal), { message: "stopping" });
    assert.equal(runs.count, 1);
  });
  await t.step("but not when the failure is worth knowing", async () => {
    const { controller, options } = set();
    const work = () => {
      controller.abort(new Error("stopping"));
      return Promise.reject(new Error("disk full"));
    };
    await assert.rejects(retry(work, options, controller.signal), { message: "disk full" });
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

function raise(error: unknown): never {
  throw error;
}

Deno.test("KeyedMutex.run() runs one at a time per key, and keeps no unused key", async () => {
  const mutex = new KeyedMutex();
  const signal = new AbortController().signal;
  const done: string[] = [];
  const first = Promise.withResolvers<void>();
  const all = [
    mutex.run("a", () => first.promise.then(() => void done.push("a1")), signal),
    mutex.run("a", () => Promise.resolve(void done.push("a2")), signal),
    mutex.run("b", () => Promise.resolve(void done.push("b1")), signal),
  ];
  await all[2];
  assert.deepEqual(done, ["b1"]);
  assert.equal(mutex.size, 1);
  await assert.rejects(mutex.run("a", () => assert.fail("begun"), AbortSignal.abort(new Error("over"))), /over/);
  first.resolve();
  await Promise.all(all);
  assert.deepEqual(done, ["b1", "a1", "a2"]);
  assert.equal(mutex.size, 0);
});

Deno.test("KeyedQueue.run() does one thing after the other under a name, names side by side", async () => {
  const done: string[] = [];
  const first = Promise.withResolvers<void>();
  const queue = new KeyedQueue(new AbortController().signal, raise);
  queue.run("a", () => first.promise.then(() => void done.push("a1")));
  queue.run("a", () => Promise.resolve(void done.push("a2")));
  queue.run("b", () => Promise.resolve(void done.push("b1")));
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(done, ["b1"]);
  first.resolve();
  await queue.idle();
  assert.deepEqual(done, ["b1", "a1", "a2"]);
});

Deno.test("KeyedQueue.run() begins nothing after the stop", async () => {
  const stop = new AbortController();
  const queue = new KeyedQueue(stop.signal, raise);
  queue.run("a", () => Promise.resolve(stop.abort()));
  queue.run("a", () => assert.fail("begun"));
  await queue.idle();
});

Deno.test("KeyedQueue.run() reports failures, except the abort itself", async (t) => {
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
      const queue = new KeyedQueue(stop.signal, (failure) => void failures.push(failure));
      queue.run("a", () => {
        if (stopped) stop.abort(reason);
        return Promise.reject(error);
      });
      await queue.idle();
      assert.deepEqual(failures, told ? [error] : []);
    });
  }
});

const never = new AbortController().signal;
const order: string[] = [];
const note = (what: string) => () => Promise.resolve(void order.push(what));

Deno.test("Mutex.run() lets one in at a time, in order, also after a failure", async () => {
  const mutex = new Mutex();
  order.length = 0;
  const first = Promise.withResolvers<void>();
  const runs = [
    mutex.run(async () => {
      order.push("first begins");
      await first.promise;
      order.push("first fails");
      throw new Error("first");
    }, never),
    mutex.run(note("second"), never),
  ];
  await Promise.resolve();
  first.resolve();
  assert.deepEqual((await Promise.allSettled(runs)).map(({ status }) => status), ["rejected", "fulfilled"]);
  assert.deepEqual(order, ["first begins", "first fails", "second"]);
});

Deno.test("Mutex.run() ends a wait when aborted, without changing the others' order", async () => {
  const mutex = new Mutex();
  order.length = 0;
  const first = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const end = new AbortController();
  const runs = [
    mutex.run(() => {
      begun.resolve();
      return first.promise.then(note("first"));
    }, end.signal),
    mutex.run(note("second"), end.signal),
    mutex.run(note("third"), never),
  ];
  await begun.promise;
  end.abort(new Error("the end"));
  await assert.rejects(runs[1] ?? Promise.resolve(), { message: "the end" });
  await assert.rejects(mutex.run(note("fourth"), end.signal), { message: "the end" });
  assert.deepEqual(order, []);
  first.resolve();
  await runs[0];
  await runs[2];
  assert.deepEqual(order, ["first", "third"]);
});

Deno.test("Deadline distinguishes its own expiry from its parent's, and can be extended", leavesNothing, async () => {
  const parent = new AbortController();
  using late = new Deadline(1, parent.signal, { reason: () => new Error("late") });
  await new Promise((resolve) => late.signal.addEventListener("abort", resolve));
  assert.ok(late.expired);
  assert.equal(late.signal.reason.message, "late");

  using extended = new Deadline(1, parent.signal);
  extended.extend(60_000);
  using ended = new Deadline(60_000, parent.signal);
  await sleep(5, never);
  assert.ok(!extended.signal.aborted);
  parent.abort(new Error("stopping"));
  assert.deepEqual([ended.signal.reason.message, ended.expired], ["stopping", false]);
});

Deno.test(
  "Wakeup.wait() ends when notified, before or meanwhile, or when the time is over",
  leavesNothing,
  async () => {
    const wakeup = new Wakeup();
    wakeup.notify();
    await wakeup.wait(60_000, never);
    const waiting = wakeup.wait(60_000, never);
    wakeup.notify();
    await waiting;
    await wakeup.wait(1, never);
    await assert.rejects(wakeup.wait(60_000, AbortSignal.abort(new Error("stopping"))), { message: "stopping" });
  },
);

Deno.test("Semaphore runs up to its limit in order, and frees the permit of one that fails or is aborted", async () => {
  const never = new AbortController().signal;
  const semaphore = new Semaphore(2);
  const begun: number[] = [];
  const ends: PromiseWithResolvers<void>[] = [];
  const leaving = new AbortController();
  const start = (index: number, signal = never) =>
    semaphore.run(() => {
      begun.push(index);
      return (ends[index] = Promise.withResolvers<void>()).promise;
    }, signal);
  const works = [start(0), start(1), start(2), start(3, leaving.signal), start(4)];
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(begun, [0, 1]);
  ends[0]?.reject(new Error("failed"));
  await assert.rejects(works[0] ?? assert.fail(), /failed/);
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(begun, [0, 1, 2]);
  leaving.abort(new Error("left"));
  await assert.rejects(works[3] ?? assert.fail(), /left/);
  ends[1]?.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(begun, [0, 1, 2, 4]);
  ends[2]?.resolve();
  ends[4]?.resolve();
  await Promise.all([works[1], works[2], works[4]]);
  await assert.rejects(semaphore.run(() => Promise.resolve(), leaving.signal), /left/);
  assert.equal(await semaphore.run(() => Promise.resolve("free"), never), "free");
});

Deno.test("Throttle.turn() lets a burst through, then one at a time, also when the clock is set back", async () => {
  let nowMs = 1_000_000;
  const waits: number[] = [];
  const clock = {
    now: () => nowMs,
    sleep: (ms: number) => {
      waits.push(ms);
      nowMs += ms;
      return Promise.resolve();
    },
  };
  const never = new AbortController().signal;
  const throttle = new Throttle({ burst: 3, everyMs: 100, clock });
  const turns = async (times: number): Promise<number[]> => {
    waits.length = 0;
    for (let turn = 0; turn < times; turn += 1) await throttle.turn(never);
    return [...waits];
  };
  assert.deepEqual(await turns(5), [100, 100], "three at once");
  nowMs += 200;
  assert.deepEqual(await turns(3), [100], "two were saved up meanwhile");
  nowMs += 60_000;
  assert.deepEqual(await turns(4), [100], "and never more than a burst");
  nowMs -= 3_600_000;
  assert.deepEqual(await turns(2), [100, 100], "a clock that was set back makes nobody wait longer");
  await assert.rejects(throttle.turn(AbortSignal.abort(new Error("end"))), /end/);
});
