import assert from "node:assert/strict";
import * as answers from "../../lib/commands/mod.ts";
import type { Text, Why } from "../../lib/commands/mod.ts";
import type { Counts } from "../../lib/scaler/mod.ts";

const running: Counts = { desired: 1, current: 1, ready: 1, available: 1, settled: true };
const alone = { readyForMs: undefined, stopsInMs: undefined, problems: [] };
const off: Counts = { desired: 0, current: 0, ready: 0, available: 0, settled: true };

Deno.test("answers say what the specification says", async (t) => {
  const rows: [text: Text, plain: string, html: string][] = [
    [answers.echo("START"), "🦞 START", "🦞 START"],
    [
      answers.switchedOn("clawdbot", 1, undefined),
      "clawdbot is now on (replicas: 1), starting…",
      "<b>clawdbot</b> is now on (replicas: 1), starting…",
    ],
    [
      answers.switchedOff("clawdbot"),
      "clawdbot is now off (replicas: 0)",
      "<b>clawdbot</b> is now off (replicas: 0)",
    ],
    [
      answers.alreadyOn("clawdbot", running, undefined),
      "clawdbot is already on (1/1 ready)",
      "<b>clawdbot</b> is already on (1/1 ready)",
    ],
    [answers.alreadyOff("clawdbot"), "clawdbot is already off", "<b>clawdbot</b> is already off"],
    [
      answers.status("clawdbot", running, alone, true),
      "clawdbot is running: 1/1 ready, 1 available",
      "<b>clawdbot</b> is running: 1/1 ready, 1 available",
    ],
    [
      answers.status("clawdbot", running, { ...alone, readyForMs: 11_520_000, stopsInMs: 2_880_000 }, false),
      "clawdbot · running · 1/1 ready, 1 available, for 3 h 12 min; stops by itself in 48 min",
      "<b>clawdbot</b> · running · 1/1 ready, 1 available, for 3 h 12 min; stops by itself in 48 min",
    ],
    [
      answers.misused({ kind: "duration", given: "2x" }, []),
      "I don't understand 2x as a time: send something like `90m`, `2h` or `1h30m`, from 1 min to 30 d.",
      "I don&#39;t understand 2x as a time: send something like <code>90m</code>, <code>2h</code> or " +
      "<code>1h30m</code>, from 1 min to 30 d.",
    ],
    [
      answers.misused({ kind: "duration", given: "" }, []),
      "I need to know for how long: send something like `90m`, `2h` or `1h30m`, from 1 min to 30 d.",
      "I need to know for how long: send something like <code>90m</code>, <code>2h</code> or <code>1h30m</code>, " +
      "from 1 min to 30 d.",
    ],
    [
      answers.misused({ kind: "target", given: "<i>" }, ["clawdbot", "ollama"]),
      "I know no target <i>. Mine are clawdbot, ollama; `all` is all of them.",
      "I know no target &#60;i&#62;. Mine are <b>clawdbot</b>, <b>ollama</b>; <code>all</code> is all of them.",
    ],
    [
      answers.unknownCommand("make  coffee\n& <b>tea</b>"),
      "Unknown command: make coffee & <b>tea</b> (send `help` to see what I understand)",
      "Unknown command: make coffee &#38; &#60;b&#62;tea&#60;/b&#62; (send <code>help</code> to see what I understand)",
    ],
    [
      answers.away("start", 42 * 60_000),
      "I was away when you sent `start`, 42 min ago. Send it again if you still want it.",
      "I was away when you sent <code>start</code>, 42 min ago. Send it again if you still want it.",
    ],
  ];
  for (const [text, plain, html] of rows) {
    await t.step(plain, () => assert.deepEqual(text, { plain, html }));
  }
});

Deno.test("stateOf() knows four states", async (t) => {
  const rows: [state: string, name: string, counts: Counts][] = [
    ["off", "nothing wanted, nothing there", off],
    ["stopping", "nothing wanted, a pod there", { ...off, current: 1 }],
    ["stopping", "nothing wanted, counts of before", { ...off, settled: false }],
    ["running", "all that is wanted is ready", running],
    ["running", "one more than wanted", { ...running, current: 2, ready: 2 }],
    ["starting", "wanted, not ready", { ...running, ready: 0 }],
    ["starting", "wanted, counts of before", { ...running, settled: false }],
    ["starting", "one of three ready", { ...running, desired: 3 }],
  ];
  for (const [state, name, counts] of rows) {
    await t.step(`${name}: ${state}`, () => assert.equal(answers.stateOf(counts), state));
  }
});

