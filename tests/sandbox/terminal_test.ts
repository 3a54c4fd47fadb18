import assert from "node:assert/strict";
import { edit, History, type Key, KeyReader, nothingTyped, type Typed } from "../../sandbox/terminal/input.ts";
import { cut, fill, harmless, widthOf, wrap } from "../../sandbox/terminal/text.ts";
import { type Bubble, draw, plain, type View } from "../../sandbox/terminal/view.ts";

const bubble: Bubble = {
  name: "toggle",
  mine: false,
  time: "09:05",
  text: "hello",
  quiet: false,
  encrypted: true,
  edited: false,
  reactions: [],
};
const view: View = {
  title: "demo",
  advice: ["start, stop · Ctrl-C ends", "Ctrl-C ends"],
  messages: [
    { ...bubble, name: "you", mine: true, text: "start" },
    { ...bubble, text: "🦞 start", quiet: true },
    { ...bubble, text: "clawdbot is ready (took 3 s)", edited: true, reactions: ["👍", "🎉"] },
  ],
  workload: {
    name: "clawdbot",
    desired: 2,
    ready: 1,
    pods: [{ name: "clawdbot-5d4f8c7b9-bcdfg", state: "Ready" }, {
      name: "clawdbot-5d4f8c7b9-hjklm",
      state: "Pending",
    }],
  },
  hint: "type a command",
  typed: nothingTyped,
};

function typed(text: string): Typed {
  return edit(nothingTyped, { text });
}

/** Rows as text, without the spaces at their ends. */
function shown(view: View, columns: number, rows: number): string[] {
  return draw(view, { columns, rows }).rows.map((row) => plain(row).trimEnd());
}

Deno.test("draw() shows messages, one's own on the right, and the workload beside them", () => {
  assert.deepEqual(shown(view, 72, 12), [
    " demo                                         start, stop · Ctrl-C ends",
    "────────────────────────────────────────────┬───────────────────────────",
    "                               you 09:05 🔒 │ Deployment clawdbot",
    "                                      start │ desired 2   ready 1",
    "                                            │",
    " toggle 09:05 🔒                            │ 2 pods",
    " 🦞 start                                   │ ● Ready       …-bcdfg",
    " clawdbot is ready (took 3 s) (edited)      │ ○ Pending     …-hjklm",
    " 👍 🎉                                      │",
    "                                            │",
    "────────────────────────────────────────────┴───────────────────────────",
    " › type a command",
  ]);
});

Deno.test("draw() shows the workload in one row, and the last messages, where there is little room", () => {
  assert.deepEqual(shown(view, 40, 8), [
    " demo         start, stop · Ctrl-C ends",
    "────────────────────────────────────────",
    " clawdbot is ready (took 3 s)",
    " (edited)",
    " 👍 🎉",
    "────────────────────────────────────────",
    " clawdbot 1/2 ready  ● Ready  ○ Pending",
    " › type a command",
  ]);
});

Deno.test("draw() says when a message was not encrypted", () => {
  const rows = shown({ ...view, messages: [{ ...bubble, encrypted: false }] }, 40, 8);
  assert.ok(rows.includes(" toggle 09:05 in clear!"), rows.join("\n"));
});

Deno.test("draw() returns as many rows as the terminal has, none wider than the terminal", () => {
  const long = { ...bubble, text: "漢字🦞 and\nsomeverylongwordthatdoesnotfit ".repeat(9), name: "👩‍👩‍👧 someone" };
  for (const text of ["", "ab", "🦞".repeat(70)]) {
    const full = { ...view, messages: [...view.messages, long, { ...long, mine: true }], typed: typed(text) };
    for (let columns = 1; columns <= 120; columns += columns < 12 ? 1 : 9) {
      for (let rows = 1; rows <= 30; rows += rows < 8 ? 1 : 11) {
        const screen = draw(full, { columns, rows });
        const where = `${columns}×${rows}, typed "${text}"`;
        assert.equal(screen.rows.length, rows, where);
        const widest = Math.max(...screen.rows.map((row) => widthOf(plain(row))));
        assert.ok(widest <= columns, `${where}: a row of ${widest}`);
        assert.ok(screen.cursor.row < rows && screen.cursor.column < columns, where);
      }
    }
  }
});

Deno.test("draw() puts the cursor behind what was typed, and shows the end of what does not fit", async (t) => {
  const rows: [text: string, columns: number, row: string, cursor: number][] = [
    ["", 40, " › type a command", 3],
    ["start", 40, " › start", 8],
    ["🦞é", 40, " › 🦞é", 6],
    ["abcdefghijklmnop", 12, " › ijklmnop", 11],
  ];
  for (const [text, columns, row, column] of rows) {
    await t.step(`"${text}" in ${columns} columns`, () => {
      const screen = draw({ ...view, typed: typed(text) }, { columns, rows: 8 });
      assert.equal(plain(screen.rows[7] ?? []).trimEnd(), row);
      assert.deepEqual(screen.cursor, { row: 7, column });
    });
  }
});

Deno.test("draw() lets no message command the terminal", () => {
  const evil = { ...bubble, name: "\x1b[2Jx", text: "\x1b]0;title\x07\x9b31mred\u202e", reactions: ["\x1b[H"] };
  // deno-lint-ignore no-control-regex -- these are what must not be there
  assert.doesNotMatch(shown({ ...view, messages: [evil] }, 80, 24).join(""), /[\x00-\x1f\x7f-\x9f\u202e]/);
  assert.equal(harmless("a\tb\r\nc"), "a b\nc");
});

