import assert from "node:assert/strict";
import { formsOf, linksOf, wordsOf } from "../../lib/session/html.ts";

Deno.test("formsOf() reads forms however they are written", async (t) => {
  const fields = new Map([
    ["username", { hidden: false, value: "" }],
    ["tab", { hidden: true, value: 'a"b&c' }],
  ]);
  const rows: [name: string, html: string][] = [
    [
      "plainly",
      `<form action="/a?b=1&amp;c=2" method="post"><input name="username"><input type="hidden" name="tab" value="a&quot;b&amp;c"></form>`,
    ],
    [
      "in capitals",
      `<FORM METHOD=POST ACTION='/a?b=1&#38;c=2'><INPUT NAME=username><INPUT VALUE='a"b&#x26;c' TYPE=Hidden NAME=tab></FORM>`,
    ],
    [
      "over lines, with a > in a value",
      `<form\n onsubmit="return 1 > 0"\n method = "post"\n action="/a?b=1&c=2"\n>\n<p><input name="username"/><input type="hidden" name="tab" value='a"b&c'/></p></form><input name="x">`,
    ],
    [
      "after one in a comment and one in a script",
      `<!-- <form action="/x">--><script>"<form action='/y'>"</script><form action="/a?b=1&amp;c=2" method="post"><input name="username"><input type="hidden" name="tab" value="a&#34;b&amp;c"></form>`,
    ],
  ];
  for (const [name, html] of rows) {
    await t.step(name, () => assert.deepEqual(formsOf(html), [{ action: "/a?b=1&c=2", post: true, fields }]));
  }
  await t.step("none in what is not closed", () => {
    for (const open of ["<!--", "<script>"]) assert.deepEqual(formsOf(`${open.repeat(20_000)}<form></form>`), []);
  });
  await t.step("two", () => {
    const [first, second] = formsOf("<form></form><form method=get><input name=q></form>");
    assert.deepEqual(first, { action: undefined, post: false, fields: new Map() });
    assert.deepEqual(second?.fields, new Map([["q", { hidden: false, value: "" }]]));
  });
});

Deno.test("linksOf() and wordsOf() read what people see", () => {
  const html = `<a class=x>no</a><a href="http://h/?a=1&amp;b=2">yes</a><!-- <p class="said">no</p> -->
    <p id="said"><b>no</b></p><p class="big said\tred">\n  One &lt;two&gt;\n three&#8230; </p>`;
  assert.deepEqual(linksOf(html), ["http://h/?a=1&b=2"]);
  assert.equal(wordsOf(html, ["said"]), "One <two> three…");
  assert.equal(wordsOf(html, ["other"]), "");
  assert.equal(wordsOf(`<p id="said">${"long ".repeat(1_000)}`, ["said"]).length, 200);
});
