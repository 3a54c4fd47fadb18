import assert from "node:assert/strict";
import { afternoonFile, drawAfternoon, recordingIn } from "../../sandbox/afternoon.ts";
import { conversation, draw, pictureFile } from "../../sandbox/picture.ts";

Deno.test("the README's picture shows what the demo says; if not, run `deno task picture`", async () => {
  const withoutTimes = (text: string) => text.replaceAll(/\d+ s\b/g, "N s");
  // Lines are wrapped as they are with times of one digit.
  const said = (await conversation()).map((each) => ({ ...each, html: withoutTimes(each.html) }));
  assert.equal(withoutTimes(await Deno.readTextFile(pictureFile)), draw(said));
});

Deno.test("the docs' picture of an afternoon is drawn from what it shows; if not, run `deno task afternoon`", async () => {
  const svg = await Deno.readTextFile(afternoonFile);
  const { replicas, messages } = recordingIn(svg);
  assert.equal(svg, drawAfternoon({ ...recordingIn(svg) }));
  assert.deepEqual(replicas.map(({ desired }) => desired).filter((count, index, all) => count !== all[index - 1]), [
    ...[0, 1, 0, 1, 0, 1, 0],
  ]);
  assert.equal(
    messages.filter(({ who }) => who === "clawd").length,
    messages.filter(({ who }) => who === "you").length,
  );
});