Deno.test("widthOf() counts columns, not characters", async (t) => {
  const rows: [text: string, width: number][] = [
    ["", 0],
    ["abc", 3],
    ["é", 1],
    ["e\u0301", 1],
    ["🦞", 2],
    ["👩‍👩‍👧", 2],
    ["❤️", 2],
    ["漢字", 4],
    ["한", 2],
    ["\u200b", 0],
    ["─…›●", 4],
  ];
  for (const [text, width] of rows) await t.step(`"${text}": ${width}`, () => assert.equal(widthOf(text), width));
});

Deno.test("cut(), fill() and wrap() keep to the columns", () => {
  assert.deepEqual([cut("abcdef", 4), cut("abcd", 4), cut("🦞🦞🦞", 4), cut("🦞🦞", 2), cut("abc", 0)], [
    "abc…",
    "abcd",
    "🦞…",
    "…",
    "",
  ]);
  assert.deepEqual([fill("ab", 4), fill("🦞🦞🦞", 4)], ["ab  ", "🦞… "]);
  assert.deepEqual(wrap("one two three\nfour", 7), ["one two", "three", "four"]);
  assert.deepEqual(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
  assert.deepEqual(wrap("🦞🦞🦞", 5), ["🦞🦞", "🦞"]);
  assert.deepEqual(wrap("", 5), [""]);
});

Deno.test("KeyReader.read() makes keys of bytes, however they are cut", async (t) => {
  const rows: [name: string, chunks: string[], keys: Key[]][] = [
    ["text and Enter", ["start\r"], [{ text: "start" }, "enter"]],
    ["an arrow in two pieces", ["a\x1b", "[D"], [{ text: "a" }, "left"]],
    ["application cursor keys", ["\x1bOC"], ["right"]],
    ["a key that means nothing here", ["\x1b[15~x\x1b[1;5C"], [{ text: "x" }]],
    ["Escape before a letter", ["\x1bq"], [{ text: "q" }]],
    ["the arrow keys", ["\x1b[A\x1b[B"], ["up", "down"]],
    ["Ctrl-C among text", ["ab\x03"], [{ text: "ab" }, "leave"]],
    ["Ctrl-U, Ctrl-W, Backspace, Delete", ["\x15\x17\x7f\x1b[3~"], ["clear", "clear-word", "backspace", "delete"]],
    ["a control character that means nothing", ["\x07\x1a"], []],
  ];
  for (const [name, chunks, keys] of rows) {
    await t.step(name, () => {
      const reader = new KeyReader();
      assert.deepEqual(chunks.flatMap((chunk) => reader.read(new TextEncoder().encode(chunk))), keys);
    });
  }
  await t.step("a character of four bytes, byte by byte", () => {
    const reader = new KeyReader();
    const keys = [...new TextEncoder().encode("🦞")].flatMap((byte) => reader.read(Uint8Array.of(byte)));
    assert.deepEqual(keys, [{ text: "🦞" }]);
  });
});

Deno.test("edit() changes the line at the cursor", async (t) => {
  const rows: [name: string, keys: Key[], text: string, cursor: number][] = [
    ["types", [{ text: "sta" }, { text: "rt" }], "start", 5],
    ["takes the last character", [{ text: "a👩‍👩‍👧" }, "backspace"], "a", 1],
    ["takes nothing from an empty line", ["backspace", "delete", "left", "right"], "", 0],
    ["inserts in the middle", [{ text: "strt" }, "left", "left", { text: "a" }], "start", 3],
    ["goes to both ends", [{ text: "tar" }, "home", { text: "s" }, "end", { text: "t" }], "start", 5],
    ["takes the character under the cursor", [{ text: "xstart" }, "home", "delete"], "start", 0],
    ["clears what is before the cursor", [{ text: "stop start" }, "left", "clear"], "t", 0],
    ["clears a word", [{ text: "start ollama " }, "clear-word"], "start ", 6],
    ["joins what becomes one character", [{ text: "e" }, { text: "\u0301" }], "e\u0301", 1],
    ["takes nothing that commands the terminal", [{ text: "a\x9bb" }], "ab", 2],
    ["leaves it at other keys", [{ text: "a" }, "enter", "leave"], "a", 1],
  ];
  for (const [name, keys, text, cursor] of rows) {
    await t.step(name, () => {
      const line = keys.reduce(edit, nothingTyped);
      assert.deepEqual([line.characters.join(""), line.cursor], [text, cursor]);
    });
  }
});

Deno.test("draw() shortens the advice to what fits the terminal", () => {
  const rows: [columns: number, header: string][] = [
    [40, " demo         start, stop · Ctrl-C ends"],
    [30, " demo             Ctrl-C ends"],
    [12, " demo"],
  ];
  for (const [columns, header] of rows) assert.equal(shown(view, columns, 12)[0], header);
});

Deno.test("History.recall() goes through the lines that were entered, and back to the one being typed", () => {
  const history = new History();
  const text = ({ characters }: Typed) => characters.join("");
  let line = typed("draft");
  const press = (key: "up" | "down") => text(line = history.recall(key, line));
  assert.equal(press("up"), "draft");
  for (const entered of ["start", "status", "status", ""]) history.add(entered);
  assert.deepEqual(["up", "up", "up", "down", "down", "down"].map((key) => press(key as "up" | "down")), [
    "status",
    "start",
    "start",
    "status",
    "draft",
    "draft",
  ]);
});
