import assert from "node:assert/strict";
import { commandTable, isAddressedTo, parse } from "../../lib/commands/mod.ts";

const names = ["@claw:example.org", "Claw Bot", "🦞 (boss)"];

/** What became of a text: `word` of a command, `?` for an unknown text, `!` before it if the operator was addressed. */
function reading(text: string): string {
  const parsed = parse(text, names, ["clawdbot"]);
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
    ["trust ABCDEF", "? trust ABCDEF"],
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

Deno.test("parse() reads targets and durations", async (t) => {
  const rows: [text: string, aliases: string[], reading: string][] = [
    ["start clawdbot", ["clawdbot"], "start clawdbot"],
    ["start all", ["clawdbot"], "start all"],
    ["start now", ["clawdbot"], "? start now"],
    ["start", ["clawdbot", "ollama"], "start -"],
    ["ON  Ollama", ["clawdbot", "ollama"], "start ollama"],
    ["stop all", ["clawdbot", "ollama"], "stop all"],
    ["status ollama", ["clawdbot", "ollama"], "status ollama"],
    ["status olama", ["clawdbot", "ollama"], "? status olama (target olama)"],
    ["claw, stop it", ["clawdbot", "ollama"], "! stop it (target it)"],
    ["stop it now", ["clawdbot", "ollama"], "? stop it now"],
    ["start ollama clawdbot", ["clawdbot", "ollama"], "? start ollama clawdbot"],
    ["ollama start", ["clawdbot", "ollama"], "? ollama start"],
    ["help ollama", ["clawdbot", "ollama"], "? help ollama"],
    ["start 2h", ["clawdbot"], "start - 7200 s"],
    ["on ollama 1h30m", ["clawdbot", "ollama"], "start ollama 5400 s"],
    ["start all 3 h 12 min", ["clawdbot", "ollama"], "start all 11520 s"],
    ["extend 1h", ["clawdbot"], "extend - 3600 s"],
    ["extend ollama 1m", ["clawdbot", "ollama"], "extend ollama 60 s"],
    ["extend 30d", ["clawdbot"], "extend - 2592000 s"],
    ["extend 31d", ["clawdbot"], "? extend 31d (too-long 31d)"],
    ["extend 59s", ["clawdbot"], "? extend 59s (too-short 59s)"],
    ["extend", ["clawdbot"], "? extend (no-duration )"],
    ["extend ollama", ["clawdbot", "ollama"], "? extend ollama (no-duration )"],
    ["start 2 hours", ["clawdbot"], "? start 2 hours (not-a-duration 2 hours)"],
    ["start 2h ollama", ["clawdbot", "ollama"], "? start 2h ollama (not-a-duration 2h ollama)"],
    ["start olama 2h", ["clawdbot", "ollama"], "? start olama 2h (target olama)"],
    ["extend it", ["clawdbot"], "? extend it"],
    ["stop 2h", ["clawdbot"], "? stop 2h"],
  ];
  for (const [text, aliases, expected] of rows) {
    await t.step(`${text} of ${aliases.join(", ")}: ${expected}`, () => {
      const parsed = parse(text, names, aliases);
      const { misuse: wrong } = parsed.kind === "unknown" ? parsed : {};
      const misuse = wrong === undefined ? "" : ` (${wrong.kind} ${wrong.given})`;
      const time = parsed.kind === "command" && parsed.durationMs ? ` ${parsed.durationMs / 1_000} s` : "";
      assert.equal(
        parsed.kind === "command"
          ? `${parsed.word} ${parsed.target ?? "-"}${time}`
          : `${parsed.addressed ? "!" : "?"} ${parsed.text}${misuse}`,
        expected,
      );
    });
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

Deno.test("parse() sees through invisible characters, around a command and between its words", async (t) => {
  const rows: [text: string, name: string, reading: string][] = [
    ["\u200Bstatus", "zero-width space before", "status"],
    ["status\u200E", "left-to-right mark behind", "status"],
    ["status\uFE0F", "variation selector", "status"],
    ["sta\u00ADtus", "soft hyphen within", "status"],
    ["\u2067status\u2069", "isolates", "status"],
    ["\uFEFF status \u{E0100}", "byte order mark, ideographic variation selector", "status"],
    ["\u2060status\u034F\u115F", "word joiner, grapheme joiner, filler", "status"],
    ["start \u200B all \uFE0F", "between words", "start"],
    ["start\u00A0all", "no-break space", "start"],
    ["\u200Bclaw\u200B:\u200B stop\u200D", "around a mention", "stop"],
    ["Cl\u200Daw Bot: stop", "within a mention", "stop"],
    ["\u200B", "nothing else", "? "],
    ["status\u0301", "a visible mark", "? status\u0301"],
  ];
  for (const [text, name, expected] of rows) {
    await t.step(`${name}: ${expected}`, () => assert.equal(reading(text), expected));
  }
  assert.equal(parse("C\u200Dlaw stop", ["Cl\u200Daw"], []).kind, "command", "a name with a joiner");
});

Deno.test("parse() obeys an operator that is named like a command", () => {
  assert.deepEqual(parse("start", ["@start:example.org"], []), {
    kind: "command",
    word: "start",
    target: undefined,
    durationMs: undefined,
    text: "start",
    addressed: false,
  });
  assert.deepEqual(parse("start: stop", ["@start:example.org"], []), {
    kind: "command",
    word: "stop",
    target: undefined,
    durationMs: undefined,
    text: "stop",
    addressed: true,
  });
});

Deno.test("parse() keeps what was typed", () => {
  assert.deepEqual(parse("claw: ON", names, []), {
    kind: "command",
    word: "start",
    target: undefined,
    durationMs: undefined,
    text: "ON",
    addressed: true,
  });
  assert.deepEqual(parse("@claw On  All ", names, []), {
    kind: "command",
    word: "start",
    target: "all",
    durationMs: undefined,
    text: "On  All",
    addressed: true,
  });
});

Deno.test("commandTable has every word once", () => {
  const words = commandTable.flatMap(({ word, aliases }) => [word, ...aliases]);
  assert.equal(new Set(words).size, words.length);
});

Deno.test("isAddressedTo() is true of what begins with somebody's name, unmistakably", async (t) => {
  const rows: [text: string, expected: boolean][] = [
    ["clawd: hello", true],
    ["Clawd, hello", true],
    ["@clawd hello", true],
    ["@clawd:example.org hello", true],
    ["[clawd](https://matrix.to/#/@clawd:example.org) hello", true],
    ["\u200Bclawd: hello", true],
    ["clawd", true],
    ["clawd is asleep", false],
    ["clawdbot: hello", false],
    ["hello, clawd", false],
    ["", false],
  ];
  for (const [text, expected] of rows) {
    await t.step(`${text}: ${expected}`, () => assert.equal(isAddressedTo(text, ["@clawd:example.org"]), expected));
  }
});
