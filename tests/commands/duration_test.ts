import assert from "node:assert/strict";
import { parseDuration } from "../../lib/commands/mod.ts";

Deno.test("parseDuration() reads whole numbers with units, the larger first", async (t) => {
  const rows: [text: string, ms: number | undefined][] = [
    ["90s", 90_000],
    ["5m", 300_000],
    ["1h30m", 5_400_000],
    ["7d", 604_800_000],
    ["3h12min", 11_520_000],
    ["1D2H3M4S", 93_784_000],
    ["0s", 0],
    ["", undefined],
    ["5", undefined],
    ["m", undefined],
    ["30m1h", undefined],
    ["1h1h", undefined],
    ["1.5h", undefined],
    ["-5m", undefined],
    ["5 m", undefined],
    ["10ms", undefined],
    ["99999999999999d", undefined],
  ];
  for (const [text, ms] of rows) {
    await t.step(JSON.stringify(text), () => assert.equal(parseDuration(text), ms));
  }
});
