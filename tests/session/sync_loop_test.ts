import assert from "node:assert/strict";
import { Polls } from "../../lib/session/sync_loop.ts";

Deno.test("Polls.next() holds polls only while all goes well", async (t) => {
  const rows: [what: string, wentWell: boolean[], hasToken: boolean, heldMs: number, deadlineMs: number][] = [
    ["the first one of all is not held and has much time", [], false, 0, 120_000],
    ["the first one after a start is not held", [], true, 0, 10_000],
    ["after an answer it is held", [true], true, 25_000, 30_000],
    ["after a failure it is not held", [true, false], true, 0, 10_000],
    ["after five failures it has more time", [true, false, false, false, false, false], true, 0, 30_000],
    ["after failures and an answer it is held", [true, false, false, true], true, 25_000, 30_000],
  ];
  for (const [what, wentWell, hasToken, heldMs, deadlineMs] of rows) {
    await t.step(what, () => {
      const polls = new Polls();
      for (const well of wentWell) {
        polls.next(true);
        if (well) polls.succeeded();
      }
      assert.deepEqual(polls.next(hasToken), { heldMs, deadlineMs });
    });
  }
});
