import assert from "node:assert/strict";
import { drawScale, recordingIn, scaleFile } from "../../bench/scale_picture.ts";

Deno.test("the picture of many rooms is drawn from what it shows; if not, run `deno task scale --svg=bench/scale.svg`", async () => {
  const svg = await Deno.readTextFile(scaleFile);
  const recording = recordingIn(svg);
  assert.equal(svg, drawScale(recording));
  const { steps, windows, shares } = recording;
  const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);
  const [inWindows, inSteps] = [windows, steps].map((each) => sum(each.map(({ given }) => given)));
  assert.ok(Math.abs((inWindows ?? 0) - (inSteps ?? 0)) <= (inSteps ?? 0) / 100, `${inWindows} of ${inSteps} commands`);
  assert.ok(Math.abs(sum(shares.map(({ share }) => share)) - 1) < 0.02);
});
