import assert from "node:assert/strict";
import { commandTable, parse } from "../../lib/commands/mod.ts";

const names = ["@claw:example.org", "Claw Bot", "🦞 (boss)"];

/** What became of a text: `word` of a command, `?` for an unknown text, `!` before it if the operator was addressed. */
function reading(text: string): string {
  const parsed = parse(text, names);
  return parsed.kind === "command" ? parsed.word : `${parsed.addressed ? "!" : "?"} ${parsed.text}`;
}

Deno.test("parse() reads whole messages", async (t) => {
  const rows: [text: string, reading: string][] = [
    ["start", "start"],
    ["  START\n", "start"],
    ["on", "start"],
    ["stop", "stop"],
    ["Off", "stop"],
    ["status", "status"],
    ["help", "help"],
    ["trust ABCDEF", "trust"],
    ["trust", "trust"],
    ["trust me not", "? trust me not"],
    ["help me", "? help me"],
    ["", "? "],
    ["start now", "? start now"],
    ["start.", "? start."],
    ["please stop", "? please stop"],
    ["restart", "? restart"],
    ["constructor", "? constructor"],
    ["__proto__", "? __proto__"],
  ];
  for (const [text, expected] of rows) {
    await t.step(JSON.stringify(text), () => assert.equal(reading(text), expected));
  }
});

Deno.test("parse() takes a mention off", async (t) => {
  const rows: [text: string, reading: string][] = [
    ["@claw:example.org start", "start"],
    ["@claw:example.org: start", "start"],
    ["@claw:example.org, start", "start"],
    ["@Claw:example.org  :  Start ", "start"],
    ["@claw start", "start"],
    ["claw: stop", "stop"],
    ["Claw Bot status", "status"],
    ["claw bot: status", "status"],
    ["@Claw Bot, help", "help"],
    ["🦞 (boss): on", "start"],
    ["[Claw Bot](https://matrix.to/#/@claw:example.org): start", "start"],
    ["[](https://matrix.to/#/%40claw%3Aexample.org) start", "start"],
    ["https://matrix.to/#/@claw:example.org start", "start"],
    ["@claw:example.org make coffee", "! make coffee"],
    ["claw, make coffee", "! make coffee"],
    ["@claw:example.org", "! @claw:example.org"],
    ["claw is slow today", "? is slow today"],
    ["clawstart", "? clawstart"],
    ["@claw:example.org.evil: start", "? @claw:example.org.evil: start"],
    ["@other:example.org: start", "? @other:example.org: start"],
    [
      "[Claw](https://matrix.to/#/@other:example.org): start",
      "? [Claw](https://matrix.to/#/@other:example.org): start",
    ],
    ["start @claw:example.org", "? start @claw:example.org"],
  ];
  for (const [text, expected] of rows) {
    await t.step(JSON.stringify(text), () => assert.equal(reading(text), expected));
  }
});

Deno.test("parse() obeys an operator that is named like a command", () => {
  assert.deepEqual(parse("start", ["@start:example.org"]), {
    kind: "command",
    word: "start",
    argument: "",
    text: "start",
  });
  assert.deepEqual(parse("start: stop", ["@start:example.org"]), {
    kind: "command",
    word: "stop",
    argument: "",
    text: "stop",
  });
});

Deno.test("parse() keeps what was typed", () => {
  assert.deepEqual(parse("claw: ON", names), { kind: "command", word: "start", argument: "", text: "ON" });
  assert.deepEqual(parse("@claw Trust  aBc ", names), {
    kind: "command",
    word: "trust",
    argument: "aBc",
    text: "Trust  aBc",
  });
});

Deno.test("commandTable has every word once", () => {
  const words = commandTable.flatMap(({ word, aliases }) => [word, ...aliases]);
  assert.equal(new Set(words).size, words.length);
});
