import assert from "node:assert/strict";
import { conversation, draw, pictureFile } from "../../sandbox/picture.ts";

Deno.test("the README's picture shows what the demo says; if not, run `deno task picture`", async () => {
  const withoutTimes = (svg: string) => svg.replaceAll(/\d+ s\b/g, "N s");
  assert.equal(withoutTimes(await Deno.readTextFile(pictureFile)), withoutTimes(draw(await conversation())));
});