Deno.test("failed() tells why in few words", async (t) => {
  const unreachable = { kind: "unreachable", who: "Kubernetes API", triedMs: 30_000 } as const;
  const rows: [word: answers.CommandWord, why: Why, plain: string][] = [
    [
      "start",
      { kind: "not-permitted", verb: "patch", resource: "deployments.apps/scale" },
      "Cannot start clawdbot: I am not permitted to `patch` `deployments.apps/scale`.",
    ],
    ["stop", { kind: "internal" }, "Cannot stop clawdbot: something went wrong on my side. The log has the details."],
    [
      "status",
      { kind: "not-found", target: "deployment clawdbot in namespace agents" },
      "Cannot look at clawdbot: there is no deployment clawdbot in namespace agents.",
    ],
    [
      "stop",
      { kind: "rejected", reason: "Invalid" },
      "Cannot stop clawdbot: the Kubernetes API refused it (Invalid).",
    ],
    [
      "start",
      { ...unreachable, perhapsDone: false },
      "Cannot start clawdbot: the Kubernetes API did not answer properly for 30 s. Nothing was changed. " +
      "I will not try again by myself: send `start` again if you still want it.",
    ],
    [
      "start",
      { ...unreachable, perhapsDone: true },
      "Cannot start clawdbot: the Kubernetes API did not answer properly for 30 s. " +
      "My last try may have got through all the same: ask for `status`. " +
      "I will not try again by myself: send `start` again if you still want it.",
    ],
    [
      "status",
      { ...unreachable, perhapsDone: false },
      "Cannot look at clawdbot: the Kubernetes API did not answer properly for 30 s.",
    ],
  ];
  for (const [word, why, plain] of rows) {
    await t.step(plain, () => assert.equal(answers.failed(word, "clawdbot", why).plain, plain));
  }
});

Deno.test("help() tells every word of the table", () => {
  const { plain, html } = answers.help(["clawdbot"]);
  for (const { word, aliases, takes, meaning } of answers.commandTable) {
    const argument = takes.filter((each) => each !== "target").map((each) => ` &#60;${each}&#62;`).join("");
    for (const name of [word, ...aliases]) assert.ok(html.includes(`<code>${name}${argument}</code>`), name);
    assert.ok(plain.includes(meaning));
  }
});

Deno.test("help() speaks of targets only where there are several", () => {
  assert.ok(!answers.help(["clawdbot"]).plain.includes("target"));
  const { plain } = answers.help(["clawdbot", "ollama"]);
  for (
    const part of [
      "clawdbot, ollama on and off",
      "`start <target> <duration>` or `on <target> <duration>`",
      "`help`",
    ]
  ) {
    assert.ok(plain.includes(part), part);
  }
  assert.ok(plain.endsWith("A target is one of these, or `all`. Without one I take clawdbot; `status` tells of all."));
});

Deno.test("undecryptable() names what the sender's app gave as the reason", async (t) => {
  const rows: [code: string | undefined, part: string][] = [
    [undefined, "no key"],
    ["m.unverified", "not verified"],
    ["m.blacklisted", "blocked"],
    ["<i>", "kept the key"],
  ];
  for (const [code, part] of rows) {
    await t.step(`${code}: ${part}`, () => assert.ok(answers.undecryptable(code).html.includes(part)));
  }
});

Deno.test("unknownCommand() cuts what is long, between characters", () => {
  const { plain } = answers.unknownCommand("🦞".repeat(101));
  assert.ok(plain.startsWith(`Unknown command: ${"🦞".repeat(100)}… (`));
});

Deno.test("unknownCommand() cannot be made to turn its line around", () => {
  const { plain } = answers.unknownCommand("a\u202Eb");
  assert.ok(plain.startsWith("Unknown command: a b ("));
});

Deno.test("duration() writes as people do", async (t) => {
  const second = 1_000, minute = 60_000, hour = 60 * minute, day = 24 * hour;
  const rows: [ms: number, words: string][] = [
    [-5, "0 s"],
    [999, "0 s"],
    [42 * second, "42 s"],
    [minute, "1 min"],
    [4 * minute + 5 * second, "4 min 5 s"],
    [42 * minute + 17 * second, "42 min"],
    [hour, "1 h"],
    [3 * hour + 12 * minute, "3 h 12 min"],
    [day - 1, "23 h 59 min"],
    [2 * day + 3 * hour + minute, "2 d 3 h"],
  ];
  for (const [ms, words] of rows) await t.step(`${ms} ms: ${words}`, () => assert.equal(answers.duration(ms), words));
});
