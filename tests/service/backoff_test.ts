import assert from "node:assert/strict";
import { Backoff, type BackoffPolicy, type NextTry, operatorPolicy } from "../../lib/service/mod.ts";

const policy: BackoffPolicy = {
  firstMs: 1_000,
  longestMs: 8_000,
  mostFailures: 6,
  leastSpanMs: 0,
  forgivenAfterMs: 180_000,
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
  const { clock, backoff } = onTestClock({ leastSpanMs: 900_000 });
  clock.nowMs = 50_000;
  const tries = Array.from({ length: 6 }, () => backoff.failed());
  for (const nowMs of [949_999, 950_000]) {
    clock.nowMs = nowMs;
    tries.push(backoff.failed());
  }
  assert.deepEqual(waits(tries), [1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, "gives up"]);
});

Deno.test("Backoff.failed() doesn't give up on a long span of few failures", () => {
  const { clock, backoff } = onTestClock({ leastSpanMs: 900_000 });
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

Deno.test("Backoff.failed() measures the span anew once failures are forgiven", () => {
  const { clock, backoff } = onTestClock({ mostFailures: 2, leastSpanMs: 900_000 });
  backoff.failed();
  backoff.working();
  clock.nowMs = 1_000_000;
  assert.deepEqual(waits([backoff.failed(), backoff.failed()]), [1_000, 2_000]);
});

Deno.test("Backoff.failed() never waits for less than the server asked", () => {
  const { backoff } = onTestClock();
  assert.deepEqual(waits([backoff.failed(5_000)]), [5_000]);
});

Deno.test("Backoff.failed() waits between half and all of the ceiling", () => {
  const atRandom = (random: number) => new Backoff(policy, () => 0, () => random).failed();
  assert.deepEqual(waits([atRandom(0), atRandom(0.5)]), [500, 750]);
});

Deno.test("operatorPolicy() goes on for 15 minutes however few retries are set", () => {
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
