import assert from "node:assert/strict";
import { canonicalJson, parseObject } from "../lib/json.ts";

/** JSON of so many arrays in each other, or objects. */
function nested(levels: number, [open, close]: readonly [string, string] = ["[", "]"]): string {
  return open.repeat(levels) + "1" + close.repeat(levels);
}

Deno.test("parseObject() reads as null what is nested too deeply, and everything else as it is", async (t) => {
  const arrays = ["[", "]"] as const;
  for (const kind of [arrays, ['{"a":', "}"], ['{"__proto__":', "}"], ['[{"a":', "}]"]] as const) {
    await t.step(kind.join("…"), () => {
      const body = `{"deep":${nested(20_000, kind)},"events":[{"body":"\\"[[[","__proto__":{"a":1}}],"next":"s1"}`;
      const { deep, ...others } = parseObject(body) ?? {};
      assert.equal(JSON.stringify(others), '{"events":[{"body":"\\"[[[","__proto__":{"a":1}}],"next":"s1"}');
      // Beside a name like `toJSON`, JSON.stringify() takes its recursive way.
      const text = JSON.stringify({ deep, toJSON: 1 });
      assert.match(text, /null/);
      assert.ok(text.split(/[[{]/).length < 110, text);
      assert.ok(canonicalJson(deep).length <= text.length);
    });
  }
  await t.step("as many levels as honest events have", () => {
    const body = `{"content":${nested(90)}}`;
    assert.equal(JSON.stringify(parseObject(body)), body);
  });
  await t.step("many brackets side by side or in a text", () => {
    const body = JSON.stringify({ side: Array.from({ length: 500 }, () => [{}]), text: "[{".repeat(500) + '\\"[' });
    assert.equal(JSON.stringify(parseObject(body)), body);
  });
});
